package cli

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// DefaultParallel is how many calls a command makes at the same time.
const DefaultParallel = 8

// inventory is what a command has learnt of the objects on a server.
type inventory struct {
	*Session
	parallel int
	world    *world

	mu    sync.Mutex
	found map[Ref]*object // nil: asked for, and not there
}

func newInventory(s *Session, parallel int) *inventory {
	if parallel < 1 {
		parallel = DefaultParallel
	}
	return &inventory{Session: s, parallel: parallel, world: newWorld(), found: map[Ref]*object{}}
}

// each calls f for all items, a bounded number at the same time, until one fails.
func each[T any](ctx context.Context, parallel int, items []T, f func(context.Context, T) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, item := range items {
		g.Go(func() error { return f(ctx, item) })
	}
	return g.Wait()
}

// describeAll asks for objects that were not asked for yet.
func (i *inventory) describeAll(ctx context.Context, refs []Ref) error {
	var unknown []Ref
	seen := map[Ref]bool{}
	for _, r := range refs {
		if _, asked := i.found[r]; !asked && !seen[r] {
			seen[r] = true
			unknown = append(unknown, r)
		}
	}
	err := each(ctx, i.parallel, unknown, func(ctx context.Context, r Ref) error {
		o, err := i.describe(ctx, r)
		if isNotFound(err) {
			o, err = nil, nil
		}
		if err != nil {
			return err
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		i.found[r] = o
		return nil
	})
	if err != nil {
		return err
	}
	for _, r := range unknown {
		if o := i.found[r]; o != nil {
			spec, err := mesh.ParseSpec(r.Kind, o.Spec)
			if err != nil {
				return err
			}
			i.world.put(r, spec)
		}
	}
	return nil
}

// listAll returns the objects of some kinds in a mesh, without their specs.
func (i *inventory) listAll(ctx context.Context, m Ref, kinds ...mesh.Kind) ([]*object, error) {
	var top, children []mesh.Kind
	for _, k := range kinds {
		if p := k.Parent(); p != 0 {
			children = append(children, k)
		} else if k != mesh.KindMesh {
			top = append(top, k)
		}
	}
	found := map[mesh.Kind][]*object{}
	wanted := top
	for _, k := range children {
		wanted = append(wanted, k.Parent())
	}
	for _, k := range wanted {
		if _, ok := found[k]; ok {
			continue
		}
		list, err := i.list(ctx, k, m)
		if err != nil {
			return nil, err
		}
		found[k] = list
	}
	var out []*object
	for _, k := range top {
		out = append(out, found[k]...)
	}
	for _, k := range children {
		list, err := i.listChildren(ctx, k, found[k.Parent()])
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

// listChildren returns the routes of routers, or the gateway routes of gateways.
func (i *inventory) listChildren(ctx context.Context, k mesh.Kind, parents []*object) ([]*object, error) {
	lists := make([][]*object, len(parents))
	var indexes []int
	for n := range parents {
		indexes = append(indexes, n)
	}
	err := each(ctx, i.parallel, indexes, func(ctx context.Context, n int) error {
		p := parents[n].Ref
		list, err := i.list(ctx, k, p.in(mesh.Key{Kind: k, Parent: p.Name}))
		if isNotFound(err) {
			return nil // gone since
		}
		lists[n] = list
		return err
	})
	var out []*object
	for _, list := range lists {
		out = append(out, list...)
	}
	return out, err
}

// describeKinds asks for all objects of some kinds in a mesh.
func (i *inventory) describeKinds(ctx context.Context, m Ref, kinds ...mesh.Kind) error {
	list, err := i.listAll(ctx, m, kinds...)
	if err != nil {
		return err
	}
	refs := make([]Ref, len(list))
	for n, o := range list {
		refs[n] = o.Ref
	}
	return i.describeAll(ctx, refs)
}

// tag asks for the tags of objects, and notes them in the objects.
func (i *inventory) tag(ctx context.Context, objects []*object) error {
	return each(ctx, i.parallel, objects, func(ctx context.Context, o *object) error {
		tags, err := i.tagsOf(ctx, o.ARN)
		if isNotFound(err) {
			return nil
		}
		o.Tags = tags
		return err
	})
}
