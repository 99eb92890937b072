package live

import (
	"maps"
	"slices"
	"sync"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Registry knows the instances of services (AWS Cloud Map's word for hosts).
type Registry interface {
	// Instances returns the instances of a service that are not expired, in the order of
	// their ids, and whether the namespace and service exist. What it returned is never
	// changed. It must not wait.
	Instances(k mesh.InstancesKey) ([]mesh.Instance, bool)
	// Subscribe calls notify, which returns at once, with each key whose instances have
	// changed, after Instances returns the new ones, until stop is called.
	Subscribe(notify func(mesh.InstancesKey)) (stop func())
}

// instances is the index from services of the registry to the virtual services whose
// instances they hold. One serves all meshes: nodes of several may be discovered by one
// service. Its lock is taken after that of a mesh, never before.
type instances struct {
	registry Registry // nil: none

	mu      sync.Mutex
	readers map[mesh.InstancesKey]map[*provided]struct{}
}

// find returns the instances of a service, and whether there is such a service.
func (i *instances) find(k mesh.InstancesKey) ([]mesh.Instance, bool) {
	if i.registry == nil {
		return nil, false
	}
	return i.registry.Instances(k)
}

// Instances returns the instances of a service as they are now, and whether there is such a
// service.
func (l *Live) Instances(k mesh.InstancesKey) ([]mesh.Instance, bool) { return l.instances.find(k) }

// follow subscribes to the registry. What watches have read before is taken for old.
func (i *instances) follow() (stop func()) {
	if i.registry == nil {
		return func() {}
	}
	stop = i.registry.Subscribe(i.changed)
	for _, k := range i.wanted() {
		i.changed(k)
	}
	return stop
}

// changed tells the watches of the virtual services whose instances have changed.
func (i *instances) changed(k mesh.InstancesKey) {
	i.mu.Lock()
	services := slices.Collect(maps.Keys(i.readers[k]))
	i.mu.Unlock()
	watches := map[*Watch]struct{}{}
	for _, p := range services {
		p.instancesChanged(k, watches)
	}
	for w := range watches {
		w.notify()
	}
}

// instancesChanged marks instances as old, and adds the watches that are to be told.
func (p *provided) instancesChanged(k mesh.InstancesKey, watches map[*Watch]struct{}) {
	p.state.mu.Lock()
	defer p.state.mu.Unlock()
	p.change(func(w *Watch) {
		if w.changed == nil {
			w.changed = map[mesh.InstancesKey]struct{}{}
		}
		w.changed[k] = struct{}{}
		watches[w] = struct{}{}
	})
}

// add has a virtual service told of the changes of some instances.
func (i *instances) add(k mesh.InstancesKey, p *provided) {
	i.mu.Lock()
	defer i.mu.Unlock()
	p.discovers[k] = struct{}{}
	add(i.readers, k, p)
}

// settle has a virtual service told of the changes of no others than these instances.
func (i *instances) settle(p *provided, reads map[mesh.InstancesKey]struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for k := range p.discovers {
		if _, still := reads[k]; !still {
			delete(p.discovers, k)
			drop(i.readers, k, p)
		}
	}
}

// wanted returns the services whose instances watches have read.
func (i *instances) wanted() []mesh.InstancesKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Collect(maps.Keys(i.readers))
}
