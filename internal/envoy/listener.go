package envoy

import (
	"cmp"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// ingress emits what brings calls from the mesh to the application: for each of the
// node's listeners a cluster, a route configuration, and a listener (bound) or a
// filter chain of the one listener (redirected).
func (t *translator) ingress() {
	var chains []*listenerv3.FilterChain
	listeners := t.view.Node.Listeners
	for i := range listeners {
		l := &listeners[i]
		if !t.servable(listeners, i) {
			continue
		}
		field, port := index("listeners", i), uint32(l.PortMapping.Port)
		routes := ingressRoutesName(l.PortMapping.Protocol, port)
		filters := t.connectionManager(ingressStatPrefix(len(listeners), l.PortMapping.Protocol, port), routes)
		cluster := t.ingressCluster(l, port, field)
		if filters == nil || !t.valid(cluster, t.self(), field, "the listener") {
			continue
		}
		if t.profile.Bound {
			chain := []*listenerv3.FilterChain{{Filters: filters}}
			if !t.emitListener(ingressListenerName(t.listenOn, port), port, corev3.TrafficDirection_INBOUND, chain, nil) {
				continue
			}
		} else {
			chains = append(chains, portChain(port, filters))
		}
		t.emit(TypeCluster, cluster.Name, cluster)
		t.emit(TypeRoute, routes, &routev3.RouteConfiguration{
			Name: routes,
			VirtualHosts: []*routev3.VirtualHost{{
				Name: "ingress", Domains: []string{"*"}, Routes: t.ingressRoutes(l, cluster.Name, field),
			}},
		})
	}
	if len(chains) > 0 {
		sortChains(chains)
		t.emitListener(ingressListenerName(t.listenOn, ingressPort), ingressPort, corev3.TrafficDirection_INBOUND, chains, nil)
	}
}

// servable reports whether a listener of the node is served, and notes a problem if
// not. What asks for TLS is never served without it.
func (t *translator) servable(listeners []mesh.Listener, i int) bool {
	l, field := &listeners[i], index("listeners", i)
	m := l.PortMapping
	// The health check and the outlier detection are for clients; the node's own
	// problems list what is wrong with them as well.
	if l.HealthCheck != nil {
		t.healthCheckPath(l.HealthCheck, l, t.self(), i)
	}
	t.outlierDetection(l.OutlierDetection, t.self(), i)
	switch {
	case findListener(listeners, m.Port) != i:
		t.problem(t.self(), field+".portMapping.port", "port %d is listed twice: this listener is left out", m.Port)
	case m.Protocol != protoHTTP:
		t.problem(t.self(), field+".portMapping.protocol", "a listener that speaks %s %s: port %d is closed", m.Protocol, notServed, m.Port)
	case asksTLS(l):
		t.problem(t.self(), field+".tls.mode", "a listener with TLS (mode %s) %s: port %d is closed, it is never served in plain text", l.Tls.Mode, notServed, m.Port)
	case t.profile.Bound && uint32(m.Port) == egressPort:
		t.problem(t.self(), field+".portMapping.port", "port %d is taken by the proxy's egress listener: the listener is left out", m.Port)
	default:
		return true
	}
	return false
}

// ingressRoutes returns the routes of one of the node's listeners.
func (t *translator) ingressRoutes(l *mesh.Listener, cluster, field string) []*routev3.Route {
	var asked *mesh.HttpTimeout
	if l.Timeout != nil {
		if asked = l.Timeout.Http; asked == nil {
			t.problem(t.self(), field+".timeout", "the timeout is of another protocol than its listener, which is http: it has no effect")
		}
	}
	perRequest, idle := timeouts(asked)
	return ingressRoute(cluster, perRequest, idle)
}

// emitListener emits a listener and reports whether Envoy would take it.
func (t *translator) emitListener(name string, port uint32, direction corev3.TrafficDirection, chains []*listenerv3.FilterChain, otherwise *listenerv3.FilterChain) bool {
	l := &listenerv3.Listener{
		Name:               name,
		Address:            socket(t.listenOn.String(), port),
		TrafficDirection:   direction,
		FilterChains:       chains,
		DefaultFilterChain: otherwise,
	}
	if !t.profile.Bound {
		l.ListenerFilters = originalDst
		l.Address.GetSocketAddress().Ipv4Compat = t.listenOn.Is6()
	}
	t.countConnections(l)
	if !t.valid(l, t.self(), "", "listener "+name) {
		return false
	}
	t.emit(TypeListener, name, l)
	return true
}

// portChain returns the filter chain for connections made to a port.
func portChain(port uint32, filters []*listenerv3.Filter) *listenerv3.FilterChain {
	return &listenerv3.FilterChain{
		FilterChainMatch: &listenerv3.FilterChainMatch{DestinationPort: wrapperspb.UInt32(port)},
		Filters:          filters,
	}
}

// sortChains puts filter chains in the order of their ports. Envoy chooses by the
// port, so the order means nothing to it.
func sortChains(chains []*listenerv3.FilterChain) {
	slices.SortFunc(chains, func(a, b *listenerv3.FilterChain) int {
		return cmp.Compare(a.FilterChainMatch.DestinationPort.Value, b.FilterChainMatch.DestinationPort.Value)
	})
}
