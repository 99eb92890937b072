package server

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// resendMost is how long the kernel waits at most until it sends again what a proxy has not
// confirmed. By itself it waits twice as long each time, so that a network that was away for
// ten seconds would be tried again only twelve seconds later.
const resendMost = 2 * time.Second

// resend has a connection tried again soon. Kernels before 6.15 do not know how, and go by
// their own time.
func resend(c net.Conn) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return // it is closed already
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, int(resendMost.Milliseconds()))
	})
}
