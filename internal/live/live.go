// Package live turns the store's watch into the current snapshot of each mesh, and
// finds the views that must hear of a change.
//
// What a change touches is never declared: a view is built through a reader that
// notes every key and range it read, and a changed key finds the views that read it.
// Instances of services are followed in the same way, from a Registry.
// The package imports mesh and store only.
package live

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// Live holds the current snapshot of every mesh in the store.
type Live struct {
	store     *store.Store
	log       *slog.Logger
	instances instances
	alter     func(mesh.Kind, any) // nil: specs are taken as they are stored
	now       func() time.Time     // that policies begin and end by

	mu     sync.Mutex
	meshes map[mesh.MeshID]*meshState

	ready     chan struct{}
	readyOnce sync.Once
	reached   reached
}

// New returns a Live that is empty until Run has read the store. Without a registry, nil,
// no service has instances.
func New(st *store.Store, registry Registry, log *slog.Logger) *Live {
	return &Live{
		store: st, log: log, now: time.Now, meshes: map[mesh.MeshID]*meshState{}, ready: make(chan struct{}),
		instances: instances{registry: registry, readers: map[mesh.InstancesKey]map[*provided]struct{}{}},
	}
}

// Alter has each spec, for example a *mesh.RouteSpec, changed by f before it is in a
// snapshot. Tests see so what a field does: it must be gone where no spec has the field.
// Alter must be called before Run.
func (l *Live) Alter(f func(mesh.Kind, any)) { l.alter = f }

// Clock sets the clock that policies begin and end by; nil is time.Now. Clock must be called
// before Run.
func (l *Live) Clock(now func() time.Time) {
	if now != nil {
		l.now = now
	}
}

// Run follows the store and the registry until ctx ends and returns the store's error.
func (l *Live) Run(ctx context.Context) error {
	defer l.instances.follow()()
	defer l.stopClocks()
	return l.store.Follow(ctx, store.System("live"), l.apply)
}

// Ready is closed when the store has been read for the first time.
func (l *Live) Ready() <-chan struct{} { return l.ready }

// Snapshot returns the current snapshot of a mesh; it is empty for a mesh that does
// not exist.
func (l *Live) Snapshot(id mesh.MeshID) *mesh.Snapshot {
	st := l.acquire(id)
	defer l.release(id, st)
	snap, _ := st.current()
	return snap
}

// View reads the view of a virtual node or gateway as it is now; it is nil if there is no
// such object. Nobody is told when it changes: Watch is for that.
func (l *Live) View(id mesh.ID) *mesh.View {
	r := mesh.NewReader(l.Snapshot(id.Mesh))
	r.Instances = l.instances.find
	return mesh.BuildView(r, id.Key)
}

// Object returns the account that owns a virtual node or gateway, and its tags; "" if
// there is no such object.
func (l *Live) Object(id mesh.ID) (owner string, tags []mesh.TagRef) {
	st := l.acquire(id.Mesh)
	defer l.release(id.Mesh, st)
	snap, _ := st.current()
	c := snap.Get(id.Key).Content()
	if c == nil {
		return "", nil
	}
	return c.ResourceOwner, c.Tags
}

// Wanted returns the services whose instances the views need that somebody keeps
// current, in no order.
func (l *Live) Wanted() []mesh.InstancesKey { return l.instances.wanted() }

// acquire returns the state of a mesh, makes it if there is none, and keeps it until
// release.
func (l *Live) acquire(id mesh.MeshID) *meshState {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.meshes[id]
	if st == nil {
		st = newMeshState(id, l)
		l.meshes[id] = st
	}
	st.users++
	return st
}

// release lets go of a state, and forgets it if it is empty and nobody uses it.
func (l *Live) release(id mesh.MeshID, st *meshState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	st.users--
	if st.users == 0 && st.empty() {
		delete(l.meshes, id)
	}
}

// stopClocks ends the waiting for policies that begin or end.
func (l *Live) stopClocks() {
	for _, id := range l.ids() {
		st := l.acquire(id)
		st.stopClock()
		l.release(id, st)
	}
}

// apply takes one batch of the store's watch. Only the goroutine of Run calls it.
func (l *Live) apply(b store.Batch) {
	byMesh := map[mesh.MeshID][]store.Event{}
	for _, e := range b.Events {
		byMesh[e.ID.Mesh] = append(byMesh[e.ID.Mesh], e)
	}
	if b.Reset {
		for _, id := range l.ids() {
			if _, ok := byMesh[id]; !ok {
				byMesh[id] = nil
			}
		}
	}
	for id, events := range byMesh {
		st := l.acquire(id)
		st.apply(events, b.Reset, b.Revision)
		l.release(id, st)
	}
	l.reached.set(b.Revision)
	l.readyOnce.Do(func() { close(l.ready) })
}

func (l *Live) ids() []mesh.MeshID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.meshes))
}
