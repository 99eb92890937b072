package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/live"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Config is what a Server needs.
type Config struct {
	Live *live.Live
	// Access finds the caller that signed a stream's opening, and tells when a key is
	// no longer good: its streams are ended then.
	Access *access.Service
	Log    *slog.Logger
	// Metrics registers the server's metrics; nil keeps them to itself.
	Metrics prometheus.Registerer
	// MaxStreamAge is when a stream is ended so that its proxy signs anew, give or
	// take a fifth; 0 stands for 30 minutes.
	MaxStreamAge time.Duration
}

// Server serves the Aggregated Discovery Service.
type Server struct {
	cfg   Config
	queue *queue
	pool  *pool
	met   *metrics

	mu      sync.Mutex
	feeds   map[feedKey]*feed
	streams map[*session]struct{}
}

// session is an open stream as the server sees it.
type session struct {
	end context.CancelCauseFunc
	// allowed asks whether the caller may still have what the stream serves.
	allowed func() error
}

// New returns a Server. Run does its work; GRPC makes what listens.
func New(cfg Config) *Server {
	if cfg.MaxStreamAge == 0 {
		cfg.MaxStreamAge = 30 * time.Minute
	}
	return &Server{
		cfg: cfg, queue: newQueue(), pool: newPool(), met: newMetrics(cfg.Metrics),
		feeds: map[feedKey]*feed{}, streams: map[*session]struct{}{},
	}
}

// GRPC returns a gRPC server with the discovery service on it.
func (s *Server) GRPC(opts ...grpc.ServerOption) *grpc.Server {
	g := grpc.NewServer(append([]grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{}),
		grpc.ReadBufferSize(4 << 10),
		grpc.WriteBufferSize(16 << 10),
		grpc.MaxConcurrentStreams(100),
		// App Mesh's agents ping every 10 s; grpc-go ends connections that ping more
		// often than every 5 minutes unless it is told otherwise.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
	}, opts...)...)
	g.RegisterService(&serviceDesc, s)
	return g
}

// Run translates what changes until ctx ends, then ends all streams.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.queue.run(ctx, runtime.GOMAXPROCS(0), s.rebuild) })
	wg.Go(func() { s.dropRevoked(ctx) })
	wg.Wait()
	s.endStreams(func(*session) error { return status.Error(codes.Unavailable, "the control plane is shutting down") })
	return ctx.Err()
}

// dropRevoked ends the streams of callers whose keys or policies no longer allow them.
func (s *Server) dropRevoked(ctx context.Context) {
	for ctx.Err() == nil {
		changed := s.cfg.Access.Changed()
		s.endStreams(func(one *session) error { return one.allowed() })
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

// endStreams ends the streams for which why returns an error, with that error.
func (s *Server) endStreams(why func(*session) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for one := range s.streams {
		if err := why(one); err != nil {
			one.end(err)
		}
	}
}

// rebuild brings a feed up to date. A view that breaks the translator costs its own
// update, not the server.
func (s *Server) rebuild(f *feed) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Log.Error("translating a view panicked; its proxies keep what they have",
				"arn", f.key.id.ARN(f.key.id.Mesh.Account), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	start := time.Now()
	view, revision := f.watch.Build()
	if view == nil {
		f.vanish()
		return
	}
	resources, problems := envoy.Translate(view, f.key.profile)
	encoded := make([]*resource, 0, len(resources))
	for _, r := range resources {
		e, err := s.pool.encode(r, f.types[r.Type].get(r.Name))
		if err != nil {
			s.cfg.Log.Error("leaving out a resource that cannot be encoded", "arn", view.ARN(), "error", err)
			continue
		}
		encoded = append(encoded, e)
	}
	changed := f.publish(encoded)
	s.met.rebuilds.Observe(time.Since(start).Seconds())
	s.report(f, view, problems)
	s.cfg.Log.Debug("rebuilt", "arn", view.ARN(), "revision", revision, "resources", len(encoded), "changed", changed)
}

// report logs the problems of a view when they change.
func (s *Server) report(f *feed, view *mesh.View, problems []envoy.Problem) {
	now := make(map[envoy.Problem]struct{}, len(problems))
	for _, p := range problems {
		now[p] = struct{}{}
		if _, known := f.problems[p]; !known {
			s.cfg.Log.Warn("part of the mesh is not served as written",
				"arn", view.ARN(), "object", p.Object.String(), "field", p.Field, "problem", p.Message)
		}
	}
	f.problems = now
}

// acquire returns the feed of a key, and makes it if there is none.
func (s *Server) acquire(key feedKey) *feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.feeds[key]
	if f == nil {
		f = newFeed(key)
		f.watch = s.cfg.Live.Watch(key.id, func() { s.queue.add(f) })
		s.feeds[key] = f
		s.queue.add(f)
	}
	f.refs++
	return f
}

func (s *Server) release(f *feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.refs--
	if f.refs == 0 {
		delete(s.feeds, f.key)
		f.watch.Close()
	}
}

// enter lists an open stream until leave is called.
func (s *Server) enter(one *session) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[one] = struct{}{}
	s.met.streams.Inc()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.streams, one)
		s.met.streams.Dec()
	}
}

