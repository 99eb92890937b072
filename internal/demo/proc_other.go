//go:build !linux

package demo

import (
	"os"
	"syscall"
)

// childAttributes leaves a child as it is: what the demo does about its children's
// children is for Linux, and so is the demo.
func childAttributes(int) *syscall.SysProcAttr { return nil }

// killGroup kills a child.
func killGroup(p *os.Process) { _ = p.Kill() }

// terminalWidth takes nothing for a terminal.
func terminalWidth(*os.File) (columns int, ok bool) { return 0, false }
