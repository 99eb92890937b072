package registry

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// table is all that the store has, in memory.
type table struct {
	mu       sync.RWMutex
	loaded   bool
	revision int64 // of the store, that was read up to
	areas    map[place]*area
	imports  func(account string) bool // nil: those of all accounts are taken in
	// changed is closed at the next batch.
	changed chan struct{}
}

// area is what the table has of one place.
type area struct {
	namespaces map[string]*namespace // by id
	names      map[string]*namespace
	services   map[string]*service             // by id
	count      map[string]int                  // of services, by the namespace's id
	inside     map[[2]string]*service          // by the namespace's id and the name
	instances  map[string]map[string]*instance // by service's id, and id
	beats      map[[2]string]bool              // by service's id, and id
	revisions  map[string]int64                // by service's id
	imported   map[serviceName]*imports
	lists      lists
}

// lists keeps the instances of services, so that they are one list for all who ask until
// they change.
type lists struct {
	mu  sync.Mutex
	all map[serviceName][]mesh.Instance // of services that exist
}

type namespace struct {
	id string
	namespaceValue
}

type service struct {
	id string
	serviceValue
}

type instance struct {
	mesh.Instance
	revision int64 // of its record
	lease    int64 // seconds, 0 for none
	token    string
}

// imports is what was imported for a service. It exists if revision is not 0.
type imports struct {
	revision  int64
	instances map[string]mesh.Instance
}

func newArea() *area {
	return &area{
		namespaces: map[string]*namespace{}, names: map[string]*namespace{},
		services: map[string]*service{}, count: map[string]int{}, inside: map[[2]string]*service{},
		instances: map[string]map[string]*instance{}, beats: map[[2]string]bool{},
		revisions: map[string]int64{}, imported: map[serviceName]*imports{},
		lists: lists{all: map[serviceName][]mesh.Instance{}},
	}
}

func newTable(imports func(account string) bool) *table {
	return &table{areas: map[place]*area{}, imports: imports, changed: make(chan struct{})}
}

// parse reads the key of a record. ok is false for one that the table does not take in.
func (t *table) parse(key string) (k parsedKey, ok bool) {
	k, ok = parseKey(key)
	return k, ok && (!k.imported || t.imports == nil || t.imports(k.account))
}

// area returns what there is of a place; of one without anything an empty one. The
// caller holds mu.
func (t *table) area(p place) *area {
	if a := t.areas[p]; a != nil {
		return a
	}
	return newArea()
}

// touched are the services of which a batch says something, by what it says it of.
type touched struct {
	ids      map[place]map[string]bool
	imported map[place]map[serviceName]bool
}

func (d *touched) note(k parsedKey) {
	switch {
	case k.imported:
		if name, _, ok := parseImported(k.rest); ok {
			add(d.imported, k.place, name)
		}
	case k.kind == serviceKind:
		add(d.ids, k.place, k.rest)
	case k.kind == instanceKind:
		id, _, _ := strings.Cut(k.rest, "/")
		add(d.ids, k.place, id)
	}
}

func add[K comparable](to map[place]map[K]bool, p place, k K) {
	if to[p] == nil {
		to[p] = map[K]bool{}
	}
	to[p][k] = true
}

// keys adds the keys of the services that were touched, as the table knows them now.
func (t *table) keys(d *touched, to map[mesh.InstancesKey]bool) {
	for p, ids := range d.ids {
		a := t.area(p)
		for id := range ids {
			if s := a.services[id]; s != nil && a.namespaces[s.Namespace] != nil {
				to[p.instancesKey(serviceName{a.namespaces[s.Namespace].Name, s.Name})] = true
			}
		}
	}
	for p, names := range d.imported {
		for name := range names {
			to[p.instancesKey(name)] = true
		}
	}
}

