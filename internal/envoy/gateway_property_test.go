package envoy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// TestOnePassIsTwo compares what the routes that Translate makes do with random
// requests to what the two passes of App Mesh's documentation would, for random gateway
// routes and routes.
func TestOnePassIsTwo(t *testing.T) {
	t.Parallel()
	var passes [2]int
	for seed := range uint64(600) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 11)), t: t}
		v := g.gatewayView(8080)
		resources, problems := Translate(v, Profile{Internal: true})
		if len(problems) > 0 {
			t.Fatalf("seed %d: problems: %s", seed, printProblems(problems))
		}
		first, internal := gatewayRoutes(resources)
		for range 100 {
			in := g.request()
			want, got := reference(v, in), evaluate(first, internal, in)
			got.Node = nodeOf(got.Node)
			if got != want {
				t.Fatalf("seed %d: %s\ngot  %+v\nwant %+v\n%s", seed, in, got, want, printResources(t, resources))
			}
		}
		one, two := countPasses(first, internal)
		passes[0] += one
		passes[1] += two
	}
	t.Logf("%d routes in one pass, %d in two", passes[0], passes[1])
	if passes[0] < 1000 || passes[1] < 100 {
		t.Error("the test is about too few routes of one kind")
	}
}

// nodeOf returns the node that a cluster of a random mesh leads to.
func nodeOf(cluster string) string {
	name, _ := strings.CutPrefix(cluster, "cds_egress_shop_")
	name, _, _ = strings.Cut(name, "_")
	return name
}

// gatewayRoutes returns the routes of a gateway's only listener, and those behind the
// clusters that lead to internal listeners.
func gatewayRoutes(resources []Resource) (first *routev3.RouteConfiguration, internal map[string]*routev3.RouteConfiguration) {
	internal = map[string]*routev3.RouteConfiguration{}
	for _, r := range resources {
		if c, ok := r.Message.(*routev3.RouteConfiguration); ok {
			if rest, second := strings.CutPrefix(c.Name, "rds_internal_"); second {
				internal["cds_internal_shop_"+rest] = c
			} else {
				first = c
			}
		}
	}
	return first, internal
}

func countPasses(c *routev3.RouteConfiguration, internal map[string]*routev3.RouteConfiguration) (one, two int) {
	for _, h := range c.VirtualHosts {
		for _, r := range h.Routes {
			switch cluster := r.GetRoute().GetCluster(); {
			case internal[cluster] != nil:
				two++
			case cluster != "":
				one++
			}
		}
	}
	return one, two
}

// The words of random gateways are few, so that routes and requests meet.

func (g *generator) pathText() string {
	return pick(g, "/", "/a", "/a/", "/ab", "/a/b", "/a/b/", "/x", "/x/", "/xb", "/x/a", "/x/a/b", "/v/a", "/v/", "/b", "/x/v/a", "/a.b", "/A/b")
}

func (g *generator) pathExpr() string {
	return pick(g, "/a/.*", "/[ab]+", "/x(/.*)?", "/a|/b", ".*b", "/a", "^/a/?$", "/v/(a|b)", "(?i)/A/.*", "/.*", "/a.b", `/\w+/b`, "/a?b?", "/x/|/a/", `/\bv/.*`, "/v?/a", "(?i:/a/)b", "/A/b", `/\Ba`)
}

func (g *generator) condition() any {
	o := object{"name": pick(g, "h", "h", "k", "Host", "x-forwarded-host")}
	g.maybe(3, o, "invert", true)
	g.maybe(1, o, "match", pick(g,
		object{"exact": g.headerText()}, object{"prefix": g.headerText()}, object{"suffix": g.headerText()},
		object{"regex": pick(g, "[0-9]+", "s.*", "a.*|s1")}, object{"range": object{"start": 0, "end": 5}}))
	if g.IntN(4) == 0 {
		delete(o, "match")
	}
	return o
}

func (g *generator) headerText() string { return pick(g, "1", "12", "s1", "a.test", "t", "s2") }

func (g *generator) parameter() any {
	o := object{"name": pick(g, "q", "r")}
	g.maybe(2, o, "match", object{"exact": pick(g, "1", "2")})
	return o
}

