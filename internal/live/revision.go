package live

import (
	"sync"
	"sync/atomic"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// reached is how far the store has been followed.
type reached struct {
	revision atomic.Int64

	mu   sync.Mutex
	next chan struct{} // closed with the next batch; nil while nobody waits for it
}

// set notes that all that the store had at a revision is in the snapshots, and that whoever
// reads what changed has been told.
func (r *reached) set(revision int64) {
	r.revision.Store(revision)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next != nil {
		close(r.next)
		r.next = nil
	}
}

// Revision returns the store's revision that has been reached: all changes of objects up to
// it are in the snapshots, and the watches that read one of them have been told. 0 before
// the store was read for the first time.
func (l *Live) Revision() int64 { return l.reached.revision.Load() }

// Await returns nil if a revision has been reached, and else a channel that is closed when
// another one has.
func (l *Live) Await(revision int64) <-chan struct{} {
	r := &l.reached
	if r.revision.Load() >= revision {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.revision.Load() >= revision {
		return nil
	}
	if r.next == nil {
		r.next = make(chan struct{})
	}
	return r.next
}

// Newest returns the revision of the last change of a mesh that is known, 0 if there is no
// such mesh. Each replica comes to know it, but not at the same time.
func (l *Live) Newest(id mesh.MeshID) int64 {
	st := l.acquire(id)
	defer l.release(id, st)
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.newest
}

// newestOf returns the newest revision in a list of all objects of a mesh. What was deleted
// is not in it.
func newestOf(all []store.Event) (newest int64) {
	for _, e := range all {
		newest = max(newest, e.Revision)
	}
	return newest
}
