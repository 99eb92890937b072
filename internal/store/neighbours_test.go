package store

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// specOn is a spec of a node, router or gateway with some listeners, each
// "PROTOCOL:PORT".
func specOn(k mesh.Kind, on string) string {
	listeners := []any{}
	for _, l := range strings.Fields(on) {
		var port int
		protocol, number, _ := strings.Cut(l, ":")
		if _, err := fmt.Sscan(number, &port); err != nil {
			panic(err)
		}
		listeners = append(listeners, map[string]any{"portMapping": map[string]any{"port": port, "protocol": protocol}})
	}
	doc := map[string]any{"listeners": listeners}
	if k == mesh.KindVirtualNode && len(listeners) > 0 {
		doc["serviceDiscovery"] = map[string]any{"dns": map[string]any{"hostname": "localhost"}}
	}
	return toJSON(doc)
}

// specTo is a route of a type; port is that of its match and to that of its target,
// 0 for none.
func specTo(protocol string, port int, node string, to int) string {
	match, target := map[string]any{}, map[string]any{"virtualNode": node, "weight": 1}
	if strings.HasPrefix(protocol, "http") {
		match["prefix"] = "/"
	}
	if port > 0 {
		match["port"] = port
	}
	if to > 0 {
		target["port"] = to
	}
	return toJSON(map[string]any{protocol + "Route": map[string]any{
		"match": match, "action": map[string]any{"weightedTargets": []any{target}},
	}})
}

// specInto is a gateway route of a type to a service.
func specInto(protocol string, port int, service string, to int) string {
	match, target := map[string]any{}, map[string]any{"virtualService": map[string]any{"virtualServiceName": service}}
	if port > 0 {
		match["port"] = port
	}
	if to > 0 {
		target["port"] = to
	}
	return toJSON(map[string]any{protocol + "Route": map[string]any{"match": match, "action": map[string]any{"target": target}}})
}

// street is a mesh with neighbours: router r with route x to node n, which provides
// service s; gateway g with gateway route x to s. What another one names a port of can
// have several listeners.
type street struct {
	world
	m                                                                    mesh.MeshID
	node, router, route, service, routed, gateway, gatewayRoute, another mesh.ID
}

func newStreet(t *testing.T) street {
	t.Helper()
	w := newWorld(t)
	m := w.makeNodes("m", 0)
	return street{
		world: w, m: m,
		node: m.Object(mesh.KindVirtualNode, "", "n"), router: m.Object(mesh.KindVirtualRouter, "", "r"),
		route: m.Object(mesh.KindRoute, "r", "x"), service: m.Object(mesh.KindVirtualService, "", "s"),
		routed: m.Object(mesh.KindVirtualService, "", "t"), gateway: m.Object(mesh.KindVirtualGateway, "", "g"),
		gatewayRoute: m.Object(mesh.KindGatewayRoute, "g", "x"), another: m.Object(mesh.KindVirtualNode, "", "other"),
	}
}

func (s street) refused(err error, texts ...string) {
	s.t.Helper()
	wantCode(s.t, err, mesh.ErrBadRequest, texts...)
}

// creates checks what creating does, and updating what is there to it.
func (s street) creates(id mesh.ID, spec string, refusal string) {
	s.t.Helper()
	_, err := s.s.Create(s.t.Context(), s.c, s.object(id, spec))
	if refusal == "" {
		if err != nil {
			s.t.Errorf("creating %s as %s: %v", id.Key, spec, err)
			return
		}
		s.delete(id)
		return
	}
	s.refused(err, refusal)
	s.wantGone(id)
}

// updates checks what updating does; what was accepted stays.
func (s street) updates(id mesh.ID, spec string, refusal string) {
	s.t.Helper()
	before := s.get(id)
	_, err := s.s.Update(s.t.Context(), s.c, s.change(id, spec))
	if refusal == "" {
		if err != nil {
			s.t.Errorf("updating %s to %s: %v", id.Key, spec, err)
		}
		return
	}
	s.refused(err, refusal)
	diff(s.t, before, s.get(id))
}

