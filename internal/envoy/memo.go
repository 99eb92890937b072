package envoy

import (
	"encoding/json"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"weak"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Memo remembers what virtual services came to, so that a translation makes only those anew
// that have changed since the last one, of whichever virtual node that was. It may be used
// by several goroutines, and its zero value is ready.
//
// A memo keeps nothing alive: a translation returns what it used, as Kept, and what no Kept
// holds any more is forgotten.
//
// A service is as it was if its mesh.Provider is the very same. What else a service comes to
// depends on is the memoClass. Where services may need one target in different ways, they
// depend on each other, and nothing is remembered (see contested).
type Memo struct {
	mu      sync.Mutex
	classes map[classKey]weak.Pointer[memoClass]
}

// Kept is what a translation used of a memo.
type Kept struct {
	class *memoClass
	parts []*memoPart
}

// Slot is a place for what was made of a resource's message. The resources that a memo
// gives have the same slot for as long as they have the same message. The zero value is
// empty.
type Slot struct{ made atomic.Value }

// Load returns what was stored last, or nil.
func (s *Slot) Load() any { return s.made.Load() }

// Store keeps what was made of the message, always of one type.
func (s *Slot) Store(made any) { s.made.Store(made) }

// classKey is what all that a service comes to depends on, beside the service and the nodes
// that it leads to.
type classKey struct {
	mesh    mesh.MeshID
	spec    *mesh.MeshSpec
	profile Profile // without what concerns listeners only
	// defaults and logging are of the node's spec, as JSON; "" for none.
	defaults, logging string
	wide              bool // as many services as have virtual hosts of other names
}

// memoClass holds what services came to.
type memoClass struct {
	mu       sync.Mutex
	parts    map[string]weak.Pointer[memoPart]    // by service
	clusters map[string]weak.Pointer[memoCluster] // by name
}

// memoPart is what one service came to. It is never changed.
type memoPart struct {
	provider *mesh.Provider

	ports    []servicePort
	problems []Problem
	clusters []*memoCluster // that it reaches
}

// memoCluster is what one target's cluster came to. It is never changed.
type memoCluster struct {
	name  string
	spec  *mesh.VirtualNodeSpec
	found *mesh.Discovered

	made      madeCluster
	resources []Resource
	secrets   []*tlsv3.Secret
	problems  []Problem
}

// memoHost keeps what the virtual host of a port of a service came to last.
type memoHost struct{ made atomic.Pointer[virtualHost] }

// Translate is the function Translate with a memo: it returns the same. Clusters, endpoints
// and virtual hosts that are as they were are the very same messages, and have slots. kept
// is to be held for as long as the resources are in use; it is nil where there is nothing to
// remember.
func (m *Memo) Translate(v *mesh.View, p Profile) (resources []Resource, problems []Problem, kept *Kept) {
	class := m.class(v, p)
	if class == nil {
		resources, problems = Translate(v, p)
		return resources, problems, nil
	}
	t := newTranslator(v, p)
	t.kept = &Kept{class: class, parts: make([]*memoPart, 0, len(v.Services))}
	resources, problems = t.translate()
	return resources, problems, t.kept
}

// class returns the class of a view, nil for none.
func (m *Memo) class(v *mesh.View, p Profile) *memoClass {
	if v.Gateway != nil || !apartFromEachOther(v) {
		return nil
	}
	p.Bind, p.App, p.Egress, p.TCPPorts, p.DNSPort = netip.Addr{}, netip.Addr{}, netip.Addr{}, "", 0
	key := classKey{mesh: v.Mesh, spec: v.MeshSpec, profile: p, wide: len(v.Services) > manyHosts}
	var ok, fine bool
	if key.defaults, ok = settings(v.Node.BackendDefaults); !ok {
		return nil
	}
	if key.logging, fine = settings(v.Node.Logging); !fine {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.classes[key].Value(); known != nil {
		return known
	}
	if m.classes == nil {
		m.classes = map[classKey]weak.Pointer[memoClass]{}
	}
	c := &memoClass{parts: map[string]weak.Pointer[memoPart]{}, clusters: map[string]weak.Pointer[memoCluster]{}}
	m.classes[key] = weak.Make(c)
	runtime.AddCleanup(c, func(key classKey) { forget(&m.mu, m.classes, key) }, key)
	return c
}

// settings returns a text that is the same for equal settings, "" for none.
func settings[T any](s *T) (text string, ok bool) {
	if s == nil {
		return "", true
	}
	raw, err := json.Marshal(s)
	return string(raw), err == nil
}

// apartFromEachOther reports whether no service of a virtual node's view can need a target
// in another way than the others.
func apartFromEachOther(v *mesh.View) bool {
	if d := v.Node.BackendDefaults; d != nil && d.ClientPolicy != nil && d.ClientPolicy.Tls != nil && len(d.ClientPolicy.Tls.Ports) > 0 {
		return false
	}
	return !slices.ContainsFunc(v.Services, func(s mesh.Service) bool { return s.Policy != nil && s.Policy.Tls != nil })
}

// recall returns what is remembered under a name, or nil.
func recall[T any](c *memoClass, known map[string]weak.Pointer[T], name string) *T {
	c.mu.Lock()
	defer c.mu.Unlock()
	return known[name].Value()
}

// remember keeps something under a name for as long as somebody holds it.
func remember[T any](c *memoClass, known map[string]weak.Pointer[T], name string, what *T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known[name] = weak.Make(what)
	runtime.AddCleanup(what, func(name string) { forget(&c.mu, known, name) }, name)
}

// forget drops the entry of what is gone, unless there is another under its key.
func forget[K comparable, T any](mu *sync.Mutex, known map[K]weak.Pointer[T], key K) {
	mu.Lock()
	defer mu.Unlock()
	if w, ok := known[key]; ok && w.Value() == nil {
		delete(known, key)
	}
}

// remembered returns the ports of a service, as portsOf does.
func (t *translator) remembered(s *mesh.Service) []servicePort {
	if t.kept == nil {
		return t.portsOf(s)
	}
	part := recall(t.kept.class, t.kept.class.parts, s.Name)
	if part == nil || part.provider != s.Provider {
		part = t.newPart(s)
	} else {
		t.problems = append(t.problems, part.problems...)
		for _, c := range part.clusters {
			if _, known := t.clusters[c.name]; !known {
				t.clusters[c.name] = t.emitKept(c)
			}
		}
	}
	t.kept.parts = append(t.kept.parts, part)
	return part.ports
}

// newPart makes a service's part, and remembers it unless it depends on who calls, or what is
// wrong with it is the translated node's own fault.
func (t *translator) newPart(s *mesh.Service) *memoPart {
	part := &memoPart{provider: s.Provider}
	before := t.problems
	t.problems, t.part = nil, part
	part.ports = t.portsOf(s)
	part.problems = t.problems
	t.problems, t.part = append(before, part.problems...), nil
	for i := range part.ports {
		part.ports[i].memo = &memoHost{}
	}
	if !personal(s) && !t.ownFault(part.problems) && !slices.ContainsFunc(part.clusters, func(c *memoCluster) bool { return t.ownFault(c.problems) }) {
		remember(t.kept.class, t.kept.class.parts, s.Name, part)
	}
	return part
}

// ownFault reports whether one of some problems is the translated object's own.
func (t *translator) ownFault(problems []Problem) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return p.Object == t.self() })
}

