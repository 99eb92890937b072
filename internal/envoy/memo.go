package envoy

import (
	"iter"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Memo remembers what the services of a virtual node's view came to, so that the next
// translation makes only those anew that have changed. It is for views of very many
// services: it holds their messages. The zero value remembers nothing. It is for one view's
// node or gateway and for one goroutine at a time.
//
// A service is taken to be as it was if all specs that it leads to are the very same, which
// they are in the snapshots of a mesh while they do not change. What else a service depends
// on are the node's own spec, the mesh's and the profile: if one of those changes, all is
// forgotten. Where services may need one target in different ways, they depend on each
// other, and nothing is remembered (see contested).
type Memo struct {
	of       memoOf
	parts    map[string]*memoPart    // by service
	clusters map[string]*memoCluster // by name
}

// memoOf is what all services of a view depend on.
type memoOf struct {
	profile Profile
	mesh    *mesh.MeshSpec
	node    *mesh.VirtualNodeSpec
}

// memoPart is what one service came to.
type memoPart struct {
	service mesh.Service
	nodes   map[string]*mesh.VirtualNodeSpec // that it leads to; nil for one that does not exist

	ports    []servicePort
	problems []Problem
	targets  []targetKey // that it reaches
}

// memoCluster is what one target's cluster came to.
type memoCluster struct {
	spec      *mesh.VirtualNodeSpec
	instances []mesh.Instance // of a node that Cloud Map discovers
	exists    bool            // the service of those

	made      madeCluster
	resources []Resource
	secrets   []*tlsv3.Secret
	problems  []Problem
}

// memoHost is what the virtual host of a port of a service came to.
type memoHost struct{ host *routev3.VirtualHost }

// Translate is the function Translate with a memo: it returns the same, and remembers it.
// The messages of clusters, endpoints and virtual hosts that are as they were are the very
// same.
func (m *Memo) Translate(v *mesh.View, p Profile) (resources []Resource, problems []Problem) {
	if v.Gateway != nil || !apartFromEachOther(v) {
		*m = Memo{}
		return Translate(v, p)
	}
	of := memoOf{profile: p, mesh: v.MeshSpec, node: v.Node}
	if m.of != of {
		*m = Memo{}
	}
	t := newTranslator(v, p)
	t.memo = m
	t.memoNext = &Memo{of: of, parts: make(map[string]*memoPart, len(v.Services)), clusters: make(map[string]*memoCluster, len(v.Nodes))}
	resources, problems = t.translate()
	*m = *t.memoNext
	return resources, problems
}

// apartFromEachOther reports whether no service of a virtual node's view can need a target
// in another way than the others.
func apartFromEachOther(v *mesh.View) bool {
	if d := v.Node.BackendDefaults; d != nil && d.ClientPolicy != nil && d.ClientPolicy.Tls != nil && len(d.ClientPolicy.Tls.Ports) > 0 {
		return false
	}
	return !slices.ContainsFunc(v.Services, func(s mesh.Service) bool { return s.Policy != nil && s.Policy.Tls != nil })
}

// remembered returns the ports of a service, as portsOf does.
func (t *translator) remembered(s *mesh.Service) []servicePort {
	if t.memo == nil {
		return t.portsOf(s)
	}
	part := t.memo.parts[s.Name]
	if part != nil && part.holds(t.view, s) {
		t.problems = append(t.problems, part.problems...)
		for _, key := range part.targets {
			t.reach(s, t.target(key.node, key.port)) // it is emitted once, by whoever comes first
		}
	} else {
		part = t.newPart(s)
	}
	t.memoNext.parts[s.Name] = part
	return part.ports
}

// newPart makes a service's part.
func (t *translator) newPart(s *mesh.Service) *memoPart {
	part := &memoPart{service: *s, nodes: map[string]*mesh.VirtualNodeSpec{}}
	for name := range targetNodes(s) {
		part.nodes[name] = t.view.Nodes[name]
	}
	before := t.problems
	t.problems, t.part = nil, part
	part.ports = t.portsOf(s)
	part.problems = t.problems
	t.problems, t.part = append(before, part.problems...), nil
	for i := range part.ports {
		part.ports[i].memo = &memoHost{}
	}
	return part
}

// targetNodes yields the names of the virtual nodes that a service leads to.
func targetNodes(s *mesh.Service) iter.Seq[string] {
	return func(yield func(string) bool) {
		if s.NodeName != "" && !yield(s.NodeName) || s.Router == nil {
			return
		}
		for i := range s.Router.Routes {
			for _, w := range s.Router.Routes[i].Spec.Targets() {
				if !yield(w.VirtualNode) {
					return
				}
			}
		}
	}
}

// holds reports whether a service is what it was, with all that it leads to.
func (p *memoPart) holds(v *mesh.View, s *mesh.Service) bool {
	was := &p.service
	if s.Missing != was.Missing || s.NodeName != was.NodeName || (s.Router == nil) != (was.Router == nil) {
		return false
	}
	if r := s.Router; r != nil && (r.Name != was.Router.Name || r.Missing != was.Router.Missing || r.Spec != was.Router.Spec || !slices.Equal(r.Routes, was.Router.Routes)) {
		return false
	}
	for name, spec := range p.nodes {
		if v.Nodes[name] != spec {
			return false
		}
	}
	return true
}

// makeCluster emits the cluster of a target, and what belongs to it.
func (t *translator) makeCluster(name string, g *target, use upstreamUse) madeCluster {
	if t.memo == nil {
		return madeCluster{target: g, use: use, reason: t.emitTarget(name, g, use)}
	}
	instances, exists := t.view.Instances[t.view.Discovered[g.node]]
	c := t.memo.clusters[name]
	if c == nil || c.spec != g.spec || c.exists != exists || !sameInstances(c.instances, instances) {
		c = t.newCluster(name, g, use)
		c.instances, c.exists = instances, exists
	} else {
		for _, s := range c.secrets {
			t.secret(s)
		}
		t.resources = append(t.resources, c.resources...)
	}
	c.made.target, c.made.use = g, use
	t.memoNext.clusters[name] = c
	t.ofClusters = append(t.ofClusters, c.problems...)
	return c.made
}

// newCluster makes a target's cluster.
func (t *translator) newCluster(name string, g *target, use upstreamUse) *memoCluster {
	c := &memoCluster{spec: g.spec}
	problems, resources := t.problems, t.resources
	t.problems, t.resources, t.cluster = nil, nil, c
	c.made.reason = t.emitTarget(name, g, use)
	c.problems = t.problems
	for _, r := range t.resources {
		if r.Type != TypeSecret { // those are not the cluster's alone
			c.resources = append(c.resources, r)
		}
	}
	t.problems, t.resources, t.cluster = problems, append(resources, t.resources...), nil
	return c
}

// sameInstances reports whether two lists are the very same: what a registry has returned
// is never changed.
func sameInstances(a, b []mesh.Instance) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
