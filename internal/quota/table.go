package quota

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/store"
)

const (
	// keepEvery is how often what was counted is written; where that is more than small, of keys
	// and their proxies together, largeEvery, and where it is more than large without each proxy.
	keepEvery  = 500 * time.Millisecond
	largeEvery = 3 * time.Second
	small      = 100
	large      = 300
	// tendEvery is how often shares are looked over.
	tendEvery = 500 * time.Millisecond
	// unusedFor is for how long a table is kept that nobody reports to.
	unusedFor = time.Minute
)

// table has the buckets of a policy at its owner.
type table struct {
	service *Service
	policy  Policy

	mu       sync.Mutex
	limit    Limit
	buckets  map[string]*Bucket
	via      map[string]string // the replica that each proxy reports by
	revision int64             // of the record
	changed  bool              // since it was written
	tended   time.Time
	written  time.Time
	asked    time.Time // when somebody last reported
	over     bool      // it is not the owner's any more
}

// newTable returns a table with what a record has.
func newTable(s *Service, p Policy, limit Limit, r record) *table {
	now := s.cfg.Now()
	t := &table{service: s, policy: p, limit: limit, buckets: map[string]*Bucket{}, via: map[string]string{}, revision: r.revision, asked: now, written: now}
	if r.Version > limit.Version || r.Per != limit.Per || !now.UTC().Truncate(r.Per).Equal(r.Window) {
		return t // of another policy of the name, or an earlier window
	}
	for key, kept := range r.Buckets {
		b := NewBucket(limit.Requests, limit.Per)
		b.Restore(now, kept)
		t.buckets[key] = b
	}
	return t
}

// exchange takes what a replica's proxies have reported, and returns what they are to go by.
func (t *table) exchange(q Question) Answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return Answer{}
	}
	now := t.service.cfg.Now()
	t.look()
	a := Answer{Owns: true}
	for _, u := range q.Uses {
		t.asked, t.changed = now, true
		t.via[u.Proxy] = q.Replica
		b, id := t.bucket(u.Key, u.Proxy)
		a.Told = append(a.Told, Told{u.Proxy, u.Key, b.Report(now, id, u.Allowed, u.Denied, u.Elapsed)})
	}
	t.tend(now)
	for key, b := range t.buckets {
		for id, got := range b.Changed(func(id string) bool { return t.via[proxyOf(id)] == q.Replica }) {
			if proxy, other, ok := strings.Cut(id, within); ok {
				a.Told = append(a.Told, Told{proxy, other, got})
			} else {
				a.Told = append(a.Told, Told{id, key, got})
			}
		}
	}
	if q.Spent {
		a.Spent = t.spent(now)
	}
	return a
}

// spent returns what was used. The lock is held.
func (t *table) spent(now time.Time) Spent {
	s := Spent{Window: now.UTC().Truncate(t.limit.Per), Keys: map[string]int64{}}
	for key, b := range t.buckets {
		if _, used := b.Used(now); used > 0 || b.Proxies() > 0 {
			s.Keys[key] = used
		}
	}
	return s
}

// look asks whether the policy has another limit by now. The lock is held.
func (t *table) look() {
	limit, ok := t.service.cfg.Limit(t.policy)
	if !ok || limit == t.limit {
		return
	}
	if limit.Version < t.limit.Version { // it was made anew
		clear(t.buckets)
	}
	t.limit, t.changed = limit, true
	for _, b := range t.buckets {
		b.Change(limit.Requests, limit.Per)
	}
}

// within stands between a proxy and a key that share the bucket of OtherKeys: there each key of
// a proxy has a share.
const within = "\x00"

func proxyOf(id string) string {
	proxy, _, _ := strings.Cut(id, within)
	return proxy
}

// bucket returns the bucket of a key, and what a proxy is called in it. The lock is held.
func (t *table) bucket(key, proxy string) (b *Bucket, id string) {
	b, id = t.buckets[key], proxy
	if b == nil && len(t.buckets) >= MaxKeys {
		id = proxy + within + key
		key = OtherKeys
		b = t.buckets[key]
	}
	if b == nil {
		b = NewBucket(t.limit.Requests, t.limit.Per)
		t.buckets[key] = b
	}
	return b, id
}

// tend looks over the shares of all buckets, now and then. The lock is held.
func (t *table) tend(now time.Time) {
	if now.Sub(t.tended) < tendEvery {
		return
	}
	t.tended = now
	for key, b := range t.buckets {
		b.Tend(now)
		if _, used := b.Used(now); used == 0 && b.Proxies() == 0 {
			delete(t.buckets, key)
			t.changed = true
		}
	}
	if len(t.via) > 2*MaxKeys {
		clear(t.via) // who is still there says so
	}
}

// run writes what was counted, until nobody reports any more, another replica is the owner or
// ctx ends.
func (t *table) run(ctx context.Context) {
	ticker := time.NewTicker(keepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = t.write(last) // else the next owner has what was written before
			t.close()
			return
		case <-ticker.C:
		}
		if t.step(ctx) {
			return
		}
	}
}

// step writes what was counted if it is time, and reports whether the table has come to its
// end.
func (t *table) step(ctx context.Context) (ends bool) {
	now := t.service.cfg.Now()
	if _, there := t.service.cfg.Limit(t.policy); !there {
		t.close()
		return true // Tidy removes the record
	}
	t.mu.Lock()
	t.look()
	t.tend(now)
	due := t.changed && (t.size() <= small || now.Sub(t.written) >= largeEvery)
	unused := now.Sub(t.asked) > unusedFor
	t.mu.Unlock()
	if !due && !unused {
		return false
	}
	err := t.write(ctx)
	switch {
	case errors.Is(err, store.ErrRevision):
		t.service.cfg.Log.InfoContext(ctx, "another replica counts a quota now", "policy", t.policy.Name, "mesh", t.policy.Mesh.Name)
	case err != nil:
		if ctx.Err() == nil {
			t.service.cfg.Log.WarnContext(ctx, "what was counted of a quota could not be written, it is tried again", "policy", t.policy.Name, "mesh", t.policy.Mesh.Name, "error", err)
		}
		return false
	case !unused:
		return false
	}
	t.close()
	return true
}

// size is how many keys and proxies of these there are. The lock is held.
func (t *table) size() int {
	n := len(t.buckets)
	for _, b := range t.buckets {
		n += b.Proxies()
	}
	return n
}

// close ends the table: whoever asks finds out who the owner is.
func (t *table) close() {
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	t.service.disown(t)
}

// write writes the record if nobody else has since. The error is store.ErrRevision if so.
func (t *table) write(ctx context.Context) error {
	t.mu.Lock()
	now := t.service.cfg.Now()
	r := record{
		Owner: t.service.cfg.Self(), Version: t.limit.Version, Per: t.limit.Per, Window: now.UTC().Truncate(t.limit.Per),
		Buckets: make(map[string]Kept, len(t.buckets)), revision: t.revision,
	}
	each := t.size() <= large
	for key, b := range t.buckets {
		if k := b.Keep(now, each); k.Used > 0 || k.Proxies > 0 {
			r.Buckets[key] = k
		}
	}
	t.changed, t.written = false, now
	t.mu.Unlock()
	revision, err := t.service.put(ctx, t.policy, r)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.changed = true
		return err
	}
	t.revision = revision
	return nil
}
