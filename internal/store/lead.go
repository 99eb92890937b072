package store

import (
	"context"
	"sync"
	"time"
)

// Lead does what one of the servers over a store is enough for, until ctx ends: it keeps
// the file of an embedded etcd small, drops the history of an external one, and brings
// documents to a new format. That two do it for a moment does no harm.
func (s *Store) Lead(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	var work sync.WaitGroup
	switch {
	case s.etcd != nil:
		work.Go(func() { s.repeat(ctx, s.times.look, "etcd's file could not be tended", s.tendFile) })
	case s.history.keep > 0:
		work.Go(func() {
			s.repeat(ctx, s.history.keep/historySteps, "etcd's history could not be compacted", s.dropHistory())
		})
	}
	if s.formats.newest > firstFormat {
		older := time.Now() // when a server was last seen that does not read the newest format
		work.Go(func() {
			s.repeat(ctx, s.member.life/renewals, "the format of documents could not be raised, it is tried again",
				func(ctx context.Context) error { return s.raise(ctx, &older) })
		})
		work.Go(func() {
			s.repeat(ctx, s.member.life/renewals, "bringing documents to a new format was broken off, it is taken up again", s.migrateOnce)
		})
	}
	<-ctx.Done()
	work.Wait()
	return ctx.Err()
}

// repeat calls f now and at intervals until ctx ends, and logs that it failed.
func (s *Store) repeat(ctx context.Context, every time.Duration, failed string, f func(context.Context) error) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if err := f(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn(failed, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
