package envoy

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// An explicit proxy is a bound one that its application knows of: it is told by
// HTTP_PROXY, or calls ports on loopback. So it need not share the address on which others
// call the application.

// parseExplicit reads where an explicit proxy takes its application's calls.
func (p *Profile) parseExplicit(fields map[string]*structpb.Value, node *corev3.Node) error {
	explicit, err := truth(fields, "explicit", false)
	if err != nil || !explicit {
		return err
	}
	if !p.Bound {
		return fmt.Errorf("node metadata fairlead.explicit is true, allowed is that where fairlead.placement is %q", placementBound)
	}
	if p.Egress, err = address(fields, "egressAddress"); err != nil {
		return err
	}
	if !p.Egress.IsValid() {
		return fmt.Errorf("node metadata fairlead.egressAddress is required where fairlead.explicit is true")
	}
	if p.TCPPorts, err = text(fields, "tcpPorts", ""); err != nil {
		return err
	}
	if _, err := parsePorts(p.TCPPorts); err != nil {
		return fmt.Errorf("node metadata fairlead.tcpPorts %w", err)
	}
	if !p.Internal {
		return fmt.Errorf("node metadata fairlead.internalListeners must be true where fairlead.explicit is")
	}
	return needs(node, "fairlead.explicit", forwardFilter, internalSocket, rawSocket, internalBoot)
}

// parsePorts reads "SERVICE:PORT=LOCAL,…" into local ports by "SERVICE:PORT".
func parsePorts(text string) (map[string]uint32, error) {
	out := map[string]uint32{}
	for one := range strings.SplitSeq(text, ",") {
		if one == "" {
			continue
		}
		i := strings.LastIndexByte(one, '=')
		var port uint16
		if i > 0 {
			_, _ = fmt.Sscanf(one[i+1:], "%d", &port)
		}
		if port == 0 || !strings.Contains(one[:i], ":") {
			return nil, fmt.Errorf("holds %q, allowed is SERVICE:PORT=LOCAL", one)
		}
		out[one[:i]] = uint32(port)
	}
	return out, nil
}

// tunnels is the internal listener that takes what comes through CONNECT to services for
// HTTP, and its cluster. It is one for all services: within, the Host header says which is
// meant.
const tunnels = "lds_internal_tunnels"

func tunnelsClusterName(mesh string) string { return "cds_internal_" + mesh + "_tunnels" }

// explicitEgress emits the listener of an HTTP proxy, and one for each port of a service for
// TCP.
func (t *translator) explicitEgress(ports []servicePort) {
	t.listenOn = t.profile.Egress
	t.localPorts(ports)
	name := t.egressRoutes(egressPort, len(ports))
	outside := t.emitForward(allowAllClusterName(t.mesh), t.allowAll())
	amazon := t.emitForward(amazonClusterName(t.mesh), !t.allowAll())
	t.emitTunnels(name)
	filters := t.connectionManager(manager{statPrefix: egressStatPrefix, routes: name, forwards: true, connect: true})
	if filters == nil {
		return
	}
	chains := []*listenerv3.FilterChain{{Filters: filters}}
	if !t.emitListener(egressListenerName(t.listenOn, egressPort), egressPort, corev3.TrafficDirection_OUTBOUND, chains, nil) {
		return
	}
	with := slices.Clone(ports)
	for i := range with {
		with[i].memo = nil // its routes are others
		with[i].routes = append([]*routev3.Route{t.connectTo(&with[i])}, with[i].routes...)
	}
	unknown := t.unknownRoutes()
	services := t.virtualHosts(name, with)
	var others []*routev3.VirtualHost
	switch {
	case outside != "":
		others = t.ownHost(services, unknown)
		unknown = append([]*routev3.Route{connectRoute(outside)}, passThroughRoutes(outside)...)
	case amazon != "":
		// As TLS to these names is let out of a mesh that drops egress.
		others = append(others, &routev3.VirtualHost{
			Name: "*.amazonaws.com", Domains: []string{"*.amazonaws.com:443"},
			Routes: append([]*routev3.Route{connectRoute(amazon)}, unknown...),
		})
	}
	t.emitHosts(name, services, append(others, &routev3.VirtualHost{Name: fallbackHost, Domains: []string{"*"}, Routes: unknown})...)
}

// unknownRoutes answer for what is no backend, CONNECT included.
func (t *translator) unknownRoutes() []*routev3.Route {
	requests := t.notABackend()
	return append([]*routev3.Route{{Match: anyConnect, Action: requests[0].Action}}, requests...)
}

// ownHost returns the virtual host of the proxy's own address, where no service has its names:
// a request for it would come back without end.
func (t *translator) ownHost(services []virtualHost, routes []*routev3.Route) []*routev3.VirtualHost {
	at := netip.AddrPortFrom(t.profile.Egress, uint16(egressPort)).String()
	names := slices.DeleteFunc([]string{at, "localhost:" + decimal(egressPort)}, func(name string) bool {
		return slices.ContainsFunc(services, func(h virtualHost) bool {
			return slices.ContainsFunc(h.Domains, func(d string) bool { return lower(d) == name })
		})
	})
	if len(names) == 0 {
		return nil
	}
	return []*routev3.VirtualHost{{Name: "*" + at, Domains: names, Routes: routes}}
}

// anyConnect matches CONNECT, which other matches do not.
var anyConnect = &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_ConnectMatcher_{ConnectMatcher: &routev3.RouteMatch_ConnectMatcher{}}}

// tcpIdle is how long a TCP connection may rest where nothing is said: Envoy's own for TCP.
var tcpIdle = durationpb.New(time.Hour)

