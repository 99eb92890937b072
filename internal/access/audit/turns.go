package audit

import (
	"context"
	"fmt"
	"sync"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// turns lets few queries read at once, and one of each asker, so that nobody's
// questions hold up more than their own.
type turns struct {
	all chan struct{}

	mu  sync.Mutex
	own map[string]*turn
}

type turn struct {
	busy  chan struct{}
	users int
}

const (
	// mostReaders is how many queries read at once.
	mostReaders = 2
	// mostWaiting is how many queries of one asker there may be.
	mostWaiting = 16
)

func newTurns() *turns {
	return &turns{all: make(chan struct{}, mostReaders), own: map[string]*turn{}}
}

// take waits for a turn of an asker, which done ends.
func (t *turns) take(ctx context.Context, asker string) (done func(), err error) {
	own, err := t.join(asker)
	if err != nil {
		return nil, err
	}
	select {
	case own.busy <- struct{}{}:
	case <-ctx.Done():
		t.leave(asker, own)
		return nil, waiting(ctx)
	}
	select {
	case t.all <- struct{}{}:
	case <-ctx.Done():
		<-own.busy
		t.leave(asker, own)
		return nil, waiting(ctx)
	}
	return func() { <-t.all; <-own.busy; t.leave(asker, own) }, nil
}

func waiting(ctx context.Context) error {
	return fmt.Errorf("waiting to read the audit log: %w", context.Cause(ctx))
}

func (t *turns) join(asker string) (*turn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	own := t.own[asker]
	if own == nil {
		own = &turn{busy: make(chan struct{}, 1)}
		t.own[asker] = own
	}
	if own.users >= mostWaiting {
		return nil, mesh.Errorf(mesh.ErrTooManyRequests,
			"The account already has %d questions to the audit log under way: wait for an answer", own.users)
	}
	own.users++
	return own, nil
}

func (t *turns) leave(asker string, own *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	own.users--
	if own.users == 0 {
		delete(t.own, asker)
	}
}