// conditions are what matches of gateway routes and of routes have in common.
func (g *generator) conditions(match object) {
	switch g.IntN(4) {
	case 0:
		match["path"] = object{"exact": g.pathText()}
	case 1:
		match["path"] = object{"regex": g.pathExpr()}
	default:
		match["prefix"] = pick(g, "/", g.pathText(), g.pathText())
	}
	g.maybe(4, match, "method", pick(g, "GET", "POST"))
	g.maybe(3, match, "headers", g.list(1, 2, g.condition))
	g.maybe(4, match, "queryParameters", g.list(1, 2, g.parameter))
}

func (g *generator) gatewayRoute(service string) object {
	match := object{}
	g.conditions(match)
	g.maybe(3, match, "hostname", pick(g,
		object{"exact": "a.test"}, object{"exact": "b.A.test"}, object{"suffix": ".a.test"}, object{"suffix": "a.test"}, object{"suffix": "test"}))
	rewrite := object{}
	g.maybe(2, rewrite, "prefix", pick(g,
		object{"defaultPrefix": "ENABLED"}, object{"defaultPrefix": "DISABLED"}, object{"value": "/v/"}, object{"value": "/a/"}, object{"value": "/A/"}, object{"value": "/"}))
	if match["prefix"] == nil || g.IntN(4) == 0 {
		delete(rewrite, "prefix")
		g.maybe(3, rewrite, "path", object{"exact": g.pathText()})
	}
	g.maybe(3, rewrite, "hostname", object{"defaultTargetHostname": pick(g, "ENABLED", "DISABLED")})
	action := object{"target": object{"virtualService": object{"virtualServiceName": service}}}
	if len(rewrite) > 0 {
		action["rewrite"] = rewrite
	}
	o := object{"httpRoute": object{"match": match, "action": action}}
	g.maybe(4, o, "priority", pick(g, 0, 1, 1000))
	return o
}

// gatewayView builds the view of a random gateway with services behind routers, each of
// whose routes leads to a node of its own.
func (g *generator) gatewayView(port int) *mesh.View {
	edit := mesh.NewSnapshot(mesh.MeshID{Account: "000000000001", Region: "us-east-1", Name: "shop"}).Edit()
	edit.Put(g.item(mesh.KindMesh, "", "shop", object{}))
	listeners := func(port int) object {
		return object{"listeners": []any{object{"portMapping": object{"port": port, "protocol": "http"}}}}
	}
	edit.Put(g.item(mesh.KindVirtualGateway, "", "edge", listeners(port)))
	for i := range 1 + g.IntN(5) {
		edit.Put(g.item(mesh.KindGatewayRoute, "edge", fmt.Sprint("g", i), g.gatewayRoute(pick(g, "s1", "s2"))))
	}
	for _, s := range []string{"s1", "s2"} {
		edit.Put(g.item(mesh.KindVirtualService, "", s, object{"provider": object{"virtualRouter": object{"virtualRouterName": s}}}))
		edit.Put(g.item(mesh.KindVirtualRouter, "", s, listeners(80)))
		for i := range 1 + g.IntN(4) {
			node, match := fmt.Sprint(s, "n", i), object{}
			g.conditions(match)
			g.maybe(6, match, "scheme", pick(g, "http", "https"))
			route := object{"httpRoute": object{"match": match, "action": object{"weightedTargets": []any{object{"virtualNode": node, "weight": 1}}}}}
			g.maybe(4, route, "priority", pick(g, 0, 1, 1000))
			edit.Put(g.item(mesh.KindRoute, s, fmt.Sprint("r", i), route))
			spec := listeners(80)
			spec["serviceDiscovery"] = object{"dns": object{"hostname": "127.0.0.1"}}
			edit.Put(g.item(mesh.KindVirtualNode, "", node, spec))
		}
	}
	return mesh.BuildView(mesh.NewReader(edit.Done(1)), mesh.Key{Kind: mesh.KindVirtualGateway, Name: "edge"})
}

func (g *generator) request() request {
	r := request{
		method:  pick(g, "GET", "POST"),
		host:    pick(g, "a.test", "b.a.test", "c.b.a.test", "A.TEST", "a.test:80", "other", "ta.test", "test", "s1"),
		path:    g.pathText(),
		query:   pick(g, "", "", "q", "q=1", "q=2&r=1", "r=1"),
		headers: map[string]string{},
	}
	if g.IntN(3) == 0 {
		r.path = strings.TrimSuffix(r.path, "/") + g.pathText()
	}
	for _, name := range []string{"h", "k"} {
		if g.IntN(2) == 0 {
			r.headers[name] = g.headerText()
		}
	}
	return r
}
