package meshtest

import (
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// Link is a relay for TCP connections to one of several addresses, in turn, as a load
// balancer is: it goes on to the next where nobody listens. It can be cut.
type Link struct {
	// Addr is where it listens, host:port.
	Addr string

	mu    sync.Mutex
	to    []string
	next  int
	cut   bool
	conns map[net.Conn]struct{}
}

// NewLink relays until the test ends.
func NewLink(t testing.TB, to ...string) *Link {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &Link{Addr: l.Addr().String(), to: to, conns: map[net.Conn]struct{}{}}
	go HandleConns(l, k.relay)
	t.Cleanup(func() {
		_ = l.Close()
		k.Cut()
	})
	return k
}

// relay carries one connection until either side ends it.
func (k *Link) relay(c net.Conn) {
	up := k.dial()
	if up == nil {
		return
	}
	defer up.Close()
	if !k.track(c, up) {
		return
	}
	defer k.forget(c, up)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(up, c)
		_ = up.Close()
	}()
	_, _ = io.Copy(c, up)
	_ = c.Close()
	<-done
}

func (k *Link) dial() net.Conn {
	k.mu.Lock()
	cut, to := k.cut, append(slices.Clone(k.to[k.next:]), k.to[:k.next]...)
	k.next = (k.next + 1) % len(k.to)
	k.mu.Unlock()
	for _, addr := range to {
		if cut {
			break
		}
		if up, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			return up
		}
	}
	return nil
}

func (k *Link) track(conns ...net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range conns {
		k.conns[c] = struct{}{}
	}
	return !k.cut
}

func (k *Link) forget(conns ...net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range conns {
		delete(k.conns, c)
	}
}

// Cut ends all connections and refuses new ones.
func (k *Link) Cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = true
	for c := range k.conns {
		_ = c.Close()
	}
}

// Mend lets connections through again.
func (k *Link) Mend() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = false
}
