package mesh

import "strings"

// References returns the objects of the same mesh that a spec names and that must
// exist for it to be stored: a route's targets, a virtual service's provider, a
// gateway route's virtual service. A virtual node's backends are not among them:
// App Mesh lets nodes name services that are not there yet. Each is listed once.
func References(spec any) []Key {
	var keys []Key
	add := func(kind Kind, name string) {
		k := Key{Kind: kind, Name: name}
		for _, have := range keys {
			if have == k {
				return
			}
		}
		keys = append(keys, k)
	}
	switch s := spec.(type) {
	case *RouteSpec:
		for _, t := range s.Targets() {
			add(KindVirtualNode, t.VirtualNode)
		}
	case *VirtualServiceSpec:
		if p := s.Provider; p != nil && p.VirtualNode != nil {
			add(KindVirtualNode, p.VirtualNode.VirtualNodeName)
		} else if p != nil && p.VirtualRouter != nil {
			add(KindVirtualRouter, p.VirtualRouter.VirtualRouterName)
		}
	case *GatewayRouteSpec:
		if t := s.Target(); t != nil {
			add(KindVirtualService, t.VirtualService.VirtualServiceName)
		}
	}
	return keys
}

// Targets returns the weighted targets of whichever kind of route s is.
func (s *RouteSpec) Targets() []WeightedTarget {
	switch {
	case s.HttpRoute != nil:
		return s.HttpRoute.Action.WeightedTargets
	case s.Http2Route != nil:
		return s.Http2Route.Action.WeightedTargets
	case s.GrpcRoute != nil:
		return s.GrpcRoute.Action.WeightedTargets
	case s.TcpRoute != nil:
		return s.TcpRoute.Action.WeightedTargets
	}
	return nil
}

// Target returns what whichever kind of gateway route s is leads to; nil for none.
func (s *GatewayRouteSpec) Target() *GatewayRouteTarget {
	switch {
	case s.HttpRoute != nil:
		return s.HttpRoute.Action.Target
	case s.Http2Route != nil:
		return s.Http2Route.Action.Target
	case s.GrpcRoute != nil:
		return s.GrpcRoute.Action.Target
	}
	return nil
}

// backendService returns the name of the virtual service that a backend of mesh m
// means: backends may give its name or its full ARN. An ARN of another mesh is no
// service of this one, and is returned as it is.
func backendService(m MeshID, ref string) string {
	if !strings.HasPrefix(ref, "arn:") {
		return ref
	}
	id, _, err := ParseARN(ref, m.Account, m.Region)
	if err != nil || id.Mesh != m || id.Kind != KindVirtualService {
		return ref
	}
	return id.Name
}

// Dependents returns what a spec of mesh m names: References, and the virtual
// services that a virtual node has as backends, which need not exist. Each is listed
// once. A backend that is an ARN of another mesh is in foreign, as it was given.
func Dependents(m MeshID, spec any) (keys []Key, foreign []string) {
	node, ok := spec.(*VirtualNodeSpec)
	if !ok {
		return References(spec), nil
	}
	seen := map[string]bool{}
	for _, b := range node.Backends {
		if b.VirtualService == nil {
			continue
		}
		name := backendService(m, b.VirtualService.VirtualServiceName)
		switch {
		case seen[name]:
		case strings.HasPrefix(name, "arn:"):
			foreign = append(foreign, name)
		default:
			keys = append(keys, Key{Kind: KindVirtualService, Name: name})
		}
		seen[name] = true
	}
	return keys, foreign
}
