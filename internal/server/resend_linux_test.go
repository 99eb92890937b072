package server

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestConnectionsAreTriedAgainSoon looks at a connection that was accepted.
func TestConnectionsAreTriedAgainSoon(t *testing.T) {
	t.Parallel()
	bound, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := resending{bound}
	defer l.Close()
	from, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var most int
	var refused error
	if err := raw.Control(func(fd uintptr) {
		most, refused = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS)
	}); err != nil {
		t.Fatal(err)
	}
	if errors.Is(refused, unix.ENOPROTOOPT) {
		t.Skip("this kernel knows of no such bound: 6.15 does")
	}
	if got := time.Duration(most) * time.Millisecond; refused != nil || got != resendMost {
		t.Errorf("what is not confirmed is sent again after %s at most, %v; want %s", got, refused, resendMost)
	}
}
