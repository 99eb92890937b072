package envoy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// manyHosts is how many services a route configuration holds at most where their virtual
// hosts can be resources of their own. Beyond it an edit of one route sends one virtual host
// and not all. App Mesh's own quota was 50 backends.
const manyHosts = 100

// egressRoutes names the route configuration of a number of services on a port.
func (t *translator) egressRoutes(port uint32, services int) string {
	name := egressRoutesName(port)
	if t.profile.HostsApart && services > manyHosts {
		name += apartSuffix
	}
	return name
}

// emitEgressRoutes emits the route configuration for the services of a listener or
// filter chain, with the routes for all other hosts.
func (t *translator) emitEgressRoutes(name string, ports []servicePort, fallback []*routev3.Route) {
	t.emitHosts(name, t.virtualHosts(name, ports), &routev3.VirtualHost{Name: fallbackHost, Domains: []string{"*"}, Routes: fallback})
}

// emitHosts emits a route configuration with the virtual hosts of services, which may be
// resources of their own, and others, which are always a part of it.
func (t *translator) emitHosts(name string, services []virtualHost, others ...*routev3.VirtualHost) {
	config := &routev3.RouteConfiguration{Name: name, VirtualHosts: others}
	if strings.HasSuffix(name, apartSuffix) {
		config.Vhds = &routev3.Vhds{ConfigSource: fromADS}
		for _, h := range services {
			t.resources = append(t.resources, Resource{Type: TypeVirtualHost, Name: h.Name, Message: h.VirtualHost, Object: t.self(), Slot: h.slot})
		}
	} else {
		for _, h := range services {
			config.VirtualHosts = append(config.VirtualHosts, h.VirtualHost)
		}
	}
	slices.SortFunc(config.VirtualHosts, func(a, b *routev3.VirtualHost) int { return cmp.Compare(a.Name, b.Name) })
	t.emit(TypeRoute, name, config)
}

// virtualHost is the virtual host of a port of a service, with its slot where it is
// remembered.
type virtualHost struct {
	*routev3.VirtualHost
	slot *Slot
}

// virtualHosts returns a virtual host of a route configuration for each port of a service. Envoy refuses a
// configuration in which a domain stands twice, and takes no notice of case. A name
// goes before a name with a port: a service may be called "a:80" beside one called
// "a" on port 80.
func (t *translator) virtualHosts(routes string, ports []servicePort) []virtualHost {
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
	hosts := make([]virtualHost, 0, len(ports))
	for _, p := range ports {
		if owner[lower(p.service)] != p.service {
			continue
		}
		name, domains := p.service, make([]string, 0, 2)
		if p.first {
			domains = append(domains, p.service)
		}
		if p.port != 0 {
			withPort := p.service + ":" + decimal(p.port)
			key := lower(withPort)
			if other, taken := owner[key]; taken {
				t.problem(serviceKey(p.service), "", "%q is the name of virtual service %q: requests for it go there", withPort, other)
			} else {
				owner[key] = p.service
				domains = append(domains, withPort)
			}
			if !p.first {
				name = withPort
			}
		}
		if strings.HasSuffix(routes, apartSuffix) {
			name = virtualHostName(routes, name) // Envoy removes it by this name
		}
		if h := t.virtualHost(&p, name, domains); h.VirtualHost != nil {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// virtualHost returns the virtual host of a port of a service, with no message if it has no
// name or Envoy would refuse it.
func (t *translator) virtualHost(p *servicePort, name string, domains []string) virtualHost {
	if len(domains) == 0 {
		return virtualHost{}
	}
	if p.memo != nil {
		if h := p.memo.made.Load(); h != nil && h.Name == name && slices.Equal(h.Domains, domains) {
			return *h
		}
	}
	h := virtualHost{VirtualHost: &routev3.VirtualHost{
		Name: name, Domains: domains, Routes: p.routes, Metadata: t.metricTag(tagService, p.service),
		TypedPerFilterConfig: p.limits.filters, RequestHeadersToRemove: p.limits.remove,
	}}
	problems := len(t.problems)
	if !t.acceptable(h.VirtualHost, p.service) {
		return virtualHost{}
	}
	if p.memo != nil && len(t.problems) == problems {
		h.slot = &Slot{}
		p.memo.made.Store(&h)
	}
	return h
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
