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
	// replaced is deleted and created anew: what a route and its router ask of each other
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
	// What it has been given already, on the way to the change.
	pinned, wide, aimed bool
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
}

// planner puts changes into an order that the rules between objects allow, so that nothing is
// broken in between: new things before what leads to them, old things after what led there.
type planner struct {
	now     *world
	before  *world // the first one
	final   *world // the last one
	pending []*change
	waves   [][]step
}

// plan returns steps in waves. The steps of a wave do not bear on each other; a wave begins
// when the one before has ended.
func plan(w *world, changes []*change) [][]step {
	p := &planner{now: w.clone(), before: w, final: w.after(changes), pending: slices.Clone(changes)}
	slices.SortStableFunc(p.pending, compareChanges)
	for len(p.pending) > 0 {
		wave := p.wave()
		if len(wave) == 0 {
			wave = p.unstick()
		}
		p.take(wave)
	}
	return p.waves
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

// wave returns what can be done now, all at the same time.
func (p *planner) wave() []step {
	var out []step
	written, around := map[Ref]bool{}, map[Ref]bool{}
	for _, c := range p.pending {
		s := p.whole(c)
		near := p.now.around(s.Ref, s.spec)
		if around[s.Ref] || slices.ContainsFunc(near, func(r Ref) bool { return written[r] }) || !p.allowed(s) {
			continue
		}
		out = append(out, s)
		written[s.Ref] = true
		for _, r := range near {
			around[r] = true
		}
	}
	return out
}

// whole returns the step that makes a change in one go, or what is left of it.
func (p *planner) whole(c *change) step {
	s := step{change: c, verb: c.verb, spec: c.spec, raw: c.raw}
	switch {
	case c.verb == replaced:
		s.verb = created
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
	for _, n := range needs(s.Ref, s.spec) {
		if !p.now.has(n) {
			return false
		}
	}
	routes := []Ref{s.Ref}
	old, was := p.now.specs[s.Ref]
	if s.Kind == mesh.KindVirtualService || was && !mesh.SameListeners(old, s.spec) {
		routes = append(routes, p.now.routesAt(s.Ref)...)
	}
	return p.fits(s, routes, old, was)
}

// fits reports whether a step leaves no route with a breach that it does not have already.
func (p *planner) fits(s step, routes []Ref, old any, was bool) bool {
	bad := make([]int, len(routes))
	for i, r := range routes {
		bad[i] = len(p.now.breaches(r))
	}
	p.now.put(s.Ref, s.spec)
	defer func() {
		if was {
			p.now.put(s.Ref, old)
		} else {
			p.now.drop(s.Ref)
		}
	}()
	for i, r := range routes {
		now := len(p.now.breaches(r))
		if now > bad[i] || r == s.Ref && now > 0 {
			return false
		}
	}
	router, ok := s.spec.(*mesh.VirtualRouterSpec)
	return !ok || len(router.Listeners) > 0 || len(p.now.users(s.Ref, mesh.KindRoute)) == 0
}

// take notes that a wave is done.
func (p *planner) take(wave []step) {
	for i := range wave {
		s := &wave[i]
		s.after = p.after(*s)
		if s.verb == deleted {
			p.now.drop(s.Ref)
		} else {
			p.now.put(s.Ref, s.spec)
		}
		if !s.between {
			p.pending = slices.DeleteFunc(p.pending, func(c *change) bool { return c == s.change })
		}
	}
	p.waves = append(p.waves, wave)
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

// unstick returns a wave that makes others possible, where nothing that is pending can be
// done as it is.
func (p *planner) unstick() []step {
	for _, way := range []func(*change) (step, bool){p.pin, p.widen, p.aim} {
		for _, c := range p.pending {
			if s, ok := way(c); ok {
				return []step{s}
			}
		}
	}
	for _, stuck := range []func(*change) bool{p.turns, func(*change) bool { return true }} {
		if out := p.replace(stuck); len(out) > 0 {
			return out
		}
	}
	// What is not known here may make it possible: the server decides.
	return []step{p.whole(p.pending[0])}
}

// replace deletes stuck routes and gateway routes, which are then created as they shall be.
func (p *planner) replace(stuck func(*change) bool) []step {
	var out []step
	for _, c := range p.pending {
		if c.verb == updated && c.spec != nil && c.Kind.Parent() != 0 && stuck(c) {
			c.verb = replaced
			out = append(out, step{change: c, verb: deleted, between: true})
		}
	}
	return out
}

// turns reports whether a route changes its protocol, so that it fits its router either
// before or after.
func (p *planner) turns(c *change) bool { return protocol(p.now.specs[c.Ref]) != protocol(c.spec) }

// widen gives a node, router or gateway its new listeners beside its old ones, so that what
// leads to the old ones can move.
func (p *planner) widen(c *change) (step, bool) {
	old, ok := p.now.specs[c.Ref]
	if c.wide || c.verb != updated || c.spec == nil || !ok || mesh.SameListeners(old, c.spec) {
		return step{}, false
	}
	spec, raw, ok := bothListeners(c.Kind, old, c.spec)
	s := step{change: c, verb: updated, spec: spec, raw: raw, between: true}
	c.wide = ok && p.allowed(s)
	return s, c.wide
}

// pin gives a route or gateway route the ports that it means already, so that there can be
// several.
func (p *planner) pin(c *change) (step, bool) {
	return p.ported(c, p.now, p.now.specs[c.Ref], &c.pinned)
}

// aim gives a route or gateway route its new spec with the ports that it will mean, so that
// it can move while there are several.
func (p *planner) aim(c *change) (step, bool) { return p.ported(c, p.final, c.spec, &c.aimed) }

// ported gives a route or gateway route a spec with the ports of the only listeners of w.
func (p *planner) ported(c *change, w *world, spec any, done *bool) (step, bool) {
	if *done || c.verb != updated || c.spec == nil || c.Kind.Parent() == 0 {
		return step{}, false
	}
	spec, raw, ok := w.withPorts(c.Ref, spec)
	s := step{change: c, verb: updated, spec: spec, raw: raw, between: true}
	*done = ok && p.allowed(s)
	return s, *done
}
