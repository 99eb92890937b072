// Package demo is "fairlead demo": a canary from end to end, on real Envoys. It starts a
// control plane, a small application and an Envoy beside every instance of it as child
// processes, defines the mesh with the AWS SDK for Go, sends traffic, moves it by
// UpdateRoute, and says what was seen.
//
// Where the instances are is the ground: network namespaces with interception where it may
// make them, else loopback addresses, with front told of its proxy. The story is the same.
//
// It is a client of the server like any other: it starts the binaries and calls the API. It
// imports the AWS SDK client, envoybin, netns and the standard library only.
package demo
