package envoy

import (
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
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
		filters := t.tcpProxy(&tcpproxyv3.TcpProxy{
			StatPrefix:       egressStatPrefix,
			ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: cluster},
		})
		if filters != nil {
			c := portChain(httpsPort, filters)
			c.FilterChainMatch.TransportProtocol, c.FilterChainMatch.ServerNames = overTLS, names
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
