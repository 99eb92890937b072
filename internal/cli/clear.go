package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// way is a step that routes and gateway routes stand in the way of, and what is to be done
// about them before.
type way struct {
	step step
	// moves give routes a spec that fits before the step and after it.
	moves []step
	// drops are routes that are deleted anyway, or have been made on the way.
	drops []*change
	// anew are routes that fit either before or after.
	anew []*change
	// fixed are routes that would not fit, and are not to be touched: no document has them.
	fixed []Ref
}

// cost tells ways apart by what is lost on them: nothing at 0, then what goes anyway, then
// traffic for a moment.
func (w way) cost() int {
	const drop = 1 << 20 // more than there are routes to delete
	return len(w.anew)*drop + len(w.drops)
}

// clear takes the cheapest of some ways, and with it those that cost the same and have
// nothing to do with it. It reports whether there was one.
func (p *planner) clear(wanted func(*change, way) bool) bool {
	var ways []way
	for _, c := range p.pending {
		if w, ok := p.cheapest(c); ok && wanted(c, w) {
			ways = append(ways, w)
		}
	}
	if len(ways) == 0 {
		return false
	}
	least := slices.MinFunc(ways, func(a, b way) int { return a.cost() - b.cost() }).cost()
	var first, second []step
	t := touched{}
	for _, w := range ways {
		write, near := p.reach(w)
		if w.cost() != least || !t.free(write, near) {
			continue
		}
		t.add(write, near)
		before := p.first(w)
		for _, s := range before {
			w.step.after = append(w.step.after, s.Ref)
		}
		first, second = append(first, before...), append(second, w.step)
	}
	p.take(first)
	return p.take(second)
}

// first returns what is done before the step of a way.
func (p *planner) first(w way) []step {
	for _, s := range w.moves {
		p.again(s.change)
	}
	out := w.moves
	for _, c := range w.drops {
		p.again(c)
		out = append(out, step{change: c, verb: deleted, between: c.verb != deleted})
	}
	for _, c := range w.anew {
		p.replace(c)
		out = append(out, step{change: c, verb: deleted, between: true})
	}
	return out
}

// replace notes that an object is to be made anew.
func (p *planner) replace(c *change) {
	if c.spec == nil {
		c.spec, c.raw = c.doc.spec, c.doc.stored
	}
	c.verb = replaced
	p.again(c)
	p.replaced = append(p.replaced, c.Ref)
}

// reach returns what the steps of a way write, and what they have around them.
func (p *planner) reach(w way) (write, near []Ref) {
	write = []Ref{w.step.Ref}
	near = p.now.around(w.step.Ref, w.step.spec)
	for _, s := range w.moves {
		write = append(write, s.Ref)
		near = append(near, p.now.around(s.Ref, s.spec)...)
	}
	for _, c := range slices.Concat(w.drops, w.anew) {
		write = append(write, c.Ref)
		near = append(near, p.now.around(c.Ref, nil)...)
	}
	own := map[Ref]bool{}
	for _, r := range write {
		own[r] = true
	}
	return write, slices.DeleteFunc(near, func(r Ref) bool { return own[r] })
}

// cheapest returns the cheapest way to bring a change on; false if there is none. Changes of
// routes themselves need none: they fit when all around them is done.
func (p *planner) cheapest(c *change) (way, bool) {
	var best way
	found := false
	for _, s := range p.options(c) {
		if w := p.way(s); len(w.fixed) == 0 && (!found || w.cost() < best.cost()) {
			best, found = w, true
		}
	}
	return best, found
}

// options returns the steps that bring the change of a node, router, gateway or service on:
// its new listeners beside those that it has, its new spec, and the new protocol on one of
// its ports.
func (p *planner) options(c *change) []step {
	if c.verb != updated || c.spec == nil || c.Kind.Parent() != 0 || c.Kind == mesh.KindMesh || c.Kind == mesh.KindPolicy {
		return nil
	}
	if !p.now.hasAll(needs(c.Ref, c.spec)) {
		return nil
	}
	out := []step{p.whole(c)}
	old := p.now.specs[c.Ref]
	interim := func(turned int64) (step, bool) {
		spec, raw, ok := bothListeners(c.Kind, old, c.spec, turned)
		ok = ok && !mesh.SameListeners(spec, old) && !mesh.SameListeners(spec, c.spec)
		return step{change: c, verb: updated, spec: spec, raw: raw, between: true}, ok
	}
	if s, ok := interim(0); ok {
		out = slices.Insert(out, 0, s)
	}
	for _, port := range turning(old, c.spec) {
		if s, ok := interim(port); ok {
			out = append(out, s)
		}
	}
	return out
}

