package ca

import (
	"context"
	"errors"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// streamAction is what a caller needs to get the certificate of a virtual node or gateway:
// the same as for its configuration, so that whoever may be a workload towards the control
// plane may be it towards its peers, and nobody else.
const streamAction = "appmesh:StreamAggregatedResources"

func ask(c store.Caller, q store.Question) error {
	if c.Allow == nil {
		return mesh.Errorf(mesh.ErrForbidden, "User: %s is not authorized to perform: %s on resource: %s", c.ARN, q.Action, q.Resource)
	}
	return c.Allow(q)
}

// notShared refuses a caller of an account that a mesh is not shared with, in the same
// words whether there is such a mesh or not.
func notShared(c store.Caller, m mesh.MeshID) error {
	return mesh.Errorf(mesh.ErrForbidden, "%s is not authorized to use mesh %s of account %s: only meshes that their owner shares with account %s can be used",
		c.ARN, m.Name, m.Account, c.Account)
}

// permit asks whether the caller may do an action of Fairlead's own with a mesh's
// authority. Only the mesh's owner may, but for what guests may too.
func (s *Service) permit(ctx context.Context, c store.Caller, action string, m mesh.MeshID, guests bool) error {
	if m.Account != c.Account && !(guests && s.store.Shared(m, c.Account)) {
		return notShared(c, m)
	}
	q := store.Question{Action: "fairlead:" + action, Resource: m.MeshObject().ARN(m.Account)}
	o, err := s.store.Get(ctx, self, m.MeshObject())
	if err == nil {
		q.ResourceTags = o.Tags
	} else if !notFound(err) {
		return err
	}
	if refusal := ask(c, q); refusal != nil {
		return refusal
	}
	return err
}

func notFound(err error) bool {
	var refusal *mesh.Error
	return errors.As(err, &refusal) && refusal.Code == mesh.ErrNotFound
}

// workload returns a virtual node or gateway whose certificate a caller asks for.
func (s *Service) workload(ctx context.Context, c store.Caller, m mesh.MeshID, arn string) (*mesh.Object, error) {
	id, owner, err := mesh.ParseARN(arn, c.Account, c.Region)
	if err != nil {
		return nil, mesh.Errorf(mesh.ErrBadRequest, "resourceArn: %v", err)
	}
	switch {
	case id.Kind != mesh.KindVirtualNode && id.Kind != mesh.KindVirtualGateway:
		return nil, mesh.Errorf(mesh.ErrBadRequest, "resourceArn %q names a %s, allowed are a virtualNode or virtualGateway", clip(arn, 300), id.Kind)
	case id.Mesh.Name != m.Name:
		return nil, mesh.Errorf(mesh.ErrBadRequest, "resourceArn %q is not in mesh %s, which the path names", clip(arn, 300), m.Name)
	case owner != c.Account || id.Mesh.Region != c.Region:
		return nil, mesh.Errorf(mesh.ErrForbidden, "%s of account %s in region %s may not have the certificate of %s", c.ARN, c.Account, c.Region, clip(arn, 300))
	case !s.store.Shared(id.Mesh, c.Account):
		return nil, notShared(c, id.Mesh)
	}
	q := store.Question{Action: streamAction, Resource: id.ARN(owner)}
	o, err := s.store.Get(ctx, self, id)
	if err != nil && !notFound(err) {
		return nil, err
	}
	its := err == nil && o.ResourceOwner == owner
	if its {
		q.ResourceTags = o.Tags
	}
	if refusal := ask(c, q); refusal != nil {
		return nil, refusal
	}
	if !its {
		return nil, mesh.Errorf(mesh.ErrNotFound, "%s is not present in mesh %s of account %s", id.Key, id.Mesh.Name, id.Mesh.Account)
	}
	return o, nil
}
