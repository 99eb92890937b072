package demo

import (
	"os"
	"syscall"
	"unsafe"
)

// childAttributes gives a child a process group of its own, so that a Ctrl-C reaches it
// through us only, has the kernel kill it should we be killed, and has it run as a user;
// 0 is our own.
func childAttributes(user int) *syscall.SysProcAttr {
	out := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if user != 0 {
		out.Credential = &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}
	}
	return out
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
