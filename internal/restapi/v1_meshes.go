package restapi

import (
	"context"
	"errors"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/restapi/v1"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// aimMesh returns the mesh that is meant, and says it for the audit log. owner is "" for
// the caller's account.
func (c ownCall) aimMesh(name, owner string) mesh.MeshID {
	if owner == "" {
		owner = c.caller.Account
	}
	m := mesh.MeshID{Account: owner, Region: c.caller.Region, Name: name}
	c.x.mesh, c.x.resource = m, m.MeshObject().ARN(owner)
	return m
}

func (c ownCall) createShare(ctx context.Context, in *v1.CreateShareInput) (any, error) {
	s, err := c.store.Share(ctx, c.caller.Caller, c.aimMesh(in.MeshName, ""), in.AccountID)
	if err != nil {
		return nil, err
	}
	return v1.CreateShareOutput{Share: newShare(s)}, nil
}

func (c ownCall) listShares(ctx context.Context, in *v1.ListSharesInput) (any, error) {
	all, err := c.store.Shares(ctx, c.caller.Caller, c.aimMesh(in.MeshName, ""))
	if err != nil {
		return nil, err
	}
	list, next, err := page(c, all, func(s store.Share) string { return s.Account }, in.Limit, in.NextToken, in.MeshName)
	if err != nil {
		return nil, err
	}
	return v1.ListSharesOutput{Shares: each(list, newShare), NextToken: next}, nil
}

func (c ownCall) deleteShare(ctx context.Context, in *v1.DeleteShareInput) (any, error) {
	s, err := c.store.Unshare(ctx, c.caller.Caller, c.aimMesh(in.MeshName, ""), in.AccountID)
	if err != nil {
		return nil, err
	}
	return v1.DeleteShareOutput{Share: newShare(s)}, nil
}

func newShare(s store.Share) v1.Share {
	return v1.Share{MeshName: s.Mesh.Name, MeshOwner: s.Mesh.Account, AccountID: s.Account, CreatedAt: v1.Time(s.CreatedAt)}
}

// look asks whether the caller may do an action that shows what happens in a mesh, which
// must be there.
func (c ownCall) look(ctx context.Context, action string, m mesh.MeshID) error {
	_, err := c.lookAt(ctx, action, m.MeshObject())
	return err
}

// lookAt asks whether the caller may do an action that shows what happens by an object, and
// returns the object.
func (c ownCall) lookAt(ctx context.Context, action string, id mesh.ID) (*mesh.Object, error) {
	if m := id.Mesh; !c.store.Shared(m, c.caller.Account) {
		return nil, mesh.Errorf(mesh.ErrForbidden, "%s is not authorized to use mesh %s of account %s: only meshes that their owner shares with account %s can be used",
			c.caller.ARN, m.Name, m.Account, c.caller.Account)
	}
	q := store.Question{Action: action, Resource: id.ARN(id.Mesh.Account)}
	o, err := c.store.Get(ctx, self, id)
	var refusal *mesh.Error
	switch {
	case err == nil:
		q.Resource, q.ResourceTags = id.ARN(o.ResourceOwner), o.Tags
	case !errors.As(err, &refusal) || refusal.Code != mesh.ErrNotFound:
		return nil, err
	}
	c.x.resource = q.Resource
	if err := c.may(q); err != nil {
		return nil, err
	}
	return o, err
}

// looking returns what the caller is shown of a mesh's proxies: the mesh's owner is shown
// all of them, others their own.
func (c ownCall) looking(m mesh.MeshID) Look {
	l := Look{Account: m.Account, Region: m.Region, Mesh: m.Name}
	if m.Account != c.caller.Account {
		l.Of = c.caller.Account
	}
	return l
}

// knownPage asks for a page of what replicas know of a mesh, with the token of the next.
func knownPage[T interface{ Key() string }](ctx context.Context, c ownCall, m mesh.MeshID, known func(context.Context, Look) Known[T], limit int, token string) (k Known[T], next string, err error) {
	l, s := c.looking(m), c.listScope(m.Account, m.Name)
	if l.After, err = openToken(s, token); err != nil || known == nil {
		return k, "", err
	}
	if l.Limit = limit; limit == 0 {
		l.Limit = defaultLimit
	}
	if k = known(ctx, l); k.More && len(k.Items) > 0 {
		next = sealToken(s, k.Items[len(k.Items)-1].Key())
	}
	return k, next, nil
}

func (c ownCall) listProxies(ctx context.Context, in *v1.ListProxiesInput) (any, error) {
	m := c.aimMesh(in.MeshName, in.MeshOwner)
	if err := c.look(ctx, "ListProxies", m); err != nil {
		return nil, err
	}
	k, next, err := knownPage(ctx, c, m, c.proxies, in.Limit, in.NextToken)
	if err != nil {
		return nil, err
	}
	return v1.ListProxiesOutput{NextToken: next, MissingReplicas: k.Missing, Proxies: each(k.Items, func(p ProxyStatus) v1.Proxy {
		return v1.Proxy{
			ARN: p.ARN, ConnectionID: p.Connection, Address: p.Peer, EnvoyVersion: p.Version, Protocol: p.Protocol,
			ConnectedAt: v1.Time(p.ConnectedAt), InSync: p.InSync, Rejected: p.Rejected, Caller: p.Caller,
		}
	})}, nil
}

func (c ownCall) listProblems(ctx context.Context, in *v1.ListProblemsInput) (any, error) {
	m := c.aimMesh(in.MeshName, in.MeshOwner)
	if err := c.look(ctx, "ListProblems", m); err != nil {
		return nil, err
	}
	k, next, err := knownPage(ctx, c, m, c.problems, in.Limit, in.NextToken)
	if err != nil {
		return nil, err
	}
	return v1.ListProblemsOutput{NextToken: next, MissingReplicas: k.Missing, Problems: each(k.Items, newProblem)}, nil
}

func (c ownCall) describeConfiguration(ctx context.Context, in *v1.DescribeConfigurationInput) (any, error) {
	m := c.aimMesh(in.MeshName, in.MeshOwner)
	if err := c.look(ctx, "DescribeConfiguration", m); err != nil {
		return nil, err
	}
	id, err := proxied(m, in.Resource)
	if err != nil {
		return nil, err
	}
	if c.configuration == nil {
		return nil, notProxied(id, in.ConnectionID)
	}
	known, found, err := c.configuration(ctx, id, in.ConnectionID)
	if err != nil {
		return nil, err
	}
	if !found || !c.looking(m).Shows(known.ARN) {
		return nil, notProxied(id, in.ConnectionID)
	}
	return v1.DescribeConfigurationOutput{Configuration: v1.Configuration{
		ARN: known.ARN, Placement: known.Placement, ConnectionID: known.Connection,
		Resources: each(known.Resources, func(r Resource) v1.EnvoyResource {
			return v1.EnvoyResource{Type: r.Type, Name: r.Name, Content: r.Content}
		}),
		Explanation: each(known.Explanation, func(e Explanation) v1.Explanation {
			return v1.Explanation{Depth: e.Depth, Text: e.Text, Object: e.Object}
		}),
		Problems: each(known.Problems, newProblem),
	}}, nil
}

// proxied reads the name of a virtual node or gateway of a mesh, for example
// "virtualNode/cart".
func proxied(m mesh.MeshID, resource string) (mesh.ID, error) {
	word, name, _ := strings.Cut(resource, "/")
	for _, k := range []mesh.Kind{mesh.KindVirtualNode, mesh.KindVirtualGateway} {
		if word == k.String() && mesh.CheckName(k, name) == nil {
			return m.Object(k, "", name), nil
		}
	}
	return mesh.ID{}, mesh.Errorf(mesh.ErrBadRequest, "resource must be virtualNode/NAME or virtualGateway/NAME, %s was given", shorten(resource))
}

func notProxied(id mesh.ID, connection string) error {
	if connection != "" {
		return mesh.Errorf(mesh.ErrNotFound, "%s is not present in mesh %s, or has no proxy with connection %s", id.Key, id.Mesh.Name, shorten(connection))
	}
	return mesh.Errorf(mesh.ErrNotFound, "%s is not present in mesh %s", id.Key, id.Mesh.Name)
}

func newProblem(p Problem) v1.Problem {
	return v1.Problem{ARN: p.ARN, Object: p.Object, Field: p.Field, Message: p.Message}
}
