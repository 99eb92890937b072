package quota

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// Policy names a policy of a mesh.
type Policy struct {
	Mesh mesh.MeshID
	Name string
}

// Limit is what a policy allows.
type Limit struct {
	Requests int64
	Per      time.Duration
	// Version is the policy's; it is less than before where a policy was deleted and made
	// anew.
	Version int64
}

// MaxKeys is how many different keys of a policy are counted by themselves. What comes beyond
// has one quota together, which goes by OtherKeys.
const MaxKeys = 10_000

// OtherKeys is the key of what is beyond MaxKeys.
const OtherKeys = "…"

// Config is what a Service needs.
type Config struct {
	Store *store.Store
	// Limit returns what a policy allows now; false: there is no such quota.
	Limit func(Policy) (Limit, bool)
	// Self is the id of this replica, and Others are those of the others that can be asked.
	Self   func() string
	Others func() []string
	// Ask asks another replica, which answers by Answer.
	Ask func(ctx context.Context, replica string, q Question) (Answer, error)
	// Now is the clock; nil for the machine's.
	Now func() time.Time
	Log *slog.Logger
	// Metrics registers the service's metrics; nil for none.
	Metrics prometheus.Registerer
}

// Service keeps quotas. It is made by New, and Run does its work.
type Service struct {
	cfg Config
	ctx context.Context // ends with Run
	end context.CancelFunc
	// work are the goroutines of desks and tables.
	work sync.WaitGroup

	mu     sync.Mutex
	ended  bool
	desks  map[Policy]*desk
	tables map[Policy]*table
}

// New returns a Service.
func New(cfg Config) *Service {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Service{cfg: cfg, desks: map[Policy]*desk{}, tables: map[Policy]*table{}}
	s.ctx, s.end = context.WithCancel(context.Background())
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "fairlead_quota_policies", Help: "Quotas whose requests this server counts for all.",
		}, func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return float64(len(s.tables))
		}))
	}
	return s
}

// Run keeps quotas until ctx ends, and then what was counted.
func (s *Service) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.end()
	s.work.Wait()
	return ctx.Err()
}

// begin has a goroutine do work until the service ends. The lock is held.
func (s *Service) begin(f func(context.Context)) {
	if !s.ended {
		s.work.Go(func() { f(s.ctx) })
	}
}

// Use is what a proxy says of a bucket: what it let through and refused in a time that ends now.
type Use struct {
	Proxy, Key      string
	Allowed, Denied int64
	Elapsed         time.Duration
}

// Told is what a proxy is to go by.
type Told struct {
	Proxy, Key string
	Assignment
}

// Client is a proxy that reports. It is made by Connect, and must be closed.
type Client struct {
	service *Service
	proxy   string
	tell    func(Policy, []Told)

	mu    sync.Mutex
	desks map[*desk]struct{}
}

// Connect returns the client of a proxy, which has an id of its own. tell is called with what it
// is to go by, from other goroutines, and must not wait.
func (s *Service) Connect(proxy string, tell func(Policy, []Told)) *Client {
	return &Client{service: s, proxy: proxy, tell: tell, desks: map[*desk]struct{}{}}
}

// Report takes note of what the proxy says of a policy's buckets. The Proxy of a Use does not
// count. It reports whether there is such a policy.
func (c *Client) Report(p Policy, uses []Use) bool {
	if _, ok := c.service.cfg.Limit(p); !ok {
		return false
	}
	for i := range uses {
		uses[i].Proxy = c.proxy
	}
	d := c.service.desk(p)
	if d == nil {
		return true // the service ends
	}
	c.mu.Lock()
	c.desks[d] = struct{}{}
	c.mu.Unlock()
	d.take(c, uses)
	return true
}

// Close says that the proxy is not connected here any more.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for d := range c.desks {
		d.leave(c)
	}
}

// Question is what a replica asks the owner of a policy.
type Question struct {
	Policy Policy
	// Replica is the one that asks, and Uses what its proxies have reported.
	Replica string
	Uses    []Use
	// Spent asks for what was used.
	Spent bool
}

// Answer is the owner's.
type Answer struct {
	// Owns is false if the replica that was asked is not the owner.
	Owns  bool
	Told  []Told
	Spent Spent
}

// Spent is what was used of a quota.
type Spent struct {
	// Window is when the present window began.
	Window time.Time
	// Keys has how many requests were let through in it, as far as was reported, by what
	// requests differ in.
	Keys map[string]int64
}

// Answer answers another replica.
func (s *Service) Answer(_ context.Context, q Question) (Answer, error) {
	s.mu.Lock()
	t := s.tables[q.Policy]
	s.mu.Unlock()
	if t == nil {
		return Answer{}, nil
	}
	return t.exchange(q), nil
}

// Spent returns what was used of a policy's quota.
func (s *Service) Spent(ctx context.Context, p Policy) (Spent, error) {
	q := Question{Policy: p, Replica: s.cfg.Self(), Spent: true}
	if a, _ := s.Answer(ctx, q); a.Owns {
		return a.Spent, nil
	}
	r, err := s.read(ctx, p)
	if err != nil {
		return Spent{}, err
	}
	if r.Owner != "" && slices.Contains(s.cfg.Others(), r.Owner) {
		if a, err := s.cfg.Ask(ctx, r.Owner, q); err == nil && a.Owns {
			return a.Spent, nil
		}
	}
	limit, ok := s.cfg.Limit(p)
	if !ok {
		return Spent{}, nil
	}
	t := newTable(s, p, limit, r)
	return t.exchange(q).Spent, nil
}

// own returns the table of a policy, which this replica is to own: its record has a revision,
// or is not there where that is 0. store.ErrRevision: another replica was faster.
func (s *Service) own(ctx context.Context, p Policy, r record) (*table, error) {
	limit, ok := s.cfg.Limit(p)
	if !ok {
		return nil, errNoPolicy
	}
	t := newTable(s, p, limit, r)
	if err := t.write(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tables[p] = t
	s.begin(t.run)
	return t, nil
}

// disown forgets a table.
func (s *Service) disown(t *table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tables[t.policy] == t {
		delete(s.tables, t.policy)
	}
}

var errNoPolicy = errors.New("there is no such quota")

// Tidy removes the records of policies that are not there any more, until ctx ends. One
// replica is enough for it.
func (s *Service) Tidy(ctx context.Context) error {
	ticker := time.NewTicker(time.Minute)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if err := s.tidy(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.WarnContext(ctx, "the counts of quotas that are gone could not be removed", "error", err)
		}
	}
}

func (s *Service) tidy(ctx context.Context) error {
	all, err := s.cfg.Store.Records(ctx, self, recordsPrefix)
	if err != nil {
		return err
	}
	for _, r := range all {
		p, ok := policyOf(r.Key)
		if !ok {
			continue
		}
		if _, ok := s.cfg.Limit(p); ok {
			continue
		}
		if err := s.cfg.Store.ChangeRecords(ctx, self, nil, []store.Record{r}); err != nil && !errors.Is(err, store.ErrRevision) {
			return err
		}
	}
	return nil
}
