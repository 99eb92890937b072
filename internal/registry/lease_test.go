package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest/clock"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

const leased = `{"FAIRLEAD_LEASE_SECONDS":"10"}`

// never is an ExpireEvery for tests that look for what is over themselves.
const never = 24 * time.Hour

// shorten puts the lease of an instance's record on one that is over in a second.
func (w *world) shorten(service, id string) {
	w.t.Helper()
	l, err := w.r.store.GrantLease(w.t.Context(), self, 1)
	if err != nil {
		w.t.Fatal(err)
	}
	rec, err := put(here.own(beatKind, service, id), store.AnyRevision, beatValue{format, l})
	if err != nil {
		w.t.Fatal(err)
	}
	rec.Lease = l
	if _, err := w.r.store.ApplyRecords(w.t.Context(), self, store.RecordChange{Puts: []store.Record{rec}}); err != nil {
		w.t.Fatal(err)
	}
}

// awaitSilence waits until the lease of an instance is over.
func (w *world) awaitSilence(service, id string) {
	w.t.Helper()
	eventually(w.t, "the end of a lease", func() error {
		w.r.table.mu.RLock()
		defer w.r.table.mu.RUnlock()
		if w.r.table.area(here).beats[[2]string{service, id}] {
			return errors.New("it lasts")
		}
		return nil
	})
}

func storeRevision(t testing.TB, s *store.Store) int64 {
	t.Helper()
	_, revision, err := s.ReadRecords(t.Context(), self, "none")
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

// A heartbeat is the same registration again, and writes nothing, whatever its token is.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := w.shop()
	first := w.do("RegisterInstance", `{"ServiceId":%q,"InstanceId":"i","Attributes":%s,"CreatorRequestId":"first"}`, service, leased)
	before := storeRevision(t, w.r.store)
	for i := range 5 {
		again := w.do("RegisterInstance", `{"ServiceId":%q,"InstanceId":"i","Attributes":%s,"CreatorRequestId":"%d"}`, service, leased, i)
		diff(t, first, again)
	}
	diff(t, before, storeRevision(t, w.r.store))
	// It makes a lease that is nearly over last its whole time again: the record stays.
	w.shorten(service, "i")
	w.awaitSilence(service, "i")
	diff(t, []string{"i"}, w.r.ids())
	before = storeRevision(t, w.r.store)
	w.register(service, "i", leased)
	eventually(t, "the next lease", func() error {
		if len(w.r.silent(never)) > 0 {
			return errors.New("the instance is silent")
		}
		return nil
	})
	diff(t, before+1, storeRevision(t, w.r.store))
	// Without the attribute it has no lease any more.
	w.register(service, "i", `{}`)
	found, err := w.r.store.Records(t.Context(), self, here.own(beatKind, ""))
	if err != nil || len(found) > 0 {
		t.Errorf("there is a lease left: %v %v", found, err)
	}
	diff(t, 0, len(w.r.silent(never)))
}

// An instance goes when its lease is over and this server was there for all of it; not
// before, and not if it was heard of since.
func TestExpiry(t *testing.T) {
	t.Parallel()
	w := newWorldWith(t, Config{ExpireEvery: never})
	service := w.shop()
	for _, id := range []string{"a", "b", "forever"} {
		attributes := leased
		if id == "forever" {
			attributes = `{}`
		}
		w.register(service, id, attributes)
	}
	w.shorten(service, "a")
	w.shorten(service, "b")
	w.awaitSilence(service, "a")
	w.awaitSilence(service, "b")
	now := time.Now()
	w.r.expire(t.Context(), now, now.Add(-10*time.Second+time.Millisecond))
	diff(t, []string{"a", "b", "forever"}, w.r.ids())
	w.register(service, "a", leased)
	w.r.expire(t.Context(), now, now.Add(-10*time.Second))
	eventually(t, "the end of b", func() error {
		if got := w.r.ids(); !slices.Equal(got, []string{"a", "forever"}) {
			return fmt.Errorf("there are %v", got)
		}
		return nil
	})
	w.do("DiscoverInstances", `{"NamespaceName":"shop","ServiceName":"cart"}`)
	// Who comes back is registered anew.
	w.register(service, "b", leased)
	diff(t, []string{"a", "b", "forever"}, w.r.ids())
}

// What this server believes silent and was heard of through another one stays.
func TestExpiryAsksTheStore(t *testing.T) {
	t.Parallel()
	w := newWorldWith(t, Config{ExpireEvery: never})
	service := w.shop()
	w.register(service, "i", leased)
	w.r.table.mu.Lock()
	delete(w.r.table.area(here).beats, [2]string{service, "i"}) // as if its feed were behind
	w.r.table.mu.Unlock()
	diff(t, 1, len(w.r.silent(never)))
	w.r.expire(t.Context(), time.Now(), time.Now().Add(-never))
	found, _, err := w.r.store.ReadRecords(t.Context(), self, here.own(instanceKind, service, "i"))
	if err != nil || len(found) != 1 {
		t.Errorf("%v %v, want the instance", found, err)
	}
}

