package store

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
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
// ErrNotFound if the mesh, the parent or a referenced object is missing, ErrBadRequest
// if the object does not fit them, ErrLimitExceeded, ErrTooManyTags, ErrForbidden and
// ErrServiceUnavailable.
//
// In a mesh that is shared with the caller's account what it creates belongs to that
// account, and counts for the quotas of the mesh's owner.
func (s *Store) Create(ctx context.Context, c Caller, o NewObject) (*mesh.Object, error) {
	if err := checkID(o.ID); err != nil {
		return nil, err
	}
	if o.ID.Kind == mesh.KindMesh {
		if err := c.mayOwn(o.ID.Mesh); err != nil {
			return nil, err
		}
	}
	q := Question{Action: action("Create", o.ID.Kind), Resource: o.ID.ARN(c.owner(o.ID.Mesh)), RequestTags: o.Tags, TagKeys: tagKeys(o.Tags)}
	if err := c.ask(q); err != nil {
		return nil, err
	}
	if err := checkTags(o.Tags); err != nil {
		return nil, err
	}
	n, err := s.newCreation(c, o, q)
	if err != nil {
		return nil, err
	}
	return s.retry(ctx, func() (*mesh.Object, error) { return n.attempt(ctx) })
}

// Get returns an object, or *mesh.Error with ErrNotFound, ErrForbidden or
// ErrServiceUnavailable.
func (s *Store) Get(ctx context.Context, c Caller, id mesh.ID) (*mesh.Object, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	f, err := s.read(ctx, c, id, Question{Action: action("Describe", id.Kind)})
	if err != nil {
		return nil, err
	}
	return f.object(), nil
}

// read returns an object that a caller may do something to.
func (s *Store) read(ctx context.Context, c Caller, id mesh.ID, q Question) (*found, error) {
	l, err := s.look(ctx, c, id.Mesh, id)
	if err != nil {
		return nil, err
	}
	return s.enter(ctx, c, l, id, q)
}

// Update replaces an object's spec and returns it, one version on. A retry, known by
// its client token, gets the object as it is. Only the account that owns the object may
// update it. Errors are as for Create; ErrBadRequest also if those that use the object
// do not fit the new spec.
func (s *Store) Update(ctx context.Context, c Caller, ch Change) (*mesh.Object, error) {
	if err := checkID(ch.ID); err != nil {
		return nil, err
	}
	if err := checkSize(ch.Spec); err != nil {
		return nil, err
	}
	return s.retry(ctx, func() (*mesh.Object, error) { return s.update(ctx, c, ch) })
}

func (s *Store) update(ctx context.Context, c Caller, ch Change) (*mesh.Object, error) {
	l, err := s.look(ctx, c, ch.ID.Mesh, append(c.neighbours(ch.ID, ch.Spec, false), ch.ID)...)
	if err != nil {
		return nil, err
	}
	q := Question{Action: action("Update", ch.ID.Kind)}
	f, err := s.enter(ctx, c, l, ch.ID, q)
	if err != nil {
		return nil, err
	}
	if err := c.mayChange(f); err != nil {
		return nil, err
	}
	now := s.timestamp()
	t, err := newToken(ch.Token, ch.Stored, nil, now)
	if err != nil {
		return nil, err
	}
	if same, err := t.repeats(f.doc.UpdateToken, ch.ID); err != nil || same {
		return f.object(), err
	}
	if ch.ID.Kind != mesh.KindVirtualNode {
		// Updating a node asks nothing about its backends, as with App Mesh.
		if err := c.askDependents(l, ch.ID.Mesh, ch.Spec, q); err != nil {
			return nil, err
		}
	}
	before, err := f.spec()
	if err != nil {
		return nil, err
	}
	conditions, err := s.mayBecome(ctx, c, l, f, ch.Spec)
	if err != nil {
		return nil, err
	}
	doc, after := f.doc, references(ch.Spec)
	ops := changeReferences(ch.ID, doc.References, references(before), after)
	doc.Spec, doc.References, doc.UpdateToken = ch.Stored, targets(after), t
	doc.Version++
	doc.UpdatedAt = now
	revision, err := s.put(ctx, ch.ID, doc, conditions, ops)
	if err != nil {
		return nil, err
	}
	return doc.object(ch.ID, revision), nil
}

// mayBecome checks the new spec of an object against quotas and neighbours, and returns
// what must hold when it is written.
func (s *Store) mayBecome(ctx context.Context, c Caller, l *look, f *found, spec any) ([]condition, error) {
	hold := append(c.admitted(f.id.Mesh), unchanged(objectKey(f.id), f.revision, errChanged))
	before, err := f.spec()
	if err != nil {
		return nil, err
	}
	lim := s.limits(f.id.Mesh.Account)
	grows, err := lim.count(ctx, before, spec)
	if err != nil {
		return nil, err
	}
	if grows {
		hold = append(hold, lim.hold())
	}
	if err := s.lookFurther(ctx, c, l, f.id, spec); err != nil {
		return nil, err
	}
	fits, err := s.fits(l, f.id, spec)
	if err != nil {
		return nil, err
	}
	suits, err := s.suits(ctx, l, f.id, before, spec)
	return slices.Concat(hold, fits, suits), err
}

