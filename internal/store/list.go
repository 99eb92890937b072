package store

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Query says which objects to list.
type Query struct {
	// Mesh is the mesh to look in. To list meshes its Name is empty, and its Account is
	// that of the caller.
	Mesh mesh.MeshID
	Kind mesh.Kind
	// Parent is the virtual router or gateway to look in, for routes and gateway
	// routes.
	Parent string
	// After is the name to start behind, empty to start at the beginning. There
	// need not be an object of that name.
	After string
	// AfterOwner is the owner of the mesh named After, where meshes are listed: meshes
	// of one name come in the order of their owners. Empty is behind all of them.
	AfterOwner string
	// Limit is how many objects to return at most; 0 is all.
	Limit int
}

// List returns objects in the byte order of their names, and whether there are more
// behind them. Meshes are those of the account in the query's Mesh and those that are
// shared with it; of one name they are in the order of their owners. A mesh or parent
// that is missing is a *mesh.Error with ErrNotFound. An object that this build cannot
// read is left out and logged.
func (s *Store) List(ctx context.Context, c Caller, q Query) (objects []*mesh.Object, more bool, err error) {
	if err := q.check(); err != nil {
		return nil, false, err
	}
	if q.Kind == mesh.KindMesh {
		return s.listMeshes(ctx, c, q)
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
		found, more, err = s.page(ctx, c, q, from, limit)
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

func (q Query) check() error {
	if err := checkRange(q.Kind, q.Parent); err != nil {
		return err
	}
	if q.Limit < 0 {
		return mesh.Errorf(mesh.ErrBadRequest, "limit %d is not allowed: 0 or more", q.Limit)
	}
	if q.Kind == mesh.KindMesh {
		return checkPlace(q.Mesh)
	}
	return checkMeshID(q.Mesh)
}

// container returns the object that the listed ones live in.
func (q Query) container() mesh.ID {
	if p := q.Kind.Parent(); p != 0 {
		return q.Mesh.Object(p, "", q.Parent)
	}
	return q.Mesh.MeshObject()
}

// page reads up to limit objects of a query from a key on.
func (s *Store) page(ctx context.Context, c Caller, q Query, from string, limit int) (kvs []*mvccpb.KeyValue, more bool, err error) {
	container := q.container()
	ops := []clientv3.Op{
		s.opGet(from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(rangeKey(q.Mesh, q.Kind, q.Parent))), clientv3.WithLimit(int64(limit))),
		s.opGet(objectKey(container)),
	}
	if c.guest(q.Mesh) {
		ops = append(ops, s.opGet(shareKey(q.Mesh, c.Account)))
	}
	resp, err := s.readAll(ctx, ops...)
	if err != nil {
		return nil, false, err
	}
	if c.guest(q.Mesh) && len(resp.Responses[2].GetResponseRange().GetKvs()) == 0 {
		return nil, false, c.notShared(q.Mesh)
	}
	l := &look{objects: map[mesh.ID]*found{}}
	for _, kv := range resp.Responses[1].GetResponseRange().GetKvs() {
		doc, err := s.parseDocument(kv.Value)
		if err != nil {
			return nil, false, err
		}
		l.objects[container] = &found{id: container, doc: doc}
	}
	if _, err := s.enter(ctx, c, l, container, Question{Action: listAction(q.Kind)}); err != nil {
		return nil, false, err
	}
	r := resp.Responses[0].GetResponseRange()
	return r.GetKvs(), r.GetMore(), nil
}

// place is where a mesh stands in a list of meshes.
type place struct{ name, owner string }

func (p place) compare(other place) int {
	return cmp.Or(cmp.Compare(p.name, other.name), cmp.Compare(p.owner, other.owner))
}

// listMeshes lists an account's own meshes and those that are shared with it.
func (s *Store) listMeshes(ctx context.Context, c Caller, q Query) (objects []*mesh.Object, more bool, err error) {
	if !c.system && c.Account != q.Mesh.Account {
		return nil, false, mesh.Errorf(mesh.ErrForbidden, "%s is not authorized to list the meshes of account %s", c.name(), q.Mesh.Account)
	}
	if err := c.ask(Question{Action: "appmesh:ListMeshes", Resource: "*"}); err != nil {
		return nil, false, err
	}
	after := place{q.After, q.AfterOwner}
	for more = true; more && (q.Limit == 0 || len(objects) < q.Limit); {
		var found []*mvccpb.KeyValue
		limit := 0
		if q.Limit > 0 {
			limit = q.Limit - len(objects)
		}
		if found, after, more, err = s.pageOfMeshes(ctx, q.Mesh, after, limit); err != nil {
			return nil, false, err
		}
		for _, kv := range found {
			if o := s.parseObject(kv); o != nil {
				objects = append(objects, o)
			}
		}
	}
	return objects, more, nil
}

// pageOfMeshes reads up to limit meshes behind a place, and returns the place of the
// last one. All is read at one revision.
func (s *Store) pageOfMeshes(ctx context.Context, m mesh.MeshID, after place, limit int) (kvs []*mvccpb.KeyValue, last place, more bool, err error) {
	own, shared := rangeKey(m, mesh.KindMesh, ""), sharedRange(m.Account, m.Region)
	fromOwn, fromShared := own, shared
	switch {
	case after.name == "":
	case after.owner == "": // behind all owners: the byte after sharedMark
		fromOwn, fromShared = next(own+after.name), clientv3.GetPrefixRangeEnd(shared+after.name+sharedMark)
	default:
		fromOwn, fromShared = own+after.name, next(shared+after.name+sharedMark+after.owner)
		if m.Account <= after.owner {
			fromOwn = next(fromOwn)
		}
	}
	var most int64
	if limit > 0 {
		most = int64(limit) + 1 // one more tells whether there is more
	}
	resp, err := s.readAll(ctx,
		s.opGet(fromOwn, clientv3.WithRange(clientv3.GetPrefixRangeEnd(own)), clientv3.WithLimit(most)),
		s.opGet(fromShared, clientv3.WithRange(clientv3.GetPrefixRangeEnd(shared)), clientv3.WithLimit(most), clientv3.WithKeysOnly()))
	if err != nil {
		return nil, place{}, false, err
	}
	there := map[place]*mvccpb.KeyValue{} // nil is not read yet
	for _, kv := range resp.Responses[0].GetResponseRange().GetKvs() {
		there[place{strings.TrimPrefix(string(kv.Key), own), m.Account}] = kv
	}
	for _, kv := range resp.Responses[1].GetResponseRange().GetKvs() {
		if id, _, ok := parseSharedKey(string(kv.Key)); ok {
			there[place{id.Name, id.Account}] = nil
		}
	}
	places := slices.SortedFunc(maps.Keys(there), place.compare)
	if limit > 0 && len(places) > limit {
		places, more = places[:limit], true
	}
	if len(places) == 0 {
		return nil, after, false, nil
	}
	kvs, err = s.readMeshes(ctx, m.Region, places, there, resp.Header.Revision)
	return kvs, places[len(places)-1], more, err
}

// readMeshes returns the meshes at some places, of which it reads those that are not
// there yet.
func (s *Store) readMeshes(ctx context.Context, region string, places []place, there map[place]*mvccpb.KeyValue, revision int64) ([]*mvccpb.KeyValue, error) {
	key := func(p place) string {
		return objectKey(mesh.MeshID{Account: p.owner, Region: region, Name: p.name}.MeshObject())
	}
	var keys []string
	for _, p := range places {
		if there[p] == nil {
			keys = append(keys, key(p))
		}
	}
	l, err := s.readKeysAt(ctx, revision, keys...)
	if err != nil {
		return nil, err
	}
	var out []*mvccpb.KeyValue
	for _, p := range places {
		if kv := cmp.Or(there[p], l.kvs[key(p)]); kv != nil {
			out = append(out, kv)
		}
	}
	return out, nil
}

// parseObject returns the object in a key and its value, or nil if this build cannot
// read it, which is logged.
func (s *Store) parseObject(kv *mvccpb.KeyValue) *mesh.Object {
	id, ok := s.parseKey(kv)
	if !ok {
		return nil
	}
	doc, err := s.parseDocument(kv.Value)
	if err != nil {
		s.unreadable(kv, err)
		return nil
	}
	return doc.object(id, kv.ModRevision)
}

// parseKey reads an object's key. What this build cannot read is logged.
func (s *Store) parseKey(kv *mvccpb.KeyValue) (id mesh.ID, ok bool) {
	if id, ok = parseObjectKey(string(kv.Key)); !ok {
		s.log.Error("an object's key cannot be read, it is left out", "key", string(kv.Key))
	}
	return id, ok
}

func (s *Store) unreadable(kv *mvccpb.KeyValue, err error) {
	s.log.Error("an object cannot be read, it is left out", "key", string(kv.Key), "error", err)
}

// next returns the first key behind a key.
func next(key string) string { return strings.Clone(key) + "\x00" }
