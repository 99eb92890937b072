// Package quota divides a quota of requests among proxies that count by themselves.
//
// It is arithmetic: what proxies report goes in, and rates come out, such that all together
// they let through no more than the quota, however they report. It knows no policies, no
// Envoy and no store, reads no clock, and imports nothing of this module. Nothing serves it yet;
// docs/design/policies.md says how it is to be.
package quota
