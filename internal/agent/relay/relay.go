package relay

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/agent/private"
)

// Config is what New needs. Copies and Patience may be left out.
type Config struct {
	// Socket is the path of the Unix socket that Envoys connect to. It is made with mode
	// 0600, in a folder that is there.
	Socket string
	// Upstream leads to the control plane. Its streams are signed by its credentials.
	Upstream grpc.ClientConnInterface
	// Copies is a folder of the relay's own for what Envoys have accepted; it is made if it
	// is missing, with mode 0700. "" keeps copies in memory only.
	Copies string
	// Patience is how long the control plane may take to answer before an Envoy that asks
	// is served from its copy. 0 stands for a second. Where the control plane is known to
	// be away nothing is waited for.
	Patience time.Duration
	// Refused is called when the control plane refuses the key that a stream was signed with,
	// for who may have another. It may be nil.
	Refused func()
	Logger  *slog.Logger
}

// Relay serves Envoys at a Unix socket. It is made by New.
type Relay struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	cfg    Config
	copies *copies

	mu       sync.Mutex
	standing Standing
}

// Standing is how the relay stands with the control plane.
type Standing struct {
	// Connected is whether the newest stream is open and has been answered.
	Connected bool
	// Since is when Connected became what it is; zero before the first stream has been
	// answered or has failed.
	Since time.Time
	// Reason says why it is not connected: what the control plane or the network said.
	Reason string
	// Code is the gRPC status code of Reason.
	Code codes.Code
	// Streams is how many streams have been opened.
	Streams uint64
	// FromCopy is how many responses were made from copies.
	FromCopy uint64
}

// New reads the copies that are there, leaving out those that cannot be read, with a
// warning. It opens nothing.
func New(cfg Config) (*Relay, error) {
	if cfg.Patience == 0 {
		cfg.Patience = time.Second
	}
	c, err := openCopies(cfg.Copies, cfg.Logger)
	if err != nil {
		return nil, err
	}
	return &Relay{cfg: cfg, copies: c}, nil
}

// Standing returns how the relay stands with the control plane now.
func (r *Relay) Standing() Standing {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.standing
}

// Listen makes the socket.
func (r *Relay) Listen() (net.Listener, error) { return private.Listen(r.cfg.Socket) }

// Serve serves Envoys at a listener until ctx ends, and closes it.
func (r *Relay) Serve(ctx context.Context, l net.Listener) error {
	g := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, r)
	g.RegisterService(&quotasDesc, r)
	stop := context.AfterFunc(ctx, g.Stop)
	defer stop()
	writing, written := context.WithCancel(context.WithoutCancel(ctx))
	var writer sync.WaitGroup
	writer.Go(func() { r.copies.run(writing) })
	defer writer.Wait()
	defer written() // when no Envoy is served any more
	if err := g.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serving the relay: %w", err)
	}
	return nil
}

// maxMessage bounds a message, in bytes.
const maxMessage = 256 << 20

// DeltaAggregatedResources serves an Envoy that is told what changes.
func (r *Relay) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	first, err := g.Recv()
	if err != nil {
		return err
	}
	return r.converse(g.Context(), first, g.Recv, g.Send)
}

// StreamAggregatedResources serves an Envoy that is told the state of the world.
func (r *Relay) StreamAggregatedResources(g discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	a := newAdapter(g)
	first, err := a.recv()
	if err != nil {
		return err
	}
	return r.converse(g.Context(), first, a.recv, a.send)
}

// converse serves one stream of an Envoy.
func (r *Relay) converse(ctx context.Context, first *request, recv func() (*request, error), send func(*response) error) error {
	if first.GetNode().GetId() == "" {
		return status.Error(codes.InvalidArgument, "the first request has no node.id")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	requests := make(chan *request)
	ended := make(chan error, 1)
	go func() {
		for {
			req, err := recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case requests <- req:
			case <-ctx.Done():
				return
			}
		}
	}()
	key := copyKey(first.GetNode())
	c := &conversation{
		relay: r, node: first.GetNode(), key: key, copy: r.copies.get(key), send: send,
		types: map[string]*subscription{}, flights: map[string]*flight{},
		up: newUpstream(r.cfg.Upstream, first.GetNode()),
	}
	defer c.up.close()
	if err := c.onRequest(first); err != nil {
		return err
	}
	return c.run(ctx, requests, ended)
}

// stands notes how the newest stream goes.
func (r *Relay) stands(connected bool, err error) {
	r.mu.Lock()
	s := &r.standing
	changed := s.Since.IsZero() || s.Connected != connected
	if changed {
		s.Connected, s.Since = connected, time.Now()
	}
	before := s.Reason
	s.Reason, s.Code = "", codes.OK
	if err != nil {
		st := status.Convert(err)
		s.Reason, s.Code = st.Message(), st.Code()
	}
	reason, code := s.Reason, s.Code
	r.mu.Unlock()
	if (code == codes.Unauthenticated || code == codes.PermissionDenied) && r.cfg.Refused != nil {
		r.cfg.Refused()
	}
	switch {
	case connected && changed:
		r.cfg.Logger.Info("the control plane answers")
	case !connected && (changed || reason != before):
		r.cfg.Logger.Warn("the control plane does not answer; Envoys go on with what they have", "code", code.String(), "reason", reason)
	}
}

func (r *Relay) count(streams, fromCopy uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.standing.Streams += streams
	r.standing.FromCopy += fromCopy
}
