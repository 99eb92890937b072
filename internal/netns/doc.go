// Package netns makes hosts out of network namespaces: each has interfaces, addresses, rules
// and a few files of its own, and a bridge in one more namespace joins them. The machine's
// own interfaces, addresses and rules are neither used nor changed. Nothing but a thread of
// this process and open files hold a namespace, so the kernel removes all of it when the
// process ends, however it ends. A host can hang on a wire, which loses and delays what it
// carries as it is told.
//
// The demo and the test harness stand on it. It runs on Linux, needs root and the program
// "ip", and imports the standard library and golang.org/x/sys.
package netns