// However many are silent, only some are taken out at once: in an order that all servers
// have.
func TestExpiryRate(t *testing.T) {
	t.Parallel()
	w := newWorldWith(t, Config{ExpireEvery: never, ExpireAtOnce: 3})
	service := w.shop()
	for i := range 8 {
		w.register(service, fmt.Sprintf("i%d", i), leased)
		w.shorten(service, fmt.Sprintf("i%d", i))
	}
	for i := range 8 {
		w.awaitSilence(service, fmt.Sprintf("i%d", i))
	}
	for _, left := range []string{"[i3 i4 i5 i6 i7]", "[i6 i7]", "[]"} {
		w.r.expire(t.Context(), time.Now(), time.Now().Add(-time.Minute))
		eventually(t, "the next few", func() error {
			if got := fmt.Sprint(w.r.ids()); got != left {
				return fmt.Errorf("there are %s, want %s", got, left)
			}
			return nil
		})
	}
}

// The time in which a server is there begins anew after each break.
func TestUptime(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_000_000, 0)
	up := uptime{gap: 5 * time.Second}
	for _, c := range []struct{ at, since int }{{0, 0}, {1, 0}, {6, 0}, {11, 0}, {17, 17}, {18, 17}, {3618, 3618}} {
		got := up.contact(start.Add(time.Duration(c.at) * time.Second))
		if want := start.Add(time.Duration(c.since) * time.Second); !got.Equal(want) {
			t.Errorf("contact after %d s: there since %d s, want %d s", c.at, int(got.Sub(start).Seconds()), c.since)
		}
	}
}

// A server that comes back finds leases that were over while it was away. It leaves the
// instances alone until it has been there for a whole lease.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	w := &world{t, openRegistry(t, s, Config{ExpireEvery: never}), caller(testAccount)}
	service := w.shop()
	w.register(service, "gone", leased)
	w.register(service, "back", leased)
	w.shorten(service, "gone")
	w.shorten(service, "back")
	w.awaitSilence(service, "gone")
	w.awaitSilence(service, "back")
	if err := errors.Join(w.r.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	now := clock.New(time.Now().Add(365 * 24 * time.Hour))
	w.r = openRegistry(t, s, Config{ExpireEvery: 2 * time.Millisecond, Now: now.Now})
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- w.r.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ran; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	}()
	diff(t, []string{"back", "gone"}, w.r.ids())
	// The clock goes on in steps that are no break.
	for range 9 {
		w.advance(now, time.Second)
	}
	diff(t, []string{"back", "gone"}, w.r.ids())
	w.register(service, "back", leased)
	for range 3 {
		w.advance(now, time.Second)
	}
	eventually(t, "the end of what does not come back", func() error {
		if got := w.r.ids(); !slices.Equal(got, []string{"back"}) {
			return fmt.Errorf("there are %v", got)
		}
		return nil
	})
	// A long pause of the whole process is no time in which leases could be renewed.
	w.advance(now, time.Hour)
	w.shorten(service, "back")
	w.awaitSilence(service, "back")
	for range 8 {
		w.advance(now, time.Second)
	}
	diff(t, []string{"back"}, w.r.ids())
	for range 4 {
		w.advance(now, time.Second)
	}
	eventually(t, "the end of all", func() error {
		if got := w.r.ids(); len(got) > 0 {
			return fmt.Errorf("there are %v", got)
		}
		return nil
	})
}

// advance moves the clock and waits until a look for what is over has begun and ended
// since: the store is asked at each.
func (w *world) advance(c *clock.Fake, d time.Duration) {
	w.t.Helper()
	c.Advance(d)
	seen := w.r.looks.Load()
	eventually(w.t, "two more looks", func() error {
		if w.r.looks.Load() < seen+2 {
			return errors.New("not yet")
		}
		return nil
	})
}

// Two servers over one store: what is registered or renewed at one counts at the other.
func TestReplicas(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir())
	a := &world{t, openRegistry(t, s, Config{ExpireEvery: never}), caller(testAccount)}
	b := &world{t, openRegistry(t, s, Config{ExpireEvery: never}), caller(testAccount)}
	service := a.shop()
	eventually(t, "the service at b", func() error {
		_, err := b.try("GetService", `{"Id":%q}`, service)
		return err
	})
	a.register(service, "i", leased)
	a.shorten(service, "i")
	b.awaitSilence(service, "i")
	b.register(service, "i", leased)
	a.r.expire(t.Context(), time.Now(), time.Now().Add(-never))
	a.awaitIDs("i")
	b.awaitIDs("i")
	// Both take it out at once: it goes once, and neither fails.
	b.shorten(service, "i")
	a.awaitSilence(service, "i")
	b.awaitSilence(service, "i")
	var both sync.WaitGroup
	for _, w := range []*world{a, b} {
		both.Go(func() { w.r.expire(t.Context(), time.Now(), time.Now().Add(-never)) })
	}
	both.Wait()
	a.awaitIDs()
	b.awaitIDs()
}

func (w *world) awaitIDs(want ...string) {
	w.t.Helper()
	eventually(w.t, "the instances", func() error {
		if got := w.r.ids(); !slices.Equal(got, want) {
			return fmt.Errorf("there are %v, want %v", got, want)
		}
		return nil
	})
}
