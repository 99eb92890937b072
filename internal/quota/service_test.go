package quota

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

var thePolicy = Policy{Mesh: mesh.MeshID{Account: "000000000001", Region: "us-east-1", Name: "shop"}, Name: "partners"}

// site is some replicas over one store, in one process.
type site struct {
	t     *testing.T
	store *store.Store

	mu     sync.Mutex
	limits map[Policy]Limit
	all    map[string]*Service // those that answer
}

func newSite(t *testing.T, names ...string) *site {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{DataDir: t.TempDir(), Unsafe: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, store: st, limits: map[Policy]Limit{thePolicy: {1000, 24 * time.Hour, 1}}, all: map[string]*Service{}}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range names {
		s.start(name)
	}
	return s
}

// start runs a replica, until the test or what it returns ends it.
func (s *site) start(name string) (end func()) {
	one := New(Config{
		Store: s.store, Log: slog.New(slog.DiscardHandler),
		Self: func() string { return name },
		Limit: func(p Policy) (Limit, bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			l, ok := s.limits[p]
			return l, ok
		},
		Others: func() (others []string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, other := range slices.Sorted(maps.Keys(s.all)) {
				if other != name {
					others = append(others, other)
				}
			}
			return append(others, "silent") // one that does not answer
		},
		Ask: func(ctx context.Context, replica string, q Question) (Answer, error) {
			s.mu.Lock()
			other := s.all[replica]
			s.mu.Unlock()
			if other == nil {
				return Answer{}, errors.New("it does not answer")
			}
			return other.Answer(ctx, q)
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = one.Run(ctx); close(done) }()
	end = sync.OnceFunc(func() { cancel(); <-done })
	s.t.Cleanup(end)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[name] = one
	return end
}

// cut has a replica answer nobody any more.
func (s *site) cut(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, name)
}

func (s *site) limit(p Policy, l *Limit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.limits, p)
	if l != nil {
		s.limits[p] = *l
	}
}

// caller is a proxy of one replica.
type caller struct {
	*Client
	told chan Told
}

func connect(on *Service, name string) *caller {
	c := &caller{told: make(chan Told, 10_000)}
	c.Client = on.Connect(name, func(_ Policy, all []Told) {
		for _, one := range all {
			c.told <- one
		}
	})
	return c
}

// report says that so many requests were let through, and returns what the proxy is told then.
func (c *caller) report(t *testing.T, key string, allowed int64) Assignment {
	t.Helper()
	for len(c.told) > 0 {
		<-c.told
	}
	if !c.Report(thePolicy, []Use{{Key: key, Allowed: allowed, Denied: 10, Elapsed: 5 * time.Second}}) {
		t.Fatal("there is no such quota")
	}
	select {
	case got := <-c.told:
		return got.Assignment
	case <-time.After(20 * time.Second):
		t.Fatal("the proxy was told nothing")
		return Assignment{}
	}
}

func (s *site) spent(on *Service) map[string]int64 {
	s.t.Helper()
	spent, err := on.Spent(s.t.Context(), thePolicy)
	if err != nil {
		s.t.Fatal(err)
	}
	return spent.Keys
}

// owners are the replicas that count the quota.
func (s *site) owners() (names []string) {
	for name, one := range s.all {
		one.mu.Lock()
		if one.tables[thePolicy] != nil {
			names = append(names, name)
		}
		one.mu.Unlock()
	}
	return names
}

// TestReplicasCountTogether has proxies report to two replicas at once: one of them counts.
func TestReplicasCountTogether(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", "b")
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			c := connect(s.all[[]string{"a", "b"}[i%2]], fmt.Sprint("proxy-", i))
			defer c.Close()
			for range 3 {
				c.report(t, "k", 10)
			}
		})
	}
	wg.Wait()
	for name, one := range s.all {
		if got := s.spent(one); got["k"] != 300 || len(got) != 1 {
			t.Errorf("replica %s says that %v were used, want 300", name, got)
		}
	}
	if got := s.owners(); len(got) != 1 {
		t.Errorf("%v count", got)
	}
}

