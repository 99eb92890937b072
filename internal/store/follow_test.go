package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// follower keeps what a feed tells it.
type follower struct {
	mu      sync.Mutex
	objects map[mesh.ID]*mesh.Object
	batches []Batch
	resets  int
	done    chan error
	stop    context.CancelFunc
}

// follow starts a follower of a store.
func follow(t testing.TB, s *Store) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &follower{objects: map[mesh.ID]*mesh.Object{}, done: make(chan error, 1), stop: cancel}
	go func() { f.done <- s.Follow(ctx, System("test"), f.apply) }()
	eventually(t, "the first reset", func() bool { return f.count() > 0 })
	t.Cleanup(cancel)
	return f
}

func (f *follower) apply(b Batch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b.Reset {
		f.resets++
		clear(f.objects)
	}
	f.batches = append(f.batches, b)
	for _, e := range b.Events {
		if o := e.Object(); o == nil {
			delete(f.objects, e.ID)
		} else {
			f.objects[e.ID] = o
		}
	}
}

func (f *follower) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.resets
}

func (f *follower) revision() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.batches) == 0 {
		return 0
	}
	return f.batches[len(f.batches)-1].Revision
}

// wantSame checks that the follower, at a revision, knows what the store holds.
func (f *follower) wantSame(t testing.TB, s *Store, revision int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("revision %d", revision), func() bool { return f.revision() >= revision })
	_, all, err := s.listAll(t.Context(), objectPrefix)
	if err != nil {
		t.Fatal(err)
	}
	want := map[mesh.ID]*mesh.Object{}
	for _, kv := range all {
		if o := s.parseObject(kv); o != nil {
			o.CreatedAt, o.UpdatedAt = time.Time{}, time.Time{} // feeds have no times
			want[o.ID] = o
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	diff(t, want, f.objects)
}

func TestFollow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := world{t: t, s: w.s, c: caller("000000000002")}
	other.makeAll("before")
	f := follow(t, w.s)
	f.wantSame(t, w.s, 0)
	made := w.makeAll("m")
	parts := w.all("m")
	f.wantSame(t, w.s, made[len(made)-1].Revision)
	updated := w.update(parts[3].id, parts[3].spec)
	f.wantSame(t, w.s, updated.Revision)
	if err := w.s.Tag(t.Context(), w.c, parts[0].id, []mesh.TagRef{{Key: "a", Value: "b"}}); err != nil {
		t.Fatal(err)
	}
	var last *mesh.Object
	for _, p := range slices.Backward(parts) {
		last = w.delete(p.id)
	}
	f.wantSame(t, w.s, last.Revision)

	f.stop()
	if err := <-f.done; !errors.Is(err, context.Canceled) {
		t.Errorf("Follow ended with %v", err)
	}
	first := f.batches[0]
	if f.resets != 1 || !first.Reset || first.Revision == 0 || len(first.Events) != len(parts) {
		t.Errorf("%d resets, first batch %+v", f.resets, first)
	}
	revision := first.Revision
	for _, b := range f.batches[1:] {
		if b.Reset || b.Revision <= revision || len(b.Events) == 0 {
			t.Errorf("batch %+v after revision %d", b, revision)
		}
		for _, e := range b.Events {
			if e.Revision > b.Revision {
				t.Errorf("object at %d in a batch up to %d", e.Revision, b.Revision)
			}
		}
		revision = b.Revision
	}
}

func TestFollowManyPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 0)
	found, err := w.s.read(t.Context(), w.c, m.MeshObject(), Question{})
	if err != nil {
		t.Fatal(err)
	}
	value, err := found.doc.encode()
	if err != nil {
		t.Fatal(err)
	}
	const n = 2*followPage + 7
	for i := range n {
		if _, err := w.s.client.Put(t.Context(), objectKey(w.mesh(fmt.Sprintf("m%d", i)).MeshObject()), string(value)); err != nil {
			t.Fatal(err)
		}
	}
	f := follow(t, w.s)
	f.wantSame(t, w.s, 0)
	f.mu.Lock()
	defer f.mu.Unlock()
	diff(t, n+1, len(f.batches[0].Events))
}

