package mesh

import (
	"cmp"
	"slices"
	"time"
)

// Policy is a policy of a mesh.
type Policy struct {
	Name string
	Spec *PolicySpec
}

// PolicyKinds are the kinds of policies, as the members of an action spell them.
var PolicyKinds = []string{"fault", "mirror", "access", "rateLimit", "quota"}

// Pers are the times in which limits and quotas count requests, as the API spells them.
var Pers = map[string]time.Duration{"second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}

// Kind returns what kind of policy it is, for example "fault".
func (a *PolicyAction) Kind() string {
	switch {
	case a.Fault != nil:
		return "fault"
	case a.Mirror != nil:
		return "mirror"
	case a.Access != nil:
		return "access"
	case a.RateLimit != nil:
		return "rateLimit"
	case a.Quota != nil:
		return "quota"
	}
	return "" // of a newer server
}

// AddsUp reports whether several policies such as this hold at once. Of the others the
// most specific one holds.
func (a *PolicyAction) AddsUp() bool {
	return a.Fault == nil && a.Quota == nil && (a.Access == nil || a.Access.Default == nil)
}

// Key returns the object of mesh m that a policy is about.
func (t *PolicyTarget) Key(m MeshID) Key {
	switch {
	case t.VirtualNode != nil:
		return Key{Kind: KindVirtualNode, Name: t.VirtualNode.VirtualNodeName}
	case t.VirtualService != nil:
		return Key{Kind: KindVirtualService, Name: t.VirtualService.VirtualServiceName}
	case t.VirtualRouter != nil:
		return Key{Kind: KindVirtualRouter, Name: t.VirtualRouter.VirtualRouterName}
	case t.Route != nil:
		return Key{Kind: KindRoute, Parent: t.Route.VirtualRouterName, Name: t.Route.RouteName}
	case t.VirtualGateway != nil:
		return Key{Kind: KindVirtualGateway, Name: t.VirtualGateway.VirtualGatewayName}
	case t.GatewayRoute != nil:
		return Key{Kind: KindGatewayRoute, Parent: t.GatewayRoute.VirtualGatewayName, Name: t.GatewayRoute.GatewayRouteName}
	}
	return m.MeshObject().Key
}

// Named returns the objects of mesh m that must be there when a policy is made: what it is
// about, and where it sends copies.
func (s *PolicySpec) Named(m MeshID) []Key {
	out := []Key{s.Target.Key(m)}
	if to, ok := s.copiesTo(); ok && to != out[0] {
		out = append(out, to)
	}
	return out
}

// copiesTo returns the virtual node or service that a policy sends copies to, if it does.
func (s *PolicySpec) copiesTo() (Key, bool) {
	if s.Action.Mirror == nil {
		return Key{}, false
	}
	switch to := s.Action.Mirror.To; {
	case to.VirtualNode != nil:
		return Key{Kind: KindVirtualNode, Name: to.VirtualNode.VirtualNodeName}, true
	case to.VirtualService != nil:
		return Key{Kind: KindVirtualService, Name: to.VirtualService.VirtualServiceName}, true
	}
	return Key{}, false
}

// Port returns the port of the one listener that is meant, 0 for all.
func (t *PolicyTarget) Port() int64 {
	var port *int64
	switch {
	case t.VirtualNode != nil:
		port = t.VirtualNode.Port
	case t.VirtualGateway != nil:
		port = t.VirtualGateway.Port
	}
	if port == nil {
		return 0
	}
	return *port
}

// Window returns when a policy begins and ends; a zero time is no bound.
func (s *PolicySpec) Window() (begin, end time.Time) {
	return policyTime(s.NotBefore), policyTime(s.NotAfter)
}

// policyTime reads a time that Decode has checked; zero for none.
func policyTime(s *string) time.Time {
	if s == nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, *s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// InForce reports whether a policy holds at a time, and when that changes next; zero for
// never.
func (s *PolicySpec) InForce(now time.Time) (holds bool, next time.Time) {
	switch begin, end := s.Window(); {
	case now.Before(begin):
		return false, begin
	case end.IsZero():
		return true, time.Time{}
	case now.Before(end):
		return true, end
	}
	return false, time.Time{}
}

// aim is what a policy is looked for by: its target, or the router or gateway that its
// target is in, so that whoever needs all routes of a router reads one range.
func aim(target Key) Key {
	if above, ok := target.ParentKey(); ok {
		return above
	}
	return target
}

// Aimed returns the key under which a snapshot has a policy in force beside its own: in the
// range of what it is aimed at.
func (s *PolicySpec) Aimed(m MeshID, name string) Key {
	return Key{Kind: KindPolicy, Parent: aim(s.Target.Key(m)).String(), Name: name}
}

// IsAimed reports whether a key is one that Aimed returns.
func IsAimed(k Key) bool { return k.Kind == KindPolicy && k.Parent != "" }

// policies reads the policies in force that are aimed at some objects or at what is in them,
// the most specific first.
func (r *Reader) policies(at ...Key) []Policy {
	var out []Policy
	for _, key := range at {
		for _, i := range r.children(KindPolicy, key.String()) {
			if c := i.Content(); c != nil {
				out = append(out, Policy{Name: i.Key.Name, Spec: c.Spec.(*PolicySpec)})
			}
		}
	}
	slices.SortStableFunc(out, bySpecificity)
	return out
}

// bySpecificity orders the policies that can be about one request: the one that holds comes
// first. At one target that is one that says whose requests are meant, then one that says
// what they are like.
func bySpecificity(a, b Policy) int {
	return cmp.Or(-cmp.Compare(a.Spec.specificity(), b.Spec.specificity()), cmp.Compare(a.Name, b.Name))
}

// specificity is higher for what is more specific.
func (s *PolicySpec) specificity() int {
	level := 0
	switch t := s.Target; {
	case t.Route != nil, t.GatewayRoute != nil:
		level = 3
	case t.Port() != 0, t.VirtualRouter != nil:
		level = 2
	case t.VirtualNode != nil, t.VirtualGateway != nil, t.VirtualService != nil:
		level = 1
	}
	level *= 4
	if len(s.From) > 0 {
		level += 2
	}
	if s.Match != nil {
		level++
	}
	return level
}

// Contradict reports whether two policies of a mesh are of one kind and equally specific, and
// could both be about one request at one moment, so that neither is the one that holds.
func (s *PolicySpec) Contradict(m MeshID, other *PolicySpec) bool {
	switch {
	case s.Action.Kind() != other.Action.Kind(), s.Action.AddsUp(), other.Action.AddsUp():
		return false
	case s.Action.Access != nil && s.Action.Access.Dry() != other.Action.Access.Dry():
		return false
	case s.Target.Key(m) != other.Target.Key(m), s.Target.Port() != other.Target.Port(), s.specificity() != other.specificity():
		return false
	case !s.overlaps(other):
		return false
	}
	return !apartFrom(s.From, other.From) && !s.Match.apart(other.Match)
}

// overlaps reports whether there is a moment at which both hold.
func (s *PolicySpec) overlaps(other *PolicySpec) bool {
	begin, end := s.Window()
	otherBegin, otherEnd := other.Window()
	return (end.IsZero() || otherBegin.Before(end)) && (otherEnd.IsZero() || begin.Before(otherEnd))
}

// CheckPolicyTarget checks a policy's spec, found at path, against the spec of the object
// that it is about: its port is one of the object's listeners, and takes requests.
func CheckPolicyTarget(path string, s *PolicySpec, key Key, target any) Violations {
	if bad := checkMirrorTarget(path+".action.mirror.to", s, key, target); bad != nil {
		return bad
	}
	if bad := checkPolicyPort(path+".target."+key.Kind.String(), s, key, target); bad != nil {
		return bad
	}
	return checkProof(path, s, key, target)
}

// checkPolicyPort checks that a policy's target, found at path, takes what the policy is for.
func checkPolicyPort(path string, s *PolicySpec, key Key, target any) Violations {
	connections := s.forConnections()
	if r, ok := target.(*RouteSpec); ok && r.TcpRoute != nil && !connections {
		return Violations{breach(path, "must not be a route for TCP, which has no requests, %s is", key)}
	}
	port := s.Target.Port()
	if port == 0 {
		return nil
	}
	all := listeners(target)
	switch l := find(all, &port); {
	case len(all) == 0:
		return Violations{breach(path+".port", "is not allowed, as %s has no listener, %d was given", key, port)}
	case l == nil:
		return Violations{breach(path+".port", "must be the port of a listener of %s, allowed are %s, %d was given", key, ports(all), port)}
	case l.protocol == "tcp" && !connections:
		return Violations{breach(path+".port", "must be a port for requests, %d of %s is for TCP", port, key)}
	}
	return nil
}

// forConnections reports whether a policy can hold for connections, where there are no
// requests: it says who may call, and asks nothing about requests.
func (s *PolicySpec) forConnections() bool {
	return s.Action.Access != nil && s.Match == nil &&
		(s.From == nil || slices.ContainsFunc(s.From, func(c PolicyClient) bool { return c.Headers == nil }))
}

// checkMirrorTarget refuses copies to where the requests themselves go.
func checkMirrorTarget(path string, s *PolicySpec, key Key, target any) Violations {
	to, ok := s.copiesTo()
	if !ok {
		return nil
	}
	leads := key == to
	switch t := target.(type) {
	case *RouteSpec:
		for _, w := range t.Targets() {
			leads = leads || to.Kind == KindVirtualNode && w.VirtualNode == to.Name
		}
	case *VirtualServiceSpec:
		leads = leads || to.Kind == KindVirtualNode && t.Provider != nil && t.Provider.VirtualNode != nil && t.Provider.VirtualNode.VirtualNodeName == to.Name
	}
	if !leads {
		return nil
	}
	return Violations{breach(path+"."+to.Kind.String()+"."+to.Kind.NameMember(), "must not be where the requests go themselves, as %s leads to %s", key, quote(to.Name))}
}

// CheckMirror checks where a policy, found at path, sends copies, against the spec of that
// virtual node or service.
func CheckMirror(path string, s *PolicySpec, to any) Violations {
	path += ".action.mirror.to"
	switch to := to.(type) {
	case *VirtualNodeSpec:
		if n := s.Action.Mirror.To.VirtualNode; n != nil {
			return checkMirrorNode(path+".virtualNode", n, to)
		}
	case *VirtualServiceSpec:
		if n := s.Action.Mirror.To.VirtualService; n != nil {
			return checkMirrorService(path+".virtualService", n, s.Target, to)
		}
	}
	return nil
}

// checkMirrorNode checks that a port is one of the virtual node's listeners, and takes
// requests.
func checkMirrorNode(path string, n *MirrorNode, to *VirtualNodeSpec) Violations {
	all := listeners(to)
	switch l := find(all, n.Port); {
	case len(all) == 0:
		return Violations{breach(path, "must have a listener, virtual node %s has none", quote(n.VirtualNodeName))}
	case l == nil:
		return Violations{breach(path+".port", "must be the port of a listener of virtual node %s, allowed are %s, %d was given", quote(n.VirtualNodeName), ports(all), *n.Port)}
	case l.protocol == "tcp" && (n.Port != nil || len(all) == 1):
		return Violations{breach(path+".port", "must be a port for requests, %d of virtual node %s is for TCP", l.port, quote(n.VirtualNodeName))}
	}
	return nil
}

// checkMirrorService refuses a service whose router is the policy's target, or has it.
func checkMirrorService(path string, n *MirrorService, target *PolicyTarget, to *VirtualServiceSpec) Violations {
	router := ""
	switch {
	case target.VirtualRouter != nil:
		router = target.VirtualRouter.VirtualRouterName
	case target.Route != nil:
		router = target.Route.VirtualRouterName
	}
	if router == "" || to.Provider == nil || to.Provider.VirtualRouter == nil || to.Provider.VirtualRouter.VirtualRouterName != router {
		return nil
	}
	return Violations{breach(path+".virtualServiceName", "must not be where the requests go themselves, as virtual router %s provides %s", quote(router), quote(n.VirtualServiceName))}
}
