package netns

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

// wired returns a host behind a wire, another one, and a connection between them on which
// what the first host sends comes back.
func wired(t *testing.T) (wire *Wire, echo net.Conn) {
	t.Helper()
	w := newNetwork(t)
	a, wire, err := w.AddWired()
	if lack := new(LackError); errors.As(err, &lack) {
		t.Skip(lack)
	}
	if err != nil {
		t.Fatal(err)
	}
	b := add(t, w)
	l, err := b.Listen(net.JoinHostPort(b.V4.String(), "8080"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c)
	}()
	echo, err = a.Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = echo.Close() })
	return wire, echo
}

// round sends bytes, has them come back and returns how long that took.
func round(t *testing.T, c net.Conn, n int) time.Duration {
	t.Helper()
	begin := time.Now()
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, n))
		sent <- err
	}()
	if err := c.SetReadDeadline(begin.Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	return time.Since(begin)
}

func TestAWireCarriesAll(t *testing.T) {
	t.Parallel()
	wire, echo := wired(t)
	round(t, echo, 4<<20)
	if wire.Lost() > 0 {
		t.Logf("%d frames were lost", wire.Lost())
	}
}

// TestAWireDelays looks at the least time that an answer takes: the delay of one direction
// or of both.
func TestAWireDelays(t *testing.T) {
	t.Parallel()
	wire, echo := wired(t)
	const delay = 50 * time.Millisecond
	wire.Set(Trouble{Delay: delay}, Trouble{})
	if took := round(t, echo, 1); took < delay {
		t.Errorf("an answer over a wire with %s in one direction came after %s", delay, took)
	}
	wire.Set(Trouble{Delay: delay}, Trouble{Delay: delay})
	if took := round(t, echo, 1); took < 2*delay {
		t.Errorf("an answer over a wire with %s in both came after %s", delay, took)
	}
}

// TestAWireLoses sends much over a wire that loses some: TCP mends it.
func TestAWireLoses(t *testing.T) {
	t.Parallel()
	wire, echo := wired(t)
	wire.Set(Trouble{Loss: 0.02}, Trouble{Loss: 0.02})
	round(t, echo, 1<<20)
	if wire.Lost() == 0 {
		t.Error("no frame was lost")
	}
}

// TestACutWireSaysNothing: neither side hears of it, until the wire carries again.
func TestACutWireSaysNothing(t *testing.T) {
	t.Parallel()
	wire, echo := wired(t)
	wire.Set(Cut(netip.MustParseAddr("192.0.2.1")), Trouble{})
	round(t, echo, 1) // it is about another
	peer := netip.MustParseAddrPort(echo.RemoteAddr().String()).Addr()
	wire.Set(Cut(peer), Cut(peer))
	before := wire.Lost()
	if _, err := echo.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for wire.Lost() == before && ctx.Err() == nil {
		if err := echo.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := echo.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("over a cut wire: %v", err)
		}
	}
	wire.Set(Trouble{}, Trouble{})
	if err := echo.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(echo, make([]byte, 1)); err != nil {
		t.Errorf("once the wire carries again: %v", err)
	}
}
