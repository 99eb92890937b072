package restapi

import (
	"context"
	"fmt"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// call asks the store for what a request wants and returns the answer's body.
func (h *handler) call(ctx context.Context, c store.Caller, in *input) (any, error) {
	if in.resourceOwner != "" && in.resourceOwner != c.Account {
		// An ARN names its resource's owner, who alone has the tags, even in the caller's
		// own mesh. The store holds that too, but does not know what the ARN said.
		return nil, mesh.Errorf(mesh.ErrForbidden, "%s is not authorized to use the tags of resources of account %s", c.ARN, in.resourceOwner)
	}
	switch in.op.Verb {
	case VerbCreate:
		o, err := h.store.Create(ctx, c, store.NewObject{ID: in.id, Spec: in.spec, Stored: in.stored, Tags: in.tags, Token: in.token})
		return newData(o, active, err)
	case VerbDescribe:
		o, err := h.store.Get(ctx, c, in.id)
		return newData(o, active, err)
	case VerbUpdate:
		o, err := h.store.Update(ctx, c, store.Change{ID: in.id, Spec: in.spec, Stored: in.stored, Token: in.token})
		return newData(o, active, err)
	case VerbDelete:
		o, err := h.store.Delete(ctx, c, in.id)
		return newData(o, deleted, err)
	case VerbList:
		return h.list(ctx, c, in)
	case VerbTag:
		return struct{}{}, h.store.Tag(ctx, c, in.id, in.tags)
	case VerbUntag:
		return struct{}{}, h.store.Untag(ctx, c, in.id, in.tagKeys)
	case VerbListTags:
		return h.listTags(ctx, c, in)
	}
	return nil, fmt.Errorf("calling %s: verb %d is not known", in.op.Name, in.op.Verb)
}
