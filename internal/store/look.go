package store

import (
	"context"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// look is what was read for a call, all of it as it was at one revision.
type look struct {
	revision int64
	kvs      map[string]*mvccpb.KeyValue
	objects  map[mesh.ID]*found
	// policies are those of the mesh, read for a new one at a revision of their own.
	policies   []mesh.Policy
	policiesAt int64
}

// found is an object as it was read.
type found struct {
	id       mesh.ID
	doc      *document
	revision int64 // of its last change
	typed    any   // its spec, once it was asked for
}

// opGet returns a read. Reads of an embedded etcd are served from its memory without a
// round through its log (etcd calls them serializable), and are linearizable all the
// same: there is one member, all writes go through it, and it answers a write only
// after it has applied it to the very memory that such a read sees. So a read that
// begins after a write was answered sees it, and no read sees less than one before it.
// What is applied is in the log on the disk already, as a raft leader counts its own
// vote only then. Of an external cluster such a read could come from a member that lags.
func (s *Store) opGet(key string, opts ...clientv3.OpOption) clientv3.Op {
	if s.etcd != nil {
		opts = append(opts, clientv3.WithSerializable())
	}
	return clientv3.OpGet(key, opts...)
}

// readKeys reads keys at one revision.
func (s *Store) readKeys(ctx context.Context, keys ...string) (*look, error) {
	if len(keys) != 1 {
		return s.readKeysAt(ctx, 0, keys...)
	}
	var resp clientv3.OpResponse
	err := s.call(ctx, func(ctx context.Context) (err error) {
		resp, err = s.client.Do(ctx, s.opGet(keys[0]))
		return err
	})
	if err != nil {
		return nil, err
	}
	l := &look{revision: resp.Get().Header.Revision, kvs: make(map[string]*mvccpb.KeyValue, 1)}
	l.add(resp.Get().Kvs)
	return l, nil
}

// readKeysAt reads keys at a given revision, or all at the present one if it is 0.
func (s *Store) readKeysAt(ctx context.Context, revision int64, keys ...string) (*look, error) {
	l := &look{revision: revision, kvs: make(map[string]*mvccpb.KeyValue, len(keys))}
	for part := range slices.Chunk(keys, maxOps) {
		ops := make([]clientv3.Op, len(part))
		for i, k := range part {
			ops[i] = s.opGet(k, clientv3.WithRev(l.revision))
		}
		resp, err := s.readAll(ctx, ops...)
		if err != nil {
			return nil, err
		}
		if l.revision == 0 {
			l.revision = resp.Header.Revision
		}
		for _, r := range resp.Responses {
			l.add(r.GetResponseRange().GetKvs())
		}
	}
	return l, nil
}

func (l *look) add(kvs []*mvccpb.KeyValue) {
	for _, kv := range kvs {
		l.kvs[string(kv.Key)] = kv
	}
}

// look reads objects of one mesh for a caller. Guests are refused unless the mesh is
// shared with them. An object that this build cannot read is an error.
func (s *Store) look(ctx context.Context, c Caller, m mesh.MeshID, ids ...mesh.ID) (*look, error) {
	keys := make([]string, 0, len(ids)+1)
	for _, id := range ids {
		keys = append(keys, objectKey(id))
	}
	if c.guest(m) {
		keys = append(keys, shareKey(m, c.Account))
	}
	l, err := s.readKeys(ctx, keys...)
	if err != nil {
		return nil, err
	}
	if c.guest(m) && l.kvs[shareKey(m, c.Account)] == nil {
		return nil, c.notShared(m)
	}
	l.objects = make(map[mesh.ID]*found, len(ids))
	for _, id := range ids {
		if kv := l.kvs[objectKey(id)]; kv != nil {
			doc, err := s.parseDocument(kv.Value)
			if err != nil {
				return nil, err
			}
			l.objects[id] = &found{id: id, doc: doc, revision: kv.ModRevision}
		}
	}
	return l, nil
}

// merge adds the objects of another look. Each is still held to its own revision.
func (l *look) merge(other *look) {
	for id, f := range other.objects {
		l.objects[id] = f
	}
}

// get returns an object that was read, or nil. It may be asked of no look at all.
func (l *look) get(id mesh.ID) *found {
	if l == nil {
		return nil
	}
	return l.objects[id]
}

// spec returns the object's typed spec.
func (f *found) spec() (any, error) {
	var err error
	if f.typed == nil {
		f.typed, err = mesh.ParseSpec(f.id.Kind, f.doc.Spec)
	}
	return f.typed, err
}

func (f *found) object() *mesh.Object { return f.doc.object(f.id, f.revision) }

// hold holds if an object is as it was read, or if it was not read, if it exists.
func (l *look) hold(id mesh.ID, otherwise error) condition {
	if f := l.get(id); f != nil {
		return unchanged(objectKey(id), f.revision, errChanged)
	}
	return exists(objectKey(id), func() error { return otherwise })
}

// enter returns an object that a caller wants to do something to, and asks whether it
// may: with the account that owns the object, and with its tags. The caller's own
// account stands in for the owner of what does not exist.
func (s *Store) enter(ctx context.Context, c Caller, l *look, id mesh.ID, q Question) (*found, error) {
	f := l.get(id)
	q.Resource = id.ARN(c.owner(id.Mesh))
	if f != nil {
		q.Resource, q.ResourceTags = id.ARN(f.doc.ResourceOwner), f.doc.Tags
	}
	if err := c.ask(q); err != nil {
		return nil, err
	}
	if f == nil {
		return nil, s.whatIsMissing(ctx, id)
	}
	return f, nil
}

// whatIsMissing refuses because of an object that was not found, or of what it would
// live in.
func (s *Store) whatIsMissing(ctx context.Context, id mesh.ID) error {
	if around := surroundings(id); len(around) > 0 {
		if err := s.hold(ctx, around); err != nil {
			return err
		}
	}
	return notPresent(id)
}

// askDependents asks whether the caller may do an action to what a spec names too: the
// same question, about each object's own ARN and tags.
func (c Caller) askDependents(l *look, m mesh.MeshID, spec any, q Question) error {
	if c.anywhere(q.Action) {
		return nil
	}
	keys, foreign := mesh.Dependents(m, spec)
	for _, k := range keys {
		id := mesh.ID{Mesh: m, Key: k}
		q.Resource, q.ResourceTags = id.ARN(c.owner(m)), nil
		if f := l.get(id); f != nil {
			q.Resource, q.ResourceTags = id.ARN(f.doc.ResourceOwner), f.doc.Tags
		}
		if err := c.ask(q); err != nil {
			return err
		}
	}
	for _, arn := range foreign {
		q.Resource, q.ResourceTags = arn, nil
		if err := c.ask(q); err != nil {
			return err
		}
	}
	return nil
}