// allKeys adds the keys of all services that the table knows.
func (t *table) allKeys(to map[mesh.InstancesKey]bool) {
	d := touched{ids: map[place]map[string]bool{}, imported: map[place]map[serviceName]bool{}}
	for p, a := range t.areas {
		for id := range a.services {
			add(d.ids, p, id)
		}
		for name := range a.imported {
			add(d.imported, p, name)
		}
	}
	t.keys(&d, to)
}

func (p place) instancesKey(s serviceName) mesh.InstancesKey {
	return mesh.InstancesKey{Account: p.account, Region: p.region, Namespace: s.namespace, Service: s.service}
}

// apply takes in a batch and returns whose instances may have changed. unreadable is
// called with what this build cannot read, which counts as absent.
func (t *table) apply(b store.RecordBatch, unreadable func(store.Record, error)) []mesh.InstancesKey {
	t.mu.Lock()
	defer t.mu.Unlock()
	keys := map[mesh.InstancesKey]bool{}
	d := touched{ids: map[place]map[string]bool{}, imported: map[place]map[serviceName]bool{}}
	for _, key := range b.Deletes {
		if k, ok := t.parse(key); ok {
			d.note(k)
		}
	}
	for _, rec := range b.Puts {
		if k, ok := t.parse(rec.Key); ok {
			d.note(k)
		}
	}
	if b.Reset {
		t.allKeys(keys)
		t.areas = map[place]*area{}
	}
	t.keys(&d, keys)
	for _, key := range b.Deletes {
		if k, ok := t.parse(key); ok {
			t.area(k.place).remove(k)
		}
	}
	for _, rec := range b.Puts {
		k, ok := t.parse(rec.Key)
		if !ok {
			continue
		}
		if t.areas[k.place] == nil {
			t.areas[k.place] = newArea()
		}
		if err := t.areas[k.place].put(k, rec); err != nil {
			t.areas[k.place].remove(k)
			unreadable(rec, err)
		}
	}
	t.keys(&d, keys)
	for k := range keys {
		t.area(place{k.Account, k.Region}).lists.drop(serviceName{k.Namespace, k.Service})
	}
	t.loaded, t.revision = true, max(t.revision, b.Revision)
	close(t.changed)
	t.changed = make(chan struct{})
	return slices.Collect(maps.Keys(keys))
}

// drop forgets the instances of a service.
func (l *lists) drop(name serviceName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, name)
}

// remove takes out what a key stands for.
func (a *area) remove(k parsedKey) {
	id, instanceID, _ := strings.Cut(k.rest, "/")
	switch {
	case k.imported:
		a.removeImported(k)
	case k.kind == namespaceKind:
		if n := a.namespaces[k.rest]; n != nil {
			a.lists.all = map[serviceName][]mesh.Instance{} // its services are found no more
			delete(a.namespaces, k.rest)
			if a.names[n.Name] == n {
				delete(a.names, n.Name)
			}
		}
	case k.kind == serviceKind:
		a.removeService(k.rest)
	case k.kind == instanceKind:
		delete(a.instances[id], instanceID)
		if len(a.instances[id]) == 0 {
			delete(a.instances, id)
		}
	case k.kind == beatKind:
		delete(a.beats, [2]string{id, instanceID})
	case k.kind == revisionKind:
		delete(a.revisions, k.rest)
	}
}

func (a *area) removeService(id string) {
	s := a.services[id]
	if s == nil {
		return
	}
	delete(a.services, id)
	if a.count[s.Namespace]--; a.count[s.Namespace] == 0 {
		delete(a.count, s.Namespace)
	}
	if place := [2]string{s.Namespace, s.Name}; a.inside[place] == s {
		delete(a.inside, place)
	}
}

func (a *area) removeImported(k parsedKey) {
	name, id, ok := parseImported(k.rest)
	i := a.imported[name]
	if !ok || i == nil {
		return
	}
	if k.kind == instanceKind {
		delete(i.instances, id)
	} else {
		i.revision = 0
	}
	if i.revision == 0 && len(i.instances) == 0 {
		delete(a.imported, name)
	}
}

