// Package xds serves Envoy resources over the Aggregated Discovery Service, delta and
// state-of-the-world, on go-control-plane's protos.
//
// A resource is encoded once and its bytes are shared by every proxy that has it.
// Each virtual node or gateway and profile has a feed: its current resources, and
// what changed in which generation. A stream holds what it subscribed to and the
// generation it was sent. DESIGN.md says how a change travels.
//
// Beside it agents hold streams for the trust bundle of their mesh (bundles.go).
//
// The package imports mesh, envoy, live, access and its audit, and ca.
package xds
