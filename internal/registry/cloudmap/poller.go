package cloudmap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
	// Self is the address of this server's own Cloud Map API, host:port, which must not be
	// asked; "" for none.
	Self string
	// Wanted returns the services whose instances are wanted now. It must not wait.
	Wanted func() []mesh.InstancesKey
	// Known returns what was imported of a service before, by this process or another, in
	// the order of the ids, and whether anything was, be it that there are no instances.
	Known func(mesh.InstancesKey) ([]mesh.Instance, bool)
	// Import replaces what is known of a service's instances.
	Import func(context.Context, mesh.InstancesKey, []mesh.Instance) error
	// Forget removes what is known of a service that does not exist any more.
	Forget func(context.Context, mesh.InstancesKey) error
	// Interval is how often each service is asked for, 0 for 5 s.
	Interval time.Duration
	// Rate bounds the requests a second to each source, 0 for 100. AWS allows an account
	// 1,000 of DiscoverInstances in each region and 3,000 of DiscoverInstancesRevision.
	// Where more is due, services are asked for less often, the longest overdue first.
	Rate float64
	// Timeout bounds each request, and each search for credentials, 0 for 10 s.
	Timeout time.Duration
	// Logger must not be nil. Metrics registers the figures; nil keeps them private.
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

const (
	defaultInterval = 5 * time.Second
	defaultRate     = 100
	defaultTimeout  = 10 * time.Second
	// lookAgain is how many looks at the revision alone stand between two whole answers:
	// a change of an instance's health does not change the revision.
	lookAgain = 5
	// parallel is how many services of a source are asked for at once.
	parallel = 16
	// longestWait bounds how long a service that cannot be asked for is left alone.
	longestWait = time.Minute
	// revisionPause is how long revisions are not asked for where they are not told, and
	// revisionTries after how many refusals in a row that is taken to be so.
	revisionPause = 10 * time.Minute
	revisionTries = 5
	// sayAgain is how often a failure that lasts is logged.
	sayAgain = 5 * time.Minute
)

// Poller asks Cloud Map again and again. Run makes it work.
type Poller struct {
	cfg     Config
	sources map[string]*source // by account
	asked   *prometheus.CounterVec
	failed  *prometheus.CounterVec
}

// New returns a poller. Errors name what in the sources cannot be.
func New(cfg Config) (*Poller, error) {
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.Rate <= 0 {
		cfg.Rate = defaultRate
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	p := &Poller{cfg: cfg, sources: make(map[string]*source, len(cfg.Sources))}
	for _, s := range cfg.Sources {
		if !mesh.ValidAccount(s.Account) {
			return nil, fmt.Errorf("account %q of a Cloud Map is not allowed: twelve digits", s.Account)
		}
		if p.sources[s.Account] != nil {
			return nil, fmt.Errorf("account %s has two Cloud Maps, allowed is one", s.Account)
		}
		p.sources[s.Account] = &source{
			Source: s, clients: clients{source: s, endpoint: cfg.Endpoint, self: cfg.Self, timeout: cfg.Timeout},
			limit:    rate.NewLimiter(rate.Limit(cfg.Rate), parallel),
			services: map[mesh.InstancesKey]*service{}, said: map[string]time.Time{},
		}
	}
	p.measure(cfg.Metrics)
	return p, nil
}

// Run polls until ctx ends, and returns its error. Sources do not wait for each other.
func (p *Poller) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	if len(p.sources) > 0 {
		wg.Go(func() { p.look(ctx) })
	}
	for _, s := range p.sources {
		wg.Go(func() { p.follow(ctx, s) })
	}
	wg.Wait()
	<-ctx.Done()
	return ctx.Err()
}

// look finds what is wanted of each source, ten times in an interval, so that a service
// that is new does not wait for long.
func (p *Poller) look(ctx context.Context) {
	tick := time.NewTicker(p.tick())
	defer tick.Stop()
	for {
		wanted := map[string][]mesh.InstancesKey{}
		for _, k := range p.cfg.Wanted() {
			if p.sources[k.Account] != nil {
				wanted[k.Account] = append(wanted[k.Account], k)
			}
		}
		for account, s := range p.sources {
			s.want(wanted[account], time.Now())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *Poller) tick() time.Duration { return max(p.cfg.Interval/10, time.Millisecond) }

// follow polls one source.
func (p *Poller) follow(ctx context.Context, s *source) {
	work := make(chan *service)
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			for one := range work {
				p.poll(ctx, s, one)
			}
		})
	}
	tick := time.NewTicker(p.tick())
	defer tick.Stop()
	for ctx.Err() == nil {
		p.hand(ctx, s, work, tick.C)
	}
	close(work)
	wg.Wait()
}