// Delete removes an object and returns it as it was, with the version and time that
// App Mesh answers with: one version on (but not for a mesh), updated now. The account
// that owns the object may delete it, and the mesh's owner. Errors are *mesh.Error:
// ErrResourceInUse if something lives in the object or refers to it, ErrNotFound,
// ErrForbidden and ErrServiceUnavailable.
func (s *Store) Delete(ctx context.Context, c Caller, id mesh.ID) (*mesh.Object, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	return s.retry(ctx, func() (*mesh.Object, error) { return s.delete(ctx, c, id) })
}

func (s *Store) delete(ctx context.Context, c Caller, id mesh.ID) (*mesh.Object, error) {
	f, err := s.read(ctx, c, id, Question{Action: action("Delete", id.Kind)})
	if err != nil {
		return nil, err
	}
	if err := c.mayDelete(f); err != nil {
		return nil, err
	}
	inUse := notInUse(id)
	if id.Kind == mesh.KindMesh || id.Kind.Child() != 0 {
		// A compare of a range reads all of it while nobody can write, so it is
		// only tried where it is likely to find nothing.
		if err := s.hold(ctx, inUse); err != nil {
			return nil, err
		}
	}
	key, doc := objectKey(id), f.doc
	conditions := slices.Concat(c.admitted(id.Mesh), []condition{unchanged(key, f.revision, errChanged)}, inUse)
	ops := slices.Concat(changeReferences(id, doc.References, nil, nil), releaseSlot(id, doc), []*pb.RequestOp{deleteKey(key)})
	if id.Kind == mesh.KindMesh {
		held, more, err := s.endShares(ctx, id.Mesh)
		if err != nil {
			return nil, err
		}
		conditions, ops = append(conditions, held), slices.Concat(ops, more, deletePolicies(id.Mesh))
	}
	revision, err := s.commit(ctx, conditions, ops)
	if err != nil {
		return nil, err
	}
	if id.Kind != mesh.KindMesh {
		doc.Version++
	}
	doc.UpdatedAt = s.timestamp()
	return doc.object(id, revision), nil
}

// put writes a document together with other operations.
func (s *Store) put(ctx context.Context, id mesh.ID, doc *document, conditions []condition, ops []*pb.RequestOp) (int64, error) {
	value, held, err := s.encode(doc)
	if err != nil {
		return 0, err
	}
	return s.commit(ctx, slices.Concat(conditions, held), append(ops, putKey(objectKey(id), value)))
}

// timestamp returns the time as the API gives it: to the millisecond.
func (s *Store) timestamp() time.Time { return s.now().UTC().Truncate(time.Millisecond) }

// surroundings hold if the mesh and the parent that an object lives in exist.
func surroundings(id mesh.ID) []condition {
	var out []condition
	for parent, ok := id.ParentID(); ok; parent, ok = parent.ParentID() {
		out = append(out, exists(objectKey(parent), func() error { return notPresent(parent) }))
	}
	slices.Reverse(out)
	return out
}

// targets returns what reverse references are written for, as documents list it.
func targets(refs []reference) []string {
	var out []string
	for _, r := range refs {
		out = append(out, r.target)
	}
	return out
}

// checkSize refuses a spec that refers to more than fits into a transaction.
func checkSize(spec any) error {
	const others = 16 // what a transaction holds besides references, or more
	if n := len(mesh.References(spec)) + others; n > maxOps {
		return tooMuch(n)
	}
	return nil
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

// emptyMesh holds if nothing but policies is in a mesh, which go with it. The kinds are
// looked at one by one for the sake of the message, then all at once for the sake of kinds
// to come.
func emptyMesh(id mesh.ID) []condition {
	var out []condition
	for _, k := range mesh.Kinds {
		if k != mesh.KindMesh && k != mesh.KindPolicy && k.Parent() == 0 {
			out = append(out, empty(rangeKey(id.Mesh, k, ""), func([]string) error { return hasChildren(id, k) }))
		}
	}
	inside, policies := insideKey(id.Mesh), rangeKey(id.Mesh, mesh.KindPolicy, "")
	other := func() error { return hasChildren(id, 0) }
	return append(out, emptyRange(inside, policies, other), emptyRange(clientv3.GetPrefixRangeEnd(policies), clientv3.GetPrefixRangeEnd(inside), other))
}
