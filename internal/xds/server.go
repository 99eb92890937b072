package xds

import (
	"context"
	"log/slog"
	"math/rand/v2"
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
	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/live"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/quota"
)

// Config is what a Server needs.
type Config struct {
	Live *live.Live
	// Access finds the caller that signed a stream's opening, and tells when a key is
	// no longer good: its streams are ended then.
	Access *access.Service
	// CA knows what meshes trust; nil: trust bundles are not served.
	CA *ca.Service
	// TrustDomain is the host part of the names in certificates of meshes' authorities.
	TrustDomain string
	Log         *slog.Logger
	// Metrics registers the server's metrics; nil keeps them to itself.
	Metrics prometheus.Registerer
	// MaxStreamAge is when a stream is ended so that its proxy signs anew, give or
	// take a fifth; 0 stands for 30 minutes.
	MaxStreamAge time.Duration
	// Spread is over how long streams are ended when the server ends, so that their proxies
	// do not come to the other servers all at once; 0 ends all at once.
	Spread time.Duration
	// MaxSilence is how long a proxy may leave what it was sent unanswered without a word
	// before it is dropped; 0 stands for 2 minutes.
	MaxSilence time.Duration
	// Audit is told of each stream; nil for none.
	Audit *audit.Log
	// Linger is for how long what the proxies of a node are sent is kept, and kept current,
	// after the last of them has gone, so that nothing is made anew when they come back; 0
	// stands for 30 seconds.
	Linger time.Duration
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
	// Quota counts what proxies report; nil: quotas are not served.
	Quota *quota.Service
	// SettingsChanged returns a channel that is closed when Shared may answer
	// differently; nil for never.
	SettingsChanged func() <-chan struct{}
	// Ask asks all other replicas a question that they answer with Answer of its name, as
	// AnswerPropagation; nil if there are no others. A replica that does not answer has an
	// Answer with an Err.
	Ask func(ctx context.Context, question string, in any) []Answer
}

// Server serves the Aggregated Discovery Service, trust bundles, and quotas.
type Server struct {
	cfg   Config
	queue *queue
	// firsts are the streams on their first synchronisation.
	firsts *admission
	pool   *pool
	// memo is what translations remember, of all feeds.
	memo envoy.Memo
	met  *metrics
	// ended is closed when Run ends.
	ended chan struct{}
	// silent ends the streams of proxies that do not read.
	silent error

	refusals refusals

	mu     sync.Mutex
	feeds  map[feedKey]*feed
	meshes map[mesh.MeshID]*meshIndex
	// left are the feeds without streams, and since when.
	left map[*feed]time.Time
	// counts are the streams of each virtual node and gateway.
	counts tally
	// bundles are the streams of agents for trust bundles.
	bundles map[*bundleStream]struct{}
	// bundleCounts are those of each virtual node and gateway.
	bundleCounts tally
	// quotas are the streams of proxies for quotas, and quotaCounts those of each virtual node
	// and gateway.
	quotas      map[*quotaStream]struct{}
	quotaCounts tally
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
	if cfg.Linger == 0 {
		cfg.Linger = linger
	}
	if cfg.MaxSilence == 0 {
		cfg.MaxSilence = maxSilence
	}
	s := &Server{
		cfg: cfg, queue: newQueue(), firsts: newAdmission(), pool: newPool(), met: newMetrics(cfg.Metrics),
		silent: silentError(cfg.MaxSilence),
		feeds:  map[feedKey]*feed{}, meshes: map[mesh.MeshID]*meshIndex{}, counts: tally{},
		bundles: map[*bundleStream]struct{}{}, bundleCounts: tally{},
		quotas: map[*quotaStream]struct{}{}, quotaCounts: tally{},
		left: map[*feed]time.Time{}, ended: make(chan struct{}),
	}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(proxyStates{s})
	}
	return s
}

