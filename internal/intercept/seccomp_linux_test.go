package intercept_test

import (
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// noNFTables has the test program become the command that follows, with a kernel that
// knows no nftables.
const noNFTables = "FAIRLEAD_TEST_WITHOUT_NFTABLES"

// runWithoutNFTables refuses this process sockets of the kind that nftables is reached by,
// with the error of a kernel that has none of them, and then runs a command.
func runWithoutNFTables(string) error {
	runtime.LockOSThread()
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		end   = unix.BPF_RET | unix.BPF_K
		// Where a system call's number and its arguments are.
		number, argument0, argument2 = 0, 16, 32
	)
	filter := []unix.SockFilter{
		{Code: load, K: number},
		{Code: equal, K: unix.SYS_SOCKET, Jf: 5},
		{Code: load, K: argument0},
		{Code: equal, K: unix.AF_NETLINK, Jf: 3},
		{Code: load, K: argument2},
		{Code: equal, K: unix.NETLINK_NETFILTER, Jf: 1},
		{Code: end, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPROTONOSUPPORT)},
		{Code: end, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return err
	}
	return syscall.Exec(os.Args[1], os.Args[1:], os.Environ())
}

// Where the kernel has no nftables, iptables is used without being asked for, and where
// there is no iptables either one line says so.
func TestKernelWithoutNFTables(t *testing.T) {
	t.Parallel()
	need(t, "iptables-legacy-restore", "iptables")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := host(t)
	run := func(settings []string, args ...string) (string, error) {
		cmd := h.Agent(settings, args...)
		cmd.Args = append([]string{self, cmd.Path}, args...)
		cmd.Path = self
		cmd.Env = append(cmd.Env, noNFTables+"=1")
		return h.Output(cmd)
	}
	for _, args := range [][]string{{"intercept", "enable"}, {"intercept", "status"}, {"intercept", "enable"}} {
		if out, err := run(everything, args...); err != nil {
			t.Fatal(args, err, out)
		}
	}
	if s := status(t, h, append(everything, "FAIRLEAD_INTERCEPT_BACKEND=iptables", "PATH="+programs(t, "legacy"))...); !s.Enabled || s.Backend != "iptables-legacy" {
		t.Errorf("set: %+v", s)
	}
	if out, err := run(nil, "intercept", "disable"); err != nil {
		t.Fatal(err, out)
	}
	if s := status(t, h, everything...); s.Families[0].Installed || s.Families[1].Installed || len(s.Others) != 0 {
		t.Errorf("removed: %+v", s)
	}
	_, err = run([]string{"PATH=/none"}, "intercept", "enable")
	const want = "there is no way to set rules here (FAIRLEAD_INTERCEPT_BACKEND is auto): nftables: "
	if err == nil || !contains(err, want) {
		t.Errorf("%v, want %s", err, want)
	}
	_, err = run([]string{"FAIRLEAD_INTERCEPT_BACKEND=nftables"}, "intercept", "enable")
	if err == nil || !contains(err, "protocol not supported") {
		t.Errorf("%v, want one that says what is missing", err)
	}
}

func contains(err error, text string) bool {
	return strings.Contains(err.Error(), text) && !strings.Contains(err.Error(), "\n")
}
