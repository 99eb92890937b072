package live

import "github.com/fairlead-mesh/fairlead/internal/mesh"

// Watch is one view that somebody keeps current.
type Watch struct {
	live   *Live
	state  *meshState
	id     mesh.ID
	notify func()
	reads  mesh.Reads // guarded by state.mu
	closed bool       // guarded by state.mu
}

// Watch prepares a view of a virtual node or gateway. notify is called whenever
// something that the last Build read has changed; it must return at once and may be
// called from any goroutine. Build it before the first notice can come.
func (l *Live) Watch(id mesh.ID, notify func()) *Watch {
	return &Watch{live: l, state: l.acquire(id.Mesh), id: id, notify: notify}
}

// Build reads the view from the current snapshot; it is nil if the node or gateway
// does not exist. Build is for one goroutine at a time.
func (w *Watch) Build() (view *mesh.View, revision int64) {
	snap, seq := w.state.current()
	r := mesh.NewReader(snap)
	view = mesh.BuildView(r, w.id.Key)
	if w.register(r.Reads, seq) {
		w.notify()
	}
	return view, snap.Revision
}

// register notes what was read and reports whether it has changed since.
func (w *Watch) register(reads mesh.Reads, seq uint64) (missed bool) {
	w.state.mu.Lock()
	defer w.state.mu.Unlock()
	if w.closed {
		return false
	}
	w.state.index(w, reads)
	return w.state.missed(seq, reads)
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
	w.state.index(w, mesh.Reads{})
	w.closed = true
	return true
}
