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
		return h.written(o, err)
	case VerbDescribe:
		o, err := h.store.Get(ctx, c, in.id)
		return newData(o, active, err)
	case VerbUpdate:
		o, err := h.store.Update(ctx, c, store.Change{ID: in.id, Spec: in.spec, Stored: in.stored, Token: in.token})
		return h.written(o, err)
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

// written returns the answer about an object that was made or changed, with what it does that
// may not be meant.
func (h *handler) written(o *mesh.Object, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	d := data{object: o, status: active}
	if o.ID.Kind == mesh.KindPolicy && h.warnings != nil {
		d.warnings = h.warnings(o)
	}
	return d, nil
}
