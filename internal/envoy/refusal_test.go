package envoy

import (
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/golden"
)

// The words are Envoy's, of versions 1.37 to 1.40.
func TestCause(t *testing.T) {
	t.Parallel()
	c := readCase(t, golden.Read(t, "testdata/route_match.txtar"))
	view := c.view(t, nil)
	resources, _ := Translate(view, c.profile)
	var routes *routev3.RouteConfiguration
	for _, r := range resources {
		if m, ok := r.Message.(*routev3.RouteConfiguration); ok && r.Type == TypeRoute {
			routes = m
		}
	}
	service, self := view.Services[0], view.Key
	place := map[string]int{}
	var host *routev3.VirtualHost
	for i, h := range routes.VirtualHosts {
		place[h.Name] = i
		if h.Name == service.Name {
			host = h
		}
	}
	if host == nil || host.Routes[1].Name == "" {
		t.Fatalf("the case has no virtual host %q with named routes: %v", service.Name, place)
	}
	second := routeKey(service.Router.Name, host.Routes[1].Name)
	var expression *routev3.Route
	for _, r := range host.Routes {
		if r.GetMatch().GetSafeRegex() != nil {
			expression = r
			break
		}
	}
	if expression == nil {
		t.Fatal("the case has no regular expression")
	}
	for _, c := range []struct {
		words string
		want  mesh.Key
	}{
		{"Proto constraint validation failed (RouteConfigurationValidationError.VirtualHosts[" + decimal(uint32(place[service.Name])) +
			"]: embedded message failed validation | caused by VirtualHostValidationError.Routes[1]: embedded message failed validation)", second},
		{"RouteConfigurationValidationError.VirtualHosts[" + decimal(uint32(place[service.Name])) + "]: value length", serviceKey(service.Name)},
		{"RouteConfigurationValidationError.VirtualHosts[" + decimal(uint32(place["*"])) + "]: value length", self},
		{"RouteConfigurationValidationError.VirtualHosts[99]: value length", self},
		{"Only unique values for domains are permitted. Duplicate entry of domain " + service.Name + " in route rds_egress_http_80", serviceKey(service.Name)},
		{"Duplicate entry of domain " + service.Name + ".", serviceKey(service.Name)},
		{"Duplicate entry of domain my-" + service.Name + " in route rds_egress_http_80", self},
		{
			"regex '" + expression.GetMatch().GetSafeRegex().GetRegex() + "' RE2 program size of 1001 > max program size of 1000",
			routeKey(service.Router.Name, expression.Name),
		},
		{"", self},
	} {
		if got := Cause(view, self, routes, c.words); got != c.want {
			t.Errorf("%q is about %v, want %v", c.words, got, c.want)
		}
	}
	blue := nodeKey("blue")
	if got := Cause(view, blue, resources[0].Message, "Duplicate entry of domain "+service.Name); got != blue {
		t.Errorf("the refusal of a cluster is about %v", got)
	}
}
