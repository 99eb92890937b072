package envoy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// routesOf returns the one route configuration for what goes out, and the virtual hosts that
// are resources of their own.
func routesOf(t *testing.T, resources []Resource) (config *routev3.RouteConfiguration, apart []*routev3.VirtualHost) {
	t.Helper()
	for _, r := range resources {
		switch m := r.Message.(type) {
		case *routev3.RouteConfiguration:
			if strings.HasPrefix(m.Name, "rds_egress_") {
				config = m
			}
		case *routev3.VirtualHost:
			if m.Name != r.Name {
				t.Errorf("virtual host %q is the resource %q: Envoy would not find it to remove it", m.Name, r.Name)
			}
			apart = append(apart, m)
		}
	}
	if config == nil {
		t.Fatal("there are no routes for what goes out")
	}
	return config, apart
}

// Virtual hosts come by themselves where they are many and the proxy can take them so, and
// hold what they hold elsewhere.
func TestManyHosts(t *testing.T) {
	t.Parallel()
	redirected := Profile{}
	bound := Profile{Bound: true, Bind: netip.MustParseAddr("127.0.0.2")}
	explicit := bound
	explicit.Egress = netip.MustParseAddr("127.0.0.3")
	explicit.Internal = true
	for name, p := range map[string]Profile{"redirected": redirected, "bound": bound, "explicit": explicit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			few, apart := benchmarkView(t, manyHosts), p
			apart.HostsApart = true
			resources, _ := Translate(few, apart)
			if _, hosts := routesOf(t, resources); len(hosts) > 0 {
				t.Errorf("%d services have %d virtual hosts of their own", manyHosts, len(hosts))
			}
			many := benchmarkView(t, manyHosts+1)
			whole, _ := Translate(many, p)
			inline, none := routesOf(t, whole)
			if len(none) > 0 {
				t.Errorf("a proxy that cannot take them has %d virtual hosts of their own", len(none))
			}
			parts, _ := Translate(many, apart)
			checkResources(t, parts)
			config, hosts := routesOf(t, parts)
			if len(hosts) != manyHosts+1 || config.Vhds == nil || config.Name == inline.Name {
				t.Fatalf("%d services have %d virtual hosts of their own, of %q with %v", manyHosts+1, len(hosts), config.Name, config.Vhds)
			}
			together := slices.Clone(config.VirtualHosts)
			for _, h := range hosts {
				if RoutesOf(h.Name) != config.Name {
					t.Errorf("virtual host %q is not for %q", h.Name, config.Name)
				}
				together = append(together, &routev3.VirtualHost{Name: bareHost(config.Name, h.Name), Domains: h.Domains, Routes: h.Routes, Metadata: h.Metadata})
			}
			byName := func(a, b *routev3.VirtualHost) bool { return a.Name < b.Name }
			if diff := cmp.Diff(inline.VirtualHosts, together, protocmp.Transform(), cmpopts.SortSlices(byName)); diff != "" {
				t.Errorf("the virtual hosts differ (-inline +apart):\n%s", diff)
			}
			said := Explain(many, parts)
			for i := range said {
				said[i].Text = strings.ReplaceAll(said[i].Text, config.Name, inline.Name)
			}
			if diff := cmp.Diff(Explain(many, whole), said); diff != "" {
				t.Errorf("the explanations differ (-inline +apart):\n%s", diff)
			}
		})
	}
}

// What a proxy says of a virtual host is about its service, or the route that it points to.
func TestCauseOfAHost(t *testing.T) {
	t.Parallel()
	view := benchmarkView(t, manyHosts+1)
	resources, _ := Translate(view, Profile{HostsApart: true})
	_, hosts := routesOf(t, resources)
	s := view.Services[7]
	i := slices.IndexFunc(hosts, func(h *routev3.VirtualHost) bool { return bareHost(RoutesOf(h.Name), h.Name) == s.Name })
	if i < 0 {
		t.Fatalf("there is no virtual host of %q", s.Name)
	}
	route := routeKey(s.Router.Name, s.Router.Routes[0].Name)
	cluster := hosts[i].Routes[0].GetRoute().GetWeightedClusters().GetClusters()[0].Name
	for words, want := range map[string]mesh.Key{
		"it is not liked": serviceKey(s.Name),
		"VirtualHostValidationError.Routes[0]: embedded message failed validation":      route,
		fmt.Sprintf("route: unknown weighted cluster '%s'", cluster):                    route,
		"VirtualHostValidationError.Routes[12]: there is no such route in this message": serviceKey(s.Name),
	} {
		if got := Cause(view, view.Key, hosts[i], words); got != want {
			t.Errorf("%q is about %v, want %v", words, got, want)
		}
	}
}
