package envoy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// gateway is the translation of a virtual gateway.
type gateway struct {
	*translator
	services map[string]*mesh.Service
	ports    map[string][]servicePort // of the services, as far as they were asked for
	routes   []*gatewayRoute          // in the order in which they are tried
	// limits are the circuit breakers of the clusters that a listener with a connection
	// pool leads to.
	limits map[string]*clusterv3.CircuitBreakers_Thresholds
	// second are the routes of the second passes, by the clusters that lead to them; none
	// for one that cannot be made.
	second map[string][]*routev3.Route
}

// gateway emits what brings calls from outside to the mesh's services: for each of the
// gateway's listeners a listener and a route configuration.
func (t *translator) gateway() {
	g := &gateway{
		translator: t,
		services:   make(map[string]*mesh.Service, len(t.view.Services)),
		ports:      map[string][]servicePort{},
		limits:     map[string]*clusterv3.CircuitBreakers_Thresholds{},
		second:     map[string][]*routev3.Route{},
	}
	for i := range t.view.Services {
		g.services[t.view.Services[i].Name] = &t.view.Services[i]
	}
	g.readRoutes()
	spec := t.view.Gateway
	t.accessLog = t.accessLogs(gatewayLogging(spec.Logging))
	for i := range spec.Listeners {
		g.listener(gatewayListener(&spec.Listeners[i]), i)
	}
	g.limitClusters()
	g.dropUnused()
}

// listener emits one of the gateway's listeners, l, which is at a place in its list.
func (g *gateway) listener(l *mesh.Listener, i int) {
	if !g.servableAt(l, i) {
		return
	}
	protocol, port, field := l.PortMapping.Protocol, uint32(l.PortMapping.Port), index("listeners", i)
	routes := ingressRoutesName(protocol, port)
	filters := g.connectionManager(manager{
		statPrefix: ingressStatPrefix(len(g.view.Gateway.Listeners), protocol, port),
		routes:     routes, inbound: true, edge: true,
	})
	chains, ok := g.listenerChains(l, field, filters, false)
	if !ok || filters == nil || !g.emitListener(ingressListenerName(g.listenOn, port), port, corev3.TrafficDirection_INBOUND, chains, nil) {
		return
	}
	limits := g.limited(g.allLimits(l), ingressStatPrefix(len(g.view.Gateway.Listeners), protocol, port))
	config := &routev3.RouteConfiguration{
		Name:         routes,
		VirtualHosts: g.virtualHostsOf(l),
		// A client may name the port that it came by, and need not.
		IgnorePortInHostMatching: true,
		TypedPerFilterConfig:     limits.with(g.accessIn(l.PortMapping.Port, "", proofOf(l))),
		RequestHeadersToRemove:   limits.remove,
	}
	g.limit(l, config, field+".connectionPool")
	g.emit(TypeRoute, routes, config)
}

// servableAt reports whether a listener of the gateway is served, and notes a problem
// if not.
func (g *gateway) servableAt(l *mesh.Listener, i int) bool {
	m, field := l.PortMapping, index("listeners", i)
	first := slices.IndexFunc(g.view.Gateway.Listeners, func(o mesh.VirtualGatewayListener) bool { return o.PortMapping.Port == m.Port })
	switch {
	case first != i:
		g.problem(g.self(), field+".portMapping.port", "port %d is listed twice: this listener is left out", m.Port)
	case !carriesHTTP(m.Protocol):
		g.problem(g.self(), field+".portMapping.protocol", "a gateway cannot speak %s, allowed are http, http2 and grpc: port %d is closed", m.Protocol, m.Port)
	default:
		return true
	}
	return false
}

// carriesHTTP reports whether requests can be told apart in a protocol.
func carriesHTTP(protocol string) bool {
	return protocol == protoHTTP || protocol == protoHTTP2 || protocol == protoGRPC
}

// virtualHostsOf returns the virtual hosts of a listener: one for each host that a
// gateway route names, with the routes that name it, and one for all other hosts, with
// the routes that name none.
func (g *gateway) virtualHostsOf(l *mesh.Listener) []*routev3.VirtualHost {
	byDomain := map[string]*routev3.VirtualHost{}
	host := func(domain string) *routev3.VirtualHost {
		h := byDomain[domain]
		if h == nil {
			h = &routev3.VirtualHost{Name: domain, Domains: []string{domain}}
			byDomain[domain] = h
		}
		return h
	}
	others := host(fallbackHost)
	for _, r := range g.routes {
		if r.servedBy(l) {
			h := host(r.domain)
			h.Routes = append(h.Routes, g.policiesIn(r, l)...)
		}
	}
	out := make([]*routev3.VirtualHost, 0, len(byDomain))
	for domain, h := range byDomain {
		// Envoy's wildcard stands for one character at least, a suffix of App Mesh's for
		// none as well.
		if bare, ok := strings.CutPrefix(domain, "*"); ok && bare != "" && bare[0] != '.' && byDomain[bare] == nil {
			h.Domains = append(h.Domains, bare)
		}
		if h == others {
			h.Routes = append(h.Routes, healthRoutes(l)...)
		}
		h.Routes = append(h.Routes, g.noRoute())
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b *routev3.VirtualHost) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// allLimits returns the limits of what comes in by a listener, and of what goes on from there
// to services.
func (g *gateway) allLimits(l *mesh.Listener) []limit {
	out := g.limitsIn(l.PortMapping.Port)
	for i := range g.view.Services {
		out = append(out, g.limitsOut(&g.view.Services[i])...)
	}
	return out
}

// policiesIn returns the routes of a gateway route with what policies make of them.
func (g *gateway) policiesIn(r *gatewayRoute, l *mesh.Listener) []*routev3.Route {
	port := l.PortMapping.Port
	routes := g.accessByRoute(g.markedIn(g.envoyRoutes(r), r.name), port, r.name, proofOf(l))
	return g.quotasIn(g.faultsIn(g.mirrorsIn(routes, l.PortMapping, r.name), port, r.name), port, r.name)
}

// healthRoutes answer the health checks of what stands before the gateway, at the path
// that its listener's health check has. They come last: a gateway route for the path
// goes before them.
func healthRoutes(l *mesh.Listener) []*routev3.Route {
	c := l.HealthCheck
	if c == nil || c.Path == nil || c.Protocol == protoGRPC {
		return nil
	}
	path := *c.Path
	if !strings.HasPrefix(path, "/") || strings.ContainsFunc(path, notInPath) || strings.ContainsAny(path, "?#") {
		return nil
	}
	return []*routev3.Route{{
		Name:   "health",
		Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: path}},
		Action: answer(200, "Fairlead: the virtual gateway is up.\n"),
		// What stands before the gateway is no client, and has no identity in the mesh.
		TypedPerFilterConfig: map[string]*anypb.Any{accessInName: notHere},
	}}
}

