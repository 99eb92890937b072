package randmesh

import (
	"slices"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// What can be told from the names alone is drawn from few, so that objects find each
// other; the names of services are odd.
var (
	nodes    = []string{Node, "b", "c_d", "E.f-g"}
	routers  = []string{"r", "s", "T_t"}
	services = []string{
		"a", "A", "a:80", "a.", "b.local", "*", "*.b", "b*c", ":80", "with space", "ünï", "[::1]", "1.2.3.4:80", "x/y", "{}", "%41", "$a",
		"\\", `"`, "payment.shop.internal",
	}
	protocols = []string{"http", "http2", "grpc", "tcp"}
)

// all makes all objects, each kind before those that lead to it.
func (g *generator) all() {
	g.add(mesh.KindMesh, "", g.Mesh, func() object { return g.structure("MeshSpec") })
	for _, name := range nodes {
		if name != Node && g.IntN(5) == 0 {
			continue
		}
		all := g.ports(0, 3, protocols)
		g.listeners[mesh.Key{Kind: mesh.KindVirtualNode, Name: name}] = all
		g.add(mesh.KindVirtualNode, "", name, func() object { return g.node(all) })
	}
	for _, name := range routers {
		all := g.ports(0, 3, protocols)
		g.listeners[mesh.Key{Kind: mesh.KindVirtualRouter, Name: name}] = all
		g.add(mesh.KindVirtualRouter, "", name, func() object { return object{"listeners": mappings(all)} })
		for i := range g.IntN(7) {
			g.route(name, pick(g, "route", "r_", "R.")+string(rune('0'+i)), all)
		}
	}
	for _, name := range services {
		if g.IntN(4) > 0 && mesh.CheckName(mesh.KindVirtualService, name) == nil {
			g.service(name)
		}
	}
	for _, name := range []string{Gateway, "back-door"} {
		if name == Gateway || g.IntN(4) == 0 {
			g.gateway(name)
		}
	}
	g.policies()
	g.access()
}

// ports returns listeners with ports of their own.
func (g *generator) ports(least, most int, protocols []string) []listener {
	var out []listener
	for range least + g.IntN(most-least+1) {
		port := g.port()
		if !slices.ContainsFunc(out, func(l listener) bool { return l.port == port }) {
			out = append(out, listener{port, pick(g, protocols...)})
		}
	}
	return out
}

// port returns the port of a listener. A proxy that is bound to an address of its own has
// Envoy's admin interface there, by default on port 9901, which no listener may have.
func (g *generator) port() int64 {
	for {
		port := pick[int64](g, 80, 81, 443, 8080, 8080, 8443, 15000, 15001, 65535, 1+g.Int64N(65535))
		if port >= g.LeastPort && port != 9901 {
			return port
		}
	}
}

func mappings(all []listener) []object {
	out := []object{}
	for _, l := range all {
		out = append(out, object{"portMapping": object{"port": l.port, "protocol": l.protocol}})
	}
	return out
}

// listenersOf returns the listeners of a node or gateway with all that they can have.
func (g *generator) listenersOf(shape string, all []listener) []object {
	out := []object{}
	for _, l := range all {
		o := g.structure(shape)
		o["portMapping"] = object{"port": l.port, "protocol": l.protocol}
		for _, union := range []string{"timeout", "connectionPool"} {
			if o[union] != nil {
				o[union] = g.only(shape, union, l.protocol)
			}
		}
		if check, ok := o["healthCheck"].(object); ok && check["port"] != nil {
			check["port"] = l.port
		}
		out = append(out, o)
	}
	return out
}

// only returns a structure, or that which is a member of it, with one member alone.
func (g *generator) only(shape, union, name string) object {
	if union != "" {
		shape = member(shape, union).Shape
	}
	return object{name: g.value(member(shape, name))}
}

func (g *generator) node(all []listener) object {
	o := g.structure("VirtualNodeSpec")
	o["listeners"] = g.listenersOf("Listener", all)
	delete(o, "serviceDiscovery")
	if len(all) > 0 {
		o["serviceDiscovery"] = g.structure("ServiceDiscovery")
	}
	backends := []object{}
	for _, i := range g.Perm(len(services))[:g.IntN(len(services))] {
		name := services[i]
		if mesh.CheckName(mesh.KindVirtualService, name) != nil {
			continue
		}
		b := g.structure("VirtualServiceBackend")
		if b["virtualServiceName"] = name; g.IntN(8) == 0 {
			id := mesh.ID{Mesh: mesh.MeshID{Account: "000000000001", Region: "us-east-1", Name: g.Mesh}, Key: mesh.Key{Kind: mesh.KindVirtualService, Name: name}}
			b["virtualServiceName"] = id.ARN("000000000001")
		}
		backends = append(backends, object{"virtualService": b})
	}
	o["backends"] = backends
	return o
}

// route adds a route that fits its router and its targets, if there can be one.
func (g *generator) route(router, name string, above []listener) {
	l := listener{g.port(), pick(g, protocols...)}
	if len(above) > 0 {
		l = pick(g, above...)
	}
	if len(g.targets(l.protocol)) == 0 {
		return
	}
	g.add(mesh.KindRoute, router, name, func() object {
		o := g.routeSpec("RouteSpec", l, len(above))
		route := o[l.protocol+"Route"].(object)
		route["action"] = object{"weightedTargets": g.targets(l.protocol)}
		return o
	})
}

// routeSpec returns a route or gateway route of one protocol, for a listener of several.
func (g *generator) routeSpec(shape string, l listener, of int) object {
	o := g.only(shape, "", l.protocol+"Route")
	if g.coin() {
		o["priority"] = g.value(member(shape, "priority"))
	}
	route := o[l.protocol+"Route"].(object)
	match, ok := route["match"].(object)
	if !ok {
		match = object{}
	}
	delete(match, "port")
	if of > 1 || g.coin() {
		match["port"] = l.port
	}
	if route["match"] = match; len(match) == 0 && g.coin() && l.protocol == "tcp" {
		delete(route, "match")
	}
	return o
}

// targets returns up to four nodes that take a protocol. One of their weights is above 0.
func (g *generator) targets(protocol string) []object {
	var out []object
	for _, i := range g.Perm(len(nodes)) {
		all, ok := g.listeners[mesh.Key{Kind: mesh.KindVirtualNode, Name: nodes[i]}]
		if !ok || len(out) > g.IntN(4) {
			continue
		}
		fits := slices.DeleteFunc(slices.Clone(all), func(l listener) bool { return l.protocol != protocol })
		o := object{"virtualNode": nodes[i], "weight": pick(g, 0, 1, 50, 100)}
		switch {
		case len(all) == 0 && g.coin():
			o["port"] = g.port()
		case len(all) == 0:
		case len(fits) == 0:
			continue
		case len(all) > 1 || g.coin():
			o["port"] = pick(g, fits...).port
		}
		out = append(out, o)
	}
	if len(out) > 0 {
		out[g.IntN(len(out))]["weight"] = 1 + g.IntN(100)
	}
	return out
}

func (g *generator) service(name string) {
	provider := mesh.Key{Kind: mesh.KindVirtualRouter, Name: pick(g, routers...)}
	if g.coin() {
		provider = mesh.Key{Kind: mesh.KindVirtualNode, Name: pick(g, nodes...)}
	}
	if _, ok := g.listeners[provider]; !ok || g.IntN(10) == 0 {
		g.provider[name] = mesh.Key{}
		g.add(mesh.KindVirtualService, "", name, func() object { return object{} })
		return
	}
	g.provider[name] = provider
	g.add(mesh.KindVirtualService, "", name, func() object {
		return object{"provider": object{provider.Kind.String(): object{provider.Kind.NameMember(): provider.Name}}}
	})
}

func (g *generator) gateway(name string) {
	all := g.ports(1, 3, []string{"http", "http2", "grpc"})
	g.listeners[mesh.Key{Kind: mesh.KindVirtualGateway, Name: name}] = all
	g.add(mesh.KindVirtualGateway, "", name, func() object {
		o := g.structure("VirtualGatewaySpec")
		o["listeners"] = g.listenersOf("VirtualGatewayListener", all)
		return o
	})
	for i := range g.IntN(9) {
		service := pick(g, services...)
		provider, ok := g.provider[service]
		if !ok {
			continue
		}
		l := pick(g, all...)
		g.add(mesh.KindGatewayRoute, name, "to-"+string(rune('0'+i)), func() object {
			o := g.routeSpec("GatewayRouteSpec", l, len(all))
			target := object{"virtualService": object{"virtualServiceName": service}}
			switch ports := g.listeners[provider]; {
			case len(ports) > 1 || len(ports) == 1 && g.coin():
				target["port"] = pick(g, ports...).port
			case len(ports) == 0 && g.coin():
				target["port"] = g.port()
			}
			o[l.protocol+"Route"].(object)["action"].(object)["target"] = target
			return o
		})
	}
}
