// Package envoy translates views into Envoy resources: Translate turns all that one
// virtual node needs into the clusters, listeners and route configurations of its
// proxies, and into problems, which say what could not be served and why.
//
// The package is pure. It has no clock, logger, context or I/O, and it imports
// package mesh, the Envoy protos and the standard library only. DESIGN.md describes
// the two profiles, the names and the order of things.
package envoy
