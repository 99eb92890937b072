package store

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// policyNamed returns the objects that a policy names. They must be there when the policy is
// made, and may go away without asking: no reverse reference holds them.
func policyNamed(id mesh.ID, spec *mesh.PolicySpec) []mesh.ID {
	var out []mesh.ID
	for _, k := range spec.Named(id.Mesh) {
		out = append(out, mesh.ID{Mesh: id.Mesh, Key: k})
	}
	return out
}

// policyTarget returns the object that a policy is about.
func policyTarget(id mesh.ID, spec *mesh.PolicySpec) mesh.ID {
	return mesh.ID{Mesh: id.Mesh, Key: spec.Target.Key(id.Mesh)}
}

// lookAtPolicies reads the other policies of a mesh, and refuses one about what is not the
// caller's: in a shared mesh guests say what is done with requests to their own objects only.
func (s *Store) lookAtPolicies(ctx context.Context, c Caller, l *look, id mesh.ID, spec *mesh.PolicySpec) error {
	target := policyTarget(id, spec)
	if f := l.get(target); f != nil && c.guest(id.Mesh) && f.doc.ResourceOwner != c.Account {
		name, _ := present(target)
		return mesh.Errorf(mesh.ErrForbidden, "%s is not authorized to make policies for %s: it belongs to account %s", c.name(), name, f.doc.ResourceOwner)
	}
	revision, all, err := s.listAll(ctx, rangeKey(id.Mesh, mesh.KindPolicy, ""))
	if err != nil {
		return s.fault(ctx, err)
	}
	l.policiesAt, l.policies = revision, nil
	for _, kv := range all {
		o := s.parseObject(kv)
		if o == nil || o.ID == id {
			continue
		}
		other, err := mesh.ParseSpec(mesh.KindPolicy, o.Spec)
		if err != nil {
			return err
		}
		l.policies = append(l.policies, mesh.Policy{Name: o.ID.Name, Spec: other.(*mesh.PolicySpec)})
	}
	return nil
}

// policyFits checks a policy against its target and the others of the mesh, and returns what
// must hold of them when it is written.
func (l *look) policyFits(id mesh.ID, spec *mesh.PolicySpec) ([]condition, error) {
	target := policyTarget(id, spec)
	hold := []condition{notNewer(rangeKey(id.Mesh, mesh.KindPolicy, ""), l.policiesAt)}
	var bad mesh.Violations
	for _, named := range policyNamed(id, spec) {
		hold = append(hold, l.hold(named, missing(named.Key)))
		f := l.get(named)
		if f == nil {
			continue
		}
		about, err := f.spec()
		if err != nil {
			return nil, err
		}
		if named == target {
			bad = append(bad, mesh.CheckPolicyTarget("spec", spec, named.Key, about)...)
		} else {
			bad = append(bad, mesh.CheckMirror("spec", spec, about)...)
		}
	}
	if err := breaks(bad); err != nil {
		return nil, err
	}
	for _, other := range l.policies {
		if spec.Contradict(id.Mesh, other.Spec) {
			return nil, mesh.Errorf(mesh.ErrBadRequest,
				"spec contradicts policy %s: both are a %s for %s, and neither is more specific. Narrow one of them by from or match, or by notBefore and notAfter",
				other.Name, spec.Action.Kind(), target.Key)
		}
	}
	return hold, nil
}

// deletePolicies deletes the policies of a mesh, with their slots.
func deletePolicies(m mesh.MeshID) []*pb.RequestOp {
	return []*pb.RequestOp{deletePrefix(rangeKey(m, mesh.KindPolicy, "")), deletePrefix(within(slotPrefix, m, mesh.KindPolicy, ""))}
}