// GRPC returns a gRPC server with the discovery service on it.
func (s *Server) GRPC(opts ...grpc.ServerOption) *grpc.Server {
	g := grpc.NewServer(append([]grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{}),
		grpc.Creds(Credentials(nil)),
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
	g.RegisterService(&quotasDesc, s)
	return g
}

// Run translates what changes until ctx ends, then ends all streams, over Config.Spread.
// Those whose turn has not come are served until then.
func (s *Server) Run(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	s.firsts.begin()
	wg.Go(func() { s.queue.run(work, runtime.GOMAXPROCS(0), s.rebuild) })
	wg.Go(func() { s.dropRevoked(work) })
	wg.Go(func() { s.followShares(work) })
	wg.Go(func() { s.forgetLeft(work) })
	<-ctx.Done()
	s.spreadEnds()
	stop()
	wg.Wait()
	close(s.ended)
	s.endStreams(func(*session) error { return errShutdown }) // what has come since
	return ctx.Err()
}

// spreadEnds ends the streams one after the other, in no order, evenly over Config.Spread.
func (s *Server) spreadEnds() {
	open := s.openStreams()
	if s.cfg.Spread == 0 || len(open) == 0 {
		return
	}
	rand.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
	const tick = 10 * time.Millisecond
	begun, ticker := time.Now(), time.NewTicker(tick)
	defer ticker.Stop()
	for ended := 0; ended < len(open); {
		due := len(open)
		if share := float64(time.Since(begun)) / float64(s.cfg.Spread); share < 1 {
			due = int(share * float64(len(open)))
		}
		for ; ended < due; ended++ {
			open[ended].end(errShutdown)
		}
		if ended < len(open) {
			<-ticker.C
		}
	}
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
	for _, one := range s.openStreams() {
		if err := why(one); err != nil {
			one.end(err)
		}
	}
}

// openStreams returns all streams that are open, those for trust bundles and quotas too.
func (s *Server) openStreams() []*session {
	open := s.allSessions()
	s.mu.Lock()
	defer s.mu.Unlock()
	for b := range s.bundles {
		open = append(open, b.one)
	}
	for q := range s.quotas {
		open = append(open, q.one)
	}
	return open
}

// allSessions returns the streams of proxies, of all meshes and of none.
func (s *Server) allSessions() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var open []*session
	for _, m := range s.meshes {
		for one := range m.sessions {
			open = append(open, one)
		}
	}
	return open
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
		_, f.tags = s.cfg.Live.Object(key.id) // each stream is asked about again once it is listed
		f.noticed(0, time.Now())              // it has nothing yet
		f.watch = s.cfg.Live.Watch(key.id, func() { f.noticed(s.cfg.Live.Revision(), time.Now()); s.queue.add(f) })
		s.feeds[key] = f
		s.index(key.id.Mesh).feeds[f] = struct{}{}
		s.queue.add(f)
	}
	f.refs++
	delete(s.left, f)
	return f
}

// release gives a feed back. One that nobody has any more is forgotten after a while.
func (s *Server) release(f *feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.refs--; f.refs > 0 {
		return
	}
	if s.feeds[f.key] == f && !f.isMissing() {
		s.left[f] = time.Now()
		return
	}
	s.forget(f)
}

// forget ends a feed without streams. The lock is held.
func (s *Server) forget(f *feed) {
	delete(s.left, f)
	if s.feeds[f.key] == f {
		delete(s.feeds, f.key)
	}
	delete(s.index(f.key.id.Mesh).feeds, f)
	s.tidy(f.key.id.Mesh)
	f.watch.Close()
}

// linger is the default of Config.Linger.
const linger = 30 * time.Second

// forgetLeft forgets the feeds that nobody has come back to, until ctx ends.
func (s *Server) forgetLeft(ctx context.Context) {
	ticker := time.NewTicker(max(s.cfg.Linger/6, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			s.mu.Lock()
			for f, since := range s.left {
				if now.Sub(since) >= s.cfg.Linger || f.isMissing() {
					s.forget(f)
				}
			}
			s.mu.Unlock()
		}
	}
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
