package live

import (
	"log/slog"
	"sync"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// recentChanges is how many changes of a mesh are remembered, so that a view that
// was read from an older snapshot knows whether it missed something.
const recentChanges = 256

// meshState is one mesh: its snapshot, what its virtual services lead to as far as a watch
// needs them, and the index from what was read to who read it. The writers are the goroutine
// of Live.Run, and the clock at which policies begin and end.
type meshState struct {
	users     int // guarded by Live.mu
	alter     func(mesh.Kind, any)
	instances *instances
	log       *slog.Logger

	writing  sync.Mutex // held while the next snapshot is made
	policies policies   // guarded by writing

	mu       sync.Mutex
	snap     *mesh.Snapshot
	newest   int64  // the revision of the last change
	seq      uint64 // number of changes so far
	recent   [recentChanges][]mesh.Key
	keys     readers[mesh.Key]
	ranges   readers[mesh.Range]
	services map[string]*provided
}

func newMeshState(id mesh.MeshID, l *Live) *meshState {
	s := &meshState{
		alter: l.alter, instances: &l.instances, log: l.log, snap: mesh.NewSnapshot(id),
		keys: newReaders[mesh.Key](), ranges: newReaders[mesh.Range](), services: map[string]*provided{},
	}
	s.policies = policies{now: l.now, all: map[string]*policy{}, turn: s.turn}
	return s
}

func (s *meshState) current() (*mesh.Snapshot, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snap, s.seq
}

func (s *meshState) empty() bool {
	snap, _ := s.current()
	return snap.Len() == 0
}

// apply makes the next snapshot and tells the watches that read what changed.
func (s *meshState) apply(events []store.Event, reset bool, revision int64) {
	s.writing.Lock()
	defer s.writing.Unlock()
	old, _ := s.current()
	edit := old.Edit()
	changed := make([]mesh.Key, 0, len(events))
	if reset {
		changed = deleteMissing(old, edit, events)
	}
	for _, e := range events {
		have := old.Get(e.ID.Key)
		switch {
		case have == nil && e.Revision == 0, have != nil && have.Revision == e.Revision:
			continue
		case e.Revision == 0:
			edit.Delete(e.ID.Key)
		default:
			edit.Put(newItem(e, s.alter, s.log))
		}
		changed = append(changed, e.ID.Key)
	}
	if len(changed) == 0 {
		return
	}
	changed = append(changed, s.policies.follow(edit, changed)...)
	newest := revision
	if reset { // the list's own revision is of no change
		newest = newestOf(events)
	}
	for _, w := range s.swap(edit.Done(revision), newest, changed) {
		w.notify()
	}
}

// turn puts the policies in force that have begun, and takes out those that have ended.
func (s *meshState) turn() {
	s.writing.Lock()
	defer s.writing.Unlock()
	snap, _ := s.current()
	edit := snap.Edit()
	changed := s.policies.turned(edit)
	if len(changed) == 0 {
		return
	}
	for _, w := range s.swap(edit.Done(snap.Revision), 0, changed) {
		w.notify()
	}
}

// deleteMissing removes what a full list no longer has.
func deleteMissing(old *mesh.Snapshot, edit *mesh.Edit, all []store.Event) []mesh.Key {
	listed := make(map[mesh.Key]struct{}, len(all))
	for _, e := range all {
		listed[e.ID.Key] = struct{}{}
	}
	var gone []mesh.Key
	old.All(func(i *mesh.Item) {
		if _, ok := listed[i.Key]; !ok && !mesh.IsAimed(i.Key) {
			edit.Delete(i.Key)
			gone = append(gone, i.Key)
		}
	})
	return gone
}

// newItem returns the item an event leaves. An object that cannot be read is logged and
// counts as absent.
func newItem(e store.Event, alter func(mesh.Kind, any), log *slog.Logger) *mesh.Item {
	return mesh.NewItem(e.ID.Key, e.Revision, func() *mesh.Content {
		o := e.Object()
		if o == nil {
			return nil
		}
		spec, err := mesh.ParseSpec(e.ID.Kind, o.Spec)
		if err != nil {
			log.Error("skipping an object that cannot be read", "arn", o.ARN(), "error", err)
			return nil
		}
		if alter != nil {
			alter(e.ID.Kind, spec)
		}
		return &mesh.Content{ResourceOwner: o.ResourceOwner, Version: o.Version, Tags: o.Tags, Spec: spec}
	})
}

// swap makes snap the current snapshot and returns the watches to whom one of the changed
// keys matters.
func (s *meshState) swap(snap *mesh.Snapshot, newest int64, changed []mesh.Key) []*Watch {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snap, s.newest = snap, max(s.newest, newest)
	s.recent[s.seq%recentChanges] = changed
	s.seq++
	seen := map[*Watch]struct{}{}
	tell := func(w *Watch) {
		w.stale = true
		seen[w] = struct{}{}
	}
	for _, k := range changed {
		s.keys.tell(k, tell)
		s.ranges.tell(k.Range(), tell)
	}
	watches := make([]*Watch, 0, len(seen))
	for w := range seen {
		watches = append(watches, w)
	}
	return watches
}

// missed reports whether one of the changes from seq on touches what was read. The lock is
// held.
func (s *meshState) missed(seq uint64, reads mesh.Reads) bool {
	if s.seq-seq > recentChanges {
		return true
	}
	for ; seq < s.seq; seq++ {
		for _, k := range s.recent[seq%recentChanges] {
			if _, ok := reads.Keys[k]; ok {
				return true
			}
			if _, ok := reads.Ranges[k.Range()]; ok {
				return true
			}
		}
	}
	return false
}

// index replaces what a watch read beside its services. The lock is held.
func (s *meshState) index(w *Watch, reads mesh.Reads) {
	replace(s.keys.watches, w, w.reads.Keys, reads.Keys)
	replace(s.ranges.watches, w, w.reads.Ranges, reads.Ranges)
	w.reads = reads
}
