//go:build !linux

package agent

import "syscall"

// childAttributes gives the child a process group of its own. Only Linux can have it
// killed with us.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// raiseFileLimit is for Linux only.
func raiseFileLimit() error { return nil }