func TestRoutesFitRouters(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	const several = "spec.httpRoute.match.port is required: Route must define a port match criteria if the Virtual Router has multiple listeners; allowed are 80, 81"
	s.create(s.node, `{}`)
	for _, c := range []struct {
		router, protocol string
		port             int
		want             string
	}{
		{"", "tcp", 0, ""},
		{"", "http", 7, ""},
		{"http:80", "http", 0, ""},
		{"http:80", "http", 80, ""},
		{"http:80 grpc:81", "grpc", 81, ""},
		{"http:80", "http", 81, "spec.httpRoute.match.port must be the port of a listener of the Virtual Router, allowed are 80, 81 was given"},
		{"http:80", "tcp", 0, "spec.tcpRoute does not fit"},
		{"http:80 http:81", "http", 0, several},
		{"http:80 grpc:81", "http", 81, "allowed is grpcRoute"},
	} {
		s.create(s.router, specOn(mesh.KindVirtualRouter, c.router))
		s.creates(s.route, specTo(c.protocol, c.port, "n", 0), c.want)
		// The same holds at an update: of a route made while the router was open.
		s.delete(s.router)
		s.create(s.router, `{"listeners":[]}`)
		s.create(s.route, specTo("http", 80, "n", 0))
		if strings.Contains(c.router, "http:80") {
			s.update(s.router, specOn(mesh.KindVirtualRouter, c.router))
			s.updates(s.route, specTo(c.protocol, c.port, "n", 0), c.want)
		}
		s.delete(s.route)
		s.delete(s.router)
	}
}

func TestRoutersKeepWhatRoutesUse(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	on := func(listeners string) string { return specOn(mesh.KindVirtualRouter, listeners) }
	s.create(s.node, `{}`)
	s.create(s.router, on("http:80"))
	for i := range 7 {
		port := 0
		if i == 6 {
			port = 80
		}
		s.create(s.m.Object(mesh.KindRoute, "r", fmt.Sprint(i)), specTo("http", port, "n", 0))
	}
	s.updates(s.router, on("http:80 grpc:81"),
		"All Routes for this Virtual Router must define a port match before adding multiple listeners to this Virtual Router. "+
			"6 Route(s) are missing port. Listing up to 5 route names: [0, 1, 2, 3, 4]")
	s.updates(s.router, on("grpc:80"), "spec.listeners must have a listener with protocol http, which 6 Route(s)")
	s.updates(s.router, on(""), "spec.listeners must have a listener with protocol http")
	s.updates(s.router, on("http:81"), "must have a listener with protocol http on port 80, which 1 Route(s) of this Virtual Router use. Listing up to 5 route names: [6]")
	s.updates(s.router, on("http:80"), "")
	for i := range 6 {
		s.updates(s.m.Object(mesh.KindRoute, "r", fmt.Sprint(i)), specTo("http", 80, "n", 0), "")
	}
	s.updates(s.router, on("grpc:81 http:80"), "")
	s.updates(s.router, on("grpc:81 http:80"), "")
	s.updates(s.router, on("grpc:81 grpc:80"), "must have a listener with protocol http on port 80, which 7 Route(s)")
	s.updates(s.router, on("http:80"), "")
}

func TestRoutesFitNodes(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	on := func(listeners string) string { return specOn(mesh.KindVirtualNode, listeners) }
	s.create(s.router, specOn(mesh.KindVirtualRouter, "http:80"))
	for _, c := range []struct {
		node string
		to   int
		want string
	}{
		{"", 0, ""},
		{"", 9, ""},
		{"http:1", 0, ""},
		{"http:1", 1, ""},
		{"http:1 tcp:2", 1, ""},
		{"http:1", 2, `spec.httpRoute.action.weightedTargets[0].port must be the port of a listener of virtual node "n", allowed are 1, 2 was given`},
		{"http:1 http:2", 0, `spec.httpRoute.action.weightedTargets[0].port is required, as virtual node "n" has several listeners: allowed are 1, 2`},
		{"grpc:1", 0, "spec.httpRoute.action.weightedTargets[0] must lead to a listener with protocol http"},
	} {
		s.create(s.node, on(c.node))
		s.creates(s.route, specTo("http", 0, "n", c.to), c.want)
		s.create(s.another, `{}`)
		s.create(s.route, specTo("http", 0, "other", 0))
		s.updates(s.route, specTo("http", 0, "n", c.to), c.want)
		for _, id := range []mesh.ID{s.route, s.another, s.node} {
			s.delete(id)
		}
	}
	// The other way round.
	s.create(s.node, on("http:1"))
	s.create(s.route, specTo("http", 0, "n", 0))
	s.updates(s.node, on("http:1 http:2"),
		"All Routes that target this Virtual Node must define a port before adding multiple listeners to this Virtual Node. 1 Route(s) are missing port. Listing up to 5 route names: [r/x]")
	s.updates(s.node, on("grpc:3"), "") // clients change protocols step by step
	s.updates(s.node, on("http:1"), "")
	s.updates(s.route, specTo("http", 0, "n", 1), "")
	s.updates(s.node, on("http:1 http:2"), "")
	s.updates(s.route, specTo("http", 0, "n", 2), "")
	s.updates(s.route, specTo("http", 0, "n", 0), "weightedTargets[0].port is required")
}

