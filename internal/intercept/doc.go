// Package intercept sets the rules of package rules in the network namespace of the
// calling thread, removes them, says what is there, and keeps watch over them: with
// nftables over netlink, or with iptables-restore where the kernel has no nftables. What
// is not ours it never touches. It is also the plugin by which container runtimes call
// for interception (CNI).
//
// It may import rules, and libraries for netlink and system calls.
package intercept
