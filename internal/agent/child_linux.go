package agent

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// childAttributes gives the child a process group of its own, so that a signal to our group
// (a Ctrl-C) reaches it through us only, and has it sent a signal when we end, even by
// SIGKILL.
func childAttributes(atOurEnd syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: atOurEnd}
}

// dropAmbient takes the capabilities from this thread's children that the agent was given to
// hand on (CAP_SETUID, to run an application as another user): they are for the agent. An
// old kernel has none.
func dropAmbient() {
	const capAmbient, clearAll = 47, 4
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, capAmbient, clearAll, 0)
}

// lackingCapabilities returns those that the agent needs to run a command as another user,
// and has not.
func lackingCapabilities() ([]string, error) {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	_, rest, found := strings.Cut(string(raw), "\nCapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	have, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if !found || err != nil {
		return nil, errors.New("/proc/self/status does not tell them")
	}
	var lacking []string
	for _, c := range []struct {
		bit  uint
		name string
	}{{5, "CAP_KILL"}, {6, "CAP_SETGID"}, {7, "CAP_SETUID"}} {
		if have&(1<<c.bit) == 0 {
			lacking = append(lacking, c.name)
		}
	}
	return lacking, nil
}

// raiseFileLimit raises the number of files that Envoy may open as far as is
// allowed. Go would give a child the limit that it was itself started with, unless
// it is set explicitly.
func raiseFileLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}
