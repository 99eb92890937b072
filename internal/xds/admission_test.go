package xds

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Accounts take turns, streams of one account come in the order in which they came, and
// those that have gone are passed over.
func TestAdmissionIsFair(t *testing.T) {
	t.Parallel()
	a := newAdmission()
	a.room = room{few: 1, most: 1}
	turns := map[string]*turn{}
	var names []string
	for _, name := range []string{"a0", "a1", "a2", "a3", "c1", "a4", "b1", "b2"} {
		turns[name] = a.ask(name[:1], true)
		names = append(names, name)
	}
	for _, name := range []string{"a2", "c1"} {
		a.abandon(turns[name])
	}
	var order []string
	for range names {
		for _, name := range names {
			select {
			case <-turns[name].granted:
				if !slices.Contains(order, name) {
					order = append(order, name)
				}
			default:
			}
		}
		if len(order) == 6 {
			break
		}
		a.mu.Lock()
		a.next(true) // the one that is in leaves
		a.mu.Unlock()
	}
	if diff := cmp.Diff([]string{"a0", "a1", "b1", "a3", "b2", "a4"}, order); diff != "" {
		t.Errorf("streams came in in another order (-want +got):\n%s", diff)
	}
	last := a.ask("a", true)
	a.abandon(turns["a4"]) // has its turn
	select {
	case <-last.granted:
	default:
		t.Error("a turn that was given up as it came is lost")
	}
	a.abandon(last)
	if a.room.inside != 0 || len(a.waiting) != 0 || len(a.accounts) != 0 {
		t.Errorf("at the end %d are in, and %v wait", a.room.inside, a.accounts)
	}
}

// A stream that takes its time does not keep the others out for ever, and one that ends
// while it waits is told why.
func TestASlowFirstSynchronisationLetsOthersIn(t *testing.T) {
	t.Parallel()
	a := newAdmission()
	a.room = room{few: 1, most: 1}
	ctx, end := context.WithCancelCause(t.Context())
	why := errors.New("gone")
	for range 2 {
		leave, err := a.enter(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		defer leave()
	}
	end(why)
	if _, err := a.enter(ctx, "a"); !errors.Is(err, why) {
		t.Errorf("a stream that has ended comes in: %v", err)
	}
}
