package cli

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// denseMesh makes meshes in which everything leads to everything on few ports with few
// protocols, so that nearly each change is in the way of another.
func denseMesh(_ *testing.T, seed uint64) string {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 17)), mesh: "test", listeners: map[string][]listener{}, provider: map[string]string{}}
	g.add("Mesh", "test", doc{})
	delete(g.docs[0], "mesh")
	var nodes, routers []string
	for i := range 3 {
		name := fmt.Sprint("n", i)
		if g.often() {
			nodes = append(nodes, name)
			g.listeners["node "+name] = g.mixed(0)
			g.add("VirtualNode", name, g.node(g.listeners["node "+name]))
		}
	}
	for i := range 2 {
		name := fmt.Sprint("r", i)
		if g.often() {
			routers = append(routers, name)
			g.listeners["router "+name] = g.mixed(0)
			g.add("VirtualRouter", name, doc{"listeners": mappings(g.listeners["router "+name])})
			g.denseRoutes(name, nodes)
		}
	}
	for i := range 3 {
		g.denseService(fmt.Sprint("s", i), nodes, routers)
	}
	for i := range 2 {
		if g.often() {
			g.denseGateway(fmt.Sprint("g", i))
		}
	}
	return file(g.docs)
}

// mixed returns up to three listeners, most often with the same protocol.
func (g *generator) mixed(least int) []listener {
	var out []listener
	usual := pick(g, "http", "grpc")
	for _, i := range g.Perm(3)[:max(least, g.IntN(4))] {
		l := listener{80 + i, usual}
		if g.IntN(4) == 0 {
			l.protocol = pick(g, "http", "grpc")
		}
		out = append(out, l)
	}
	return out
}

func (g *generator) denseRoutes(router string, nodes []string) {
	above := g.listeners["router "+router]
	for i := range 3 {
		protocol := pick(g, "http", "grpc")
		match := doc{}
		if len(above) > 0 {
			l := pick(g, above...)
			protocol = l.protocol
			if len(above) > 1 || g.coin() {
				match["port"] = l.port
			}
		}
		var targets []doc
		for _, n := range nodes {
			if t, ok := g.denseTarget(n, protocol); ok && g.coin() {
				targets = append(targets, t)
			}
		}
		if len(targets) == 0 {
			continue
		}
		if protocol == "grpc" {
			match["serviceName"] = pick(g, "a", "b")
		} else {
			match["prefix"] = pick(g, "/a", "/b")
		}
		g.add("Route", fmt.Sprint("x", i), doc{protocol + "Route": doc{"match": match, "action": doc{"weightedTargets": targets}}}, "virtualRouter", router)
	}
}

// denseTarget returns a target that fits a protocol, if a node has one.
func (g *generator) denseTarget(node, protocol string) (doc, bool) {
	all := g.listeners["node "+node]
	out := doc{"virtualNode": node, "weight": 1}
	if len(all) == 0 {
		return out, true
	}
	for _, i := range g.Perm(len(all)) {
		if all[i].protocol == protocol {
			if len(all) > 1 || g.coin() {
				out["port"] = all[i].port
			}
			return out, true
		}
	}
	return nil, false
}

func (g *generator) denseService(name string, nodes, routers []string) {
	spec := doc{}
	switch {
	case len(routers) > 0 && g.coin():
		r := pick(g, routers...)
		spec["provider"] = doc{"virtualRouter": doc{"virtualRouterName": r}}
		g.provider[name] = "router " + r
	case len(nodes) > 0:
		n := pick(g, nodes...)
		spec["provider"] = doc{"virtualNode": doc{"virtualNodeName": n}}
		g.provider[name] = "node " + n
	}
	g.add("VirtualService", name, spec)
}

func (g *generator) denseGateway(gateway string) {
	all := g.mixed(1)
	g.add("VirtualGateway", gateway, doc{"listeners": mappings(all)})
	for i := range 3 {
		if !g.often() {
			continue
		}
		l, service := pick(g, all...), fmt.Sprint("s", g.IntN(3))
		target := set(doc{"virtualService": doc{"virtualServiceName": service}}, "port", g.port(g.listeners[g.provider[service]]))
		match := doc{"prefix": "/" + fmt.Sprint(i)}
		if l.protocol == "grpc" {
			match = doc{"serviceName": fmt.Sprint("x", i)}
		}
		if len(all) > 1 || g.coin() {
			match["port"] = l.port
		}
		g.add("GatewayRoute", fmt.Sprint("t", i), doc{l.protocol + "Route": doc{"match": match, "action": doc{"target": target}}}, "virtualGateway", gateway)
	}
}
