package live

import "github.com/fairlead-mesh/fairlead/internal/mesh"

// Watch is one view that somebody keeps current.
type Watch struct {
	live   *Live
	state  *meshState
	id     mesh.ID
	notify func()

	// Guarded by state.mu.
	reads mesh.Reads // the view's own, beside its services'; what is in it is never changed
	// services are those of the last view, next those of the one that is built.
	services, next []*provided
	closed         bool
	// stale is set where an object of the view has changed since Build began, or there is
	// no view; missed, where nobody was told of that.
	stale, missed bool
	// changed are services whose instances have changed since.
	changed map[mesh.InstancesKey]struct{}
}

// Watch prepares a view of a virtual node or gateway. notify is called whenever
// something that the last Build read has changed; it must return at once and may be
// called from any goroutine. Build it before the first notice can come.
func (l *Live) Watch(id mesh.ID, notify func()) *Watch {
	return &Watch{live: l, state: l.acquire(id.Mesh), id: id, notify: notify, stale: true}
}

// Build reads the view from the current snapshot and the current instances; it is nil if
// the node or gateway does not exist. Build and Refresh are for one goroutine at a time.
// What services lead to is read once for all watches of a mesh; where it changes during a
// Build, a notice follows.
func (w *Watch) Build() (view *mesh.View, revision int64) {
	snap, seq := w.begin()
	r := mesh.NewReader(snap)
	r.Providers = w.provider
	view = mesh.BuildView(r, w.id.Key)
	if w.done(seq, r.Reads, view != nil) {
		w.notify()
	}
	return view, snap.Revision
}

// begin begins a build.
func (w *Watch) begin() (snap *mesh.Snapshot, seq uint64) {
	s := w.state
	s.mu.Lock()
	defer s.mu.Unlock()
	w.stale, w.missed, w.changed, w.next = false, false, nil, make([]*provided, 0, len(w.services))
	return s.snap, s.seq
}

// done ends a build, and reports whether something of it has changed of which nobody was
// told.
func (w *Watch) done(seq uint64, reads mesh.Reads, exists bool) (missed bool) {
	s := w.state
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.closed {
		return false
	}
	s.adopt(w)
	s.index(w, reads)
	missed = w.missed || s.missed(seq, reads)
	w.stale = w.stale || missed || !exists
	return missed
}

// Refresh tells whether more than instances has changed since the last Build, or there is no
// view: then ok is false, and Build tells. Else it returns the services whose instances have
// changed since the last Build or Refresh, in no order.
func (w *Watch) Refresh() (changed []mesh.InstancesKey, ok bool) {
	w.state.mu.Lock()
	defer w.state.mu.Unlock()
	if w.closed || w.stale {
		return nil, false
	}
	for k := range w.changed {
		changed = append(changed, k)
	}
	w.changed = nil
	return changed, true
}

// Reads reports whether the last Build read an object, or looked for it in vain.
func (w *Watch) Reads(k mesh.Key) bool {
	w.state.mu.Lock()
	defer w.state.mu.Unlock()
	if k.Kind == mesh.KindPolicy && !mesh.IsAimed(k) { // views look for it where it is aimed at
		c := w.state.snap.Get(k).Content()
		if c == nil {
			return false
		}
		k = c.Spec.(*mesh.PolicySpec).Aimed(w.state.snap.ID, k.Name)
	}
	return w.state.keys.has(k, w) || w.state.ranges.has(k.Range(), w)
}

// Close ends the watch. A notice under way may still arrive.
func (w *Watch) Close() {
	if w.end() {
		w.live.release(w.id.Mesh, w.state)
	}
}

func (w *Watch) end() bool {
	s := w.state
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.closed {
		return false
	}
	w.closed = true
	s.index(w, mesh.Reads{})
	for _, p := range w.services {
		s.leave(p, w)
	}
	for _, p := range w.next { // of a build that is under way
		s.leave(p, w)
	}
	w.services, w.next = nil, nil
	return true
}
