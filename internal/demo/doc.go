// Package demo is "fairlead demo": a canary from end to end, on real Envoys. It starts a
// control plane, a small application and an Envoy beside every instance of it as child
// processes on loopback addresses, defines the mesh with the AWS SDK for Go, sends
// traffic, moves it by UpdateRoute, and says what was seen.
//
// It is a client of the server like any other: it starts the binaries and calls the API,
// and imports the AWS SDK client and the standard library only.
package demo
