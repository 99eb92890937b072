package xds

import (
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

// gated returns a gate with a number of places and the address it listens on.
func gated(t *testing.T, patience time.Duration) (*gate, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := (&Server{firsts: newAdmission()}).Gate(l).(*gate)
	g.mu.Lock()
	g.room, g.patience = room{few: 2, most: 2}, patience
	g.mu.Unlock()
	t.Cleanup(func() { _ = g.Close() })
	return g, l.Addr().String()
}

func dial(t *testing.T, addr string, n int) []net.Conn {
	t.Helper()
	all := make([]net.Conn, n)
	for i := range all {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		all[i] = c
	}
	return all
}

// accepted hands on what the gate lets in.
func accepted(g *gate) chan *stranger {
	out := make(chan *stranger)
	go func() {
		defer close(out)
		for {
			c, err := g.Accept()
			if err != nil {
				return
			}
			out <- c.(*stranger)
		}
	}()
	return out
}

// The next connection comes when one before it is known, or is closed; each makes room once.
func TestGate(t *testing.T) {
	t.Parallel()
	g, addr := gated(t, time.Hour)
	clients := dial(t, addr, 5)
	in := accepted(g)
	a, b := <-in, <-in
	if a.RemoteAddr().String() != clients[0].LocalAddr().String() {
		t.Error("the first to come is not the first to be let in")
	}
	next := func(leave func()) *stranger {
		t.Helper()
		select {
		case <-in:
			t.Fatal("one is let in while there is no room")
		default:
		}
		leave()
		return <-in
	}
	c := next(a.pass)
	a.pass() // it is known already
	d := next(func() { _ = a.Close(); b.pass() })
	next(func() { _ = b.Close(); _ = d.Close() })
	defer c.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) != 0 || g.room.inside != 2 {
		t.Errorf("%d wait and %d are let in, want none and 2", len(g.waiting), g.room.inside)
	}
}

// Those that say nothing hold nobody up for long.
func TestGateIsPatientForAWhile(t *testing.T) {
	t.Parallel()
	g, addr := gated(t, time.Millisecond)
	dial(t, addr, 20)
	in := accepted(g)
	for range 20 {
		<-in
	}
}

// A gate that closes closes those that wait, tells who accepts, and ends its goroutine.
func TestGateCloses(t *testing.T) {
	t.Parallel()
	g, addr := gated(t, time.Hour)
	clients := dial(t, addr, 4)
	in := accepted(g)
	a, b := <-in, <-in
	for waiting := 0; waiting < 2; runtime.Gosched() {
		g.mu.Lock()
		waiting = len(g.waiting)
		g.mu.Unlock()
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if _, open := <-in; open {
		t.Error("a connection is let in after the end")
	}
	for _, c := range clients[2:] {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("a connection that waits is not closed: %v", err)
		}
	}
	a.pass()
	b.pass()
	if _, err := g.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept returns %v", err)
	}
}

// Connections that end together are told of one after the other, as those before them are
// over; one that is never over keeps its place for a while only.
func TestConnectionsEndOneAfterTheOther(t *testing.T) {
	t.Parallel()
	const places = 2
	g, addr := gated(t, time.Hour)
	g.room, g.leaving = room{few: 100, most: 100}, newDoor(room{few: places, most: places})
	in := accepted(g)
	ended := make(chan *stranger, 10)
	for _, c := range dial(t, addr, 10) {
		s := <-in
		go func() {
			_, _ = s.Read(make([]byte, 1))
			ended <- s
		}()
		_ = c.Close()
	}
	for range 10 / places {
		var some []*stranger
		for range places {
			some = append(some, <-ended)
		}
		select {
		case <-ended:
			t.Fatal("an end is told of before those before it are over")
		default:
		}
		for _, s := range some {
			_, _ = s.Read(make([]byte, 1)) // it has its place
			_ = s.Close()
			s.over()
			s.over()
		}
	}

	g, addr = gated(t, time.Millisecond)
	g.leaving = newDoor(room{few: 1, most: 1})
	in = accepted(g)
	for _, c := range dial(t, addr, 5) {
		_ = c.Close()
		_, _ = (<-in).Read(make([]byte, 1)) // and is never over
	}

	// One that the server closes waits for nobody.
	g, addr = gated(t, time.Hour)
	g.room, g.leaving = room{few: 100, most: 100}, newDoor(room{})
	in = accepted(g)
	dial(t, addr, 5)
	for range 5 {
		s := <-in
		_ = s.Close()
		_, _ = s.Read(make([]byte, 1))
	}
}

// failing is a listener that fails for a moment.
type failing struct {
	net.Listener
	errs chan error
}

func (f *failing) Accept() (net.Conn, error) {
	select {
	case err := <-f.errs:
		return nil, err
	default:
		return f.Listener.Accept()
	}
}

// An error of the listener is told once, and connections come after it.
func TestGateTellsOfErrors(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &failing{Listener: l, errs: make(chan error, 1)}
	full := errors.New("too many open files")
	f.errs <- full
	g := (&Server{firsts: newAdmission()}).Gate(f)
	defer g.Close()
	if _, err := g.Accept(); !errors.Is(err, full) {
		t.Errorf("Accept returns %v, want the listener's error", err)
	}
	dial(t, l.Addr().String(), 1)
	c, err := g.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}
