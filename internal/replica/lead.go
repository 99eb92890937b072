package replica

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/store"
)

// Of a lease, a third stands between two renewals, and a fifth is kept back at its end: by
// then the leader has stopped, before etcd lets another begin.
const (
	renewals = 3
	reserve  = 5
)

// hold is a lease of this replica's, and until when it lasts for certain.
type hold struct {
	id    int64
	until time.Time // by this host's clock
}

// attend keeps this replica among the members, and leads when nobody else does.
func (s *Service) attend(ctx context.Context) error {
	for ctx.Err() == nil {
		h, err := s.join(ctx)
		if err == nil {
			s.stay(ctx, h)
			continue
		}
		if errors.Is(err, store.ErrClosed) {
			return nil
		}
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "this replica cannot tell the others that it is there, it tries again", "error", err)
			pause(ctx, s.cfg.Lease/renewals)
		}
	}
	return ctx.Err()
}

// join lists this replica under a new lease.
func (s *Service) join(ctx context.Context) (hold, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Lease)
	defer cancel()
	before := time.Now()
	id, err := s.cfg.Store.GrantLease(ctx, self, int64(s.cfg.Lease/time.Second))
	if err != nil {
		return hold{}, err
	}
	_, err = s.cfg.Store.ApplyRecords(ctx, self, store.RecordChange{Puts: []store.Record{s.record(memberPrefix+s.self.ID, store.AnyRevision, id)}})
	return hold{id: id, until: before.Add(s.cfg.Lease)}, err
}

// record is this replica's under a key.
func (s *Service) record(key string, revision, lease int64) store.Record {
	value, err := json.Marshal(s.self)
	if err != nil {
		panic(err) // text and a time
	}
	return store.Record{Key: key, Value: value, Revision: revision, Lease: lease}
}

// term is a time of leading.
type term struct {
	revision int64 // of the leader's record
	stop     context.CancelFunc
	done     chan struct{} // closed when its work has ended
}

// stay renews the lease, and leads meanwhile if nobody else does. It returns when the
// lease is over, or ctx has ended; then this replica is no member any more, and its work
// has ended.
func (s *Service) stay(ctx context.Context, h hold) {
	var leading *term
	renewed := make(chan renewal, 1)
	var renewing sync.WaitGroup
	defer renewing.Wait()
	every := time.NewTicker(s.cfg.Lease / renewals)
	defer every.Stop()
	over := time.NewTimer(s.left(h))
	defer over.Stop()
	under := false // a renewal is under way
	for {
		changed := s.Changed()
		if leading == nil && s.vacant() {
			leading = s.stand(ctx, h)
		}
		if leading != nil && s.deposed() {
			s.log.WarnContext(ctx, "another replica leads, the work of the leader ends here")
			s.resign(leading)
			leading = nil
		}
		select {
		case <-ctx.Done():
			s.leave(leading)
			return
		case <-over.C:
			s.log.WarnContext(ctx, "the lease of this replica may be over: the store was not reached in time", "leading", leading != nil)
			s.resign(leading)
			return
		case <-every.C:
			if !under {
				under = true
				renewing.Go(func() { renewed <- s.renew(ctx, h.id) })
			}
		case r := <-renewed:
			under = false
			switch {
			case r.gone:
				s.log.WarnContext(ctx, "the lease of this replica is over", "leading", leading != nil)
				s.resign(leading)
				return
			case r.err == nil:
				h.until = r.until
				over.Reset(s.left(h))
			}
		case <-changed:
		}
	}
}

// left is how long a lease is still to be relied on.
func (s *Service) left(h hold) time.Duration {
	return time.Until(h.until) - s.cfg.Lease/reserve
}

// renewal is what became of the renewal of a lease.
type renewal struct {
	gone  bool // the lease is over
	until time.Time
	err   error
}

func (s *Service) renew(ctx context.Context, lease int64) renewal {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Lease/renewals)
	defer cancel()
	before := time.Now() // the lease begins anew later, never earlier
	there, err := s.cfg.Store.RenewLease(ctx, self, lease)
	return renewal{gone: err == nil && !there, until: before.Add(s.cfg.Lease), err: err}
}

// vacant reports whether nobody leads, as far as this replica knows. It is not known
// before its own record has come back from the store.
func (s *Service) vacant() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.members[s.self.ID]
	return known && s.leader == ""
}

// deposed reports whether the store names another leader.
func (s *Service) deposed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leader != "" && s.leader != s.self.ID
}

// stand tries to become the leader, and begins the work if that succeeds. nil: another was
// faster, or the store was not reached; a change of what is known, or the next renewal,
// brings the next try.
func (s *Service) stand(ctx context.Context, h hold) *term {
	within, cancel := context.WithTimeout(ctx, max(s.left(h), 0))
	defer cancel()
	revision, err := s.cfg.Store.ApplyRecords(within, self, store.RecordChange{Puts: []store.Record{s.record(leaderKey, 0, h.id)}})
	if err != nil {
		if !errors.Is(err, store.ErrRevision) && ctx.Err() == nil {
			s.log.WarnContext(ctx, "nobody leads, and this replica cannot: the store refused", "error", err)
		}
		return nil
	}
	work, stop := context.WithCancel(ctx)
	t := &term{revision: revision, stop: stop, done: make(chan struct{})}
	s.log.InfoContext(ctx, "this replica leads", "replica", s.self.Name())
	s.met.terms.Inc()
	s.set(func() { s.leader, s.leading = s.self.ID, true })
	go func() {
		defer close(t.done)
		s.work(work)
	}()
	return t
}

// resign ends the work of a leader and waits for it. nil is none.
func (s *Service) resign(t *term) {
	if t == nil {
		return
	}
	t.stop()
	s.set(func() { s.leading = false })
	<-t.done
}

// leave tells the others that this replica is gone, so that they need not wait for its
// lease to end.
func (s *Service) leave(leading *term) {
	s.resign(leading)
	change := store.RecordChange{Deletes: []store.Record{{Key: memberPrefix + s.self.ID, Revision: store.AnyRevision}}}
	if leading != nil {
		change.Deletes = append(change.Deletes, store.Record{Key: leaderKey, Revision: leading.revision})
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Timeout)
	defer cancel()
	if _, err := s.cfg.Store.ApplyRecords(ctx, self, change); err != nil && !errors.Is(err, store.ErrClosed) {
		s.log.WarnContext(ctx, "the other replicas could not be told that this one ends, its lease will", "error", err)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
