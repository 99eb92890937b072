package cli

import (
	"cmp"
	"maps"
	"slices"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// world is what is known of the objects on a server: those that a command has asked for, and
// while it plans, what will be there after a step.
type world struct {
	specs map[Ref]any
	// usedBy holds the objects that name an object or live in it.
	usedBy map[Ref]map[Ref]bool
}

func newWorld() *world {
	return &world{specs: map[Ref]any{}, usedBy: map[Ref]map[Ref]bool{}}
}

// clone returns a copy that can be changed by itself.
func (w *world) clone() *world {
	out := &world{specs: maps.Clone(w.specs), usedBy: make(map[Ref]map[Ref]bool, len(w.usedBy))}
	for r, users := range w.usedBy {
		out.usedBy[r] = maps.Clone(users)
	}
	return out
}

// after returns what will be there after changes.
func (w *world) after(changes []*change) *world {
	out := w.clone()
	for _, c := range changes {
		switch {
		case c.verb == deleted:
			out.drop(c.Ref)
		case c.spec != nil:
			out.put(c.Ref, c.spec)
		}
	}
	return out
}

// needs returns the objects that must be there when r gets a spec: what it holds, and what a
// policy names, which may go away later without asking.
func needs(r Ref, spec any) []Ref {
	out := holds(r, spec)
	if p, ok := spec.(*mesh.PolicySpec); ok {
		for _, k := range p.Named(mesh.MeshID{Name: r.Mesh}) {
			if k.Kind != mesh.KindMesh {
				out = append(out, r.in(k))
			}
		}
	}
	return out
}

// holds returns the objects that must be there for as long as r is there with a spec: its
// mesh, its router or gateway, and what the spec refers to.
func holds(r Ref, spec any) []Ref {
	if r.Kind == mesh.KindMesh {
		return nil
	}
	out := []Ref{r.mesh()}
	if p, ok := r.ParentKey(); ok {
		out = append(out, r.in(p))
	}
	for _, k := range mesh.References(spec) {
		out = append(out, r.in(k))
	}
	return out
}

func (w *world) has(r Ref) bool {
	_, ok := w.specs[r]
	return ok
}

func (w *world) hasAll(all []Ref) bool {
	return !slices.ContainsFunc(all, func(r Ref) bool { return !w.has(r) })
}

// put notes that an object is there with a spec.
func (w *world) put(r Ref, spec any) {
	w.drop(r)
	w.specs[r] = spec
	for _, n := range holds(r, spec) {
		if w.usedBy[n] == nil {
			w.usedBy[n] = map[Ref]bool{}
		}
		w.usedBy[n][r] = true
	}
}

// drop notes that an object is not there.
func (w *world) drop(r Ref) {
	for _, n := range holds(r, w.specs[r]) {
		delete(w.usedBy[n], r)
	}
	delete(w.specs, r)
}

// users returns the objects of a kind that name r or live in it, in order.
func (w *world) users(r Ref, k mesh.Kind) []Ref {
	var out []Ref
	for u := range w.usedBy[r] {
		if u.Kind == k {
			out = append(out, u)
		}
	}
	slices.SortFunc(out, compareRefs)
	return out
}

// routesAt returns the routes and gateway routes whose rules ask what r's spec says.
func (w *world) routesAt(r Ref) []Ref {
	var out []Ref
	switch r.Kind {
	case mesh.KindVirtualRouter, mesh.KindVirtualNode:
		out = w.users(r, mesh.KindRoute)
		for _, s := range w.users(r, mesh.KindVirtualService) {
			out = append(out, w.users(s, mesh.KindGatewayRoute)...)
		}
	case mesh.KindVirtualService, mesh.KindVirtualGateway:
		out = w.users(r, mesh.KindGatewayRoute)
	}
	return out
}

// breaches checks a route, gateway route or policy against its neighbours.
func (w *world) breaches(r Ref) mesh.Violations {
	switch s := w.specs[r].(type) {
	case *mesh.RouteSpec:
		router, ok := w.specs[r.in(mesh.Key{Kind: mesh.KindVirtualRouter, Name: r.Parent})].(*mesh.VirtualRouterSpec)
		if !ok {
			return nil
		}
		nodes := map[string]*mesh.VirtualNodeSpec{}
		for _, t := range s.Targets() {
			if n, ok := w.specs[r.in(mesh.Key{Kind: mesh.KindVirtualNode, Name: t.VirtualNode})].(*mesh.VirtualNodeSpec); ok {
				nodes[t.VirtualNode] = n
			}
		}
		return mesh.CheckRoute("spec", s, router, nodes)
	case *mesh.GatewayRouteSpec:
		gateway, ok := w.specs[r.in(mesh.Key{Kind: mesh.KindVirtualGateway, Name: r.Parent})].(*mesh.VirtualGatewaySpec)
		if !ok {
			return nil
		}
		provider, key := w.provider(r, s)
		return mesh.CheckGatewayRoute("spec", s, gateway, provider, key)
	case *mesh.PolicySpec:
		return w.policyBreaches(r, s)
	}
	return nil
}

// policyBreaches checks a policy against its target and the other policies of the mesh.
func (w *world) policyBreaches(r Ref, s *mesh.PolicySpec) mesh.Violations {
	m := mesh.MeshID{Name: r.Mesh}
	key := s.Target.Key(m)
	var bad mesh.Violations
	if about, known := w.specs[r.in(key)]; known {
		bad = mesh.CheckPolicyTarget("spec", s, key, about)
	}
	for _, named := range s.Named(m) {
		if to, known := w.specs[r.in(named)]; known && named != key && s.Action.Mirror != nil {
			bad = append(bad, mesh.CheckMirror("spec", s, to)...)
		}
	}
	for other, spec := range w.specs {
		p, ok := spec.(*mesh.PolicySpec)
		if ok && other != r && other.mesh() == r.mesh() && s.Contradict(m, p) {
			bad = append(bad, mesh.Violation{Path: "spec", Rule: true, Message: "contradicts " + other.Key.String() + ": both are for " + key.String() + ", and neither is more specific"})
		}
	}
	return bad
}

// provider returns the spec and key of what provides the service that a gateway route leads to.
func (w *world) provider(r Ref, s *mesh.GatewayRouteSpec) (any, mesh.Key) {
	for _, k := range mesh.References(s) {
		service, ok := w.specs[r.in(k)].(*mesh.VirtualServiceSpec)
		if !ok {
			continue
		}
		for _, p := range mesh.References(service) {
			return w.specs[r.in(p)], p
		}
	}
	return nil, mesh.Key{}
}

// around returns all that r with a spec has to do with: no two steps that run at the same
// time may be on objects of which one is around the other.
func (w *world) around(r Ref, spec any) []Ref {
	out := needs(r, spec)
	if have, ok := w.specs[r]; ok {
		out = append(out, needs(r, have)...)
	}
	if s, ok := spec.(*mesh.GatewayRouteSpec); ok {
		if _, key := w.provider(r, s); key.Kind != 0 {
			out = append(out, r.in(key))
		}
	}
	return out
}

// compareRefs orders objects by mesh, then in the order in which they can be made.
func compareRefs(a, b Ref) int {
	for _, c := range []int{
		cmp.Compare(a.Mesh, b.Mesh), cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Kind, b.Kind),
		cmp.Compare(a.Parent, b.Parent), cmp.Compare(a.Name, b.Name),
	} {
		if c != 0 {
			return c
		}
	}
	return 0
}
