package xds

import (
	"fmt"
	"slices"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

func queuedFeed(account, name string) *feed {
	m := mesh.MeshID{Account: account, Region: "us-east-1", Name: "m"}
	return newFeed(feedKey{id: m.Object(mesh.KindVirtualNode, "", name), owner: account})
}

// However many feeds of an account have changed, those of another wait for one translation
// at most, beside the one that is under way.
func TestAFloodOfOneAccountDelaysAnotherByOneTranslation(t *testing.T) {
	t.Parallel()
	q := newQueue()
	var flood []*feed
	for i := range 1000 {
		flood = append(flood, queuedFeed("flood", fmt.Sprint(i)))
	}
	other := queuedFeed("other", "x")
	translations, longest := 0, 0
	for range 50 {
		for _, f := range flood { // each changes again, all the time
			q.add(f)
		}
		running := q.next()
		q.add(other)
		q.done(running)
		waited := 0
		for {
			f := q.next()
			translations++
			q.add(f) // it changes while it is translated
			q.done(f)
			if f == other {
				break
			}
			waited++
		}
		longest = max(longest, waited)
		for other.state != idle { // its change of a moment ago
			f := q.next()
			q.done(f)
		}
	}
	if longest > 1 {
		t.Errorf("of %d translations, %d of the flood came before the other account's", translations, longest)
	}
}

// A feed that has many streams rests after it was sent to them, so that what changes
// meanwhile is one translation; one that was sent to nobody does not.
func TestAFeedRests(t *testing.T) {
	t.Parallel()
	q, f, other := newQueue(), queuedFeed("a", "x"), queuedFeed("a", "y")
	q.add(f)
	q.next()
	f.sentTo = 1000
	q.done(f)
	for range 100 {
		q.add(f)
	}
	if f.state != resting {
		t.Errorf("a feed that was sent to a thousand is in state %d, want %d", f.state, resting)
	}
	q.add(other)
	if got := q.next(); got != other {
		t.Error("a feed that rests is translated before another")
	}
	q.done(other)
	q.add(other)
	if other.state != waiting || q.next() != other {
		t.Error("a feed that was sent to nobody rests")
	}
	q.done(other)
	if got := q.next(); got != f { // it waits until f has rested
		t.Error("another feed than the one that has rested is next")
	}
	q.add(f) // it changes while it is translated
	f.sentTo = 1000
	q.done(f)
	if f.state != resting {
		t.Errorf("a feed that changed meanwhile does not rest")
	}
	if q.next() != f {
		t.Error("it is not translated again")
	}
	q.done(f)
	if f.state != idle || len(q.accounts) != 0 {
		t.Errorf("at the end its state is %d, and %v wait", f.state, q.accounts)
	}
}

// A feed that changes a hundred times while it is translated is translated once more, and a
// proxy that has not answered meanwhile is sent the last state only.
func TestChangesBackToBackAreTakenTogether(t *testing.T) {
	t.Parallel()
	q, f := newQueue(), queuedFeed("a", "x")
	q.add(f)
	translations := 0
	q.next()
	for range 100 {
		q.add(f)
	}
	q.done(f)
	for f.state != idle {
		q.next()
		translations++
		q.done(f)
	}
	if translations != 1 {
		t.Errorf("a hundred changes during a translation cost %d more, want one", translations)
	}

	for _, full := range []bool{false, true} {
		r := newRig(t, full)
		r.publish("c/a=0", "c/b=0")
		r.askFor(envoy.TypeCluster, nil)
		r.askFor(envoy.TypeCluster, r.next())
		r.publish("c/a=1", "c/b=0")
		unanswered := r.next()
		for i := range 100 {
			r.publish(fmt.Sprint("c/a=", i+2), "c/b=0")
			r.expectNothing()
		}
		r.askFor(envoy.TypeCluster, unanswered)
		last := r.next()
		if last == nil || !slices.Contains(last.Names, "a") || !full && len(last.Names) != 1 {
			t.Fatalf("full %t: after a hundred changes %+v is sent", full, last)
		}
		r.askFor(envoy.TypeCluster, last)
		r.expectNothing()
		if have := r.feed.types[envoy.TypeCluster].get("a"); r.st.types[envoy.TypeCluster].sent != r.feed.generation || have == nil {
			t.Errorf("full %t: the proxy has not the last", full)
		}
	}
}
