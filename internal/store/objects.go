package store

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// NewObject is an object to create.
type NewObject struct {
	ID mesh.ID
	// Spec is the typed spec, for example *mesh.RouteSpec, and Stored the document
	// to store: both as mesh.Decode returns them.
	Spec   any
	Stored json.RawMessage
	Tags   []mesh.TagRef
	// Token is the client token, empty for none. It is remembered for 24 hours.
	Token string
}

// Change is a new spec for an object. Its fields are those of NewObject.
type Change struct {
	ID     mesh.ID
	Spec   any
	Stored json.RawMessage
	Token  string
}

// Create stores a new object and returns it, at version 1. A retry, known by its
// client token, gets the object that is there. Errors are *mesh.Error:
// ErrConflict if the name is taken or the token was used with other parameters,
// ErrNotFound if the mesh, the parent or a referenced object is missing,
// ErrTooManyTags, ErrBadRequest, ErrForbidden and ErrServiceUnavailable.
func (s *Store) Create(ctx context.Context, c Caller, o NewObject) (*mesh.Object, error) {
	if err := checkID(o.ID); err != nil {
		return nil, err
	}
	if err := c.enter("Create", o.ID); err != nil {
		return nil, err
	}
	if err := checkTags(o.Tags); err != nil {
		return nil, err
	}
	doc, value, err := s.newDocument(o)
	if err != nil {
		return nil, err
	}
	key := objectKey(o.ID)
	var before *mesh.Object
	conditions := []condition{absent(key, func(kv *mvccpb.KeyValue) (err error) {
		before, err = createdBefore(o.ID, kv, doc.CreateToken)
		return err
	})}
	conditions = append(conditions, surroundings(o.ID)...)
	conditions = append(conditions, targetsExist(o.ID.Mesh, o.Spec)...)
	ops := []clientv3.Op{clientv3.OpPut(key, value)}
	for _, t := range doc.References {
		ops = append(ops, clientv3.OpPut(refKey(o.ID, t), ""))
	}
	revision, err := s.commit(ctx, conditions, ops)
	if before != nil {
		return before, nil
	}
	if err != nil {
		return nil, err
	}
	return doc.object(o.ID, revision), nil
}

func (s *Store) newDocument(o NewObject) (doc *document, value string, err error) {
	now := s.timestamp()
	doc = &document{
		UID: uuid.NewString(), ResourceOwner: o.ID.Mesh.Account, Version: 1,
		CreatedAt: now, UpdatedAt: now,
		Spec: o.Stored, Tags: o.Tags, References: targets(o.Spec),
	}
	if doc.CreateToken, err = newToken(o.Token, o.Stored, o.Tags, now); err != nil {
		return nil, "", err
	}
	value, err = doc.encode()
	return doc, value, err
}

// createdBefore returns the object that has the name already if this is a retry of
// the request that created it; else it refuses.
func createdBefore(id mesh.ID, kv *mvccpb.KeyValue, t *token) (*mesh.Object, error) {
	doc, err := parseDocument(kv.Value)
	if err != nil {
		return nil, err
	}
	same, err := t.repeats(doc.CreateToken, id)
	if err != nil {
		return nil, err
	}
	if !same {
		return nil, nameTaken(id)
	}
	return doc.object(id, kv.ModRevision), errRepeated
}

// Get returns an object, or *mesh.Error with ErrNotFound, ErrForbidden or
// ErrServiceUnavailable.
func (s *Store) Get(ctx context.Context, c Caller, id mesh.ID) (*mesh.Object, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	if err := c.enter("Describe", id); err != nil {
		return nil, err
	}
	doc, revision, err := s.read(ctx, id)
	if err != nil {
		return nil, err
	}
	return doc.object(id, revision), nil
}

// Update replaces an object's spec and returns it, one version on. A retry, known by
// its client token, gets the object as it is. Errors are as for Create.
func (s *Store) Update(ctx context.Context, c Caller, ch Change) (*mesh.Object, error) {
	if err := checkID(ch.ID); err != nil {
		return nil, err
	}
	if err := c.enter("Update", ch.ID); err != nil {
		return nil, err
	}
	return s.retry(ctx, func() (*mesh.Object, error) { return s.update(ctx, ch) })
}

func (s *Store) update(ctx context.Context, ch Change) (*mesh.Object, error) {
	doc, revision, err := s.read(ctx, ch.ID)
	if err != nil {
		return nil, err
	}
	now := s.timestamp()
	t, err := newToken(ch.Token, ch.Stored, nil, now)
	if err != nil {
		return nil, err
	}
	if same, err := t.repeats(doc.UpdateToken, ch.ID); err != nil || same {
		return doc.object(ch.ID, revision), err
	}
	before := doc.References
	doc.Spec, doc.References, doc.UpdateToken = ch.Stored, targets(ch.Spec), t
	doc.Version++
	doc.UpdatedAt = now
	conditions := []condition{unchanged(objectKey(ch.ID), revision, errChanged)}
	conditions = append(conditions, targetsExist(ch.ID.Mesh, ch.Spec)...)
	revision, err = s.put(ctx, ch.ID, doc, conditions, changeReferences(ch.ID, before, doc.References))
	if err != nil {
		return nil, err
	}
	return doc.object(ch.ID, revision), nil
}