// connectAction hands what comes through CONNECT on as it is.
func connectAction() *routev3.RouteAction {
	return &routev3.RouteAction{
		Timeout: off, IdleTimeout: tcpIdle,
		UpgradeConfigs: []*routev3.RouteAction_UpgradeConfig{{
			UpgradeType: "CONNECT", ConnectConfig: &routev3.RouteAction_UpgradeConfig_ConnectConfig{},
		}},
	}
}

// connectRoute hands what comes through CONNECT to a cluster.
func connectRoute(cluster string) *routev3.Route {
	a := connectAction()
	a.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: cluster}
	return &routev3.Route{Match: anyConnect, Action: &routev3.Route_Route{Route: a}}
}

// connectTo returns the route of CONNECT to a port of a service: of one for TCP to its
// targets, of one for HTTP to the tunnels, where its requests are routed like others.
func (t *translator) connectTo(p *servicePort) *routev3.Route {
	switch {
	case p.isTCP() && p.tcp == nil, p.port == 0:
		return &routev3.Route{Match: anyConnect, Action: refused(p.service)[0].Action}
	case !p.isTCP():
		return connectRoute(tunnelsClusterName(t.mesh))
	}
	a := connectAction()
	if p.tcp.IdleTimeout != nil {
		a.IdleTimeout = p.tcp.IdleTimeout
	}
	switch s := p.tcp.ClusterSpecifier.(type) {
	case *tcpproxyv3.TcpProxy_Cluster:
		a.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: s.Cluster}
	case *tcpproxyv3.TcpProxy_WeightedClusters:
		all := &routev3.WeightedCluster{}
		for _, c := range s.WeightedClusters.Clusters {
			all.Clusters = append(all.Clusters, &routev3.WeightedCluster_ClusterWeight{Name: c.Name, Weight: wrapperspb.UInt32(c.Weight)})
		}
		a.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: all}
	}
	return &routev3.Route{Match: anyConnect, Action: &routev3.Route_Route{Route: a}}
}

// emitTunnels emits the listener within the proxy that takes what comes through CONNECT to
// services for HTTP. Its requests are routed as those without CONNECT are.
func (t *translator) emitTunnels(routes string) {
	filters := t.connectionManager(manager{statPrefix: egressStatPrefix, routes: routes, forwards: true})
	if filters == nil {
		return
	}
	l := &listenerv3.Listener{
		Name:              tunnels,
		ListenerSpecifier: &listenerv3.Listener_InternalListener{InternalListener: &listenerv3.Listener_InternalListenerConfig{}},
		TrafficDirection:  corev3.TrafficDirection_OUTBOUND,
		FilterChains:      []*listenerv3.FilterChain{{Filters: filters}},
	}
	c := internalCluster(tunnelsClusterName(t.mesh), tunnels)
	if t.valid(l, t.self(), "", "listener "+l.Name) && t.valid(c, t.self(), "", "cluster "+c.Name) {
		t.emit(TypeCluster, c.Name, c)
		t.emit(TypeListener, l.Name, l)
	}
}

// Local ports are below those that Linux gives to clients.
const (
	localFirst = 16384
	localCount = 16384
)

// localPorts emits a listener for each port of a service for TCP, on a port of its own.
// Nothing in a TCP connection says which service is meant, but where it is made to. The port
// is made of the service's name and port alone, so that it stays when others come and go, or
// set by the agent. Of two that would have the same, the first in the order of names has it.
func (t *translator) localPorts(ports []servicePort) {
	set, _ := parsePorts(t.profile.TCPPorts) // parseExplicit has looked
	taken := map[uint32]bool{egressPort: true}
	for i := range t.view.Node.Listeners { // the application may be there
		taken[uint32(t.view.Node.Listeners[i].PortMapping.Port)] = true
	}
	for _, port := range set {
		taken[port] = true
	}
	for i := range ports {
		p := &ports[i]
		if !p.isTCP() || p.port == 0 {
			continue
		}
		filters := t.tcpFilters(p)
		port := set[p.service+":"+decimal(p.port)]
		for n := 0; port == 0 && len(taken) < localCount; n++ {
			if at := localPort(t.view.Mesh, p, n); !taken[at] {
				port, taken[at] = at, true
			}
		}
		if port == 0 {
			t.problem(serviceKey(p.service), "", "there are more services for TCP than ports for them: this one can be called through CONNECT only")
			continue
		}
		if filters != nil {
			chains := []*listenerv3.FilterChain{{Filters: filters}}
			t.emitListener(localListenerName(p.service, p.port), port, corev3.TrafficDirection_OUTBOUND, chains, nil)
		}
	}
}

// localPort returns the port on loopback of a service's port in a mesh, the n-th that is
// tried.
func localPort(m mesh.MeshID, p *servicePort, n int) uint32 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%d\x00%d", m.Account, m.Name, p.service, p.port, n))
	return localFirst + uint32(binary.BigEndian.Uint16(sum[:]))%localCount
}

// localPrefix begins the names of the listeners of services for TCP; the agent reads the
// service and its port off the rest.
const localPrefix = "lds_local_"

func localListenerName(service string, port uint32) string {
	return localPrefix + service + "_" + decimal(port)
}

// localService returns the service's port that a listener's name holds.
func localService(listener string) (service string, port uint32, ok bool) {
	rest, ok := strings.CutPrefix(listener, localPrefix)
	i := strings.LastIndexByte(rest, '_')
	if !ok || i < 0 {
		return "", 0, false
	}
	_, err := fmt.Sscanf(rest[i+1:], "%d", &port)
	return rest[:i], port, err == nil
}
