package envoy

import (
	"cmp"
	"fmt"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

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
