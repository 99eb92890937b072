package replica

import (
	"context"
	"errors"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/store"
)

// reserve is the part of a lease that is kept back at its end: by then the leader has
// stopped, before etcd lets another begin.
const reserve = 5

// term is a time of leading.
type term struct {
	lease    int64
	revision int64 // of the leader's record
	stop     context.CancelFunc
	done     chan struct{} // closed when its work has ended
}

// attend tells the others that this replica is there, and leads when nobody else does.
func (s *Service) attend(ctx context.Context) error {
	s.cfg.Store.Announce(true, s.self.Address, s.self.Version)
	var leading *term
	over := time.NewTimer(0)
	defer over.Stop()
	for {
		hold, tried := s.cfg.Store.Hold()
		changed := s.Changed()
		left := s.left(hold)
		switch {
		case leading == nil:
		case left <= 0 || hold.Lease != leading.lease:
			s.log.WarnContext(ctx, "the lease of this replica may be over, the work of the leader ends here: the store was not reached in time")
			s.resign(leading)
			leading = nil
		case s.deposed():
			s.log.WarnContext(ctx, "another replica leads, the work of the leader ends here")
			s.resign(leading)
			leading = nil
		}
		if leading == nil && hold.Lease != 0 && left > 0 && s.vacant() {
			leading = s.stand(ctx, hold)
		}
		over.Stop()
		if leading != nil {
			over.Reset(left)
		}
		select {
		case <-ctx.Done():
			s.leave(leading)
			return ctx.Err()
		case <-over.C:
		case <-tried:
		case <-changed:
		}
	}
}

// left is how long a lease is still to be relied on.
func (s *Service) left(h store.Hold) time.Duration {
	return time.Until(h.Until) - s.cfg.Store.MemberLease()/reserve
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
func (s *Service) stand(ctx context.Context, h store.Hold) *term {
	within, cancel := context.WithTimeout(ctx, s.left(h))
	defer cancel()
	revision, err := s.cfg.Store.TakeLead(within, self, h)
	if err != nil {
		if !errors.Is(err, store.ErrTaken) && ctx.Err() == nil {
			s.log.WarnContext(ctx, "nobody leads, and this replica cannot: the store refused", "error", err)
		}
		return nil
	}
	work, stop := context.WithCancel(ctx)
	t := &term{lease: h.Lease, revision: revision, stop: stop, done: make(chan struct{})}
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

// leave ends the work of the leader, and tells the others, so that they need not wait for
// its lease to end. That this replica is gone the store tells them.
func (s *Service) leave(leading *term) {
	s.cfg.Store.Announce(false, s.self.Address, s.self.Version)
	if leading == nil {
		return
	}
	s.resign(leading)
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Timeout)
	defer cancel()
	if err := s.cfg.Store.LeaveLead(ctx, self, leading.revision); err != nil && !errors.Is(err, store.ErrClosed) {
		s.log.WarnContext(ctx, "the other replicas could not be told that this one leads no more, its lease will", "error", err)
	}
}