// put takes in a record.
func (a *area) put(k parsedKey, rec store.Record) error {
	id, instanceID, _ := strings.Cut(k.rest, "/")
	switch {
	case k.imported:
		return a.putImported(k, rec)
	case k.kind == namespaceKind:
		v, err := read[namespaceValue](rec)
		if err != nil {
			return err
		}
		a.remove(k)
		a.lists.all = map[serviceName][]mesh.Instance{} // of the services that it names
		n := &namespace{id: k.rest, namespaceValue: v}
		a.namespaces[k.rest], a.names[v.Name] = n, n
	case k.kind == serviceKind:
		v, err := read[serviceValue](rec)
		if err != nil {
			return err
		}
		a.removeService(k.rest)
		s := &service{id: k.rest, serviceValue: v}
		a.services[k.rest], a.inside[[2]string{v.Namespace, v.Name}] = s, s
		a.count[v.Namespace]++
	case k.kind == instanceKind:
		v, err := read[instanceValue](rec)
		if err != nil {
			return err
		}
		if a.instances[id] == nil {
			a.instances[id] = map[string]*instance{}
		}
		a.instances[id][instanceID] = &instance{
			Instance: v.instance(instanceID), revision: rec.Revision, lease: lease(v.Attributes), token: v.Token,
		}
	case k.kind == beatKind:
		a.beats[[2]string{id, instanceID}] = true
	case k.kind == revisionKind:
		a.revisions[k.rest] = rec.Revision
	}
	return nil
}

func (a *area) putImported(k parsedKey, rec store.Record) error {
	name, id, ok := parseImported(k.rest)
	if !ok {
		return nil
	}
	i := a.imported[name]
	if i == nil {
		i = &imports{instances: map[string]mesh.Instance{}}
		a.imported[name] = i
	}
	if k.kind != instanceKind {
		i.revision = rec.Revision
		return nil
	}
	v, err := read[importedValue](rec)
	if err == nil {
		i.instances[id] = mesh.Instance{
			ID: id, IPv4: v.IPv4, IPv6: v.IPv6, Port: v.Port, Zone: v.Zone, Attributes: v.Attributes, Unhealthy: v.Unhealthy,
		}
	}
	return err
}

// find returns a service by the names of its namespace and its own; nil if there is none.
func (a *area) find(name serviceName) *service {
	n := a.names[name.namespace]
	if n == nil {
		return nil
	}
	return a.inside[[2]string{n.id, name.service}]
}

// discovered returns the instances of a service, registered and imported, in the order of
// their ids, and whether there is such a service. What is registered hides what was
// imported under the same id. Until something changes, the list is the very same.
func (a *area) discovered(name serviceName) (all []mesh.Instance, ok bool) {
	a.lists.mu.Lock()
	defer a.lists.mu.Unlock()
	if all, ok = a.lists.all[name]; ok {
		return all, true
	}
	if all, ok = a.collect(name); ok {
		a.lists.all[name] = all
	}
	return all, ok
}

// collect makes what discovered returns.
func (a *area) collect(name serviceName) (all []mesh.Instance, ok bool) {
	s, imported := a.find(name), a.imported[name]
	if s != nil {
		for _, i := range a.instances[s.id] {
			all = append(all, i.Instance)
		}
	}
	if imported != nil {
		for id, i := range imported.instances {
			if s == nil || a.instances[s.id][id] == nil {
				all = append(all, i)
			}
		}
	}
	slices.SortFunc(all, func(x, y mesh.Instance) int { return strings.Compare(x.ID, y.ID) })
	return all, s != nil || imported != nil && imported.revision != 0
}

// revision returns the revision of a service's instances: it grows when one comes, changes
// its attributes or goes.
func (a *area) revision(name serviceName) int64 {
	var n int64
	if s := a.find(name); s != nil {
		n = a.revisions[s.id]
	}
	if i := a.imported[name]; i != nil {
		n = max(n, i.revision)
	}
	return n
}
