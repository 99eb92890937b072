package live

import "github.com/fairlead-mesh/fairlead/internal/mesh"

// Watch is one view that somebody keeps current.
type Watch struct {
	live   *Live
	state  *meshState
	id     mesh.ID
	notify func()
	reads  mesh.Reads // guarded by state.mu; what is in it is never changed
	closed bool       // guarded by state.mu

	// The last view and the changes of the mesh and of instances that it knows of, for
	// who builds it alone. view is nil while there is none, or none that has instances.
	view      *mesh.View
	seq, seen uint64
}

// Watch prepares a view of a virtual node or gateway. notify is called whenever
// something that the last Build read has changed; it must return at once and may be
// called from any goroutine. Build it before the first notice can come.
func (l *Live) Watch(id mesh.ID, notify func()) *Watch {
	return &Watch{live: l, state: l.acquire(id.Mesh), id: id, notify: notify}
}

// Build reads the view from the current snapshot and the current instances; it is nil if
// the node or gateway does not exist. Build and Refresh are for one goroutine at a time.
func (w *Watch) Build() (view *mesh.View, revision int64) {
	var snap *mesh.Snapshot
	snap, w.seq = w.state.current()
	w.seen = w.live.instances.current()
	r := mesh.NewReaderLike(snap, w.last())
	r.Instances = w.live.instances.find
	view = mesh.BuildView(r, w.id.Key)
	w.view = nil
	if view != nil && len(view.Discovered) > 0 {
		w.view = view
	}
	if w.register(r.Reads) {
		w.notify()
	}
	return view, snap.Revision
}

// Refresh is a cheap Build for where instances alone have changed: it returns the last
// view with those read again, and whose they are, in no order. ok is false where more has
// changed, or there is no view that has instances: then Build tells.
func (w *Watch) Refresh() (view *mesh.View, changed []mesh.InstancesKey, ok bool) {
	if w.view == nil || !w.unchanged() {
		return nil, nil, false
	}
	changed, w.seen = w.live.instances.since(w.seen, w.last().Instances)
	if len(changed) > 0 {
		w.view = w.view.WithInstances(changed, w.live.instances.find)
	}
	return w.view, changed, true
}

// unchanged reports whether no object that the last view was read from has changed.
func (w *Watch) unchanged() bool {
	w.state.mu.Lock()
	defer w.state.mu.Unlock()
	if w.closed || w.state.missed(w.seq, w.reads) {
		return false
	}
	w.seq = w.state.seq
	return true
}

// last returns what was read last.
func (w *Watch) last() mesh.Reads {
	w.state.mu.Lock()
	defer w.state.mu.Unlock()
	return w.reads
}

// register notes what was read and reports whether it has changed since.
func (w *Watch) register(reads mesh.Reads) (missed bool) {
	w.state.mu.Lock()
	defer w.state.mu.Unlock()
	if w.closed {
		return false
	}
	w.index(reads)
	changed, _ := w.live.instances.since(w.seen, reads.Instances)
	return len(changed) > 0 || w.state.missed(w.seq, reads)
}

// index replaces what the watch read. The lock is held.
func (w *Watch) index(reads mesh.Reads) {
	w.live.instances.index(w, w.reads.Instances, reads.Instances)
	w.state.index(w, reads)
}

// Close ends the watch. A notice under way may still arrive.
func (w *Watch) Close() {
	if w.end() {
		w.live.release(w.id.Mesh, w.state)
	}
}

func (w *Watch) end() bool {
	w.state.mu.Lock()
	defer w.state.mu.Unlock()
	if w.closed {
		return false
	}
	w.index(mesh.Reads{})
	w.closed = true
	return true
}
