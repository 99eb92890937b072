//go:build !linux

package agent

import "syscall"

// childAttributes gives the child a process group of its own. Only Linux can have it
// sent a signal when we end.
func childAttributes(syscall.Signal) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// dropAmbient is for Linux only.
func dropAmbient() {}

// lackingCapabilities is for Linux only.
func lackingCapabilities() ([]string, error) { return nil, nil }

// raiseFileLimit is for Linux only.
func raiseFileLimit() error { return nil }
