package envoy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// gatewayRoute is a gateway route, read: what it matches, how it changes a request and
// where it leads.
type gatewayRoute struct {
	name     string
	key      mesh.Key
	member   string // of the spec, for example "httpRoute"
	protocol string // of the listeners that it is for
	port     *int64 // the listener's, nil for any
	domain   string // the host as Envoy names it, "*" for all

	// A request is the route's if its path is in one of paths and it meets all
	// conditions. No path is in two of them.
	paths      []gatewayPath
	headers    []*routev3.HeaderMatcher
	query      []*routev3.QueryParameterMatcher
	grpc       bool // gRPC requests only
	priority   int64
	kind       int // of path match, in the order in which they are tried
	length     int // of the path, expression or prefix
	conditions int // how many others

	service    string
	targetPort *int64
	keepHost   bool // the request's host is not changed

	built  bool
	routes []*routev3.Route // once built
}

// readRoutes reads the gateway's routes and puts them in order. One that cannot be
// served as it is written is left out.
func (g *gateway) readRoutes() {
	for i := range g.view.GatewayRoutes {
		if r := g.readRoute(&g.view.GatewayRoutes[i]); r != nil {
			g.routes = append(g.routes, r)
		}
	}
	slices.SortStableFunc(g.routes, compareGatewayRoutes)
}

// compareGatewayRoutes orders two gateway routes as compareRoutes orders a router's.
func compareGatewayRoutes(a, b *gatewayRoute) int {
	return cmp.Or(
		cmp.Compare(a.priority, b.priority),
		cmp.Compare(a.kind, b.kind),
		cmp.Compare(b.length, a.length),
		cmp.Compare(b.conditions, a.conditions),
		cmp.Compare(a.name, b.name),
	)
}

func (g *gateway) readRoute(in *mesh.GatewayRoute) *gatewayRoute {
	r := &gatewayRoute{
		name:     in.Name,
		key:      mesh.Key{Kind: mesh.KindGatewayRoute, Parent: g.view.Key.Name, Name: in.Name},
		domain:   fallbackHost,
		priority: lowestPriority,
	}
	if p := in.Spec.Priority; p != nil {
		r.priority = *p
	}
	ok := false
	switch s := in.Spec; {
	case s.HttpRoute != nil:
		r.member, r.protocol = "httpRoute", protoHTTP
		ok = g.readHTTP(r, s.HttpRoute)
	case s.Http2Route != nil:
		r.member, r.protocol = "http2Route", protoHTTP2
		ok = g.readHTTP(r, s.Http2Route)
	case s.GrpcRoute != nil:
		r.member, r.protocol = "grpcRoute", protoGRPC
		ok = g.readGRPC(r, s.GrpcRoute)
	default:
		g.problem(r.key, "", "the route has neither match nor action: it is left out")
	}
	if !ok {
		return nil
	}
	target := in.Spec.Target()
	r.service, r.targetPort = target.VirtualService.VirtualServiceName, target.Port
	if r.port != nil {
		r.conditions++
	}
	if !slices.ContainsFunc(g.view.Gateway.Listeners, func(l mesh.VirtualGatewayListener) bool { return r.servedBy(gatewayListener(&l)) }) {
		field, on := r.member, ""
		if r.port != nil {
			field, on = r.member+".match.port", fmt.Sprintf(" on port %d", *r.port)
		}
		g.problem(r.key, field, "the virtual gateway has no listener that speaks %s%s: the route is left out", r.protocol, on)
		return nil
	}
	return r
}

// servedBy reports whether a listener of the gateway brings requests to the route.
func (r *gatewayRoute) servedBy(l *mesh.Listener) bool {
	return l.PortMapping.Protocol == r.protocol && (r.port == nil || *r.port == l.PortMapping.Port)
}

