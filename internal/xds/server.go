package xds

import (
	"context"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/access/audit"
	"github.com/fairlead-mesh/fairlead/internal/ca"
	"github.com/fairlead-mesh/fairlead/internal/live"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Config is what a Server needs.
type Config struct {
	Live *live.Live
	// Access finds the caller that signed a stream's opening, and tells when a key is
	// no longer good: its streams are ended then.
	Access *access.Service
	// CA knows what meshes trust; nil: trust bundles are not served.
	CA  *ca.Service
	Log *slog.Logger
	// Metrics registers the server's metrics; nil keeps them to itself.
	Metrics prometheus.Registerer
	// MaxStreamAge is when a stream is ended so that its proxy signs anew, give or
	// take a fifth; 0 stands for 30 minutes.
	MaxStreamAge time.Duration
	// Audit is told of each stream; nil for none.
	Audit *audit.Log
	// Quotas returns an account's quotas; nil for none. How many proxies a virtual node
	// or gateway may have is its mesh owner's.
	Quotas func(account string) mesh.Quotas
	// Elsewhere returns how many streams other replicas have of what c counts, as far as it
	// decides whether one more is allowed; nil: there are no others. It is called when a
	// stream opens, and waits for a short time only.
	Elsewhere func(c Crowd, limit int) int
	// Shared reports whether proxies of an account may be in a mesh now; nil lets the
	// owner's alone. It is asked often and must not wait.
	Shared func(m mesh.MeshID, account string) bool
	// SettingsChanged returns a channel that is closed when Shared may answer
	// differently; nil for never.
	SettingsChanged func() <-chan struct{}
}

// Server serves the Aggregated Discovery Service, and trust bundles.
type Server struct {
	cfg   Config
	queue *queue
	pool  *pool
	// memories are of the feeds that have very many services.
	memories *memories
	met      *metrics

	refusals refusals

	mu     sync.Mutex
	feeds  map[feedKey]*feed
	meshes map[mesh.MeshID]*meshIndex
	// counts are the streams of each virtual node and gateway.
	counts map[counted]int
	// bundles are the streams of agents for trust bundles.
	bundles map[*bundleStream]struct{}
	// bundleCounts are those of each virtual node and gateway.
	bundleCounts map[counted]int
}

// meshIndex finds what belongs to a mesh.
type meshIndex struct {
	feeds    map[*feed]struct{}
	sessions map[*session]struct{}
}

// New returns a Server. Run does its work; GRPC makes what listens.
func New(cfg Config) *Server {
	if cfg.MaxStreamAge == 0 {
		cfg.MaxStreamAge = 30 * time.Minute
	}
	return &Server{
		cfg: cfg, queue: newQueue(), pool: newPool(), memories: newMemories(), met: newMetrics(cfg.Metrics),
		feeds: map[feedKey]*feed{}, meshes: map[mesh.MeshID]*meshIndex{}, counts: map[counted]int{},
		bundles: map[*bundleStream]struct{}{}, bundleCounts: map[counted]int{},
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
		// A proxy that is lost without a farewell counts towards its quota until that is
		// noticed: after 30 s at most. Agents ping every 10 s, so that few are ever asked.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 15 * time.Second, Timeout: 15 * time.Second}),
	}, opts...)...)
	g.RegisterService(&serviceDesc, s)
	g.RegisterService(&secretsDesc, s)
	return g
}

// Run translates what changes until ctx ends, then ends all streams.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.queue.run(ctx, runtime.GOMAXPROCS(0), s.rebuild) })
	wg.Go(func() { s.dropRevoked(ctx) })
	wg.Go(func() { s.followShares(ctx) })
	wg.Wait()
	s.endStreams(func(*session) error { return errShutdown })
	return ctx.Err()
}

// errShutdown ends the streams of a server that ends.
var errShutdown = status.Error(codes.Unavailable, "the control plane is shutting down")

// dropRevoked ends the streams of callers whose keys, sessions, accounts or policies no
// longer allow them.
func (s *Server) dropRevoked(ctx context.Context) {
	for ctx.Err() == nil {
		changed := s.cfg.Access.Changed()
		s.endStreams(s.allowed)
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

// endStreams ends the streams for which why returns an error, with that error.
func (s *Server) endStreams(why func(*session) error) {
	s.mu.Lock()
	var open []*session
	for _, m := range s.meshes {
		for one := range m.sessions {
			open = append(open, one)
		}
	}
	for b := range s.bundles {
		open = append(open, b.one)
	}
	s.mu.Unlock()
	for _, one := range open {
		if err := why(one); err != nil {
			one.end(err)
		}
	}
}

// checkTags asks again whether a feed's callers are allowed once the tags of its node
// or gateway have changed, for policies may depend on them.
func (s *Server) checkTags(f *feed) {
	_, tags := s.cfg.Live.Object(f.key.id)
	if slices.Equal(tags, f.tags) {
		return
	}
	f.tags = tags
	s.endStreams(func(one *session) error {
		if one.feed != f {
			return nil
		}
		return s.allowed(one)
	})
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
		s.index(key.id.Mesh).feeds[f] = struct{}{}
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
		delete(s.index(f.key.id.Mesh).feeds, f)
		s.tidy(f.key.id.Mesh)
		f.watch.Close()
		s.memories.forget(f)
	}
}

// unused reports whether no stream has a feed any more.
func (s *Server) unused(f *feed) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f.refs == 0
}

// index returns what is known of a mesh; tidy forgets it when that is nothing. The lock
// is held.
func (s *Server) index(id mesh.MeshID) *meshIndex {
	m := s.meshes[id]
	if m == nil {
		m = &meshIndex{feeds: map[*feed]struct{}{}, sessions: map[*session]struct{}{}}
		s.meshes[id] = m
	}
	return m
}

func (s *Server) tidy(id mesh.MeshID) {
	if m := s.meshes[id]; m != nil && len(m.feeds)+len(m.sessions) == 0 {
		delete(s.meshes, id)
	}
}
