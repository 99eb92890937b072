package store

import (
	"context"

	"github.com/google/uuid"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// creation is the making of one object. What one attempt learns the next one knows.
type creation struct {
	s      *Store
	c      Caller
	o      NewObject
	asked  Question // that the caller's policies answered with yes
	doc    *document
	refs   []reference
	limits *limits
	slot   *slotPick
}

func (s *Store) newCreation(c Caller, o NewObject, asked Question) (*creation, error) {
	if err := checkSize(o.Spec); err != nil {
		return nil, err
	}
	now := s.timestamp()
	refs := references(o.Spec)
	doc := &document{
		UID: uuid.NewString(), ResourceOwner: c.owner(o.ID.Mesh), Version: 1,
		CreatedAt: now, UpdatedAt: now,
		Spec: o.Stored, Tags: o.Tags, References: targets(refs),
	}
	var err error
	if doc.CreateToken, err = newToken(o.Token, o.Stored, o.Tags, now); err != nil {
		return nil, err
	}
	l := s.limits(o.ID.Mesh.Account)
	return &creation{s: s, c: c, o: o, asked: asked, doc: doc, refs: refs, limits: l, slot: l.slots(o.ID)}, nil
}

// attempt tries to create the object in one transaction. What stands alone needs no
// read before it: neither its key nor its slot is known to anybody.
func (n *creation) attempt(ctx context.Context) (*mesh.Object, error) {
	id, key := n.o.ID, objectKey(n.o.ID)
	var before *mesh.Object
	conditions := make([]condition, 0, 8)
	conditions = append(conditions, n.c.admitted(id.Mesh)...)
	conditions = append(conditions, absent(key, func(kv *mvccpb.KeyValue) (err error) {
		before, err = n.createdBefore(kv)
		return err
	}))
	if id.Kind == mesh.KindMesh {
		conditions = append(conditions, notGone(id.Mesh.Account,
			mesh.Errorf(mesh.ErrForbidden, "%s is not authorized to create meshes: account %s was deleted", n.c.name(), id.Mesh.Account)))
	} else {
		conditions = append(conditions, exists(objectKey(id.Mesh.MeshObject()), func() error { return notPresent(id.Mesh.MeshObject()) }))
	}
	l, err := n.look(ctx)
	if err != nil {
		return nil, err
	}
	if f := l.get(id); f != nil {
		return n.repeated(f)
	}
	fits, err := n.s.fits(l, id, n.o.Spec)
	if err != nil {
		return nil, err
	}
	conditions = append(conditions, fits...)
	if _, err := n.limits.count(ctx, nil, n.o.Spec); err != nil {
		return nil, err
	}
	if err := n.slot.choose(ctx); err != nil {
		// A name that is taken, or a parent that is missing, is the better answer.
		return n.instead(ctx, conditions, &before, err)
	}
	conditions = append(append(conditions, n.limits.hold()), n.slot.hold()...)
	revision, err := n.write(ctx, conditions)
	if before != nil {
		return before, nil
	}
	if err != nil {
		return nil, err
	}
	return n.doc.object(id, revision), nil
}

func (n *creation) write(ctx context.Context, conditions []condition) (int64, error) {
	if err := n.s.room(); err != nil {
		return 0, err
	}
	id := n.o.ID
	n.doc.Slot = &n.slot.number
	ops := make([]*pb.RequestOp, 0, 2+len(n.refs))
	ops = append(append(ops, n.slot.take(id)), changeReferences(id, nil, nil, n.refs)...)
	return n.s.put(ctx, id, n.doc, conditions, ops)
}

// look reads the neighbours that the spec must fit or that the caller is asked about,
// and asks. It is nil if there are none.
func (n *creation) look(ctx context.Context) (*look, error) {
	id, spec := n.o.ID, n.o.Spec
	near := n.c.neighbours(id, spec, true)
	if len(near) == 0 {
		return nil, n.c.askDependents(nil, id.Mesh, spec, n.asked)
	}
	l, err := n.s.look(ctx, n.c, id.Mesh, append(near, id)...)
	if err != nil || l.get(id) != nil {
		return l, err
	}
	if err := n.c.askDependents(l, id.Mesh, spec, n.asked); err != nil {
		return nil, err
	}
	return l, n.s.lookFurther(ctx, n.c, l, id, spec)
}

// instead returns why a creation fails that found no slot: the first of the conditions
// that does not hold, or else err.
func (n *creation) instead(ctx context.Context, conditions []condition, before **mesh.Object, err error) (*mesh.Object, error) {
	better := n.s.hold(ctx, conditions)
	if *before != nil {
		return *before, nil
	}
	if better != nil {
		return nil, better
	}
	return nil, err
}

// createdBefore returns the object that has the name already if this is a retry of the
// request that created it; else it refuses.
func (n *creation) createdBefore(kv *mvccpb.KeyValue) (*mesh.Object, error) {
	doc, err := n.s.parseDocument(kv.Value)
	if err != nil {
		return nil, err
	}
	o, err := n.repeated(&found{id: n.o.ID, doc: doc, revision: kv.ModRevision})
	if err != nil {
		return nil, err
	}
	return o, errRepeated
}

func (n *creation) repeated(f *found) (*mesh.Object, error) {
	if f.doc.ResourceOwner != n.doc.ResourceOwner {
		return nil, nameTaken(f.id)
	}
	same, err := n.doc.CreateToken.repeats(f.doc.CreateToken, f.id)
	if err != nil {
		return nil, err
	}
	if !same {
		return nil, nameTaken(f.id)
	}
	return f.object(), nil
}
