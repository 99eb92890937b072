package xds

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// strangersPerCore is how many connections for each core may be on their way to a stream
	// that has said who opens it, fewStrangers how many while the processors are short.
	strangersPerCore, fewStrangers = 64, 4
	// strangerPatience is for how long a connection may keep others from that: one that says
	// nothing, or is far away, goes on without. While the processors are short it is not the
	// connection that is slow, and it may mostPatience times as long.
	strangerPatience, mostPatience = 100 * time.Millisecond, 10
	// leavingPerCore is how many connections for each core may be taken down at once,
	// fewLeaving how many while the processors are short.
	leavingPerCore, fewLeaving = 8, 1
)

// Gate returns a listener that takes all connections at once, so that none is lost in the
// system's queue, and hands on so many only that those who are served already notice
// little of thousands that come together. The others wait, first come first served; what one
// costs while it waits is a connection of the system. Connections that end together are taken
// down one after the other likewise: each ends a handful of goroutines.
func (s *Server) Gate(l net.Listener) net.Listener {
	g := &gate{Listener: l, stir: s.firsts.stir, room: roomFor(fewStrangers, strangersPerCore), patience: strangerPatience, leaving: newDoor(roomFor(fewLeaving, leavingPerCore))}
	g.wake.L = &g.mu
	go g.collect() // ends with the listener
	return g
}

type gate struct {
	net.Listener
	patience time.Duration
	leaving  *door  // for connections that are taken down
	stir     func() // is called when a connection comes, and when one ends

	mu      sync.Mutex
	wake    sync.Cond
	room    room
	waiting []net.Conn
	// err is the listener's last error, which ends collect, or until it is told of.
	err    error
	closed bool
}

// collect takes the connections.
func (g *gate) collect() {
	for {
		c, err := g.Listener.Accept()
		g.mu.Lock()
		switch {
		case g.closed:
			g.mu.Unlock()
			if err == nil {
				_ = c.Close()
			}
			return
		case err != nil:
			g.err = err
			g.wake.Broadcast()
			for g.err != nil && !g.closed { // who accepts decides whether it goes on
				g.wake.Wait()
			}
		default:
			g.waiting = append(g.waiting, c)
			g.wake.Broadcast()
			g.stir()
		}
		g.mu.Unlock()
	}
}

// Accept returns the next connection when it is its turn.
func (g *gate) Accept() (net.Conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		var quiet bool
		if len(g.waiting) > 0 {
			g.mu.Unlock()
			quiet = settle()
			g.mu.Lock()
		}
		switch {
		case g.closed:
			return nil, net.ErrClosed
		case g.err != nil:
			err := g.err
			g.err = nil
			g.wake.Broadcast()
			return nil, err
		case len(g.waiting) > 0 && g.room.take(quiet):
			c := &stranger{Conn: g.waiting[0], gate: g}
			g.waiting[0] = nil
			g.waiting = g.waiting[1:]
			c.known = sync.OnceFunc(g.leave)
			c.timer = g.after(c.known, mostPatience)
			return c, nil
		}
		g.wake.Wait()
	}
}

// after calls f when patience is over, or some times as long while the processors are short.
func (g *gate) after(f func(), times int) *time.Timer {
	return time.AfterFunc(g.patience, func() {
		if quiet := settle(); quiet || times == 1 {
			f()
			return
		}
		g.after(f, times-1)
	})
}

// leave lets the next connection in.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.room.inside--
	g.wake.Broadcast()
}

// Close closes the listener, and the connections whose turn has not come.
func (g *gate) Close() error {
	g.mu.Lock()
	g.closed = true
	rest := g.waiting
	g.waiting = nil
	g.wake.Broadcast()
	g.mu.Unlock()
	for _, c := range rest {
		_ = c.Close()
	}
	return g.Listener.Close()
}

// stranger is a connection of which it is not known at first whose it is.
type stranger struct {
	net.Conn
	gate  *gate
	known func()
	timer *time.Timer
	// gone frees the place that the connection has while it is taken down; nil before.
	gone   atomic.Pointer[func()]
	closed atomic.Bool
}

// Read reads. That the connection has ended is told when it is its turn to be taken down.
func (c *stranger) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil || c.closed.Load() || c.gone.Load() != nil {
		return n, err
	}
	c.gate.stir()
	c.gate.leaving.enter()
	gone := sync.OnceFunc(c.gate.leaving.leave)
	if !c.gone.CompareAndSwap(nil, &gone) || c.closed.Load() {
		gone()
	} else {
		c.gate.after(gone, mostPatience) // in case there is no stream on it
		settle()
	}
	return n, err
}

// Close closes the connection.
func (c *stranger) Close() error {
	c.closed.Store(true)
	c.pass()
	return c.Conn.Close()
}

// over says that what the end of the connection sets off is done: the next can be taken
// down. It is not enough that this one is closed: who waits for a place runs before what has
// been woken meanwhile, so that one end after the other would be begun.
func (c *stranger) over() {
	if gone := c.gone.Load(); gone != nil {
		(*gone)()
	}
}

// pass lets the next connection in, once.
func (c *stranger) pass() {
	c.timer.Stop()
	c.known()
}
