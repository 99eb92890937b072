package xds

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/live"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// feedKey is what resources depend on: the virtual node or gateway, and how its
// proxies are placed.
type feedKey struct {
	id mesh.ID
	// owner is the account that owns the node or gateway; in a shared mesh it need not
	// be the mesh's.
	owner   string
	profile envoy.Profile
}

// feed holds the current resources of a key for all its proxies.
type feed struct {
	key   feedKey
	watch *live.Watch // nil for a feed that was empty from the start
	refs  int         // streams and who is about to be one; guarded by Server.mu
	state queueState  // guarded by queue.mu
	// rested is when the feed may be translated again; guarded by queue.mu.
	rested time.Time
	// sentTo is how many streams the last translation was sent to, 0 if it changed nothing;
	// only the publisher uses it.
	sentTo int
	// made is what the resources were made of; nil while there are none.
	made atomic.Pointer[made]
	// kept is what the resources are made of, and makes the next translation cheap, of this
	// feed and of others; nil for none. Only the publisher uses it.
	kept *envoy.Kept
	// current is set while the resources are those of the view that the watch built last;
	// only the publisher uses it.
	current bool
	// tags are those that callers were last asked about; only the publisher uses them.
	tags []mesh.TagRef

	mu sync.Mutex
	// generation counts the publications that changed something; 0 before the first.
	generation uint64
	// missing is set while the node or gateway does not exist.
	missing bool
	// withdrawn is when everything was taken back, zero while it is not.
	withdrawn time.Time
	types     [envoy.NumTypes]typeFeed
	streams   map[*stream]struct{}
	progress  progress
	// names are the sets of names that the streams ask for.
	names nameSets
}

// typeFeed holds the resources of one type.
type typeFeed struct {
	current map[string]entry
	// gone holds the generations in which names went away, until every stream knows.
	gone map[string]uint64
	// log holds each name's last change; older entries of a name are stale.
	log []change
	// newest is the last generation in which a name was added, changed the last in which
	// anything changed.
	newest, changed uint64
	// listed is what a state-of-the-world stream was sent last.
	listed *listing
}

type entry struct {
	res *resource
	gen uint64
}

type change struct {
	gen  uint64
	name string
}

func newFeed(key feedKey) *feed {
	f := &feed{key: key, streams: map[*stream]struct{}{}}
	for t := range f.types {
		f.types[t] = typeFeed{current: map[string]entry{}, gone: map[string]uint64{}}
	}
	return f
}

// get returns the resource of a name, or nil. Who calls a method of typeFeed holds the
// feed's lock; the publisher, who alone changes it, may get without.
func (t *typeFeed) get(name string) *resource { return t.current[name].res }

// since calls f with each name that changed after a generation, in no order.
func (t *typeFeed) since(gen uint64, f func(name string)) {
	for i := len(t.log) - 1; i >= 0 && t.log[i].gen > gen; i-- {
		c := t.log[i]
		if t.current[c.name].gen == c.gen || t.gone[c.name] == c.gen {
			f(c.name)
		}
	}
}

func (t *typeFeed) put(gen uint64, r *resource) {
	name := r.key.name
	if _, known := t.current[name]; !known {
		t.newest = gen
		delete(t.gone, name)
	}
	t.current[name] = entry{r, gen}
	t.changed = gen
	t.log = append(t.log, change{gen, name})
}

func (t *typeFeed) remove(gen uint64, name string) {
	delete(t.current, name)
	t.gone[name] = gen
	t.changed = gen
	t.log = append(t.log, change{gen, name})
}

// tidy forgets removals that every stream knows of, and stale entries of the log once
// they are the larger part of it.
func (t *typeFeed) tidy(known uint64) {
	maps.DeleteFunc(t.gone, func(_ string, gen uint64) bool { return gen <= known })
	if len(t.log) <= 2*(len(t.current)+len(t.gone))+64 {
		return
	}
	t.log = slices.DeleteFunc(t.log, func(c change) bool {
		return t.current[c.name].gen != c.gen && t.gone[c.name] != c.gen
	})
}

// publish replaces the feed's resources and wakes its streams if anything changed.
// Only one goroutine publishes to a feed at a time.
func (f *feed) publish(resources []*resource) (changed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.withdrawn = time.Time{}
	return f.replace(resources)
}

// update replaces some of the feed's resources, all of which are there, and wakes its
// streams if anything changed.
func (f *feed) update(resources []*resource) (changed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.generation + 1
	for _, r := range resources {
		if t := &f.types[r.key.typ]; t.get(r.key.name) != r {
			t.put(next, r)
			changed = true
		}
	}
	if changed {
		f.advance(next)
		f.sentTo = len(f.streams)
		f.tidy()
	}
	return changed
}

// withdraw takes back everything, in the order in which a proxy can do without it, until
// something is published again.
func (f *feed) withdraw(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.withdrawn.IsZero() {
		f.withdrawn = now
	}
	f.made.Store(nil)
	f.kept = nil
	f.replace(nil)
	f.wake()
}

func (f *feed) isWithdrawn() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.withdrawn.IsZero()
}

// replace makes the feed's resources those given. The lock is held.
func (f *feed) replace(resources []*resource) (changed bool) {
	next := f.generation + 1
	var seen [envoy.NumTypes]map[string]struct{}
	for t := range seen {
		seen[t] = make(map[string]struct{}, len(f.types[t].current))
	}
	for _, r := range resources {
		t := &f.types[r.key.typ]
		seen[r.key.typ][r.key.name] = struct{}{}
		if t.get(r.key.name) != r {
			t.put(next, r)
			changed = true
		}
	}
	for i := range f.types {
		t := &f.types[i]
		for name := range t.current {
			if _, ok := seen[i][name]; !ok {
				t.remove(next, name)
				changed = true
			}
		}
	}
	if changed || f.generation == 0 || f.missing {
		f.missing = false
		f.advance(next)
	}
	if changed {
		f.sentTo = len(f.streams)
		f.tidy()
	}
	return changed
}

// vanish tells the streams that the node or gateway does not exist.
func (f *feed) vanish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.missing, f.withdrawn = true, time.Time{}
	f.made.Store(nil)
	f.kept = nil
	f.wake()
}

func (f *feed) isMissing() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.missing
}

func (f *feed) wake() {
	for s := range f.streams {
		s.signal()
	}
}

func (f *feed) tidy() {
	known := f.generation
	for s := range f.streams {
		known = min(known, s.known.Load())
	}
	for t := range f.types {
		f.types[t].tidy(known)
	}
}

func (f *feed) join(s *stream) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.streams[s] = struct{}{}
}

func (f *feed) leave(s *stream) {
	s.close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.streams, s)
}
