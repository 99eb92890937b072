package envoy

import (
	"cmp"
	"fmt"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// lowestPriority is the priority of a route that has none: it comes after those that
// have one, as AWS's walk-throughs rely on.
const lowestPriority = 1000

// portRoute is a route with the port of the router that it is for, 0 for all.
type portRoute struct {
	port  uint32
	route *routev3.Route
}

// routesOf returns the routes of one port of a router.
func routesOf(routes []portRoute, port uint32) []*routev3.Route {
	out := make([]*routev3.Route, 0, len(routes))
	for _, r := range routes {
		if r.port == 0 || r.port == port {
			out = append(out, r.route)
		}
	}
	return out
}

// routerRoutes returns the routes of a service's router in the order in which they
// are tried.
func (t *translator) routerRoutes(s *mesh.Service) []portRoute {
	sorted := slices.Clone(s.Router.Routes)
	slices.SortStableFunc(sorted, compareRoutes)
	out := make([]portRoute, 0, len(sorted))
	for i := range sorted {
		if r, port := t.route(s, &sorted[i]); r != nil {
			out = append(out, portRoute{port, r})
		}
	}
	return out
}

// compareRoutes orders two routes of a router. App Mesh documents the priority and,
// for prefixes, the longest first; the rest is ours:
//
//  1. the priority, 0 first, routes without one together with 1000;
//  2. an exact path before a regular expression before a prefix;
//  3. the longer path, expression or prefix;
//  4. more conditions: method, scheme, port, headers and query parameters;
//  5. the name.
func compareRoutes(a, b mesh.Route) int {
	if c := cmp.Compare(priority(a.Spec), priority(b.Spec)); c != 0 {
		return c
	}
	kindA, lengthA, conditionsA := weigh(a.Spec)
	kindB, lengthB, conditionsB := weigh(b.Spec)
	return cmp.Or(
		cmp.Compare(kindA, kindB),
		cmp.Compare(lengthB, lengthA),
		cmp.Compare(conditionsB, conditionsA),
		cmp.Compare(a.Name, b.Name),
	)
}

func priority(s *mesh.RouteSpec) int64 {
	if s.Priority == nil {
		return lowestPriority
	}
	return *s.Priority
}

// weigh returns what the order of routes looks at: the kind of path match in the
// order in which they are tried, its length, and the number of other conditions.
func weigh(s *mesh.RouteSpec) (kind, length, conditions int) {
	if s.HttpRoute == nil {
		return 0, 0, 0
	}
	m := s.HttpRoute.Match
	conditions = len(m.Headers) + len(m.QueryParameters)
	for _, set := range []bool{m.Method != nil, m.Scheme != nil, m.Port != nil} {
		if set {
			conditions++
		}
	}
	switch {
	case m.Path != nil && m.Path.Exact != nil:
		return 0, len(*m.Path.Exact), conditions
	case m.Path != nil && m.Path.Regex != nil:
		return 1, len(*m.Path.Regex), conditions
	case m.Prefix != nil:
		return 2, len(*m.Prefix), conditions
	}
	return 2, 0, conditions
}

// route translates one route of a service's router. It returns nil for a route that
// is left out, having noted why.
func (t *translator) route(s *mesh.Service, r *mesh.Route) (out *routev3.Route, port uint32) {
	key := routeKey(s.Router.Name, r.Name)
	spec := r.Spec.HttpRoute
	if spec == nil {
		t.otherRoute(key, r.Spec)
		return nil, 0
	}
	match := t.match(key, spec.Match)
	if match == nil {
		return nil, 0
	}
	if p := spec.Match.Port; p != nil {
		port = uint32(*p)
		if !slices.ContainsFunc(s.Router.Spec.Listeners, func(l mesh.VirtualRouterListener) bool { return l.PortMapping.Port == *p }) {
			t.problem(key, "httpRoute.match.port", "the virtual router has no listener on port %d: the route is left out", *p)
			return nil, 0
		}
	}
	out = &routev3.Route{Name: r.Name, Match: match}
	action := &routev3.RouteAction{RetryPolicy: t.retries(key, spec.RetryPolicy)}
	action.Timeout, action.IdleTimeout = timeouts(spec.Timeout)
	if t.spread(action, s, key, spec.Action.WeightedTargets) {
		out.Action = &routev3.Route_Route{Route: action}
	} else {
		out.Action = answer(503, fmt.Sprintf("Fairlead knows no target for route %q of virtual router %q: its problems say why.\n", r.Name, s.Router.Name))
	}
	return out, port
}

// otherRoute notes why a route that is not for http is left out.
func (t *translator) otherRoute(key mesh.Key, s *mesh.RouteSpec) {
	switch {
	case s.Http2Route != nil:
		t.problem(key, "http2Route", "an http2 route %s: the route is left out", notServed)
	case s.GrpcRoute != nil:
		t.problem(key, "grpcRoute", "a gRPC route %s: the route is left out", notServed)
	case s.TcpRoute != nil:
		t.problem(key, "tcpRoute", "a TCP route %s: the route is left out", notServed)
	default:
		t.problem(key, "", "the route has neither match nor action: it is left out")
	}
}

// spread gives an action the clusters of a route's targets by weight. It reports
// false if no target remains that a request could be sent to.
func (t *translator) spread(action *routev3.RouteAction, s *mesh.Service, key mesh.Key, targets []mesh.WeightedTarget) bool {
	clusters := make([]*routev3.WeightedCluster_ClusterWeight, 0, len(targets))
	var total uint64
	for i := range targets {
		w := &targets[i]
		g, field := t.target(w.VirtualNode, 0), "virtualNode"
		if w.Port != nil {
			g, field = t.target(w.VirtualNode, *w.Port), "port"
		}
		if g.reason == "" && t.mustEncrypt(s, g.port) {
			continue
		}
		cluster := t.reach(g)
		if cluster == "" {
			if g.spec == nil {
				field = "virtualNode"
			}
			t.problem(key, fmt.Sprintf("httpRoute.action.weightedTargets[%d].%s", i, field), "%s: the target is left out, the others take its share", g.reason)
			continue
		}
		weight := clampUint32(w.Weight)
		total += uint64(weight)
		clusters = append(clusters, &routev3.WeightedCluster_ClusterWeight{Name: cluster, Weight: wrapperspb.UInt32(weight)})
	}
	if total == 0 {
		if len(clusters) > 0 {
			t.problem(key, "httpRoute.action.weightedTargets", "all weights are 0: requests are answered with 503")
		} else {
			t.problem(key, "httpRoute.action.weightedTargets", "no target can be served: requests are answered with 503")
		}
		return false
	}
	if len(clusters) == 1 {
		action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: clusters[0].Name}
		return true
	}
	// The order of targets means nothing; a fixed one keeps an edit of it from being
	// sent out.
	slices.SortStableFunc(clusters, func(a, b *routev3.WeightedCluster_ClusterWeight) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Weight.Value, b.Weight.Value))
	})
	action.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: &routev3.WeightedCluster{Clusters: clusters}}
	return true
}

// answer returns an action that answers a request itself.
func answer(status uint32, body string) *routev3.Route_DirectResponse {
	return &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
		Status: status,
		Body:   &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: body}},
	}}
}
