package envoy

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// httpsPort is the port of HTTPS, on which App Mesh looks at the server name that a
// client asks for.
const httpsPort = 443

// httpsChains returns the filter chains for TLS connections to port 443 that are for no
// service: those to AWS always leave the mesh. In one that allows all egress, by a cluster
// of that name, others do so as well beside services for HTTP, whose chain would take them
// and in whose requests TLS cannot be. (Without services the default chain takes them.)
func (t *translator) httpsChains(all string, served bool) []*listenerv3.FilterChain {
	var chains []*listenerv3.FilterChain
	add := func(cluster string, names ...string) {
		filters := t.networkFilter(tcpProxyName, &tcpproxyv3.TcpProxy{
			StatPrefix:       egressStatPrefix,
			ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: cluster},
		})
		if filters != nil {
			c := portChain(httpsPort, filters)
			c.FilterChainMatch.TransportProtocol, c.FilterChainMatch.ServerNames = "tls", names
			chains = append(chains, c)
		}
	}
	if name := amazonClusterName(t.mesh); t.emitOriginalDst(name) {
		add(name, "*.amazonaws.com")
	}
	if all != "" && served {
		add(all)
	}
	return chains
}

// emitOriginalDst emits a cluster that leads to where connections were made to, and
// reports whether Envoy would take it.
func (t *translator) emitOriginalDst(name string) bool {
	c := originalDstCluster(name)
	if !t.valid(c, t.self(), "", "the way out of the mesh") {
		return false
	}
	t.emit(TypeCluster, name, c)
	return true
}

// egressFilters are the listener filters of a redirected proxy's way out: where a
// connection was made to, and on port 443 the server name that is asked for. On other
// ports Envoy must not wait for a client to speak: in some protocols servers speak first.
var egressFilters = append(slices.Clone(originalDst), &listenerv3.ListenerFilter{
	Name:       tlsInspectorName,
	ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: mustAny(&tlsinspectorv3.TlsInspector{})},
	FilterDisabled: &listenerv3.ListenerFilterChainMatchPredicate{
		Rule: &listenerv3.ListenerFilterChainMatchPredicate_NotMatch{NotMatch: &listenerv3.ListenerFilterChainMatchPredicate{
			Rule: &listenerv3.ListenerFilterChainMatchPredicate_DestinationPortRange{
				DestinationPortRange: &typev3.Int32Range{Start: httpsPort, End: httpsPort + 1},
			},
		}},
	},
})

// emitEgressListener emits a redirected proxy's way out and reports whether Envoy would
// take it.
func (t *translator) emitEgressListener(chains []*listenerv3.FilterChain, otherwise *listenerv3.FilterChain) bool {
	name := egressListenerName(t.listenOn, egressPort)
	l := &listenerv3.Listener{
		Name:               name,
		Address:            socket(t.listenOn.String(), egressPort),
		TrafficDirection:   corev3.TrafficDirection_OUTBOUND,
		ListenerFilters:    egressFilters,
		FilterChains:       chains,
		DefaultFilterChain: otherwise,
		// A server that speaks first may be on port 443, too.
		ContinueOnListenerFiltersTimeout: true,
	}
	l.Address.GetSocketAddress().Ipv4Compat = t.listenOn.Is6()
	if !t.valid(l, t.self(), "", "listener "+name) {
		return false
	}
	t.emit(TypeListener, name, l)
	return true
}
