package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// changes compares documents with a server. It returns what is to be done, and problems: what
// is wrong between documents, or between documents and what is on the server.
func (i *inventory) changes(ctx context.Context, docs []*document, prune bool) ([]*change, []problem, error) {
	if err := i.ownRefs(ctx, docs); err != nil {
		return nil, nil, err
	}
	if bad := twice(docs); len(bad) > 0 {
		return nil, bad, nil
	}
	if err := i.loadDocuments(ctx, docs); err != nil {
		return nil, nil, err
	}
	out := make([]*change, 0, len(docs))
	var bad []problem
	for _, d := range docs {
		c := compareDocument(d, i.found[d.Ref])
		if c.verb != unchanged && d.Kind == mesh.KindMesh && d.Owner != "" {
			bad = append(bad, problem{d.at(""), d.String(), "belongs to account " + d.Owner + ", which alone can make or change it"})
		}
		out = append(out, c)
	}
	if prune {
		more, refused, err := i.prune(ctx, docs)
		if err != nil {
			return nil, nil, err
		}
		out, bad = append(out, more...), append(bad, refused...)
	}
	if err := i.loadNeighbours(ctx, out); err != nil {
		return nil, nil, err
	}
	return out, append(bad, checkTogether(i.world, out, true)...), nil
}

// ownRefs takes away an owner that is the caller itself, so that an object has one name.
func (i *inventory) ownRefs(ctx context.Context, docs []*document) error {
	if !slices.ContainsFunc(docs, func(d *document) bool { return d.Owner != "" }) {
		return nil
	}
	self, err := i.account(ctx)
	if err != nil {
		return err
	}
	for _, d := range docs {
		if d.Owner == self {
			d.Owner = ""
		}
	}
	return nil
}

// loadDocuments asks for what documents define, and what they refer to.
func (i *inventory) loadDocuments(ctx context.Context, docs []*document) error {
	var refs, more []Ref
	for _, d := range docs {
		refs = append(refs, d.Ref)
		more = append(more, needs(d.Ref, d.spec)...)
	}
	if err := i.describeAll(ctx, append(refs, more...)); err != nil {
		return err
	}
	if err := i.loadPolicies(ctx, docs); err != nil {
		return err
	}
	var tagged []*object
	for _, d := range docs {
		if o := i.found[d.Ref]; o != nil && d.tags != nil {
			tagged = append(tagged, o)
		}
	}
	return i.tag(ctx, tagged)
}

// loadPolicies asks for the other policies of the meshes that documents have policies in: they
// may contradict each other.
func (i *inventory) loadPolicies(ctx context.Context, docs []*document) error {
	loaded := map[Ref]bool{}
	for _, d := range docs {
		if d.Kind != mesh.KindPolicy || loaded[d.mesh()] || i.found[d.mesh()] == nil {
			continue
		}
		loaded[d.mesh()] = true
		if err := i.describeKinds(ctx, d.mesh(), mesh.KindPolicy); err != nil {
			return err
		}
	}
	return nil
}

// loadNeighbours asks for what may bear on changes of listeners and providers, and is in no
// document: the routes, services and gateway routes of the mesh.
func (i *inventory) loadNeighbours(ctx context.Context, changes []*change) error {
	loaded := map[Ref]bool{}
	for _, c := range changes {
		old := i.world.specs[c.Ref]
		if c.verb != updated || c.spec == nil || loaded[c.mesh()] || c.Kind != mesh.KindVirtualService && mesh.SameListeners(old, c.spec) {
			continue
		}
		loaded[c.mesh()] = true
		err := i.describeKinds(ctx, c.mesh(), mesh.KindVirtualService, mesh.KindRoute, mesh.KindGatewayRoute)
		if err != nil {
			return err
		}
	}
	var more []Ref
	for r, spec := range i.world.specs {
		if loaded[r.mesh()] {
			more = append(more, needs(r, spec)...)
		}
	}
	return i.describeAll(ctx, more)
}

// compareDocument returns what it takes to make an object what a document says.
func compareDocument(d *document, have *object) *change {
	c := &change{Ref: d.Ref, doc: d, have: have, verb: unchanged}
	if have == nil {
		c.verb, c.spec, c.raw = created, d.spec, d.stored
		return c
	}
	if !sameSpec(have.Spec, d.stored) {
		c.verb, c.spec, c.raw = updated, d.spec, d.stored
	}
	if d.tags != nil {
		remove, set := tagChanges(have.Tags, d.tags)
		if len(remove)+len(set) > 0 {
			c.verb, c.retag = updated, true
		}
	}
	return c
}

// sameSpec reports whether two stored specs mean the same. A list without members means what
// no list means.
func sameSpec(a, b json.RawMessage) bool {
	return reflect.DeepEqual(plain(a), plain(b))
}

// plain reads a spec and leaves empty lists out.
func plain(raw json.RawMessage) any {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return string(raw)
	}
	return withoutEmpty(v)
}

