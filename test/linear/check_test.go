package linear

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// check holds the answers against the store's history.
func check(t *testing.T, ops []*op, h *history) {
	t.Helper()
	h.wantWhole(t)
	h.match(t, ops)
	before, after := windows(ops, h)
	for i, o := range ops {
		switch {
		case o.unknown:
		case o.done() && o.write():
			if o.event != nil && (o.event.revision <= before[i] || o.event.revision > after[i]) {
				t.Errorf("%s: was done at revision %d, outside of its call: %d to %d", o, o.event.revision, before[i], after[i])
			}
		case !h.sometimes(o, before[i], after[i]):
			t.Errorf("%s: is true of no moment of its call, revisions %d to %d", o, before[i], after[i])
		}
	}
}

// wantWhole replays the history and holds that no revision has an object whose parent or
// target is missing, a version that does not follow the one before, or a deletion of what
// is in use.
func (h *history) wantWhole(t *testing.T) {
	t.Helper()
	for _, e := range h.events {
		switch {
		case e.now == nil && e.was == nil:
			t.Errorf("revision %d deletes %s, which is not there", e.revision, e.key)
		case e.now == nil:
			if h.used(e.key, e.revision) {
				t.Errorf("revision %d deletes %s, which is in use", e.revision, e.key)
			}
		case e.was == nil && e.now.Version != 1, e.was != nil && (e.now.Version != e.was.Version+1 || e.now.UID != e.was.UID):
			t.Errorf("revision %d gives %s version %d of %s, before it was %+v", e.revision, e.key, e.now.Version, e.now.UID, e.was)
		default:
			h.wantTargets(t, e)
		}
	}
}

func (h *history) wantTargets(t *testing.T, e *event) {
	t.Helper()
	if p, ok := e.key.ParentKey(); ok && h.at(p, e.revision) == nil {
		t.Errorf("at revision %d %s has no parent", e.revision, e.key)
	}
	for _, k := range references(e.key, e.now.Spec) {
		if h.at(k, e.revision) == nil {
			t.Errorf("at revision %d %s refers to %s, which is not there", e.revision, e.key, k)
		}
	}
}

// references returns what a spec refers to.
func references(k mesh.Key, spec json.RawMessage) []mesh.Key {
	parsed, err := mesh.ParseSpec(k.Kind, spec)
	if err != nil {
		return nil
	}
	return mesh.References(parsed)
}

// match finds the change that each successful write made, and for each change left over
// a write whose answer never came. No change may be left then.
func (h *history) match(t *testing.T, ops []*op) {
	t.Helper()
	type identity struct {
		key     mesh.Key
		verb    verb
		uid     string
		version int64
	}
	events := make(map[identity]*event, len(h.events))
	for _, e := range h.events {
		o := e.now
		id := identity{key: e.key, verb: e.verb}
		if o == nil {
			o = &object{UID: e.was.UID, Version: e.was.Version + 1}
		}
		id.uid, id.version = o.UID, o.Version
		events[id] = e
	}
	for _, o := range ops {
		if !o.write() || !o.done() {
			continue
		}
		id := identity{o.key, o.verb, o.uid, o.version}
		e := events[id]
		switch {
		case e == nil || e.op != nil:
			t.Errorf("%s: the store has not done that, or not for this call", o)
		case e.now != nil && !sameJSON(e.now.Spec, []byte(o.spec)):
			t.Errorf("%s: sent %s, stored %s", o, o.spec, e.now.Spec)
		default:
			e.op, o.event = o, e
		}
	}
	h.matchUnknown(t, ops)
}

func (h *history) matchUnknown(t *testing.T, ops []*op) {
	t.Helper()
	for _, e := range h.events {
		if e.op != nil {
			continue
		}
		i := slices.IndexFunc(ops, func(o *op) bool {
			return o.unknown && o.event == nil && o.key == e.key && o.verb == e.verb && (e.now == nil || sameJSON(e.now.Spec, []byte(o.spec)))
		})
		if i < 0 {
			t.Errorf("revision %d does a %s of %s that nobody asked for", e.revision, e.verb, e.key)
			continue
		}
		e.op, ops[i].event = ops[i], e
	}
}

// windows returns for each call the revisions that its moment lies between: behind every
// write that was answered before it began, and before every write that began after its
// answer.
func windows(ops []*op, h *history) (before, after []int64) {
	byStart, byEnd := slices.Clone(ops), slices.Clone(ops)
	slices.SortFunc(byStart, func(a, b *op) int { return int(a.start - b.start) })
	slices.SortFunc(byEnd, func(a, b *op) int { return int(a.end - b.end) })
	low, high := map[*op]int64{}, map[*op]int64{}
	last, i := h.first, 0
	for _, o := range byStart {
		for ; i < len(byEnd) && byEnd[i].end < o.start; i++ {
			if e := byEnd[i].event; e != nil && !byEnd[i].unknown {
				last = max(last, e.revision)
			}
		}
		low[o] = last
	}
	next, j := h.last+1, len(byStart)-1
	for _, o := range slices.Backward(byEnd) {
		for ; j >= 0 && byStart[j].start > o.end; j-- {
			if e := byStart[j].event; e != nil {
				next = min(next, e.revision)
			}
		}
		high[o] = next - 1
	}
	for _, o := range ops {
		before, after = append(before, low[o]), append(after, high[o])
	}
	return before, after
}

// sometimes reports whether an answer that changed nothing is true of a revision.
func (h *history) sometimes(o *op, from, to int64) bool {
	for r := from; r <= to; r++ {
		if h.holds(o, r) {
			return true
		}
	}
	return false
}

// holds reports whether an answer is what a sequential server would give at a revision.
func (h *history) holds(o *op, r int64) bool {
	have := h.at(o.key, r)
	if o.verb == list {
		parent := mesh.Key{Kind: o.key.Kind.Parent(), Name: o.key.Parent}
		if o.key.Parent != "" && h.at(parent, r) == nil {
			return o.code == string(mesh.ErrNotFound)
		}
		return o.done() && slices.Equal(o.listed, h.names(o.key.Kind, o.key.Parent, r))
	}
	switch o.code {
	case "": // a describe
		return o.status == http.StatusOK && have != nil && have.UID == o.uid && have.Version == o.version && sameJSON(have.Spec, []byte(o.got))
	case string(mesh.ErrConflict):
		return o.verb == create && have != nil
	case string(mesh.ErrNotFound):
		return o.verb != create && have == nil || h.lacks(o, r)
	case string(mesh.ErrResourceInUse):
		return o.verb == remove && have != nil && h.used(o.key, r)
	}
	return false
}

// lacks reports whether a write's parent or a target is missing at a revision.
func (h *history) lacks(o *op, r int64) bool {
	if p, ok := o.key.ParentKey(); ok && h.at(p, r) == nil {
		return true
	}
	return slices.ContainsFunc(references(o.key, []byte(o.spec)), func(k mesh.Key) bool { return h.at(k, r) == nil })
}

// sameJSON compares what two documents say; the order of members does not count.
func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
