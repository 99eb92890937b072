package cloudmap

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Source is the Cloud Map of an AWS account, for the nodes of one account here.
type Source struct {
	// Account is whose nodes are discovered by it: twelve digits.
	Account string
	// RoleARN is a role that is assumed to ask, "" for the credentials that the process
	// has. ExternalID goes with it, "" for none.
	RoleARN, ExternalID string
}

// Config says whom to ask, for what, and where the answers go.
type Config struct {
	Sources []Source
	// Endpoint is the URL of Cloud Map, "" for AWS's own.
	Endpoint string
	// Wanted returns the services whose instances are wanted now. It must not wait.
	Wanted func() []mesh.InstancesKey
	// Known returns what was imported of a service before, by this process or another.
	Known func(mesh.InstancesKey) []mesh.Instance
	// Import replaces what is known of a service's instances.
	Import func(context.Context, mesh.InstancesKey, []mesh.Instance) error
	// Interval is how often each service is asked for, 0 for 5 s.
	Interval time.Duration
	// Rate bounds the requests a second to each source, 0 for 50; AWS allows 1,000 of
	// DiscoverInstances to an account.
	Rate float64
	// Logger must not be nil. Metrics registers the counters; nil keeps them private.
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

const (
	defaultInterval = 5 * time.Second
	defaultRate     = 50
	// lookAgain is how many looks at the revision alone stand between two whole answers:
	// a change of an instance's health does not change the revision.
	lookAgain = 5
	// parallel is how many services of a source are asked for at once.
	parallel = 8
	// longestWait bounds how long a service that cannot be asked for is left alone.
	longestWait = time.Minute
)

// Poller asks Cloud Map again and again. Run makes it work.
type Poller struct {
	cfg     Config
	sources map[string]*source // by account
	asked   *prometheus.CounterVec
	failed  *prometheus.CounterVec
}

// source is one of the Cloud Maps that are asked.
type source struct {
	Source
	clients  clients
	limit    *rate.Limiter
	services map[mesh.InstancesKey]*service
	// noRevisions is set once it is known that revisions are not told.
	noRevisions atomic.Bool
}

// service is what is known of one service's polls.
type service struct {
	key      mesh.InstancesKey
	next     time.Time // when it is asked for again
	revision int64     // of the last whole answer, 0 for none
	looks    int       // at the revision alone, since then
	empty    bool      // the last answer was empty, and was not believed yet
	failures int       // in a row
}

// New returns a poller. Errors name what in the sources cannot be.
func New(cfg Config) (*Poller, error) {
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.Rate <= 0 {
		cfg.Rate = defaultRate
	}
	p := &Poller{
		cfg: cfg, sources: make(map[string]*source, len(cfg.Sources)),
		asked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_cloud_map_requests_total", Help: "Requests to AWS Cloud Map.",
		}, []string{"account", "operation"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_cloud_map_failures_total", Help: "Polls of AWS Cloud Map that failed; the last answer is kept.",
		}, []string{"account"}),
	}
	for _, s := range cfg.Sources {
		if !mesh.ValidAccount(s.Account) {
			return nil, fmt.Errorf("account %q of a Cloud Map is not allowed: twelve digits", s.Account)
		}
		if p.sources[s.Account] != nil {
			return nil, fmt.Errorf("account %s has two Cloud Maps, allowed is one", s.Account)
		}
		p.sources[s.Account] = &source{
			Source: s, clients: clients{source: s, endpoint: cfg.Endpoint},
			limit: rate.NewLimiter(rate.Limit(cfg.Rate), parallel), services: map[mesh.InstancesKey]*service{},
		}
	}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(p.asked, p.failed)
	}
	return p, nil
}

// Run polls until ctx ends, and returns its error. Sources do not wait for each other.
func (p *Poller) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range p.sources {
		wg.Go(func() { p.follow(ctx, s) })
	}
	wg.Wait()
	<-ctx.Done()
	return ctx.Err()
}

// follow polls one source. What is wanted is looked at ten times in an interval, so that
// a service that is new does not wait for long.
func (p *Poller) follow(ctx context.Context, s *source) {
	tick := time.NewTicker(max(p.cfg.Interval/10, time.Millisecond))
	defer tick.Stop()
	for {
		p.round(ctx, s)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// round asks for the services that are due.
func (p *Poller) round(ctx context.Context, s *source) {
	now := time.Now()
	wanted := make(map[mesh.InstancesKey]struct{})
	var g errgroup.Group
	g.SetLimit(parallel)
	for _, k := range p.cfg.Wanted() {
		if _, twice := wanted[k]; twice || k.Account != s.Account {
			continue
		}
		wanted[k] = struct{}{}
		one := s.services[k]
		if one == nil {
			one = &service{key: k}
			s.services[k] = one
		}
		if one.next.After(now) {
			continue
		}
		g.Go(func() error {
			p.poll(ctx, s, one)
			return nil
		})
	}
	_ = g.Wait() // poll reports what fails
	for k := range s.services {
		if _, still := wanted[k]; !still {
			delete(s.services, k)
		}
	}
}

// poll asks for one service, and decides when it is asked for again.
func (p *Poller) poll(ctx context.Context, s *source, one *service) {
	err := p.ask(ctx, s, one)
	if ctx.Err() != nil {
		return
	}
	wait := p.cfg.Interval
	if err != nil {
		one.failures++
		p.failed.WithLabelValues(s.Account).Inc()
		wait = min(p.cfg.Interval<<min(one.failures-1, 10), max(longestWait, p.cfg.Interval))
		if one.failures == 1 || one.failures%20 == 0 {
			p.cfg.Logger.WarnContext(ctx, "AWS Cloud Map cannot be asked, its last answer is kept",
				"account", s.Account, "namespace", one.key.Namespace, "service", one.key.Service, "failures", one.failures, "error", err)
		}
	} else if one.failures > 0 {
		p.cfg.Logger.InfoContext(ctx, "AWS Cloud Map answers again", "account", s.Account, "namespace", one.key.Namespace, "service", one.key.Service)
		one.failures = 0
	}
	one.next = time.Now().Add(wait - wait/10 + rand.N(wait/5+1)) //nolint:gosec // spreads requests; guards nothing
}

// ask asks for a service's revision, and for its instances if that has changed, or if it
// was asked for alone for long enough.
func (p *Poller) ask(ctx context.Context, s *source, one *service) error {
	client, err := s.clients.get(ctx, one.key.Region)
	if err != nil {
		return err
	}
	if one.revision != 0 && !one.empty && one.looks < lookAgain && !s.noRevisions.Load() {
		revision, err := p.revision(ctx, s, client, one.key)
		if err != nil {
			return err
		}
		if revision == one.revision {
			one.looks++
			return nil
		}
	}
	found, revision, err := p.discover(ctx, s, client, one.key)
	if err != nil {
		return err
	}
	if len(found) == 0 && !one.empty && len(p.cfg.Known(one.key)) > 0 {
		// To lose all hosts at once is more often a fault of the moment than the truth.
		one.empty = true
		p.cfg.Logger.InfoContext(ctx, "AWS Cloud Map says that a service has no instances any more, it is asked once more",
			"account", s.Account, "namespace", one.key.Namespace, "service", one.key.Service)
		return nil
	}
	if err := p.cfg.Import(ctx, one.key, found); err != nil {
		return fmt.Errorf("keeping the answer: %w", err)
	}
	one.revision, one.looks, one.empty = revision, 0, false
	return nil
}