// hand gives what is due to whoever is free, until it is time to look anew: what is new by
// then comes first.
func (p *Poller) hand(ctx context.Context, s *source, work chan<- *service, tick <-chan time.Time) {
	for _, one := range s.due(time.Now()) {
		s.begin(one)
		select {
		case work <- one:
			continue
		case <-tick:
		case <-ctx.Done():
		}
		s.leave(one)
		return
	}
	select {
	case <-tick:
	case <-ctx.Done():
	}
}

// poll asks for one service, and decides when it is asked for again.
func (p *Poller) poll(ctx context.Context, s *source, one *service) {
	err := p.ask(ctx, s, one)
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		if s.succeeded(one, p.cfg.Interval) {
			p.cfg.Logger.InfoContext(ctx, "AWS Cloud Map answers again", "account", s.Account)
		}
		return
	}
	failing, say := s.failed(one, err, p.cfg.Interval)
	message, in := "AWS Cloud Map cannot be asked, its last answer is kept", inAsking
	if keep := new(keepError); errors.As(err, &keep) {
		message, in = "what AWS Cloud Map answered cannot be kept, the answer before holds", inKeeping
	}
	p.failed.WithLabelValues(s.Account, in).Inc()
	if say {
		p.cfg.Logger.WarnContext(ctx, message, "account", s.Account, "region", one.key.Region,
			"namespace", one.key.Namespace, "service", one.key.Service, "failing", failing, "error", err)
	}
}

// ask asks for a service's revision, and for its instances if that has changed, or if it
// was asked for alone for long enough.
func (p *Poller) ask(ctx context.Context, s *source, one *service) error {
	client, err := s.clients.get(ctx, one.key.Region)
	if err != nil {
		return err
	}
	if one.revision != 0 && !one.empty && one.looks < lookAgain && s.tellsRevisions(time.Now()) {
		revision, err := p.revision(ctx, s, client, one.key)
		if err != nil && !refused(err) {
			return err
		}
		if s.revisionsPause(err, time.Now()) {
			p.cfg.Logger.WarnContext(ctx, "AWS Cloud Map does not tell revisions, all instances are asked for each time",
				"account", s.Account, "again in", revisionPause, "error", err)
		}
		if err == nil && revision == one.revision {
			one.looks++
			return nil
		}
	}
	found, err := p.discover(ctx, s, client, one)
	if err != nil {
		return err
	}
	return p.take(ctx, s, one, found)
}

// answer is what Cloud Map says of a service.
type answer struct {
	exists    bool
	instances []mesh.Instance // in the order of their ids
	revision  int64
}

// take keeps an answer, if it is believed and anything else than what is known.
func (p *Poller) take(ctx context.Context, s *source, one *service, found answer) error {
	known, had := p.cfg.Known(one.key)
	if len(found.instances) == 0 && !one.empty && len(known) > 0 {
		// To lose all hosts at once is more often a fault of the moment than the truth.
		one.empty = true
		p.cfg.Logger.InfoContext(ctx, "AWS Cloud Map says that a service has no instances any more, it is asked once more",
			"account", s.Account, "namespace", one.key.Namespace, "service", one.key.Service)
		return nil
	}
	var err error
	switch {
	case !found.exists && had:
		err = p.cfg.Forget(ctx, one.key)
	case found.exists && (!had || !same(known, found.instances)):
		err = p.cfg.Import(ctx, one.key, found.instances)
	}
	if err != nil {
		return &keepError{err}
	}
	one.revision, one.looks, one.empty = found.revision, 0, false
	return nil
}

// same reports whether two lists have the same instances. No attributes are the same
// whether there is a map for them or not.
func same(a, b []mesh.Instance) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if len(x.Attributes)+len(y.Attributes) == 0 {
			x.Attributes, y.Attributes = nil, nil
		}
		if !reflect.DeepEqual(x, y) {
			return false
		}
	}
	return true
}

// keepError is why an answer could not be kept.
type keepError struct{ err error }

func (e *keepError) Error() string { return e.err.Error() }

func (e *keepError) Unwrap() error { return e.err }