// TestFollowAfterCompaction cuts a follower off, changes and compacts the store
// meanwhile, and checks that the follower lists again.
func TestFollowAfterCompaction(t *testing.T) {
	t.Parallel()
	e := serveEtcd(t)
	key := keyFile(t, 1)
	l := newLink(t, e.endpoint)
	w := world{t: t, s: openExternal(t, e.endpoint, key), c: caller("000000000001")}
	m := w.makeNodes("m", 3)
	far := openExternal(t, l.addr, key)
	f := follow(t, far)

	// A short break loses nothing and needs no reset.
	l.cut()
	o := w.update(m.Object(mesh.KindVirtualNode, "", "n0"), specNode)
	l.mend()
	f.wantSame(t, w.s, o.Revision)
	diff(t, 1, f.count())

	l.cut()
	w.delete(m.Object(mesh.KindVirtualNode, "", "n1"))
	o = w.create(m.Object(mesh.KindVirtualNode, "", "n4"), specNode)
	if _, err := w.s.client.Compact(t.Context(), o.Revision); err != nil {
		t.Fatal(err)
	}
	l.mend()
	eventually(t, "a second reset", func() bool { return f.count() == 2 })
	f.wantSame(t, w.s, o.Revision)
	o = w.update(m.Object(mesh.KindVirtualNode, "", "n4"), specNode)
	f.wantSame(t, w.s, o.Revision)
}

// TestWatchFromCompacted checks that a watch that begins too early ends with an
// error and not in silence.
func TestWatchFromCompacted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 3)
	o := w.update(m.Object(mesh.KindVirtualNode, "", "n0"), specNode)
	if _, err := w.s.client.Compact(t.Context(), o.Revision); err != nil {
		t.Fatal(err)
	}
	wantError(t, w.s.watch(t.Context(), feed{prefix: objectPrefix}, 2, 0), "compacted")
}

// TestFollowPassesOverBadObjects checks that what cannot be read is logged and does
// not hold up the rest.
func TestFollowPassesOverBadObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var l logs
	w.s.log = slog.New(slog.NewTextHandler(&l, nil))
	m := w.makeNodes("m", 1)
	bad := func(key, value string) {
		t.Helper()
		if _, err := w.s.client.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	bad(objectPrefix+"later/kind", "{}")
	bad(objectKey(m.Object(mesh.KindVirtualNode, "", "bad")), "no")
	f := follow(t, w.s)
	bad(objectPrefix+"later/other", "{}")
	bad(objectKey(m.Object(mesh.KindVirtualNode, "", "bad2")), "no")
	o := w.create(m.Object(mesh.KindVirtualNode, "", "n1"), specNode)
	f.wantSame(t, w.s, o.Revision)
	f.mu.Lock()
	defer f.mu.Unlock()
	ids := slices.Collect(maps.Keys(f.objects))
	diff(t, 3, len(ids))
	wantError(t, fmt.Errorf("%q", l.String()), "virtualNode/bad", "virtualNode/bad2", "later/kind", "later/other")
}

func TestFollowEndsWithClose(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	f := follow(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-f.done; !errors.Is(err, ErrClosed) {
		t.Errorf("Follow ended with %v", err)
	}
}

// TestFollowUnderLoad checks that a follower ends up with what the store holds.
func TestFollowUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 8)
	f := follow(t, w.s)
	var wg sync.WaitGroup
	for i := range 8 {
		id := m.Object(mesh.KindVirtualNode, "", fmt.Sprintf("n%d", i))
		change := w.change(id, specNode)
		wg.Go(func() {
			for range 50 {
				if _, err := w.s.Update(t.Context(), w.c, change); err != nil {
					t.Error(err)
				}
			}
		})
	}
	late := follow(t, w.s)
	wg.Wait()
	o := w.update(m.MeshObject(), specMesh)
	f.wantSame(t, w.s, o.Revision)
	late.wantSame(t, w.s, o.Revision)
}