// conversation is one stream's wire side, delta or state-of-the-world.
type conversation struct {
	full bool
	// recv takes the next request; node is nil where the request carries none.
	recv func() (node *corev3.Node, handle func(*stream) error, err error)
	send func(*response) error
}

// serve runs one stream from its opening to its end.
func (s *Server) serve(ctx context.Context, method string, c conversation) error {
	caller, err := s.authenticate(ctx, method)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	node, first, err := c.recv()
	if err != nil {
		return recvError(err)
	}
	key, allowed, err := authorize(caller, node)
	if err != nil {
		return err
	}
	defer s.enter(&session{end, allowed})()
	if err := allowed(); err != nil { // once more, now that a change would be heard
		return err
	}
	f := s.acquire(key)
	defer s.release(f)
	log := s.cfg.Log.With("arn", node.GetId(), "account", caller.Account)
	st := &stream{feed: f, full: c.full, wake: make(chan struct{}, 1), opened: time.Now(), log: log, met: s.met}
	f.join(st)
	defer f.leave(st)
	log.Info("proxy connected", "profile", key.profile, "delta", !c.full)
	defer log.Info("proxy disconnected")

	failed := make(chan error, 1)
	go func() { // ends with the stream, whose context ends when serve returns
		failed <- receive(st, first, c.recv)
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, jitter(s.cfg.MaxStreamAge), errAged)
	defer cancel()
	err = st.run(ctx, failed, c.send)
	if errors.Is(err, errAged) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// errAged ends a stream gracefully so that its proxy opens and signs another.
var errAged = errors.New("the stream has reached its age")

func jitter(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5+1) //nolint:gosec // spreads reconnects; guards nothing
}

// receive hands requests to a stream until one fails.
func receive(st *stream, handle func(*stream) error, recv func() (*corev3.Node, func(*stream) error, error)) error {
	for {
		if err := handle(st); err != nil {
			return err
		}
		st.signal()
		var err error
		if _, handle, err = recv(); err != nil {
			return recvError(err)
		}
	}
}

// recvError keeps gRPC's own errors, and tells a proxy's going from a failure.
func recvError(err error) error {
	if errors.Is(err, io.EOF) || status.Code(err) == codes.Canceled {
		return io.EOF
	}
	return err
}

// serviceDesc describes the discovery service with our own message handling. (The
// generated one would force the generated response types.)
var serviceDesc = grpc.ServiceDesc{
	ServiceName: "envoy.service.discovery.v3.AggregatedDiscoveryService",
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{
		{StreamName: "StreamAggregatedResources", Handler: handleFullStream, ServerStreams: true, ClientStreams: true},
		{StreamName: "DeltaAggregatedResources", Handler: handleDeltaStream, ServerStreams: true, ClientStreams: true},
	},
	Metadata: "envoy/service/discovery/v3/ads.proto",
}

func handleDeltaStream(srv any, g grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(g)
	return srv.(*Server).serve(g.Context(), method, conversation{
		recv: func() (*corev3.Node, func(*stream) error, error) {
			req := new(discoveryv3.DeltaDiscoveryRequest)
			err := g.RecvMsg(req)
			return req.GetNode(), func(st *stream) error { return st.handleDelta(req) }, err
		},
		send: func(r *response) error { return g.SendMsg(r) },
	})
}

func handleFullStream(srv any, g grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(g)
	return srv.(*Server).serve(g.Context(), method, conversation{
		full: true,
		recv: func() (*corev3.Node, func(*stream) error, error) {
			req := new(discoveryv3.DiscoveryRequest)
			err := g.RecvMsg(req)
			return req.GetNode(), func(st *stream) error { return st.handleFull(req) }, err
		},
		send: func(r *response) error { return g.SendMsg(r) },
	})
}