// Delete removes an object and returns it as it was, with the version and time that
// App Mesh answers with: one version on (but not for a mesh), updated now. Errors
// are *mesh.Error: ErrResourceInUse if something lives in the object or refers to
// it, ErrNotFound, ErrForbidden and ErrServiceUnavailable.
func (s *Store) Delete(ctx context.Context, c Caller, id mesh.ID) (*mesh.Object, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	if err := c.enter("Delete", id); err != nil {
		return nil, err
	}
	return s.retry(ctx, func() (*mesh.Object, error) { return s.delete(ctx, id) })
}

func (s *Store) delete(ctx context.Context, id mesh.ID) (*mesh.Object, error) {
	doc, revision, err := s.read(ctx, id)
	if err != nil {
		return nil, err
	}
	key := objectKey(id)
	conditions := append([]condition{unchanged(key, revision, errChanged)}, notInUse(id)...)
	ops := append(changeReferences(id, doc.References, nil), clientv3.OpDelete(key))
	if revision, err = s.commit(ctx, conditions, ops); err != nil {
		return nil, err
	}
	if id.Kind != mesh.KindMesh {
		doc.Version++
	}
	doc.UpdatedAt = s.timestamp()
	return doc.object(id, revision), nil
}

// read returns an object's document and the revision of its last change.
func (s *Store) read(ctx context.Context, id mesh.ID) (*document, int64, error) {
	around := surroundings(id)
	ops := []clientv3.Op{clientv3.OpGet(objectKey(id))}
	for _, c := range around {
		ops = append(ops, c.look)
	}
	resp, err := s.readAll(ctx, ops...)
	if err != nil {
		return nil, 0, err
	}
	if found := resp.Responses[0].GetResponseRange().GetKvs(); len(found) > 0 {
		doc, err := parseDocument(found[0].Value)
		return doc, found[0].ModRevision, err
	}
	for i, c := range around {
		if err := c.refuse(resp.Responses[i+1].GetResponseRange().GetKvs()); err != nil {
			return nil, 0, err
		}
	}
	return nil, 0, notPresent(id)
}

// put writes a document together with other operations.
func (s *Store) put(ctx context.Context, id mesh.ID, doc *document, conditions []condition, ops []clientv3.Op) (int64, error) {
	value, err := doc.encode()
	if err != nil {
		return 0, err
	}
	return s.commit(ctx, conditions, append(ops, clientv3.OpPut(objectKey(id), value)))
}

// timestamp returns the time as the API gives it: to the millisecond.
func (s *Store) timestamp() time.Time { return s.now().UTC().Truncate(time.Millisecond) }

// surroundings hold if the mesh and the parent that an object lives in exist.
func surroundings(id mesh.ID) []condition {
	var out []condition
	for parent, ok := id.ParentID(); ok; parent, ok = parent.ParentID() {
		out = append(out, exists(objectKey(parent), notPresent(parent)))
	}
	slices.Reverse(out)
	return out
}

// targets returns what a spec refers to, as documents note it.
func targets(spec any) []string {
	var out []string
	for _, k := range mesh.References(spec) {
		out = append(out, target(k))
	}
	return out
}

// targetsExist hold if all that a spec refers to exists.
func targetsExist(m mesh.MeshID, spec any) []condition {
	var out []condition
	for _, k := range mesh.References(spec) {
		out = append(out, exists(objectKey(mesh.ID{Mesh: m, Key: k}), missing(k)))
	}
	return out
}

// changeReferences turns one set of an object's reverse references into another.
func changeReferences(id mesh.ID, before, after []string) []clientv3.Op {
	var ops []clientv3.Op
	for _, t := range before {
		if !slices.Contains(after, t) {
			ops = append(ops, clientv3.OpDelete(refKey(id, t)))
		}
	}
	for _, t := range after {
		if !slices.Contains(before, t) {
			ops = append(ops, clientv3.OpPut(refKey(id, t), ""))
		}
	}
	return ops
}

// notInUse hold if nothing lives in an object and nothing refers to it.
func notInUse(id mesh.ID) []condition {
	if id.Kind == mesh.KindMesh {
		return emptyMesh(id)
	}
	var out []condition
	if child := id.Kind.Child(); child != 0 {
		out = append(out, empty(rangeKey(id.Mesh, child, id.Name), func([]string) error { return hasChildren(id, child) }))
	}
	return append(out, empty(referrersKey(id.Mesh, target(id.Key)), func(rest []string) error {
		var referrers []mesh.Key
		for _, r := range rest {
			if k, ok := parseTail(r); ok {
				referrers = append(referrers, k)
			}
		}
		return referredTo(id, referrers)
	}))
}

// emptyMesh holds if nothing is in a mesh. The kinds are looked at one by one for
// the sake of the message, then all at once for the sake of kinds to come.
func emptyMesh(id mesh.ID) []condition {
	var out []condition
	for _, k := range mesh.Kinds {
		if k != mesh.KindMesh && k.Parent() == 0 {
			out = append(out, empty(rangeKey(id.Mesh, k, ""), func([]string) error { return hasChildren(id, k) }))
		}
	}
	return append(out, empty(insideKey(id.Mesh), func([]string) error { return hasChildren(id, 0) }))
}
