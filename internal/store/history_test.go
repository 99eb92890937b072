package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// openHistory opens a store that keeps history for a time.
func openHistory(t testing.TB, endpoint, key string, keep time.Duration, ownOnly bool) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Endpoints: []string{endpoint}, SealKeyFile: key, History: keep, OwnEtcdOnly: ownOnly})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// readAt reads as of a revision.
func readAt(t testing.TB, s *Store, revision int64) error {
	t.Helper()
	_, err := s.client.Get(t.Context(), storeKey, clientv3.WithRev(revision))
	return err
}

// TestHistoryIsDropped has one of two servers compact an etcd in the background, under
// writes: what is old goes, feeds go on, and the other server compacts nothing.
func TestHistoryIsDropped(t *testing.T) {
	t.Parallel()
	e, key := serveEtcd(t), keyFile(t, 1)
	first, second := openHistory(t, e.endpoint, key, 200*time.Millisecond, true), openHistory(t, e.endpoint, key, 200*time.Millisecond, true)
	w := world{t: t, s: first, c: caller("000000000001")}
	m := w.makeNodes("m", 3)
	n0 := m.Object(mesh.KindVirtualNode, "", "n0")
	old := w.update(n0, specNode).Revision
	f := follow(t, second)
	lead(t, first)
	eventually(t, "old revisions to be gone", func() bool {
		w.update(n0, specNode)
		return errors.Is(readAt(t, first, old), rpctypes.ErrCompacted) && first.Compactions() > 0
	})
	newest := w.update(n0, specNode).Revision
	if err := readAt(t, first, newest); err != nil {
		t.Errorf("what was just written is forgotten: %v", err)
	}
	f.wantSame(t, second, newest)
	if n := second.Compactions(); n != 0 {
		t.Errorf("the server that does not lead compacted %d times", n)
	}
}

// TestHistoryGoesOn checks that who leads next counts on from what the last one noted, and
// how much is kept at each step.
func TestHistoryGoesOn(t *testing.T) {
	t.Parallel()
	e, key := serveEtcd(t), keyFile(t, 1)
	servers := []*Store{openHistory(t, e.endpoint, key, time.Hour, false), openHistory(t, e.endpoint, key, time.Hour, false)}
	w := world{t: t, s: servers[0], c: caller("000000000001")}
	n0 := w.makeNodes("m", 1).Object(mesh.KindVirtualNode, "", "n0")
	var at []int64
	for i := range 2*historySteps + 1 {
		at = append(at, w.update(n0, specNode).Revision)
		if err := servers[i%2].historyStep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i, revision := range at {
		// The last step compacted what was noted historySteps steps before it.
		if err := readAt(t, w.s, revision); (i < historySteps) != errors.Is(err, rpctypes.ErrCompacted) {
			t.Errorf("step %d: %v", i, err)
		}
	}
	// Two that lead for a moment, and an etcd that compacts by itself, do no harm.
	if _, err := w.s.client.Compact(t.Context(), at[len(at)-1]); err != nil {
		t.Fatal(err)
	}
	if err := servers[0].historyStep(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := w.s.client.Put(t.Context(), historyKey, fmt.Sprintf(`{"format":1,"revisions":[%d%s]}`, int64(1)<<40, ",9,9,9,9,9,9,9,9,9")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := servers[0].historyStep(t.Context()); err != nil {
			t.Errorf("after revisions that etcd was not at yet: %v", err)
		}
	}
}

// TestHistoryOfOthers checks that an etcd is left alone in which others have something, on
// either side of Fairlead's keys, and that a new leader waits a step before it begins.
func TestHistoryOfOthers(t *testing.T) {
	t.Parallel()
	s := openHistory(t, serveEtcd(t).endpoint, keyFile(t, 1), time.Hour, true)
	steps := s.dropHistory()
	noted := func() bool {
		t.Helper()
		if err := steps(t.Context()); err != nil {
			t.Fatal(err)
		}
		l, err := s.readKeys(t.Context(), historyKey)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if _, err := s.client.Delete(t.Context(), historyKey); err != nil {
				t.Fatal(err)
			}
		}()
		return l.kvs[historyKey] != nil
	}
	diff(t, false, noted())
	diff(t, true, noted())
	for _, key := range []string{"\x00", "a", "fairlead", "fairlead.", "fairlead0", "z", "\xff\xff"} {
		if _, err := s.client.Put(t.Context(), key, "x"); err != nil {
			t.Fatal(err)
		}
		if noted() {
			t.Errorf("with key %q of others", key)
		}
		if _, err := s.client.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	diff(t, true, noted())
}

// TestHistoryWhenFillingUp checks that room is worth more than history.
func TestHistoryWhenFillingUp(t *testing.T) {
	t.Parallel()
	s := openHistory(t, serveEtcd(t).endpoint, keyFile(t, 1), time.Hour, true)
	w := world{t: t, s: s, c: caller("000000000001")}
	n0 := w.makeNodes("m", 1).Object(mesh.KindVirtualNode, "", "n0")
	old := w.update(n0, specNode).Revision
	w.update(n0, specNode)
	s.sizing.last.Store(&Size{Bytes: 80, InUse: 74, Quota: 100})
	if err := s.historyStep(t.Context()); err != nil || readAt(t, s, old) != nil {
		t.Errorf("less than %v is in use: %v", warnAt, err)
	}
	s.sizing.last.Store(&Size{Bytes: 80, InUse: 76, Quota: 100})
	if err := s.historyStep(t.Context()); err != nil || !errors.Is(readAt(t, s, old), rpctypes.ErrCompacted) {
		t.Errorf("%v", err)
	}
	w.get(n0)
}

// TestLeadEnds checks that leading ends with its context, and with the store.
func TestLeadEnds(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Lead(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Lead(context.WithoutCancel(ctx)) }()
	closed(t, s)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