func withoutEmpty(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, e := range v {
			if list, ok := e.([]any); ok && len(list) == 0 || e == nil {
				delete(v, name)
				continue
			}
			v[name] = withoutEmpty(e)
		}
	case []any:
		for i := range v {
			v[i] = withoutEmpty(v[i])
		}
	}
	return v
}

// prune returns the deletion of what is in the documents' meshes and in no document. What
// other accounts have put into a shared mesh is left alone.
func (i *inventory) prune(ctx context.Context, docs []*document) ([]*change, []problem, error) {
	var meshes []Ref
	defined, refused := map[Ref]bool{}, map[Ref]bool{}
	for _, d := range docs {
		defined[d.Ref] = true
	}
	var bad []problem
	for _, d := range docs {
		m := d.mesh()
		switch {
		case d.Kind == mesh.KindMesh && d.Owner != "":
			bad = append(bad, problem{d.at(""), d.String(), "cannot be pruned: it belongs to account " + d.Owner})
		case d.Kind == mesh.KindMesh:
			meshes = append(meshes, m)
		case !defined[m] && !refused[m]:
			refused[m] = true
			bad = append(bad, problem{d.at(""), d.String(), fmt.Sprintf("is in %s, which no document defines: only a mesh that is in the files itself can be pruned", m)})
		}
	}
	if len(bad) > 0 {
		return nil, bad, nil
	}
	var out []*change
	for _, m := range meshes {
		have := i.found[m]
		if have == nil {
			continue
		}
		list, err := i.listAll(ctx, m, mesh.Kinds...)
		if err != nil {
			return nil, nil, err
		}
		list = slices.DeleteFunc(list, func(o *object) bool { return defined[o.Ref] || o.ResourceOwner != have.MeshOwner })
		more, err := i.deletions(ctx, list)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, more...)
	}
	return out, nil, nil
}

// deletions asks for listed objects and returns their deletion.
func (i *inventory) deletions(ctx context.Context, list []*object) ([]*change, error) {
	refs := make([]Ref, len(list))
	for n, o := range list {
		refs[n] = o.Ref
	}
	if err := i.describeAll(ctx, refs); err != nil {
		return nil, err
	}
	var out []*change
	for _, r := range refs {
		if have := i.found[r]; have != nil {
			out = append(out, &change{Ref: r, verb: deleted, have: have})
		}
	}
	return out, nil
}

// checkTogether checks what would be there after all changes: that each reference of a
// document leads somewhere, and the rules between a route and its neighbours. Without the
// knowledge of a server (complete is false) only what is known can be wrong.
func checkTogether(now *world, changes []*change, complete bool) []problem {
	after := now.after(changes)
	var bad []problem
	checked := map[Ref]bool{}
	for _, c := range changes {
		if c.doc == nil {
			continue
		}
		if complete {
			bad = append(bad, missing(after, c)...)
		}
		for _, r := range append([]Ref{c.Ref}, after.routesAt(c.Ref)...) {
			if checked[r] || c.verb == unchanged {
				continue
			}
			checked[r] = true
			for _, v := range after.breaches(r) {
				bad = append(bad, breach(after, c, r, changes, v))
			}
		}
	}
	return bad
}

// missing reports references of a document that lead nowhere.
func missing(after *world, c *change) []problem {
	var bad []problem
	for _, n := range needs(c.Ref, c.doc.spec) {
		if !after.has(n) {
			path := ""
			if n.Kind == c.Kind.Parent() {
				path = n.Kind.String()
			} else if n.Kind == mesh.KindMesh {
				path = "mesh"
			}
			bad = append(bad, problem{c.doc.at(path), c.String(), fmt.Sprintf("needs %s, which is neither in the files nor there already", n)})
		}
	}
	return bad
}

// breach words a breach of a rule between objects: at the document of the route, or of what
// was changed around a route that is in no document.
func breach(after *world, c *change, r Ref, changes []*change, v mesh.Violation) problem {
	for _, other := range changes {
		if other.Ref == r && other.doc != nil {
			return problem{other.doc.at(v.Path), r.String(), v.Path + " " + v.Message}
		}
	}
	if other := culprit(after, r, changes, v); other != nil {
		c = other
	}
	return problem{c.doc.at("spec"), c.String(), fmt.Sprintf("does not fit %s, which is there already: %s %s", r, v.Path, v.Message)}
}

// culprit returns the change without which there would be no such breach, nil if it is no
// single one.
func culprit(after *world, r Ref, changes []*change, v mesh.Violation) *change {
	for _, c := range changes {
		if c.doc == nil || c.have == nil || c.spec == nil || !slices.Contains(after.around(r, after.specs[r]), c.Ref) {
			continue
		}
		old, err := mesh.ParseSpec(c.Kind, c.have.Spec)
		if err != nil {
			continue
		}
		after.put(c.Ref, old)
		still := slices.ContainsFunc(after.breaches(r), func(b mesh.Violation) bool { return b.Path == v.Path })
		after.put(c.Ref, c.spec)
		if !still {
			return c
		}
	}
	return nil
}
