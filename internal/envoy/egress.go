package envoy

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// egress emits what takes the application's calls to its backends.
func (t *translator) egress() {
	ports := t.servicePorts()
	t.names = t.answered()
	t.dns(t.names)
	switch {
	case t.profile.Egress.IsValid():
		t.explicitEgress(ports)
		return
	case t.profile.Bound:
		t.boundEgress(ports)
		return
	}
	t.redirectedEgress(ports)
}

// boundEgress emits one listener for HTTP, an explicit proxy: the Host header says which
// service is meant, whichever port it is on. Nothing of the kind is in a TCP connection,
// so each service for TCP has a listener of its own on its port.
func (t *translator) boundEgress(ports []servicePort) {
	if t.allowAll() {
		t.problem(mesh.Key{Kind: mesh.KindMesh, Name: t.mesh}, "egressFilter.type",
			"ALLOW_ALL has no effect on a bound proxy, which cannot know where a call was made to: hosts outside the mesh are answered with 404")
	}
	for port, p := range t.tcpPorts(ports) {
		if t.portIsFree(port, p) {
			t.boundTCP(port, p)
		}
	}
	name := t.egressRoutes(egressPort, len(ports))
	filters := t.connectionManager(manager{statPrefix: egressStatPrefix, routes: name})
	if filters == nil {
		return
	}
	chains := []*listenerv3.FilterChain{{Filters: filters}}
	if t.emitListener(egressListenerName(t.listenOn, egressPort), egressPort, corev3.TrafficDirection_OUTBOUND, chains, nil) {
		t.emitEgressRoutes(name, ports, t.notABackend())
	}
}

// portIsFree reports whether a bound proxy can listen on the port of a service for TCP,
// and notes a problem if not.
func (t *translator) portIsFree(port uint32, p *servicePort) bool {
	if port == egressPort {
		t.problem(serviceKey(p.service), "", "port %d is taken by the egress listener of bound proxies: connections to it do not reach the service", port)
		return false
	}
	for i := range t.view.Node.Listeners {
		if uint32(t.view.Node.Listeners[i].PortMapping.Port) == port {
			t.problem(t.self(), t.backendField(p.service), "a bound proxy cannot listen for virtual service %q on port %d, which is the node's own listener's: connections to it do not reach the service", p.service, port)
			return false
		}
	}
	return true
}

// redirectedEgress emits one listener with a filter chain for each port on which there
// is a service, and for what may always leave the mesh.
func (t *translator) redirectedEgress(ports []servicePort) {
	fallback := t.notABackend()
	var otherwise *listenerv3.FilterChain
	var all string
	if t.allowAll() {
		if name := allowAllClusterName(t.mesh); t.emitOriginalDst(name) {
			all, otherwise = name, &listenerv3.FilterChain{Filters: t.passThrough()}
			fallback = passThroughRoutes(name)
		}
	}
	tcp := t.tcpPorts(ports)
	byPort := map[uint32][]servicePort{}
	for _, p := range ports {
		if p.port != 0 && tcp[p.port] == nil {
			p.first = true // the port is known, so the bare name stands for this one
			byPort[p.port] = append(byPort[p.port], p)
		}
	}
	chains := t.portChains(byPort, tcp)
	chains = append(chains, t.httpsChains(all, byPort[httpsPort] != nil)...)
	chains = append(chains, t.addressedChains(ports, t.names)...)
	if len(chains) == 0 && otherwise == nil {
		return
	}
	if t.emitListener(egressListenerName(t.listenOn, egressPort), egressPort, corev3.TrafficDirection_OUTBOUND, chains, otherwise) {
		for port, ports := range byPort {
			t.emitEgressRoutes(t.egressRoutes(port, len(ports)), ports, fallback)
		}
	}
}

// portChains returns the filter chains of services, by port.
func (t *translator) portChains(byPort map[uint32][]servicePort, tcp map[uint32]*servicePort) []*listenerv3.FilterChain {
	chains := make([]*listenerv3.FilterChain, 0, len(byPort)+len(tcp)+2)
	for port, ports := range byPort {
		if filters := t.connectionManager(manager{statPrefix: egressStatPrefix, routes: t.egressRoutes(port, len(ports))}); filters != nil {
			chains = append(chains, portChain(port, filters))
		}
	}
	for port, p := range tcp {
		if filters := t.tcpFilters(p); filters != nil {
			chains = append(chains, portChain(port, filters))
		}
	}
	sortChains(chains)
	return chains
}

// notABackend returns the routes for hosts that are no backend of the node. The
// answer says so, because App Mesh's bare 404 has cost its users days.
func (t *translator) notABackend() []*routev3.Route {
	format := fmt.Sprintf("Fairlead: %%REQ(:AUTHORITY):255%% is not a backend of virtual node %s in mesh %s.\n", t.view.Key.Name, t.mesh)
	return []*routev3.Route{{
		Match: anyPath,
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
			Status: 404,
			BodyFormat: &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormatSource{
				TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: format}},
			}},
		}},
	}}
}
