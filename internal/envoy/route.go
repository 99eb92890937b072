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

// routeKind is what the four kinds of routes have in common.
type routeKind struct {
	member   string // of the route's spec, for example "httpRoute"
	protocol string // of the listeners that the route is for
	port     *int64 // the port of the router that the route is for, nil for all
}

// kindOfRoute returns the kind of a route, the zero value for one that has none.
func kindOfRoute(s *mesh.RouteSpec) routeKind {
	switch {
	case s.HttpRoute != nil:
		return routeKind{"httpRoute", protoHTTP, s.HttpRoute.Match.Port}
	case s.Http2Route != nil:
		return routeKind{"http2Route", protoHTTP2, s.Http2Route.Match.Port}
	case s.GrpcRoute != nil:
		return routeKind{"grpcRoute", protoGRPC, s.GrpcRoute.Match.Port}
	case s.TcpRoute != nil && s.TcpRoute.Match != nil:
		return routeKind{"tcpRoute", protoTCP, s.TcpRoute.Match.Port}
	case s.TcpRoute != nil:
		return routeKind{"tcpRoute", protoTCP, nil}
	}
	return routeKind{}
}

// takes reports whether a router's listener is one that a route is for.
func (k routeKind) takes(m *mesh.PortMapping) bool {
	return k.protocol == m.Protocol && (k.port == nil || *k.port == m.Port)
}

// sortedRoutes returns the routes of a service's router in the order in which they are
// tried, without those that are for none of its listeners.
func (t *translator) sortedRoutes(r *mesh.Router) []mesh.Route {
	out := make([]mesh.Route, 0, len(r.Routes))
	for i := range r.Routes {
		if t.fitsRouter(r, &r.Routes[i]) {
			out = append(out, r.Routes[i])
		}
	}
	slices.SortStableFunc(out, compareRoutes)
	return out
}

// fitsRouter reports whether a route is for one of its router's listeners, and notes a
// problem if not.
func (t *translator) fitsRouter(r *mesh.Router, route *mesh.Route) bool {
	key, k := routeKey(r.Name, route.Name), kindOfRoute(route.Spec)
	if k.protocol == "" {
		t.problem(key, "", "the route has neither match nor action: it is left out")
		return false
	}
	onPort := ""
	for _, l := range r.Spec.Listeners {
		if k.takes(l.PortMapping) {
			return true
		}
		if k.port != nil && *k.port == l.PortMapping.Port && onPort == "" {
			onPort = l.PortMapping.Protocol
		}
	}
	switch {
	case k.port != nil && onPort == "":
		t.problem(key, k.member+".match.port", "the virtual router has no listener on port %d: the route is left out", *k.port)
	case k.port != nil:
		t.problem(key, k.member, "the virtual router's listener on port %d speaks %s, the route is for %s: it is left out", *k.port, onPort, k.protocol)
	default:
		t.problem(key, k.member, "the virtual router has no listener that speaks %s: the route is left out", k.protocol)
	}
	return false
}

// httpRoutes returns the routes of one HTTP port of a service's router, of all its
// routes in the order in which they are tried.
func (t *translator) httpRoutes(s *mesh.Service, m *mesh.PortMapping, sorted []mesh.Route) []*routev3.Route {
	out := make([]*routev3.Route, 0, len(sorted))
	for i := range sorted {
		if !kindOfRoute(sorted[i].Spec).takes(m) {
			continue
		}
		if r := t.route(s, &sorted[i]); r != nil {
			out = append(out, t.policiesOut([]*routev3.Route{r}, s, m.Protocol, sorted[i].Name)...)
		}
	}
	return out
}

// route translates one route of a service's router that is not for TCP. It returns nil
// for a route that is left out, having noted why.
func (t *translator) route(s *mesh.Service, r *mesh.Route) *routev3.Route {
	key, k := routeKey(s.Router.Name, r.Name), kindOfRoute(r.Spec)
	at := place{key, k.member}
	out := &routev3.Route{Name: r.Name}
	action := &routev3.RouteAction{}
	if g := r.Spec.GrpcRoute; g != nil && k.protocol == protoGRPC {
		out.Match = t.grpcMatch(at.in("match"), g.Match)
		action.RetryPolicy = t.grpcRetries(at, g.RetryPolicy)
		action.Timeout, action.IdleTimeout = timeouts((*mesh.HttpTimeout)(g.Timeout))
	} else {
		h := r.Spec.HttpRoute
		if h == nil {
			h = r.Spec.Http2Route
		}
		out.Match = t.match(at.in("match"), h.Match)
		action.RetryPolicy = t.httpRetries(at, h.RetryPolicy)
		action.Timeout, action.IdleTimeout = timeouts(h.Timeout)
	}
	if out.Match == nil {
		return nil
	}
	if t.spread(action, s, at, k.protocol, r.Spec.Targets()) {
		out.Action = &routev3.Route_Route{Route: action}
	} else {
		out.Action = answer(503, fmt.Sprintf("Fairlead knows no target for route %q of virtual router %q: its problems say why.\n", r.Name, s.Router.Name))
	}
	return out
}

// share is a cluster with its share of a route's calls.
type share struct {
	cluster string
	weight  uint32
}

// shares returns the clusters of the targets of a route at a place, those that can be
// served, in an order of their own: that of the targets means nothing, and a fixed one
// keeps an edit of it from being sent out.
func (t *translator) shares(s *mesh.Service, at place, protocol string, targets []mesh.WeightedTarget) []share {
	out := make([]share, 0, len(targets))
	for i := range targets {
		w := &targets[i]
		g := t.weighted(s, w)
		reason := g.reason
		if reason == "" {
			reason = g.carries(protocol)
		}
		cluster := ""
		if reason == "" {
			cluster, reason = t.reach(s, g)
		}
		if reason != "" {
			field := "virtualNode"
			if w.Port != nil && g.spec != nil {
				field = "port"
			}
			t.problemAt(at.in("action.weightedTargets").at(i).in(field), "%s: the target is left out, the others take its share", reason)
			continue
		}
		out = append(out, share{cluster, clampUint32(w.Weight)})
	}
	slices.SortStableFunc(out, func(a, b share) int {
		return cmp.Or(cmp.Compare(a.cluster, b.cluster), cmp.Compare(a.weight, b.weight))
	})
	return out
}

// served reports whether shares add up to something, and notes a problem with the route
// at a place if not.
func (t *translator) served(all []share, at place, otherwise string) bool {
	var total uint64
	for _, s := range all {
		total += uint64(s.weight)
	}
	if total > 0 {
		return true
	}
	at = at.in("action.weightedTargets")
	if len(all) > 0 {
		t.problemAt(at, "all weights are 0: %s", otherwise)
	} else {
		t.problemAt(at, "no target can be served: %s", otherwise)
	}
	return false
}

// spread gives an action the clusters of a route's targets by weight; those with a
// weight of 0 stay listed. It reports false if no target remains that a request could
// be sent to.
func (t *translator) spread(action *routev3.RouteAction, s *mesh.Service, at place, protocol string, targets []mesh.WeightedTarget) bool {
	all := t.shares(s, at, protocol, targets)
	if !t.served(all, at, "requests are answered with 503") {
		return false
	}
	if len(all) == 1 {
		action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: all[0].cluster}
		return true
	}
	clusters := make([]*routev3.WeightedCluster_ClusterWeight, 0, len(all))
	for _, s := range all {
		clusters = append(clusters, &routev3.WeightedCluster_ClusterWeight{Name: s.cluster, Weight: wrapperspb.UInt32(s.weight)})
	}
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
