package envoy

import (
	"cmp"
	"fmt"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// egress emits what takes the application's calls to its backends.
func (t *translator) egress() {
	ports := t.servicePorts()
	if t.profile.Bound {
		t.boundEgress(ports)
		return
	}
	t.redirectedEgress(ports)
}

// boundEgress emits one listener, an explicit proxy: the Host header says which
// service is meant, whichever port it is on.
func (t *translator) boundEgress(ports []servicePort) {
	if t.allowAll() {
		t.problem(mesh.Key{Kind: mesh.KindMesh, Name: t.mesh}, "egressFilter.type",
			"ALLOW_ALL has no effect on a bound proxy, which cannot know where a call was made to: hosts outside the mesh are answered with 404")
	}
	name := egressRoutesName(egressPort)
	filters := t.connectionManager(egressStatPrefix, name)
	if filters == nil {
		return
	}
	chains := []*listenerv3.FilterChain{{Filters: filters}}
	if t.emitListener(egressListenerName(t.listenOn, egressPort), egressPort, corev3.TrafficDirection_OUTBOUND, chains, nil) {
		t.emitEgressRoutes(name, ports, t.notABackend())
	}
}

// redirectedEgress emits one listener with a filter chain for each port on which
// there is a service.
func (t *translator) redirectedEgress(ports []servicePort) {
	fallback := t.notABackend()
	var otherwise *listenerv3.FilterChain
	if t.allowAll() {
		all := t.allowAllCluster()
		if filters := t.passThrough(); filters != nil && t.valid(all, t.self(), "", "the way out of the mesh") {
			t.emit(TypeCluster, all.Name, all)
			otherwise = &listenerv3.FilterChain{Filters: filters}
			fallback = passThroughRoutes(all.Name)
		}
	}
	byPort := map[uint32][]servicePort{}
	for _, p := range ports {
		if p.port != 0 {
			p.first = true // the port is known, so the bare name stands for this one
			byPort[p.port] = append(byPort[p.port], p)
		}
	}
	var chains []*listenerv3.FilterChain
	for port := range byPort {
		if filters := t.connectionManager(egressStatPrefix, egressRoutesName(port)); filters != nil {
			chains = append(chains, portChain(port, filters))
		}
	}
	if len(chains) == 0 && otherwise == nil {
		return
	}
	sortChains(chains)
	if t.emitListener(egressListenerName(t.listenOn, egressPort), egressPort, corev3.TrafficDirection_OUTBOUND, chains, otherwise) {
		for port, ports := range byPort {
			t.emitEgressRoutes(egressRoutesName(port), ports, fallback)
		}
	}
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

// emitEgressRoutes emits the route configuration for the services of a listener or
// filter chain, with the routes for all other hosts.
func (t *translator) emitEgressRoutes(name string, ports []servicePort, fallback []*routev3.Route) {
	hosts := t.virtualHosts(ports)
	hosts = append(hosts, &routev3.VirtualHost{Name: fallbackHost, Domains: []string{"*"}, Routes: fallback})
	slices.SortFunc(hosts, func(a, b *routev3.VirtualHost) int { return cmp.Compare(a.Name, b.Name) })
	t.emit(TypeRoute, name, &routev3.RouteConfiguration{Name: name, VirtualHosts: hosts})
}

// virtualHosts returns a virtual host for each port of a service. Envoy refuses a
// configuration in which a domain stands twice, and takes no notice of case. A name
// goes before a name with a port: a service may be called "a:80" beside one called
// "a" on port 80.
func (t *translator) virtualHosts(ports []servicePort) []*routev3.VirtualHost {
	owner := make(map[string]string, 2*len(ports))
	for _, p := range ports {
		if !p.first {
			continue
		}
		key := lower(p.service)
		if other, taken := owner[key]; taken {
			t.problem(serviceKey(p.service), "", "the name differs from that of virtual service %q in case only, so Envoy cannot tell them apart: this one is left out", other)
			continue
		}
		owner[key] = p.service
	}
	hosts := make([]*routev3.VirtualHost, 0, len(ports)+1)
	for _, p := range ports {
		if owner[lower(p.service)] != p.service {
			continue
		}
		h := &routev3.VirtualHost{Name: p.service, Domains: make([]string, 0, 2), Routes: p.routes, Metadata: t.metricTag(tagService, p.service)}
		if p.first {
			h.Domains = append(h.Domains, p.service)
		}
		if p.port != 0 {
			withPort := p.service + ":" + decimal(p.port)
			key := lower(withPort)
			if other, taken := owner[key]; taken {
				t.problem(serviceKey(p.service), "", "%q is the name of virtual service %q: requests for it go there", withPort, other)
			} else {
				owner[key] = p.service
				h.Domains = append(h.Domains, withPort)
			}
			if !p.first {
				h.Name = withPort
			}
		}
		if len(h.Domains) > 0 && t.acceptable(h, p.service) {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// acceptable reports whether Envoy would take a virtual host. A route that it would
// not take costs itself only.
func (t *translator) acceptable(h *routev3.VirtualHost, service string) bool {
	if h.ValidateAll() == nil {
		return true
	}
	good := make([]*routev3.Route, 0, len(h.Routes))
	for _, r := range h.Routes {
		if t.valid(r, serviceKey(service), "", fmt.Sprintf("route %q", r.Name)) {
			good = append(good, r)
		}
	}
	h.Routes = good
	return t.valid(h, serviceKey(service), "", "the service")
}

// lower returns s with its ASCII letters in lower case, as Envoy compares hosts.
func lower(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				if 'A' <= b[j] && b[j] <= 'Z' {
					b[j] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
