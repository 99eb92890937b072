package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Selection says which objects Get shows.
type Selection struct {
	Scope
	// Args are a kind, or a kind and names, or names as Ref.String writes them, or ARNs.
	Args []string
	// All selects the objects of all kinds.
	All bool
	// Output is a form: FormTable, FormWide, FormJSON, FormYAML or FormName.
	Output string
}

// Get prints objects. Without a mesh it looks into all of them.
func Get(ctx context.Context, s *Session, term Terminal, sel Selection) error {
	if len(sel.Args) == 1 && !sel.All { // no objects, but looked for here
		switch sel.Args[0] {
		case "problems":
			return ListProblems(ctx, s, term, sel.Scope, sel.Output)
		case "proxies":
			return ListProxies(ctx, s, term, sel.Scope, sel.Output)
		case "instances":
			return ListInstances(ctx, s, term, sel.Scope, sel.Output)
		}
	}
	if err := checkForm(sel.Output, FormTable, FormWide, FormJSON, FormYAML, FormName); err != nil {
		return err
	}
	inv := newInventory(s, 0)
	objects, single, err := inv.selected(ctx, sel)
	if err != nil {
		return err
	}
	if sel.Output == FormName {
		for _, o := range objects {
			term.printf("%s\n", printable(o.String()))
		}
		return nil
	}
	if objects, err = inv.filled(ctx, objects, sel.Output != FormTable); err != nil {
		return err
	}
	switch sel.Output {
	case FormJSON:
		return printObjectsJSON(term, objects, single)
	case FormYAML:
		return printDocuments(term, objects)
	}
	printTables(term, objects, sel.All, sel.Output == FormWide)
	return nil
}

// filled returns objects with their specs and, where the caller may see them, their tags;
// without those that are gone since they were listed.
func (i *inventory) filled(ctx context.Context, objects []*object, tags bool) ([]*object, error) {
	refs := make([]Ref, len(objects))
	for n, o := range objects {
		refs[n] = o.Ref
	}
	if err := i.describeAll(ctx, refs); err != nil {
		return nil, err
	}
	var out, own []*object
	for _, r := range refs {
		if o := i.found[r]; o != nil {
			out = append(out, o)
			if o.ResourceOwner == o.MeshOwner && o.Owner == "" {
				own = append(own, o)
			}
		}
	}
	if !tags {
		return out, nil
	}
	if len(own) < len(out) {
		// Others' tags are theirs to see.
		self, err := i.account(ctx)
		if err != nil {
			return nil, err
		}
		own = slices.DeleteFunc(slices.Clone(out), func(o *object) bool { return o.ResourceOwner != self })
	}
	return out, i.tag(ctx, own)
}

// printTables prints a table for each kind.
func printTables(term Terminal, objects []*object, titles, wide bool) {
	if len(objects) == 0 {
		fmt.Fprintln(term.Err, "nothing was found")
		return
	}
	first := true
	for _, k := range mesh.Kinds {
		var some []*object
		for _, o := range objects {
			if o.Kind == k {
				some = append(some, o)
			}
		}
		if len(some) == 0 {
			continue
		}
		indent := ""
		if titles {
			if !first {
				term.printf("\n")
			}
			term.printf("%s\n", term.paint(bold, fmt.Sprintf("%s: %d", kindPlural(k), len(some))))
			indent = "  "
		}
		first = false
		objectTable(term.now(), k, some, wide).write(term, indent)
	}
}

// selected returns the objects that were asked for, not all with their specs; single says
// that one was asked for by name.
func (i *inventory) selected(ctx context.Context, sel Selection) (objects []*object, single bool, err error) {
	switch {
	case sel.All && len(sel.Args) > 0:
		return nil, false, usagef("--all and %q exclude each other", sel.Args[0])
	case sel.All:
		objects, err = i.everything(ctx, sel)
		return objects, false, err
	case len(sel.Args) == 0:
		return nil, false, usagef("a kind is required, or --all: %s", joined(KindNames()))
	case len(sel.Args) == 1 && !looksLikeRef(sel.Args[0]):
		kind, err := ParseKind(sel.Args[0])
		if err != nil {
			return nil, false, err
		}
		objects, err = i.ofKind(ctx, kind, sel.Scope)
		return objects, false, err
	}
	refs, err := i.named(ctx, sel)
	if err != nil {
		return nil, false, err
	}
	if err := i.describeAll(ctx, refs); err != nil {
		return nil, false, err
	}
	for _, r := range refs {
		if i.found[r] == nil {
			return nil, false, fmt.Errorf("%s is not there", r)
		}
		objects = append(objects, i.found[r])
	}
	return objects, len(refs) == 1, nil
}

// named returns the references of named objects. A route or gateway route that is named
// without its router or gateway is looked for under all of them.
func (i *inventory) named(ctx context.Context, sel Selection) ([]Ref, error) {
	kind, err := ParseKind(sel.Args[0])
	if looksLikeRef(sel.Args[0]) || err != nil || kind.Parent() == 0 || sel.parent(kind) != "" {
		return Objects(sel.Args, sel.Scope)
	}
	if _, err := sel.within(); err != nil {
		return nil, err
	}
	list, err := i.ofKind(ctx, kind, sel.Scope)
	if err != nil {
		return nil, err
	}
	var out []Ref
	for _, name := range sel.Args[1:] {
		before := len(out)
		for _, o := range list {
			if o.Name == name {
				out = append(out, o.Ref)
			}
		}
		if len(out) == before {
			return nil, fmt.Errorf("no %s of mesh %s is called %q", kind, sel.Mesh, name)
		}
	}
	return out, nil
}

// scopeMeshes returns the mesh that a scope names, or all.
func (i *inventory) scopeMeshes(ctx context.Context, in Scope) ([]*object, error) {
	if in.Mesh == "" {
		return i.meshes(ctx)
	}
	r, err := in.within()
	if err != nil {
		return nil, err
	}
	if err := i.describeAll(ctx, []Ref{r}); err != nil {
		return nil, err
	}
	if i.found[r] == nil {
		return nil, fmt.Errorf("%s is not there", r)
	}
	return []*object{i.found[r]}, nil
}

// ofKind lists the objects of a kind in a scope.
func (i *inventory) ofKind(ctx context.Context, k mesh.Kind, in Scope) ([]*object, error) {
	meshes, err := i.scopeMeshes(ctx, in)
	if err != nil || k == mesh.KindMesh {
		return meshes, err
	}
	var out []*object
	for _, m := range meshes {
		var list []*object
		var err error
		if p := in.parent(k); p != "" {
			list, err = i.list(ctx, k, m.in(mesh.Key{Kind: k, Parent: p}))
		} else {
			list, err = i.listAll(ctx, m.Ref, k)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

// everything lists the objects of all kinds.
func (i *inventory) everything(ctx context.Context, sel Selection) ([]*object, error) {
	if sel.Router != "" || sel.Gateway != "" {
		return nil, usagef("--all and --router or --gateway exclude each other")
	}
	meshes, err := i.scopeMeshes(ctx, sel.Scope)
	if err != nil {
		return nil, err
	}
	var out []*object
	for _, m := range meshes {
		list, err := i.listAll(ctx, m.Ref, mesh.Kinds...)
		if err != nil {
			return nil, err
		}
		out = append(append(out, m), list...)
	}
	slices.SortStableFunc(out, func(a, b *object) int { return compareRefs(a.Ref, b.Ref) })
	return out, nil
}
