package store

import (
	"context"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Query says which objects to list.
type Query struct {
	// Mesh is the mesh to look in. To list meshes its Name is empty.
	Mesh mesh.MeshID
	Kind mesh.Kind
	// Parent is the virtual router or gateway to look in, for routes and gateway
	// routes.
	Parent string
	// After is the name to start behind, empty to start at the beginning. There
	// need not be an object of that name.
	After string
	// Limit is how many objects to return at most; 0 is all.
	Limit int
}

// List returns objects in the byte order of their names, and whether there are more
// behind them. A mesh or parent that is missing is a *mesh.Error with ErrNotFound.
// An object that this build cannot read is left out and logged.
func (s *Store) List(ctx context.Context, c Caller, q Query) (objects []*mesh.Object, more bool, err error) {
	if err := c.enterList(q); err != nil {
		return nil, false, err
	}
	prefix := rangeKey(q.Mesh, q.Kind, q.Parent)
	from := prefix
	if q.After != "" {
		from = next(prefix + q.After)
	}
	for more = true; more && (q.Limit == 0 || len(objects) < q.Limit); {
		var found []*mvccpb.KeyValue
		limit := 0
		if q.Limit > 0 {
			limit = q.Limit - len(objects)
		}
		found, more, err = s.page(ctx, q, from, limit)
		if err != nil || len(found) == 0 {
			return objects, false, err
		}
		for _, kv := range found {
			if o := s.parseObject(kv); o != nil {
				objects = append(objects, o)
			}
		}
		from = next(string(found[len(found)-1].Key))
	}
	return objects, more, nil
}

// enterList checks a query, and that the caller may make it.
func (c Caller) enterList(q Query) error {
	if err := checkRange(q.Kind, q.Parent); err != nil {
		return err
	}
	if q.Limit < 0 {
		return mesh.Errorf(mesh.ErrBadRequest, "limit %d is not allowed: 0 or more", q.Limit)
	}
	action := "appmesh:List" + plural(q.Kind)
	if q.Kind == mesh.KindMesh {
		if err := checkPlace(q.Mesh); err != nil {
			return err
		}
		if err := c.inAccount(q.Mesh.Account); err != nil {
			return err
		}
		return c.allow(action, "*")
	}
	if err := checkMeshID(q.Mesh); err != nil {
		return err
	}
	return c.enterAction(action, q.container())
}

// container returns the object that the listed ones live in.
func (q Query) container() mesh.ID {
	if p := q.Kind.Parent(); p != 0 {
		return q.Mesh.Object(p, "", q.Parent)
	}
	return q.Mesh.MeshObject()
}

// page reads up to limit objects of a query from a key on.
func (s *Store) page(ctx context.Context, q Query, from string, limit int) (found []*mvccpb.KeyValue, more bool, err error) {
	prefix := rangeKey(q.Mesh, q.Kind, q.Parent)
	ops := []clientv3.Op{clientv3.OpGet(from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)), clientv3.WithLimit(int64(limit)))}
	var around []condition
	if q.Kind != mesh.KindMesh {
		// The container of an object to be listed is what surrounds it.
		around = surroundings(q.Mesh.Object(q.Kind, q.Parent, ""))
	}
	for _, c := range around {
		ops = append(ops, c.look)
	}
	resp, err := s.readAll(ctx, ops...)
	if err != nil {
		return nil, false, err
	}
	for i, c := range around {
		if err := c.refuse(resp.Responses[i+1].GetResponseRange().GetKvs()); err != nil {
			return nil, false, err
		}
	}
	r := resp.Responses[0].GetResponseRange()
	return r.GetKvs(), r.GetMore(), nil
}

// parseObject returns the object in a key and its value, or nil if this build cannot
// read it, which is logged.
func (s *Store) parseObject(kv *mvccpb.KeyValue) *mesh.Object {
	key := string(kv.Key)
	id, ok := parseObjectKey(key)
	if !ok {
		s.log.Error("an object's key cannot be read, it is left out", "key", key)
		return nil
	}
	doc, err := parseDocument(kv.Value)
	if err != nil {
		s.log.Error("an object cannot be read, it is left out", "key", key, "error", err)
		return nil
	}
	return doc.object(id, kv.ModRevision)
}

// next returns the first key behind a key.
func next(key string) string { return strings.Clone(key) + "\x00" }
