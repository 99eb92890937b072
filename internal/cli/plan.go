package cli

import (
	"encoding/json"
	"slices"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// verb is what is done to an object.
type verb string

// The verbs, as output spells them once they are done.
const (
	created   verb = "created"
	updated   verb = "updated"
	deleted   verb = "deleted"
	unchanged verb = "unchanged"
	// replaced is deleted and created anew: what a route and its neighbours ask of each other
	// can leave no other way.
	replaced verb = "replaced"
)

// change is what is to be done to one object.
type change struct {
	Ref
	verb verb
	doc  *document // nil for what is deleted because no document has it
	have *object   // as it is, nil if it is not there
	// spec is what a create or update sends; nil if only tags change.
	spec  any
	raw   json.RawMessage
	retag bool
}

// step is one thing to do, on the way to a change or all of it.
type step struct {
	*change
	verb verb
	spec any
	raw  json.RawMessage
	// between says that this is not the change yet, but what it takes to get there.
	between bool
	// after are the objects without which it cannot be done.
	after []Ref
	// beside are the objects without which a deletion would leave a gap.
	beside []Ref
}

// planner puts changes into an order that the rules between objects allow, so that nothing is
// broken in between: new things before what leads to them, old things after what led there.
type planner struct {
	now      *world
	before   *world // the first one
	final    *world // the last one
	known    map[Ref]*change
	pending  []*change
	waves    [][]step
	replaced []Ref        // what is deleted and made anew, though it stays
	spared   map[Ref]bool // what must not be
	// routes are those of a router or gateway that change, and stay.
	routes map[Ref][]Ref
}

// plan returns a planner that has put its steps into waves. The steps of a wave do not bear on
// each other; a wave begins when the one before has ended. The changes themselves are left as
// they are. The error is a *StuckError.
//
// The planner makes as few routes anew as it can see on its way. Whether one less would do is
// then tried with each of them.
func plan(w *world, changes []*change) (*planner, error) {
	const most = 32 // tries
	best, err := planWithout(w, changes, nil)
	if err != nil || len(best.replaced) > most {
		return best, err
	}
	spared := map[Ref]bool{}
	for _, r := range slices.Clone(best.replaced) {
		if !slices.Contains(best.replaced, r) {
			continue
		}
		spared[r] = true
		if p, err := planWithout(w, changes, spared); err == nil && len(p.replaced) < len(best.replaced) {
			best = p
			continue
		}
		delete(spared, r)
	}
	return best, nil
}

// planWithout plans without making some routes anew.
func planWithout(w *world, changes []*change, spared map[Ref]bool) (*planner, error) {
	p := &planner{
		now: w.clone(), before: w, final: w.after(changes),
		known: map[Ref]*change{}, routes: map[Ref][]Ref{}, spared: spared,
	}
	for _, c := range changes {
		own := *c
		p.known[c.Ref] = &own
		if c.verb != unchanged {
			p.add(&own)
		}
	}
	for len(p.pending) > 0 {
		switch {
		case p.take(p.wave(p.makes)):
		case p.clear(func(c *change, w way) bool { return w.cost() == 0 && !p.waits(c) }):
		case p.take(p.wave(func(c *change) bool { return c.verb != deleted })):
		case p.clear(func(*change, way) bool { return true }):
		case p.take(p.wave(func(c *change) bool { return c.verb == deleted })):
		default:
			if err := p.stuck(); err != nil {
				return nil, err
			}
			// Something that is not known here uses what is deleted: the server decides.
			p.take([]step{p.whole(p.pending[0])})
		}
	}
	return p, nil
}

// add puts a change among those that are to be made.
func (p *planner) add(c *change) {
	p.queue(c)
	parent, ok := c.ParentKey()
	if !ok || c.verb == deleted {
		return
	}
	if above := c.in(parent); !slices.Contains(p.routes[above], c.Ref) {
		p.routes[above] = append(p.routes[above], c.Ref)
	}
}

// again puts a change among those that are to be made once more, if it is not there: what has
// been made stood in the way of something else.
func (p *planner) again(c *change) {
	if slices.Contains(p.pending, c) {
		return
	}
	for _, wave := range p.waves {
		for i := range wave {
			wave[i].between = wave[i].between || wave[i].change == c
		}
	}
	p.queue(c)
}

func (p *planner) queue(c *change) {
	at, _ := slices.BinarySearchFunc(p.pending, c, compareChanges)
	p.pending = slices.Insert(p.pending, at, c)
}

// compareChanges puts what is made or changed first, in the order in which objects can be
// made, and what is deleted last, the other way round.
func compareChanges(a, b *change) int {
	da, db := a.verb == deleted, b.verb == deleted
	switch {
	case da && db:
		return -compareRefs(a.Ref, b.Ref)
	case da:
		return 1
	case db:
		return -1
	}
	return compareRefs(a.Ref, b.Ref)
}

// wave returns those of some changes that can be made now, all at the same time.
func (p *planner) wave(of func(*change) bool) []step {
	var out []step
	t := touched{}
	for _, c := range p.pending {
		if !of(c) {
			continue
		}
		s := p.whole(c)
		if near := p.now.around(s.Ref, s.spec); t.free([]Ref{s.Ref}, near) && p.allowed(s) {
			out = append(out, s)
			t.add([]Ref{s.Ref}, near)
		}
	}
	return out
}

// touched is what the steps of a wave have to do with.
type touched struct{ written, around map[Ref]bool }

// free reports whether a further step may write some objects and have others around it.
func (t *touched) free(write, near []Ref) bool {
	return !slices.ContainsFunc(write, func(r Ref) bool { return t.written[r] || t.around[r] }) &&
		!slices.ContainsFunc(near, func(r Ref) bool { return t.written[r] })
}

func (t *touched) add(write, near []Ref) {
	if t.written == nil {
		t.written, t.around = map[Ref]bool{}, map[Ref]bool{}
	}
	for _, r := range write {
		t.written[r] = true
	}
	for _, r := range near {
		t.around[r] = true
	}
}

// makes reports whether a change makes or updates an object, and need not wait.
func (p *planner) makes(c *change) bool { return c.verb != deleted && !p.waits(c) }

// waits reports whether a change would lead traffic to where nothing is yet: a service to a
// router whose routes are still to be made, a node to backends that are.
func (p *planner) waits(c *change) bool {
	switch spec := c.spec.(type) {
	case *mesh.VirtualServiceSpec:
		return slices.ContainsFunc(mesh.References(spec), func(k mesh.Key) bool {
			return slices.ContainsFunc(p.routes[c.in(k)], func(r Ref) bool { return !p.now.has(r) })
		})
	case *mesh.VirtualNodeSpec:
		return c.verb == updated && slices.ContainsFunc(spec.Backends, func(b mesh.Backend) bool {
			service := p.known[c.backend(b)]
			return service != nil && service.verb == created && !p.now.has(service.Ref)
		})
	}
	return false
}

// backend returns the service that a backend of a node means: by its name, or an ARN.
func (r Ref) backend(b mesh.Backend) Ref {
	if b.VirtualService == nil {
		return Ref{}
	}
	name := b.VirtualService.VirtualServiceName
	if named, err := ParseRef(name); err == nil && named.Kind == mesh.KindVirtualService && named.Mesh == r.Mesh {
		name = named.Name
	}
	return r.in(mesh.Key{Kind: mesh.KindVirtualService, Name: name})
}

// whole returns the step that makes a change in one go, or what is left of it.
func (p *planner) whole(c *change) step {
	s := step{change: c, verb: c.verb, spec: c.spec, raw: c.raw}
	switch {
	case c.verb == replaced:
		s.verb = created
	case c.verb == created && p.now.has(c.Ref):
		s.verb = updated // it has been made, and moved out of the way since
	case c.verb == updated && c.spec == nil:
		s.spec = p.now.specs[c.Ref]
	}
	return s
}

// allowed reports whether the rules let a step be done now.
func (p *planner) allowed(s step) bool {
	if s.verb == deleted {
		return len(p.now.usedBy[s.Ref]) == 0
	}
	if !p.now.hasAll(needs(s.Ref, s.spec)) {
		return false
	}
	if s.Kind.Parent() == 0 && s.Kind != mesh.KindPolicy {
		return len(p.inTheWay(s)) == 0
	}
	fits := false
	p.suppose(s, func() { fits = len(p.now.breaches(s.Ref)) == 0 })
	return fits
}

// inTheWay returns the routes and gateway routes that a step would leave with a breach of a
// rule that they do not have already.
func (p *planner) inTheWay(s step) []Ref {
	if old, was := p.now.specs[s.Ref]; !was || s.Kind != mesh.KindVirtualService && mesh.SameListeners(old, s.spec) {
		return nil
	}
	routes := p.now.routesAt(s.Ref)
	bad := make([]int, len(routes))
	for i, r := range routes {
		bad[i] = len(p.now.breaches(r))
	}
	router, ok := s.spec.(*mesh.VirtualRouterSpec)
	bare := ok && len(router.Listeners) == 0 // it must have no routes then
	var out []Ref
	p.suppose(s, func() {
		for i, r := range routes {
			if bare && r.Kind == mesh.KindRoute || len(p.now.breaches(r)) > bad[i] {
				out = append(out, r)
			}
		}
	})
	return out
}

// suppose calls f as if a step had been done that makes or updates an object.
func (p *planner) suppose(s step, f func()) {
	old, was := p.now.specs[s.Ref]
	p.now.put(s.Ref, s.spec)
	f()
	if was {
		p.now.put(s.Ref, old)
	} else {
		p.now.drop(s.Ref)
	}
}

// take notes that a wave is done, and reports whether there was one.
func (p *planner) take(wave []step) bool {
	done := map[*change]bool{}
	for i := range wave {
		s := &wave[i]
		s.after, s.beside = append(s.after, p.after(*s)...), p.beside(*s)
		if s.verb == deleted {
			p.now.drop(s.Ref)
		} else {
			p.now.put(s.Ref, s.spec)
		}
		done[s.change] = !s.between
	}
	if len(wave) == 0 {
		return false
	}
	p.pending = slices.DeleteFunc(p.pending, func(c *change) bool { return done[c] })
	p.waves = append(p.waves, wave)
	return true
}

// after returns the objects whose failure makes a step pointless.
func (p *planner) after(s step) []Ref {
	if s.verb != deleted {
		return append(p.now.around(s.Ref, s.spec), s.Ref)
	}
	out := []Ref{s.Ref}
	for user := range p.before.usedBy[s.Ref] {
		out = append(out, user)
	}
	return out
}

// beside returns the objects that are to take the place of what a step deletes.
func (p *planner) beside(s step) []Ref {
	above, ok := s.ParentKey()
	if !ok || s.verb != deleted || s.between {
		return nil
	}
	return p.routes[s.in(above)]
}
