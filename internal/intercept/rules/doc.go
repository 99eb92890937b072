// Package rules turns the variables of App Mesh's route manager, and ours beside them,
// into the rules by which a kernel hands an application's connections to the Envoy beside
// it, and writes them as nft and iptables-restore read them. It is pure; the package above
// it sets the rules.
//
// It may import the standard library without files, network, contexts and logs.
package rules
