package demo

import (
	"os"
	"syscall"
	"unsafe"
)

// childAttributes gives a child a process group of its own, so that a Ctrl-C reaches it
// through us only, and has the kernel kill it should we be killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// killGroup kills a child and what else is in its process group.
func killGroup(p *os.Process) {
	_ = syscall.Kill(-p.Pid, syscall.SIGKILL) // gone already is as good
}

// terminalWidth returns how many columns a terminal has; false for what is none.
func terminalWidth(f *os.File) (columns int, ok bool) {
	var size struct{ rows, columns, x, y uint16 }
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0, false
	}
	return int(size.columns), true
}