// turning returns the ports that two specs both have, with different protocols.
func turning(old, now any) []int64 {
	before := map[int64]string{}
	for _, l := range listenersOf(old) {
		before[l.port] = l.protocol
	}
	var out []int64
	for _, l := range listenersOf(now) {
		if p, ok := before[l.port]; ok && p != l.protocol {
			out = append(out, l.port)
		}
	}
	return out
}

// way returns what a step takes.
func (p *planner) way(s step) way {
	w := way{step: s}
	for _, r := range p.inTheWay(s) {
		c := p.known[r]
		if c == nil {
			w.fixed = append(w.fixed, r)
			continue
		}
		move, ok := p.move(c, s)
		switch {
		case ok:
			w.moves = append(w.moves, move)
		case c.verb == deleted, c.verb == created:
			w.drops = append(w.drops, c)
		case p.spared[r]:
			w.fixed = append(w.fixed, r)
		default:
			w.anew = append(w.anew, c)
		}
	}
	return w
}

// move returns the step that gives a route or gateway route a spec that fits before another
// step and after it: what it has, or what it will have, with other ports that mean the same.
func (p *planner) move(c *change, s step) (step, bool) {
	bases := []any{p.now.specs[c.Ref]}
	switch {
	case c.verb != deleted && c.spec == nil:
		return step{}, false // it would have to be made what it is
	case c.verb != deleted:
		bases = append(bases, c.spec)
	}
	var after []use
	for i, base := range bases {
		spec := copied(c.Kind, base)
		if spec == nil || !p.now.hasAll(needs(c.Ref, spec)) {
			continue
		}
		meant := p.now
		if i > 0 {
			meant = p.final
		}
		now, then := p.now.uses(c.Ref, spec), meant.uses(c.Ref, spec)
		p.suppose(s, func() { after = p.now.uses(c.Ref, spec) })
		if !aim(now, after, then) {
			continue
		}
		typed, raw, ok := typed(c.Kind, spec)
		move := step{change: c, verb: updated, spec: typed, raw: raw, between: true}
		if ok && p.allowed(move) && p.lets(move, s) {
			return move, true
		}
	}
	return step{}, false
}

// lets reports whether a route is no longer in the way of a step once it has been moved.
func (p *planner) lets(move, s step) bool {
	free := false
	p.suppose(move, func() { free = !slices.Contains(p.inTheWay(s), move.Ref) })
	return free
}

// stuck returns the error for changes that no order of steps leads to; nil if there are
// deletions only.
func (p *planner) stuck() error {
	e := &StuckError{}
	for _, c := range p.pending {
		if c.verb == deleted {
			continue
		}
		e.refs = append(e.refs, c.Ref)
		for _, s := range p.options(c) {
			e.fixed = append(e.fixed, p.way(s).fixed...)
		}
	}
	if len(e.refs) == 0 {
		return nil
	}
	slices.SortFunc(e.fixed, compareRefs)
	e.fixed = slices.Compact(e.fixed)
	return e
}

// StuckError says that there is no order of steps, because of routes that no document has.
// Nothing was changed.
type StuckError struct {
	refs  []Ref // what cannot be changed
	fixed []Ref // what is in its way
}

// Error returns one line that names the objects.
func (e *StuckError) Error() string {
	text := listed(e.refs) + " cannot be changed step by step"
	if len(e.fixed) > 0 {
		text += ", as " + listed(e.fixed) + " would not fit in between and no document has it, so that it is not touched"
	}
	return text + "; nothing was changed"
}

// ReplaceError says that routes would have to be deleted and made anew, and that this was not
// allowed. Nothing was changed.
type ReplaceError struct{ refs []Ref }

// Error returns one line that names the objects.
func (e *ReplaceError) Error() string {
	return listed(e.refs) + " can only be deleted and made anew, which interrupts traffic: what is around them changes so that they fit " +
		"either before or after; nothing was changed; allow it by --replace"
}

// listed names some objects.
func listed(refs []Ref) string {
	const most = 5
	var names []string
	for _, r := range refs[:min(most, len(refs))] {
		names = append(names, printable(r.String()))
	}
	text := strings.Join(names, ", ")
	if n := len(refs) - most; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}
