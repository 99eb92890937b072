package envoy

import (
	"cmp"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// ingress emits what brings calls from the mesh to the application: for each of the
// node's listeners a cluster, for HTTP a route configuration, and a listener (bound) or
// filter chains of the one listener (redirected).
func (t *translator) ingress() {
	var chains []*listenerv3.FilterChain
	listeners := t.view.Node.Listeners
	for i := range listeners {
		if t.servable(listeners, i) {
			chains = append(chains, t.ingressListener(i)...)
		}
	}
	if len(chains) > 0 {
		t.emitListener(ingressListenerName(t.listenOn, ingressPort), ingressPort, corev3.TrafficDirection_INBOUND, chains, nil)
	}
}

// ingressListener emits what one of the node's listeners needs. It returns the filter
// chains that are left for the one listener of a redirected proxy.
func (t *translator) ingressListener(i int) []*listenerv3.FilterChain {
	l, field := &t.view.Node.Listeners[i], index("listeners", i)
	port := uint32(l.PortMapping.Port)
	cluster := t.ingressCluster(l, port, field)
	filters, routes := t.ingressFilters(l, cluster.Name, field)
	chains, ok := t.listenerChains(l, field, filters, !t.profile.Bound)
	if !ok || filters == nil || !t.valid(cluster, t.self(), field, "the listener") {
		return nil
	}
	if t.profile.Bound {
		if !t.emitListener(ingressListenerName(t.listenOn, port), port, corev3.TrafficDirection_INBOUND, chains, nil) {
			return nil
		}
		chains = nil
	}
	t.emit(TypeCluster, cluster.Name, cluster)
	if routes != nil {
		t.emit(TypeRoute, routes.Name, routes)
	}
	return chains
}

// ingressFilters returns the network filters of one of the node's listeners, nil if
// Envoy would refuse them, and for HTTP the route configuration that they fetch.
func (t *translator) ingressFilters(l *mesh.Listener, cluster, field string) ([]*listenerv3.Filter, *routev3.RouteConfiguration) {
	protocol, port := l.PortMapping.Protocol, uint32(l.PortMapping.Port)
	statPrefix := ingressStatPrefix(len(t.view.Node.Listeners), protocol, port)
	perRequest, idle := t.listenerTimeouts(l, field)
	by := proofOf(l)
	if protocol == protoTCP {
		return t.guarded(&tcpproxyv3.TcpProxy{
			StatPrefix:       statPrefix,
			ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: cluster},
			IdleTimeout:      idle,
		}, t.access(t.incoming(l.PortMapping.Port, ""), by, true)), nil
	}
	routes, limits := ingressRoutesName(protocol, port), t.limited(t.limitsIn(l.PortMapping.Port), statPrefix)
	return t.connectionManager(manager{statPrefix: statPrefix, routes: routes, inbound: true}), &routev3.RouteConfiguration{
		Name: routes,
		VirtualHosts: []*routev3.VirtualHost{{
			Name: "ingress", Domains: []string{"*"}, Routes: t.quotasIn(t.faultsIn(ingressRoute(cluster, perRequest, idle), l.PortMapping.Port, ""), l.PortMapping.Port, ""),
		}},
		TypedPerFilterConfig:   limits.with(t.accessIn(l.PortMapping.Port, "", by)),
		RequestHeadersToRemove: limits.remove,
	}
}

// servable reports whether a listener of the node can be served, as far as its port and
// protocol say, and notes a problem if not.
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
	case !slices.Contains(protocols, m.Protocol):
		t.problem(t.self(), field+".portMapping.protocol", "%q is not a protocol, allowed are %s: port %d is closed", m.Protocol, protocolList, m.Port)
	case t.profile.Bound && uint32(m.Port) == egressPort:
		t.problem(t.self(), field+".portMapping.port", "port %d is taken by the proxy's egress listener: the listener is left out", m.Port)
	default:
		return true
	}
	return false
}

// The protocols that a listener can have.
var protocols = []string{protoHTTP, protoHTTP2, protoGRPC, protoTCP}

const protocolList = "http, http2, grpc and tcp"

// emitListener emits a listener and reports whether Envoy would take it.
func (t *translator) emitListener(name string, port uint32, direction corev3.TrafficDirection, chains []*listenerv3.FilterChain, otherwise *listenerv3.FilterChain) bool {
	sortChains(chains)
	l := &listenerv3.Listener{
		Name:               name,
		Address:            socket(t.listenOn.String(), port),
		TrafficDirection:   direction,
		FilterChains:       chains,
		DefaultFilterChain: otherwise,
	}
	if !t.profile.Bound {
		if t.view.Gateway == nil { // a gateway is called by its own name
			l.ListenerFilters = originalDst
		}
		l.Address.GetSocketAddress().Ipv4Compat = t.listenOn.Is6()
	}
	inspect(l)
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

// sortChains puts filter chains in the order of their ports, and those of one port in
// that of what they take. Envoy chooses the most specific, so the order means nothing
// to it.
func sortChains(chains []*listenerv3.FilterChain) {
	slices.SortStableFunc(chains, func(a, b *listenerv3.FilterChain) int {
		x, y := a.FilterChainMatch, b.FilterChainMatch
		return cmp.Or(
			cmp.Compare(x.GetDestinationPort().GetValue(), y.GetDestinationPort().GetValue()),
			cmp.Compare(x.GetTransportProtocol(), y.GetTransportProtocol()),
			slices.Compare(x.GetServerNames(), y.GetServerNames()),
		)
	})
}