// noRoute answers the requests that no gateway route matches.
func (g *gateway) noRoute() *routev3.Route {
	format := fmt.Sprintf("Fairlead: virtual gateway %s in mesh %s has no gateway route for this request to %%REQ(:AUTHORITY):255%%.\n", g.view.Key.Name, g.mesh)
	return &routev3.Route{
		Match: anyPath,
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
			Status: 404,
			BodyFormat: &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormatSource{
				TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: format}},
			}},
		}},
	}
}

// limit notes what the connection pool of a listener asks of the clusters that its
// routes lead to. Where listeners with different pools lead to one cluster, the lower
// limits hold: no service gets more than any of them allows.
func (g *gateway) limit(l *mesh.Listener, config *routev3.RouteConfiguration, field string) {
	breakers := g.connectionPool(l, field)
	if breakers == openBreakers {
		return
	}
	pool := breakers.Thresholds[0]
	for _, h := range config.VirtualHosts {
		g.limitRoutes(h.Routes, pool)
	}
}

func (g *gateway) limitRoutes(routes []*routev3.Route, pool *clusterv3.CircuitBreakers_Thresholds) {
	for _, r := range routes {
		for _, cluster := range clustersOf(r) {
			if second, ok := g.second[cluster]; ok {
				g.limitRoutes(second, pool)
			} else {
				g.limits[cluster] = lowerLimits(g.limits[cluster], pool)
			}
		}
	}
}

// lowerLimits returns the lower of two sets of limits, one by one; a may be nil.
func lowerLimits(a, b *clusterv3.CircuitBreakers_Thresholds) *clusterv3.CircuitBreakers_Thresholds {
	if a == nil {
		return b
	}
	least := func(a, b *wrapperspb.UInt32Value) *wrapperspb.UInt32Value {
		return wrapperspb.UInt32(min(a.GetValue(), b.GetValue()))
	}
	return &clusterv3.CircuitBreakers_Thresholds{
		MaxConnections:     least(a.MaxConnections, b.MaxConnections),
		MaxPendingRequests: least(a.MaxPendingRequests, b.MaxPendingRequests),
		MaxRequests:        least(a.MaxRequests, b.MaxRequests),
		MaxRetries:         least(a.MaxRetries, b.MaxRetries),
	}
}

// limitClusters gives the clusters their limits. The clusters are this translation's
// own, and nobody has them yet.
func (g *gateway) limitClusters() {
	for _, r := range g.resources {
		if c, ok := r.Message.(*clusterv3.Cluster); ok && g.limits[c.Name] != nil {
			c.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{g.limits[c.Name]}}
		}
	}
}

// dropUnused takes out the clusters that no route leads to, those of a service's other
// ports: Envoy would look up their names and check their health.
func (g *gateway) dropUnused() {
	used := map[string]bool{}
	for _, r := range g.resources {
		if c, ok := r.Message.(*routev3.RouteConfiguration); ok {
			for _, h := range c.VirtualHosts {
				for _, route := range h.Routes {
					for _, cluster := range clustersOf(route) {
						used[cluster] = true
					}
				}
			}
		}
	}
	type source struct {
		node mesh.Key
		of   mesh.InstancesKey
	}
	left := map[source]bool{} // of endpoints
	g.resources = slices.DeleteFunc(g.resources, func(r Resource) bool {
		if (r.Type == TypeCluster || r.Type == TypeEndpoint) && !used[r.Name] {
			return true
		}
		if r.Assignment != nil {
			left[source{r.Object, r.Assignment.Instances}] = true
		}
		return false
	})
	g.problems = slices.DeleteFunc(g.problems, func(p Problem) bool {
		return p.Instances != mesh.InstancesKey{} && !left[source{p.Object, p.Instances}]
	})
}

// clustersOf returns the clusters that a route leads to, copies too.
func clustersOf(r *routev3.Route) []string {
	a := r.GetRoute()
	var out []string
	for _, m := range a.GetRequestMirrorPolicies() {
		out = append(out, m.Cluster)
	}
	if c := a.GetCluster(); c != "" {
		return append(out, c)
	}
	for _, w := range a.GetWeightedClusters().GetClusters() {
		out = append(out, w.Name)
	}
	return out
}