// readHost reads which hosts a route is for, and reports whether it could.
func (g *gateway) readHost(r *gatewayRoute, m *mesh.GatewayRouteHostnameMatch) bool {
	field := r.member + ".match.hostname"
	switch {
	case m == nil:
		return true
	case (m.Exact == nil) == (m.Suffix == nil):
		g.problem(r.key, field, "allowed is one of exact and suffix: the route is left out")
	case m.Exact != nil && !validHost(*m.Exact):
		g.problem(r.key, field+".exact", "%q is not a host name: the route is left out", *m.Exact)
	case m.Exact != nil:
		r.domain = lower(*m.Exact)
		return true
	case !validHost(strings.TrimPrefix(*m.Suffix, ".")):
		g.problem(r.key, field+".suffix", "%q is not the end of a host name: the route is left out", *m.Suffix)
	default:
		r.domain = "*" + lower(*m.Suffix)
		return true
	}
	return false
}

// target returns the port of a service that a gateway route leads to. It returns nil,
// having noted why, if there is none.
func (g *gateway) target(r *gatewayRoute) *servicePort {
	field := r.member + ".action.target."
	s := g.services[r.service]
	if s == nil || s.Missing {
		g.problem(r.key, field+"virtualService.virtualServiceName", "virtual service %q does not exist: requests are answered with 503", r.service)
		return nil
	}
	ports, known := g.ports[s.Name]
	if !known {
		ports = g.portsOf(s)
		g.ports[s.Name] = ports
	}
	var p *servicePort
	switch {
	case len(ports) == 0:
		return nil // the service's problem
	case len(ports) == 1 && ports[0].port == 0:
		return &ports[0] // the same; it answers 503
	case r.targetPort != nil:
		i := slices.IndexFunc(ports, func(p servicePort) bool { return int64(p.port) == *r.targetPort })
		if i < 0 {
			g.problem(r.key, field+"port", "virtual service %q has no port %d: requests are answered with 503", s.Name, *r.targetPort)
			return nil
		}
		p = &ports[i]
	case len(ports) > 1:
		g.problem(r.key, field+"port", "virtual service %q has several ports and none is named: requests are answered with 503", s.Name)
		return nil
	default:
		p = &ports[0]
	}
	if !carriesHTTP(p.protocol) {
		g.problem(r.key, field+"port", "port %d of virtual service %q speaks %s, allowed are http, http2 and grpc: requests are answered with 503", p.port, s.Name, p.protocol)
		return nil
	}
	return p
}

// envoyRoutes returns the routes that a gateway route becomes, in the order in which
// they are tried. What it matches it keeps: a request that none of the service's routes
// matches is answered with 404, and goes to no later gateway route.
func (g *gateway) envoyRoutes(r *gatewayRoute) []*routev3.Route {
	if r.built {
		return r.routes
	}
	r.built = true
	p := g.target(r)
	for _, path := range r.paths {
		if p == nil {
			r.routes = append(r.routes, r.refuse(path, fmt.Sprintf("Fairlead knows no target for gateway route %q: its problems say why.\n", r.name)))
		} else {
			r.routes = append(r.routes, g.compose(r, path, p)...)
		}
	}
	for _, out := range r.routes {
		out.Metadata = withData(out.Metadata, g.metricTag(tagService, r.service))
	}
	r.routes = slices.DeleteFunc(r.routes, func(out *routev3.Route) bool { return !g.valid(out, r.key, "", "the route") })
	return r.routes
}

// refuse answers the requests of a gateway route that cannot be served.
func (r *gatewayRoute) refuse(p gatewayPath, body string) *routev3.Route {
	return &routev3.Route{Name: r.name, Match: r.match(p), Action: answer(503, body)}
}

// match returns what matches the requests of a gateway route whose path is in one of
// its paths.
func (r *gatewayRoute) match(p gatewayPath) *routev3.RouteMatch {
	m := &routev3.RouteMatch{Headers: r.headers, QueryParameters: r.query}
	if r.grpc {
		m.Grpc = &routev3.RouteMatch_GrpcRouteMatchOptions{}
	}
	p.specify(m)
	return m
}

// change lets an action make the changes that a gateway route makes to a request whose
// path is in p.
func (r *gatewayRoute) change(a *routev3.RouteAction, p gatewayPath) {
	p.rewritePath(a)
	if !r.keepHost {
		a.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: r.service}
		// The application can still tell which host was called.
		a.AppendXForwardedHost = true
	}
}