func TestGatewayRoutesFitGateways(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	on := func(listeners string) string { return specOn(mesh.KindVirtualGateway, listeners) }
	s.create(s.service, `{}`)
	for _, c := range []struct {
		gateway, protocol string
		port              int
		want              string
	}{
		{"", "http", 0, ""},
		{"", "grpc", 5, ""},
		{"http:80", "http", 0, ""},
		{"http:80 grpc:81", "grpc", 81, ""},
		{"http:80 grpc:81", "http", 0, "spec.httpRoute.match.port is required"},
		{"http:80", "http", 81, "spec.httpRoute.match.port must be the port of a listener of the Virtual Gateway, allowed are 80"},
		{"http:80", "http2", 0, "spec.http2Route does not fit the Virtual Gateway"},
	} {
		s.create(s.gateway, on(c.gateway))
		s.creates(s.gatewayRoute, specInto(c.protocol, c.port, "s", 0), c.want)
		s.delete(s.gateway)
		if strings.Contains(c.gateway, "http:80") {
			s.create(s.gateway, on(c.gateway))
			s.create(s.gatewayRoute, specInto("http", 80, "s", 0))
			s.updates(s.gatewayRoute, specInto(c.protocol, c.port, "s", 0), c.want)
			s.delete(s.gatewayRoute)
			s.delete(s.gateway)
		}
	}
	s.create(s.gateway, on("http:80"))
	s.create(s.gatewayRoute, specInto("http", 0, "s", 0))
	s.updates(s.gateway, on("http:80 http:81"), "1 Gateway Route(s) are missing port. Listing up to 5 gateway route names: [x]")
	s.updates(s.gateway, on("grpc:80"), "must have a listener with protocol http")
	s.updates(s.gateway, on("http:90"), "")
	s.updates(s.gatewayRoute, specInto("http", 90, "s", 0), "")
	s.updates(s.gateway, on("http:80"), "must have a listener with protocol http on port 90")
	s.updates(s.gateway, on("http:90 grpc:91"), "")
}

// TestGatewayRoutesFitProviders goes through all that can make a gateway route lead to
// several listeners without naming a port.
func TestGatewayRoutesFitProviders(t *testing.T) {
	t.Parallel()
	for _, kind := range []mesh.Kind{mesh.KindVirtualNode, mesh.KindVirtualRouter} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			s := newStreet(t)
			on := func(listeners string) string { return specOn(kind, listeners) }
			provider, second := s.m.Object(kind, "", "p"), s.m.Object(kind, "", "q")
			s.create(s.gateway, specGateway)
			s.create(provider, on("http:1"))
			s.create(second, on("http:1 http:2"))
			s.create(s.service, specService(kind, "p"))
			s.create(s.routed, specService(kind, "q"))

			s.creates(s.gatewayRoute, specInto("http", 0, "t", 0), "spec.httpRoute.action.target.port is required, as the virtual service's provider "+second.Key.String())
			s.creates(s.gatewayRoute, specInto("http", 0, "t", 3), "must be the port of a listener of the virtual service's provider")
			s.creates(s.gatewayRoute, specInto("http", 0, "t", 2), "")
			s.create(s.gatewayRoute, specInto("http", 0, "s", 0))
			s.updates(s.gatewayRoute, specInto("http", 0, "t", 0), "spec.httpRoute.action.target.port is required")

			s.updates(provider, on("http:1 http:2"), "1 Gateway Route(s) are missing port. Listing up to 5 gateway route names: [g/x]")
			s.updates(s.service, specService(kind, "q"), "spec.provider."+kind.String()+"."+kind.NameMember()+" must have one listener only")
			s.updates(s.service, `{}`, "")
			s.updates(provider, on("http:1 http:2"), "")
			s.updates(s.service, specService(kind, "p"), "must have one listener only")
			s.updates(s.gatewayRoute, specInto("http", 0, "s", 2), "")
			s.updates(s.service, specService(kind, "p"), "")
			s.updates(s.gatewayRoute, specInto("http", 0, "s", 0), "spec.httpRoute.action.target.port is required")

			// Many services of one provider are looked through at once.
			third := s.m.Object(kind, "", "o")
			s.create(third, on("http:1"))
			for i := range manyServices + 4 {
				s.create(s.m.Object(mesh.KindVirtualService, "", fmt.Sprintf("a/%d", i)), specService(kind, "o"))
			}
			s.updates(third, on("http:1 http:2"), "")
			s.updates(third, on("http:1"), "")
			s.create(s.m.Object(mesh.KindGatewayRoute, "g", "y"), specInto("http", 0, "a/7", 0))
			s.updates(third, on("http:1 http:2"), "1 Gateway Route(s) are missing port. Listing up to 5 gateway route names: [g/y]")
			s.wantWhole()
		})
	}
}