// makeCluster emits the cluster of a target, and what belongs to it.
func (t *translator) makeCluster(name string, g *target, use upstreamUse) *madeCluster {
	if t.kept == nil {
		return &madeCluster{node: g.node, port: g.port, use: use, reason: t.emitTarget(name, g, use)}
	}
	c := recall(t.kept.class, t.kept.class.clusters, name)
	if c == nil || c.spec != g.spec || !sameInstances(c.found, g.found) {
		return t.newCluster(name, g, use)
	}
	return t.emitKept(c)
}

// emitKept emits a cluster that was made before.
func (t *translator) emitKept(c *memoCluster) *madeCluster {
	for _, s := range c.secrets {
		t.secret(s)
	}
	t.resources = append(t.resources, c.resources...)
	t.ofClusters = append(t.ofClusters, c.problems...)
	return &c.made
}

// newCluster makes a target's cluster, emits it, and remembers it like newPart.
func (t *translator) newCluster(name string, g *target, use upstreamUse) *madeCluster {
	c := &memoCluster{name: name, spec: g.spec, found: g.found}
	problems, resources := t.problems, t.resources
	t.problems, t.resources, t.cluster = nil, nil, c
	c.made = madeCluster{node: g.node, port: g.port, reason: t.emitTarget(name, g, use), kept: c}
	c.problems = t.problems
	for i := range t.resources {
		if r := &t.resources[i]; r.Type != TypeSecret { // those are not the cluster's alone
			r.Slot = &Slot{}
			c.resources = append(c.resources, *r)
		}
	}
	t.problems, t.resources, t.cluster = problems, append(resources, t.resources...), nil
	if !t.ownFault(c.problems) {
		remember(t.kept.class, t.kept.class.clusters, name, c)
	}
	t.ofClusters = append(t.ofClusters, c.problems...)
	return &c.made
}

// sameInstances reports whether two lists are the very same: what a registry has returned
// is never changed.
func sameInstances(a, b *mesh.Discovered) bool {
	switch {
	case a == nil || b == nil:
		return a == b
	case a.Key != b.Key || a.Exists != b.Exists || len(a.Instances) != len(b.Instances):
		return false
	}
	return len(a.Instances) == 0 || &a.Instances[0] == &b.Instances[0]
}
