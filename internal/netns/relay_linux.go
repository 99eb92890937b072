package netns

import (
	"context"
	"io"
	"net"
	"sync"
)

// Relay passes connections from one namespace on to another.
type Relay struct {
	listener net.Listener
	to       func(context.Context) (net.Conn, error)
	cancel   context.CancelFunc // ends the connections
	over     sync.WaitGroup
}

// NewRelay connects each connection that a listener accepts with one that to makes, until
// Close; those that to fails for are closed. The two ends may be in any namespaces.
func NewRelay(l net.Listener, to func(context.Context) (net.Conn, error)) *Relay {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Relay{listener: l, to: to, cancel: cancel}
	r.over.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.over.Go(func() { r.pass(ctx, c) })
		}
	})
	return r
}

// pass copies both directions of a connection, and closes both ends when one of them ends.
func (r *Relay) pass(ctx context.Context, from net.Conn) {
	defer from.Close()
	to, err := r.to(ctx)
	if err != nil {
		return
	}
	ended := func() {
		_ = to.Close()
		_ = from.Close()
	}
	defer context.AfterFunc(ctx, ended)()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(to, from)
		ended()
	})
	_, _ = io.Copy(from, to)
	ended()
	back.Wait()
}

// Close ends the listener and all connections.
func (r *Relay) Close() {
	_ = r.listener.Close()
	r.cancel()
	r.over.Wait()
}