// TestRulesInRaces lets pairs of writes race of which only one can win, many times, and
// checks that no rule is ever broken.
func TestRulesInRaces(t *testing.T) {
	t.Parallel()
	const rounds = 60
	update := func(s street, id mesh.ID, spec string) func() error {
		ch := s.change(id, spec)
		return func() error { _, err := s.s.Update(s.t.Context(), s.c, ch); return err }
	}
	create := func(s street, id mesh.ID, spec string) func() error {
		o := s.object(id, spec)
		return func() error { _, err := s.s.Create(s.t.Context(), s.c, o); return err }
	}
	for name, c := range map[string]struct {
		before func(s street)
		races  func(s street) (a, b func() error)
	}{
		"route and node": {
			func(s street) {
				s.create(s.router, specRouter)
				s.create(s.node, specOn(mesh.KindVirtualNode, "http:1"))
			},
			func(s street) (a, b func() error) {
				return create(s, s.route, specTo("http", 0, "n", 0)), update(s, s.node, specOn(mesh.KindVirtualNode, "http:1 http:2"))
			},
		},
		"route and router": {
			func(s street) {
				s.create(s.router, specRouter)
				s.create(s.node, `{}`)
			},
			func(s street) (a, b func() error) {
				return create(s, s.route, specTo("http", 0, "n", 0)), update(s, s.router, specOn(mesh.KindVirtualRouter, "grpc:1"))
			},
		},
		"changed route and node": {
			func(s street) {
				s.create(s.router, specRouter)
				s.create(s.node, specOn(mesh.KindVirtualNode, "http:1"))
				s.create(s.route, specTo("http", 0, "n", 1))
			},
			func(s street) (a, b func() error) {
				return update(s, s.route, specTo("http", 0, "n", 0)), update(s, s.node, specOn(mesh.KindVirtualNode, "http:1 http:2"))
			},
		},
		"gateway route and gateway": {
			func(s street) {
				s.create(s.gateway, specGateway)
				s.create(s.service, `{}`)
			},
			func(s street) (a, b func() error) {
				return create(s, s.gatewayRoute, specInto("http", 0, "s", 0)), update(s, s.gateway, specOn(mesh.KindVirtualGateway, "http:1 http:2"))
			},
		},
		"gateway route and provider": {
			func(s street) {
				s.create(s.gateway, specGateway)
				s.create(s.node, specOn(mesh.KindVirtualNode, "http:1"))
				s.create(s.service, specService(mesh.KindVirtualNode, "n"))
			},
			func(s street) (a, b func() error) {
				return create(s, s.gatewayRoute, specInto("http", 0, "s", 0)), update(s, s.node, specOn(mesh.KindVirtualNode, "http:1 http:2"))
			},
		},
		"service and provider": {
			func(s street) {
				s.create(s.gateway, specGateway)
				s.create(s.node, specOn(mesh.KindVirtualNode, "http:1"))
				s.create(s.service, `{}`)
				s.create(s.gatewayRoute, specInto("http", 0, "s", 0))
			},
			func(s street) (a, b func() error) {
				return update(s, s.service, specService(mesh.KindVirtualNode, "n")), update(s, s.node, specOn(mesh.KindVirtualNode, "http:1 http:2"))
			},
		},
		"service and gateway route": {
			func(s street) {
				s.create(s.gateway, specGateway)
				s.create(s.node, specOn(mesh.KindVirtualNode, "http:1 http:2"))
				s.create(s.service, `{}`)
			},
			func(s street) (a, b func() error) {
				return update(s, s.service, specService(mesh.KindVirtualNode, "n")), create(s, s.gatewayRoute, specInto("http", 0, "s", 0))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStreet(t)
			won := 0
			for range rounds {
				c.before(s)
				a, b := c.races(s)
				var errA, errB error
				var wg sync.WaitGroup
				wg.Go(func() { errA = a() })
				wg.Go(func() { errB = b() })
				wg.Wait()
				if (errA == nil) == (errB == nil) {
					t.Fatalf("both or neither won: %v, %v", errA, errB)
				}
				if errA == nil {
					won++
					s.refused(errB)
				} else {
					s.refused(errA)
				}
				for _, id := range []mesh.ID{s.gatewayRoute, s.gateway, s.service, s.route, s.router, s.node} {
					if _, err := s.s.Delete(t.Context(), s.c, id); err != nil {
						wantCode(t, err, mesh.ErrNotFound)
					}
				}
			}
			t.Logf("the first won %d of %d times", won, rounds)
		})
	}
}
