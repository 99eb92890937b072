package envoy

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	networkdirectv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// spreadConnections returns what hands connections on to clusters by weight.
func (t *translator) spreadConnections(all []share, idle *mesh.TcpTimeout) *tcpproxyv3.TcpProxy {
	p := &tcpproxyv3.TcpProxy{StatPrefix: egressStatPrefix, AccessLog: t.accessLog}
	if idle != nil && idle.Idle != nil {
		p.IdleTimeout = durationpb.New(duration(idle.Idle))
	}
	if len(all) == 1 {
		p.ClusterSpecifier = &tcpproxyv3.TcpProxy_Cluster{Cluster: all[0].cluster}
		return p
	}
	clusters := make([]*tcpproxyv3.TcpProxy_WeightedCluster_ClusterWeight, 0, len(all))
	for _, s := range all {
		clusters = append(clusters, &tcpproxyv3.TcpProxy_WeightedCluster_ClusterWeight{Name: s.cluster, Weight: s.weight})
	}
	p.ClusterSpecifier = &tcpproxyv3.TcpProxy_WeightedClusters{WeightedClusters: &tcpproxyv3.TcpProxy_WeightedCluster{Clusters: clusters}}
	return p
}

// tcpRoute returns what takes the connections of one TCP port of a service's router, nil
// if they cannot be served, and whether any must be encrypted on the way. TCP has nothing to tell connections apart by, so the first
// route takes them all.
func (t *translator) tcpRoute(s *mesh.Service, m *mesh.PortMapping, sorted []mesh.Route) (proxy *tcpproxyv3.TcpProxy, encrypted bool) {
	var first *mesh.Route
	for i := range sorted {
		r := &sorted[i]
		switch {
		case !kindOfRoute(r.Spec).takes(m):
		case first == nil:
			first = r
		default:
			t.problem(routeKey(s.Router.Name, r.Name), "tcpRoute", "route %q comes first and takes all connections to port %d: none come to this one", first.Name, m.Port)
		}
	}
	if first == nil {
		t.problem(routerKey(s.Router.Name), "listeners", "there is no route for connections to port %d: they are closed", m.Port)
		return nil, false
	}
	targets := first.Spec.TcpRoute.Action.WeightedTargets
	at := place{routeKey(s.Router.Name, first.Name), "tcpRoute"}
	for i := range targets {
		g := t.weighted(s, &targets[i])
		encrypted = encrypted || g.reason == "" && t.useOf(s, g).tls
	}
	all := t.shares(s, at, protoTCP, targets)
	if !t.served(all, at, "connections are closed") {
		return nil, false
	}
	if t.refusesConnections(s, first.Name) {
		return nil, encrypted
	}
	// Envoy refuses a TCP proxy in which a weight is 0.
	all = slices.DeleteFunc(all, func(s share) bool { return s.weight == 0 })
	return t.spreadConnections(all, first.Spec.TcpRoute.Timeout), encrypted
}

// closing returns the network filter that closes each connection at once.
func (t *translator) closing() []*listenerv3.Filter {
	return t.networkFilter(closingName, &networkdirectv3.Config{})
}

// boundTCP emits the listener of a service for TCP.
func (t *translator) boundTCP(port uint32, p *servicePort) {
	if filters := t.tcpFilters(p); filters != nil {
		chains := []*listenerv3.FilterChain{{Filters: filters}}
		t.emitListener(egressListenerName(t.listenOn, port), port, corev3.TrafficDirection_OUTBOUND, chains, nil)
	}
}

// tcpFilters returns what takes the connections of a service for TCP.
func (t *translator) tcpFilters(p *servicePort) []*listenerv3.Filter {
	if p.tcp == nil {
		return t.closing()
	}
	return t.networkFilter(tcpProxyName, p.tcp)
}

// tcpPorts returns the service for TCP of each port that has one. Connections are told
// apart by their port only: a second service on a port cannot be served, and none on a
// port that carries HTTP. One whose connections must be encrypted comes first, so that
// they never go another service's way in plain text; then the name decides.
func (t *translator) tcpPorts(ports []servicePort) map[uint32]*servicePort {
	http, tcp := map[uint32]*servicePort{}, map[uint32]*servicePort{}
	for i := range ports {
		p := &ports[i]
		switch other := tcp[p.port]; {
		case p.port == 0:
		case !p.isTCP():
			if http[p.port] == nil {
				http[p.port] = p
			}
		case other == nil || p.encrypted && !other.encrypted:
			tcp[p.port] = p
		}
	}
	for i := range ports {
		p := &ports[i]
		if !p.isTCP() {
			continue
		}
		known := t.names[p.service].addrs != nil && !t.profile.Bound // by its address; see addressedChains
		if h := http[p.port]; h != nil && !t.profile.Bound {
			if !known {
				t.problem(serviceKey(p.service), "", "port %d carries the requests of virtual service %q, connections cannot be told from them: they do not reach this service", p.port, h.service)
			}
			delete(tcp, p.port)
		} else if first := tcp[p.port]; first != nil && first != p && !known {
			t.problem(serviceKey(p.service), "", "connections to port %d go to virtual service %q: TCP has nothing to tell services on one port apart by", p.port, first.service)
		}
	}
	return tcp
}
