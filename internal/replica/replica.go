package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-mesh/fairlead/internal/store"
)

// Handler answers a question of another replica. What it returns is sent as JSON.
type Handler func(ctx context.Context, in json.RawMessage) (any, error)

// Work is what only one replica is to do. Its context ends when this replica does not
// lead any more, or the server ends; it must return soon then.
type Work func(ctx context.Context) error

// Config says what a Service works with.
type Config struct {
	// Store is what the replicas share. Required.
	Store *store.Store
	// Alone says that no other server can have the store: then this one leads from the
	// beginning, nothing is written, and nobody is asked.
	Alone bool
	// Listener is where the others ask this replica; nil: it cannot be asked. It is closed
	// by Run.
	Listener net.Listener
	// Address is how the others reach Listener, host:port.
	Address string
	// Version is that of the program, for people.
	Version string
	// Handlers answer the others' questions, by their names.
	Handlers map[string]Handler
	// Work is done by the replica that leads, by names for the log.
	Work map[string]Work
	// Timeout is how long a replica has to answer a question, 0 for 2 s.
	Timeout time.Duration
	// Metrics registers the figures; nil keeps them private. Logger must not be nil.
	Metrics prometheus.Registerer
	Logger  *slog.Logger
}

const defaultTimeout = 2 * time.Second

// Member is a replica as the others see it.
type Member store.Member

// Name names a replica for people: by its address, which stays when it is started again,
// or its id.
func (m Member) Name() string {
	if m.Address != "" {
		return m.Address
	}
	return m.ID
}

// Service is this replica. Its methods may be called from several goroutines.
type Service struct {
	cfg  Config
	self Member
	log  *slog.Logger
	peer *peer // nil if no others can be there

	mu      sync.Mutex
	members map[string]listed // by id, this one too once it is listed
	leader  string            // id, "" while there is none
	leading bool              // this one does the work
	changed chan struct{}     // closed when members or leader change
	// said is when it was logged that a replica does not answer, by id.
	said map[string]time.Time

	met metrics
}

// self is the caller of the store.
var self = store.System("replica")

// New returns this replica. Run makes it one.
func New(cfg Config) (*Service, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	is := cfg.Store.Self()
	s := &Service{
		cfg: cfg, log: cfg.Logger, members: map[string]listed{}, changed: make(chan struct{}), said: map[string]time.Time{},
		self: Member{ID: is.ID, Address: cfg.Address, Version: cfg.Version, Since: is.Since},
	}
	s.met.register(cfg.Metrics, s)
	if cfg.Alone {
		return s, nil
	}
	var err error
	if s.peer, err = newPeer(cfg.Store, cfg.Timeout); err != nil {
		return nil, fmt.Errorf("preparing the replica: %w", err)
	}
	return s, nil
}

// Self returns this replica.
func (s *Service) Self() Member { return s.self }

// Run is a member, answers the others, and leads when it is this replica's turn, until ctx
// ends. Then its work ends, and the others are told, so that another goes on at once.
func (s *Service) Run(ctx context.Context) error {
	if s.cfg.Alone {
		s.set(func() { s.leader, s.leading = s.self.ID, true })
		s.work(ctx)
		s.set(func() { s.leading = false })
		return ctx.Err()
	}
	g, ctx := errgroup.WithContext(ctx)
	if s.cfg.Listener != nil {
		g.Go(func() error { return s.serve(ctx) })
	}
	g.Go(func() error {
		err := s.cfg.Store.FollowMembers(ctx, self, s.apply)
		if errors.Is(err, store.ErrClosed) {
			return nil
		}
		return err
	})
	g.Go(func() error { return s.attend(ctx) })
	return g.Wait()
}

// apply takes in what the store tells of the replicas.
func (s *Service) apply(all map[string]store.Listed, leader string) {
	s.set(func() {
		clear(s.members)
		for id, m := range all {
			s.members[id] = listed{Member(m.Member), m.Revision}
		}
		s.leader = leader
	})
}

// set changes what is known, and wakes who waits for it.
func (s *Service) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

// Changed returns a channel that is closed when a replica comes or goes, or the lead
// changes. Call it before looking, so that no change is missed.
func (s *Service) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Leading reports whether this replica does what only one is to do.
func (s *Service) Leading() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leading
}

// Leader returns the replica that leads as far as this one knows; false while none does.
func (s *Service) Leader() (Member, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leader == s.self.ID {
		return s.self, true
	}
	m, ok := s.members[s.leader]
	return m.Member, ok
}

// work does all of the work until ctx ends.
func (s *Service) work(ctx context.Context) {
	var wg sync.WaitGroup
	for name, do := range s.cfg.Work {
		wg.Go(func() {
			if err := do(ctx); err != nil && ctx.Err() == nil {
				s.log.ErrorContext(ctx, "work of the replica that leads has ended", "work", name, "error", err)
			}
		})
	}
	<-ctx.Done()
	wg.Wait()
}
