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

// instances is the index from services to the watches that read their instances. One
// serves all meshes: nodes of several may be discovered by one service.
type instances struct {
	registry Registry // nil: none

	mu      sync.Mutex
	seq     uint64 // number of changes so far
	recent  [recentChanges]mesh.InstancesKey
	readers map[mesh.InstancesKey]map[*Watch]struct{}
}

// find returns the instances of a service, and whether there is such a service.
func (i *instances) find(k mesh.InstancesKey) ([]mesh.Instance, bool) {
	if i.registry == nil {
		return nil, false
	}
	return i.registry.Instances(k)
}

// follow subscribes to the registry. What watches have read before is taken for old.
func (i *instances) follow() (stop func()) {
	if i.registry == nil {
		return func() {}
	}
	stop = i.registry.Subscribe(i.changed)
	i.mu.Lock()
	i.seq += recentChanges + 1
	watches := map[*Watch]struct{}{}
	for _, readers := range i.readers {
		for w := range readers {
			watches[w] = struct{}{}
		}
	}
	i.mu.Unlock()
	for w := range watches {
		w.notify()
	}
	return stop
}

// changed tells the watches that read a service's instances.
func (i *instances) changed(k mesh.InstancesKey) {
	i.mu.Lock()
	i.recent[i.seq%recentChanges] = k
	i.seq++
	watches := make([]*Watch, 0, len(i.readers[k]))
	for w := range i.readers[k] {
		watches = append(watches, w)
	}
	i.mu.Unlock()
	for _, w := range watches {
		w.notify()
	}
}

func (i *instances) current() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.seq
}

// since returns which of the services that were read have changed from seq on, and the
// number of changes so far.
func (i *instances) since(seq uint64, reads map[mesh.InstancesKey]struct{}) (changed []mesh.InstancesKey, now uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(reads) == 0 || seq == i.seq {
		return nil, i.seq
	}
	if i.seq-seq > recentChanges { // longer ago than is remembered
		for k := range reads {
			changed = append(changed, k)
		}
		return changed, i.seq
	}
	once := map[mesh.InstancesKey]struct{}{}
	for ; seq < i.seq; seq++ {
		k := i.recent[seq%recentChanges]
		_, read := reads[k]
		if _, twice := once[k]; read && !twice {
			once[k] = struct{}{}
			changed = append(changed, k)
		}
	}
	return changed, i.seq
}

// index replaces the services that a watch read.
func (i *instances) index(w *Watch, before, reads map[mesh.InstancesKey]struct{}) {
	if len(before)+len(reads) == 0 {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for k := range before {
		if _, still := reads[k]; !still {
			drop(i.readers, k, w)
		}
	}
	for k := range reads {
		add(i.readers, k, w)
	}
}

// wanted returns the services whose instances watches have read.
func (i *instances) wanted() []mesh.InstancesKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Collect(maps.Keys(i.readers))
}
