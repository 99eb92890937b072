package meshtest

import (
	"cmp"
	"slices"
	"sync"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Registry is a registry of instances in memory, for tests of what becomes of them. The
// zero value knows no service.
type Registry struct {
	mu       sync.Mutex
	services map[mesh.InstancesKey][]mesh.Instance
	notify   map[int]func(mesh.InstancesKey)
	next     int
}

// Key returns the key of a service of the plane's account.
func Key(namespace, service string) mesh.InstancesKey {
	return mesh.InstancesKey{Account: Account, Region: Region, Namespace: namespace, Service: service}
}

// Create makes a service, without instances if it is new.
func (r *Registry) Create(k mesh.InstancesKey) {
	r.change(k, func(list []mesh.Instance) []mesh.Instance { return list })
}

// Register adds instances to a service, or replaces those of the same ids.
func (r *Registry) Register(k mesh.InstancesKey, instances ...mesh.Instance) {
	r.change(k, func(list []mesh.Instance) []mesh.Instance {
		for _, i := range instances {
			list = append(withoutInstance(list, i.ID), i)
		}
		slices.SortFunc(list, func(a, b mesh.Instance) int { return cmp.Compare(a.ID, b.ID) })
		return list
	})
}

// Deregister removes an instance from a service.
func (r *Registry) Deregister(k mesh.InstancesKey, id string) {
	r.change(k, func(list []mesh.Instance) []mesh.Instance { return withoutInstance(list, id) })
}

func withoutInstance(list []mesh.Instance, id string) []mesh.Instance {
	return slices.DeleteFunc(list, func(i mesh.Instance) bool { return i.ID == id })
}

// change replaces the instances of a service; f may change the list that it is given.
func (r *Registry) change(k mesh.InstancesKey, f func([]mesh.Instance) []mesh.Instance) {
	r.mu.Lock()
	if r.services == nil {
		r.services = map[mesh.InstancesKey][]mesh.Instance{}
	}
	r.services[k] = f(slices.Clone(r.services[k]))
	var all []func(mesh.InstancesKey)
	for _, notify := range r.notify {
		all = append(all, notify)
	}
	r.mu.Unlock()
	for _, notify := range all {
		notify(k)
	}
}

// Instances returns the instances of a service, and whether there is such a service.
func (r *Registry) Instances(k mesh.InstancesKey) ([]mesh.Instance, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list, ok := r.services[k]
	return list, ok
}

// Subscribe calls notify with each key whose instances changed, until stop is called.
func (r *Registry) Subscribe(notify func(mesh.InstancesKey)) (stop func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.notify == nil {
		r.notify = map[int]func(mesh.InstancesKey){}
	}
	id := r.next
	r.next++
	r.notify[id] = notify
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.notify, id)
	}
}
