package cli

import (
	"context"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// patience is how long a person at a prompt waits for names.
const patience = time.Second

// CompleteNames returns the names of the objects of a kind in a scope, for a shell. It
// returns none where they cannot be had at once.
func CompleteNames(ctx context.Context, o Options, kind string, in Scope) []string {
	k, err := ParseKind(kind)
	if err != nil || k != mesh.KindMesh && in.Mesh == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	o.Timeout, o.Once = patience, true
	s, err := Connect(ctx, o)
	if err != nil {
		return nil
	}
	var list []*object
	if k == mesh.KindMesh {
		list, err = s.list(ctx, k, Ref{})
	} else {
		list, err = newInventory(s, 0).ofKind(ctx, k, in)
	}
	if err != nil {
		return nil
	}
	var out []string
	for _, x := range list {
		out = append(out, x.Name)
	}
	return out
}
