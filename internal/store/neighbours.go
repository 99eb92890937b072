package store

import (
	"context"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// The rules between objects are in mesh. Here the neighbours are read that they are
// about, and conditions are made that let a write through only if the neighbours are
// still as they were read.

// unported is the value of a reverse reference that leads to its target without naming
// a port. Others are empty. It is written anew only when it changes, so that who reads
// a range of references can tell by their revisions whether anything changed for it.
const unported = "unported"

// manyServices is how many virtual services are watched one by one while their
// provider changes. With more, all of the mesh are watched at once.
const manyServices = 16

// neighbours returns the objects that must be read to check a new spec: those that it
// must fit, and those that the caller is asked about, unless it may do that anywhere.
func (c Caller) neighbours(id mesh.ID, spec any, create bool) []mesh.ID {
	var out []mesh.ID
	switch spec := spec.(type) {
	case *mesh.RouteSpec, *mesh.GatewayRouteSpec:
		parent, _ := id.ParentID()
		out = append(out, parent)
	case *mesh.VirtualServiceSpec:
		if create && c.anywhere(action("Create", id.Kind)) {
			return nil
		}
	case *mesh.VirtualNodeSpec:
		if !create || c.anywhere(action("Create", id.Kind)) {
			return nil
		}
	case *mesh.PolicySpec:
		return policyNamed(id, spec)
	}
	keys, _ := mesh.Dependents(id.Mesh, spec)
	for _, k := range keys {
		out = append(out, mesh.ID{Mesh: id.Mesh, Key: k})
	}
	return out
}

// lookFurther reads what provides the virtual service of a gateway route, which only
// the service knows, and the policies beside a policy.
func (s *Store) lookFurther(ctx context.Context, c Caller, l *look, id mesh.ID, spec any) error {
	if policy, ok := spec.(*mesh.PolicySpec); ok {
		return s.lookAtPolicies(ctx, c, l, id, policy)
	}
	route, ok := spec.(*mesh.GatewayRouteSpec)
	if !ok {
		return nil
	}
	for _, service := range mesh.References(route) {
		provider, err := providerOf(l, mesh.ID{Mesh: id.Mesh, Key: service})
		if err != nil || provider.Kind == 0 {
			return err
		}
		further, err := s.look(ctx, c, id.Mesh, provider)
		if err != nil {
			return err
		}
		l.merge(further)
	}
	return nil
}

// providerOf returns what provides a virtual service. Its kind is 0 if nothing does.
func providerOf(l *look, service mesh.ID) (mesh.ID, error) {
	f := l.get(service)
	if f == nil {
		return mesh.ID{}, nil
	}
	spec, err := f.spec()
	if err != nil {
		return mesh.ID{}, err
	}
	for _, k := range mesh.References(spec) {
		return mesh.ID{Mesh: service.Mesh, Key: k}, nil
	}
	return mesh.ID{}, nil
}

// fits checks a spec against the neighbours that it names, and returns what must hold
// of them: that they are as they were read, or exist at least.
func (s *Store) fits(l *look, id mesh.ID, spec any) ([]condition, error) {
	if policy, ok := spec.(*mesh.PolicySpec); ok {
		return l.policyFits(id, policy)
	}
	var hold []condition
	parent, _ := id.ParentID()
	if id.Kind.Parent() != 0 {
		hold = append(hold, l.hold(parent, notPresent(parent)))
	}
	whole := true // all are there; else the transaction says what is not
	for _, k := range mesh.References(spec) {
		target := mesh.ID{Mesh: id.Mesh, Key: k}
		hold = append(hold, l.hold(target, missing(k)))
		whole = whole && l.get(target) != nil
	}
	if id.Kind.Parent() == 0 {
		return hold, nil
	}
	above := l.get(parent)
	if above == nil || !whole {
		return hold, nil
	}
	aboveSpec, err := above.spec()
	if err != nil {
		return nil, err
	}
	var bad mesh.Violations
	switch spec := spec.(type) {
	case *mesh.RouteSpec:
		nodes := map[string]*mesh.VirtualNodeSpec{}
		for _, k := range mesh.References(spec) {
			node, err := l.get(mesh.ID{Mesh: id.Mesh, Key: k}).spec()
			if err != nil {
				return nil, err
			}
			nodes[k.Name] = node.(*mesh.VirtualNodeSpec)
		}
		bad = mesh.CheckRoute("spec", spec, aboveSpec.(*mesh.VirtualRouterSpec), nodes)
	case *mesh.GatewayRouteSpec:
		provider, providerSpec, err := s.provider(l, id.Mesh, spec)
		if err != nil {
			return nil, err
		}
		if provider.Kind != 0 {
			hold = append(hold, l.hold(provider, errChanged))
		}
		bad = mesh.CheckGatewayRoute("spec", spec, aboveSpec.(*mesh.VirtualGatewaySpec), providerSpec, provider.Key)
	}
	return hold, breaks(bad)
}

// provider returns what provides the virtual service of a gateway route.
func (s *Store) provider(l *look, m mesh.MeshID, spec *mesh.GatewayRouteSpec) (id mesh.ID, typed any, err error) {
	for _, k := range mesh.References(spec) {
		if id, err = providerOf(l, mesh.ID{Mesh: m, Key: k}); err != nil {
			return id, nil, err
		}
	}
	f := l.get(id)
	if f == nil {
		return id, nil, nil
	}
	typed, err = f.spec()
	return id, typed, err
}

// breaks refuses a spec that breaks rules.
func breaks(bad mesh.Violations) error {
	if len(bad) == 0 {
		return nil
	}
	return badRequest(bad)
}

// suits checks the new spec of an object against those that use it, and returns what
// must hold for that to be true when it is written: that no user is newer than what was
// read. Users that went meanwhile only make it truer.
func (s *Store) suits(ctx context.Context, l *look, id mesh.ID, before, after any) ([]condition, error) {
	switch after := after.(type) {
	case *mesh.VirtualServiceSpec:
		return s.suitsGatewayRoutes(ctx, l, id, before, after)
	case *mesh.VirtualNodeSpec, *mesh.VirtualRouterSpec, *mesh.VirtualGatewaySpec:
	default:
		return nil, nil
	}
	if mesh.SameListeners(before, after) {
		return nil, nil
	}
	hold, err := s.suitsChildren(ctx, id, after)
	if err != nil {
		return nil, err
	}
	if id.Kind == mesh.KindVirtualGateway || !mesh.SeveralListeners(after) {
		return hold, nil
	}
	// Whoever leads here must name a port.
	users, more, err := s.referrers(ctx, id)
	if err != nil {
		return nil, err
	}
	gatewayRoutes, most, err := s.unportedBehind(ctx, id.Mesh, users)
	if err != nil {
		return nil, err
	}
	hold = append(append(hold, more), most...)
	return hold, breaks(mesh.CheckUnported("spec", after, unportedOf(users), gatewayRoutes))
}

// suitsChildren checks a virtual router's or gateway's new listeners against its
// routes.
func (s *Store) suitsChildren(ctx context.Context, id mesh.ID, after any) ([]condition, error) {
	child := id.Kind.Child()
	if child == 0 {
		return nil, nil
	}
	prefix := rangeKey(id.Mesh, child, id.Name)
	revision, all, err := s.listAll(ctx, prefix)
	if err != nil {
		return nil, s.fault(ctx, err)
	}
	var routes []mesh.Route
	var gatewayRoutes []mesh.GatewayRoute
	for _, kv := range all {
		o := s.parseObject(kv)
		if o == nil {
			continue
		}
		spec, err := mesh.ParseSpec(child, o.Spec)
		if err != nil {
			return nil, err
		}
		switch spec := spec.(type) {
		case *mesh.RouteSpec:
			routes = append(routes, mesh.Route{Name: o.ID.Name, Spec: spec})
		case *mesh.GatewayRouteSpec:
			gatewayRoutes = append(gatewayRoutes, mesh.GatewayRoute{Name: o.ID.Name, Spec: spec})
		}
	}
	var bad mesh.Violations
	switch after := after.(type) {
	case *mesh.VirtualRouterSpec:
		bad = mesh.CheckRouterListeners("spec", after, routes)
	case *mesh.VirtualGatewaySpec:
		bad = mesh.CheckGatewayListeners("spec", after, gatewayRoutes)
	}
	return []condition{notNewer(prefix, revision)}, breaks(bad)
}

// suitsGatewayRoutes checks the new provider of a virtual service against the gateway
// routes that lead to the service.
func (s *Store) suitsGatewayRoutes(ctx context.Context, l *look, id mesh.ID, before any, after *mesh.VirtualServiceSpec) ([]condition, error) {
	references := mesh.References(after)
	if len(references) == 0 || len(mesh.References(before)) > 0 && mesh.References(before)[0] == references[0] {
		return nil, nil
	}
	provider := l.get(mesh.ID{Mesh: id.Mesh, Key: references[0]})
	if provider == nil {
		return nil, nil // the transaction says that it is missing
	}
	spec, err := provider.spec()
	if err != nil || !mesh.SeveralListeners(spec) {
		return nil, err
	}
	users, hold, err := s.referrers(ctx, id)
	if err != nil {
		return nil, err
	}
	return []condition{hold}, breaks(mesh.CheckProvider("spec", after, unportedOf(users)))
}

// referrer is an object that refers to another one.
type referrer struct {
	mesh.Key
	note string
}

// referrers returns who refers to an object, and the condition that nobody more does,
// nor in another way.
func (s *Store) referrers(ctx context.Context, id mesh.ID) ([]referrer, condition, error) {
	prefix := referrersKey(id.Mesh, target(id.Key))
	revision, all, err := s.listAll(ctx, prefix)
	if err != nil {
		return nil, condition{}, s.fault(ctx, err)
	}
	var out []referrer
	for _, kv := range all {
		if k, ok := parseTail(strings.TrimPrefix(string(kv.Key), prefix)); ok {
			out = append(out, referrer{k, string(kv.Value)})
		}
	}
	return out, notNewer(prefix, revision), nil
}

// unportedOf returns those that lead to the object without naming a port.
func unportedOf(all []referrer) []mesh.Key {
	var out []mesh.Key
	for _, r := range all {
		if r.note == unported {
			out = append(out, r.Key)
		}
	}
	return out
}

// unportedBehind returns the gateway routes that lead without naming a port to the
// virtual services among the users of what provides them.
func (s *Store) unportedBehind(ctx context.Context, m mesh.MeshID, users []referrer) (routes []mesh.Key, hold []condition, err error) {
	var services []mesh.Key
	for _, u := range users {
		if u.Kind == mesh.KindVirtualService {
			services = append(services, u.Key)
		}
	}
	if len(services) > manyServices {
		return s.unportedOfAll(ctx, m, services)
	}
	for _, k := range services {
		some, held, err := s.referrers(ctx, mesh.ID{Mesh: m, Key: k})
		if err != nil {
			return nil, nil, err
		}
		routes, hold = append(routes, unportedOf(some)...), append(hold, held)
	}
	return routes, hold, nil
}

// unportedOfAll does the same for many virtual services, by reading what refers to any
// service of the mesh.
func (s *Store) unportedOfAll(ctx context.Context, m mesh.MeshID, services []mesh.Key) ([]mesh.Key, []condition, error) {
	ours := map[string]bool{}
	for _, k := range services {
		ours[referrersKey(m, target(k))] = true
	}
	prefix := region(refPrefix, m) + m.Name + "/" + mesh.KindVirtualService.String() + "/"
	revision, all, err := s.listAll(ctx, prefix)
	if err != nil {
		return nil, nil, s.fault(ctx, err)
	}
	var users []referrer
	for _, kv := range all {
		name, rest, _ := strings.Cut(strings.TrimPrefix(string(kv.Key), prefix), "/")
		if k, ok := parseTail(rest); ok && ours[prefix+name+"/"] {
			users = append(users, referrer{k, string(kv.Value)})
		}
	}
	return unportedOf(users), []condition{notNewer(prefix, revision)}, nil
}

// reference is a target that a spec refers to, with what the reverse reference says.
type reference struct {
	target, note string
}

// references returns what a spec refers to, as reverse references note it.
func references(spec any) []reference {
	var out []reference
	for _, k := range mesh.References(spec) {
		r := reference{target: target(k)}
		if !mesh.NamesPort(spec, k) {
			r.note = unported
		}
		out = append(out, r)
	}
	return out
}

// changeReferences turns the reverse references that a document lists, and of which
// before knows the notes, into others.
func changeReferences(id mesh.ID, listed []string, before, after []reference) []*pb.RequestOp {
	var ops []*pb.RequestOp
	left := map[string]bool{}
	notes := map[string]string{}
	for _, t := range listed {
		left[t] = true
	}
	for _, r := range before {
		notes[r.target] = r.note
	}
	for _, r := range after {
		if note, known := notes[r.target]; !left[r.target] || !known || note != r.note {
			ops = append(ops, putKey(refKey(id, r.target), []byte(r.note)))
		}
		delete(left, r.target)
	}
	for _, t := range listed {
		if left[t] {
			ops = append(ops, deleteKey(refKey(id, t)))
		}
	}
	return ops
}