// TestTakeOver has the replica that counts fall silent: another one goes on with what it had
// written, and the first notices when it is back.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a")
	first := s.all["a"]
	x := connect(first, "x")
	x.report(t, "k", 400)
	await(t, "it is written", func() bool {
		r, err := first.read(t.Context(), thePolicy)
		return err == nil && r.Buckets["k"].Used == 400 && r.Owner == "a"
	})
	s.start("b")
	s.cut("a")
	second := s.all["b"]
	y := connect(second, "y")
	if got := y.report(t, "k", 590); got.Rate > 100 {
		t.Errorf("%+v is given of 10 that are left", got)
	}
	if got := s.spent(second); got["k"] != 990 {
		t.Errorf("%v were used, want 990", got)
	}
	s.mu.Lock()
	s.all["a"] = first
	s.mu.Unlock()
	x.report(t, "k", 5) // to the wrong table, until its next write fails
	await(t, "one counts", func() bool { o := s.owners(); return len(o) == 1 && o[0] == "b" })
	x.report(t, "k", 7)
	await(t, "both say the same", func() bool {
		a, b := s.spent(first), s.spent(second)
		return a["k"] == b["k"] && b["k"] >= 997
	})
}

// TestRestart has the only replica come back under another name: the window goes on.
func TestRestart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	end := s.start("a")
	connect(s.all["a"], "x").report(t, "k", 123)
	end()
	s.cut("a")
	s.start("b")
	if got := s.spent(s.all["b"]); got["k"] != 123 {
		t.Errorf("%v were used, want 123", got)
	}
	connect(s.all["b"], "x").report(t, "k", 1)
	if got := s.spent(s.all["b"]); got["k"] != 124 {
		t.Errorf("%v were used, want 124", got)
	}
}

// TestChanges holds what becomes of what was used when a policy changes, goes and comes back.
func TestChanges(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a")
	one := s.all["a"]
	x := connect(one, "x")
	x.report(t, "k", 990)
	s.limit(thePolicy, &Limit{5000, 24 * time.Hour, 2})
	x.report(t, "k", 10)
	if got := s.spent(one)["k"]; got != 1000 {
		t.Errorf("%d were used after a change of the limit, want 1000", got)
	}
	s.limit(thePolicy, &Limit{5000, time.Hour, 3})
	x.report(t, "k", 20)
	if got := s.spent(one)["k"]; got > 20 {
		t.Errorf("%d were used after a change of the window, want 20", got)
	}
	s.limit(thePolicy, nil)
	if x.Report(thePolicy, []Use{{Key: "k"}}) {
		t.Error("a report of a quota that is gone is taken")
	}
	await(t, "nobody counts", func() bool { return len(s.owners()) == 0 })
	if err := one.tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := one.read(t.Context(), thePolicy); err != nil || r.revision != 0 {
		t.Errorf("the record is still there: %+v %v", r, err)
	}
	s.limit(thePolicy, &Limit{100, 24 * time.Hour, 1})
	x.report(t, "k", 3)
	if got := s.spent(one)["k"]; got != 3 {
		t.Errorf("%d were used of the new quota, want 3", got)
	}
}

// TestMadeAnew holds that a policy that was deleted and made anew, before anybody noticed, has
// nothing of the old one's.
func TestMadeAnew(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a")
	s.limit(thePolicy, &Limit{1000, 24 * time.Hour, 7})
	x := connect(s.all["a"], "x")
	x.report(t, "k", 990)
	s.limit(thePolicy, &Limit{1000, 24 * time.Hour, 1})
	x.report(t, "k", 3)
	if got := s.spent(s.all["a"])["k"]; got != 3 {
		t.Errorf("%d were used, want 3", got)
	}
}

// TestManyKeys holds that what is beyond so many keys is counted together.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a")
	x := connect(s.all["a"], "x")
	uses := make([]Use, MaxKeys+50)
	for i := range uses {
		uses[i] = Use{Key: fmt.Sprint("key-", i), Allowed: 1, Elapsed: time.Second}
	}
	x.Report(thePolicy, uses)
	await(t, "all are told", func() bool { return len(x.told) >= 10_000 })
	got := s.spent(s.all["a"])
	if len(got) != MaxKeys+1 || got[OtherKeys] != 50 {
		t.Errorf("%d keys, %d of others", len(got), got[OtherKeys])
	}
	for len(x.told) > 0 {
		if one := <-x.told; !strings.HasPrefix(one.Key, "key-") {
			t.Fatalf("the proxy is told of %q", one.Key)
		}
	}
}

// TestRecordIsSealed holds that no key can be read in the store.
func TestRecordIsSealed(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a")
	one := s.all["a"]
	connect(one, "x").report(t, "a-secret-of-a-client", 1)
	await(t, "it is written", func() bool {
		r, err := one.read(t.Context(), thePolicy)
		return err == nil && len(r.Buckets) == 1
	})
	found, _, err := s.store.ReadRecords(t.Context(), self, recordKey(thePolicy))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	if strings.Contains(string(found[recordKey(thePolicy)].Value), "a-secret") {
		t.Error("the record shows a key")
	}
}

// await waits until something is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !so() {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
