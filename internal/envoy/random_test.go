package envoy

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

var meshes = flag.Int("meshes", 10, "how many random meshes TestRandomMeshes has an Envoy check")

// TestRandomMeshes has an Envoy check what Translate makes of meshes in which every
// text, number and choice is as odd as a store may hold it.
func TestRandomMeshes(t *testing.T) {
	t.Parallel()
	for seed := range *meshes {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			g := &generator{Rand: rand.New(rand.NewPCG(uint64(seed), 7)), t: t}
			view := g.view()
			p := Profile{Internal: g.IntN(2) == 0}
			if g.IntN(2) == 0 {
				p = parseMetadata(t, map[string]any{"fairlead": map[string]any{"placement": "bound", "bindAddress": "127.0.0.2"}})
			}
			resources, _ := Translate(view, p)
			checkResources(t, resources)
			validateWithEnvoy(t, resources)
			if t.Failed() {
				t.Log(printResources(t, resources))
			}
		})
	}
}

// generator makes random specs.
type generator struct {
	*rand.Rand
	t *testing.T
}

type object = map[string]any

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

// maybe sets a member of an object in one of n cases.
func (g *generator) maybe(n int, o object, name string, value any) {
	if g.IntN(n) == 0 {
		o[name] = value
	}
}

func (g *generator) list(least, most int, f func() any) []any {
	out := []any{}
	for range least + g.IntN(most-least+1) {
		out = append(out, f())
	}
	return out
}

// The names of virtual nodes are few, so that routes find them; those of services are
// odd.
func (g *generator) node() string { return pick(g, "a", "b", "c_d", "E.f-g", "missing") }

var oddServices = []string{
	"a", "A", "a:80", "a.", "*", "*.b", "b*", "b*c", ":80", "with space", "ünï", "[::1]", "1.2.3.4:80", "x/y", "{}", "%41", "$a", "\\", `"`,
}

func (g *generator) port() any { return pick(g, 80, 80, 81, 8080, 15001, 65535) }

// text is odd in one of four cases, as are expr and path: a spec with too many odd
// values tests the first of them only.
func (g *generator) text() string {
	if g.IntN(4) > 0 {
		return pick(g, "a", "b c", "x-1")
	}
	return pick(g, "/", "", " ", "*", "ü", "a\nb", "a\x00b", "%", "%%", "\\", "x=y&z", "🌊", string(make([]byte, 255)))
}

func (g *generator) expr() string {
	if g.IntN(4) > 0 {
		return pick(g, "a", "/.*", `/[^/]+/\d{1,3}`)
	}
	return pick(g, "(", "[a-z]{200}", "(a{0,100}){9}", "é+", `\x{263a}`, `\pL`, `\p{Greek}{9}`, `(?i)ß`, "a**", `\C`, `\777`, "", "(?P<n>a)",
		`\Qa(\E`, ".{0,300}", ".{0,90}", "[^/]{400}", "(?:(?:a?){20}){20}", "[^/]{90}")
}

func (g *generator) path() string {
	if g.IntN(4) > 0 {
		return pick(g, "/", "/a", "/a/b/")
	}
	return pick(g, "", "a", "/a?b", "/#", "/\n", "/ü", "//", "/%2F", "*")
}

func (g *generator) header() string {
	if g.IntN(4) > 0 {
		return pick(g, "a", "Host", "x-b")
	}
	return pick(g, ":path", "a b", "x-ü", "", "a\n")
}

func (g *generator) duration() any {
	o := object{}
	g.maybe(2, o, "unit", pick(g, "s", "ms"))
	g.maybe(1, o, "value", pick[any](g, 0, 1, 15, 1500, int64(math.MaxInt64), 315576000001))
	return o
}

func (g *generator) timeout() any {
	o := object{}
	g.maybe(2, o, "perRequest", g.duration())
	g.maybe(2, o, "idle", g.duration())
	return o
}

func (g *generator) virtualNode() object {
	o := object{"listeners": g.list(0, 3, g.listener)}
	dns := object{"hostname": pick(g, "a.b", "a.b", "a.b", "a.b.", "10.0.0.1", "::1", "127.1", pick(g, "fe80::1%1", "a b", "", "ü", "a:80", "x..y"))}
	g.maybe(3, dns, "responseType", pick(g, "ENDPOINTS", "LOADBALANCER"))
	g.maybe(3, dns, "ipPreference", pick(g, preferIPv4, preferIPv6, onlyIPv4, onlyIPv6))
	g.maybe(1, o, "serviceDiscovery", pick(g, object{"dns": dns}, object{"dns": dns}, object{"awsCloudMap": object{"namespaceName": "n", "serviceName": "s"}}))
	g.maybe(2, o, "logging", object{"accessLog": object{"file": g.accessLog()}})
	g.maybe(6, o, "backendDefaults", object{"clientPolicy": g.clientPolicy()})
	return o
}

func (g *generator) accessLog() object {
	format := func() string {
		return pick(g, "%REQ(a)%", "%START_TIME(%s)%\n", "%TRAILER(a?b):9%", "100%%", pick(g, "%", "%FOO%", "%REQ(a b)%", "%PROTOCOL%%", "%DURATION(1)%", "é\x00", "%FILTER_STATE(a:b)%"))
	}
	o := object{"path": pick(g, "/dev/stdout", "/dev/null", "/a\x00b")}
	g.maybe(3, o, "format", object{"text": format() + format()})
	g.maybe(3, o, "format", object{"json": g.list(0, 4, func() any { return object{"key": g.text() + "k", "value": format()} })})
	return o
}

func (g *generator) clientPolicy() object {
	tls := object{"validation": object{"trust": object{"file": object{"certificateChain": "/ca"}}}}
	g.maybe(2, tls, "enforce", g.IntN(2) == 0)
	g.maybe(2, tls, "ports", g.list(0, 2, g.port))
	return pick(g, object{}, object{"tls": tls})
}

func (g *generator) listener() any {
	protocol := pick(g, "http", "http", "http", "http2", "grpc", "tcp")
	o := object{"portMapping": object{"port": g.port(), "protocol": protocol}}
	g.maybe(3, o, "timeout", object{pick(g, "http", "http2"): g.timeout()})
	g.maybe(3, o, "connectionPool", pick(g, object{"http": object{"maxConnections": 1, "maxPendingRequests": math.MaxInt32}}, object{"tcp": object{"maxConnections": 1}}))
	g.maybe(3, o, "outlierDetection", object{
		"maxServerErrors": pick[any](g, 1, int64(math.MaxInt64)), "interval": g.duration(), "baseEjectionDuration": g.duration(), "maxEjectionPercent": pick(g, 0, 100),
	})
	check := object{"protocol": pick(g, "http", "http", "tcp"), "healthyThreshold": 2, "unhealthyThreshold": 10, "timeoutMillis": pick(g, 2000, 60000), "intervalMillis": 5000}
	g.maybe(2, check, "path", g.path())
	g.maybe(3, o, "healthCheck", check)
	g.maybe(8, o, "tls", object{"mode": pick(g, "STRICT", "PERMISSIVE", "DISABLED"), "certificate": object{"sds": object{"secretName": "s"}}})
	return o
}

func (g *generator) route() object {
	match := object{}
	if g.IntN(2) == 0 {
		match["prefix"] = g.path()
	} else {
		match["path"] = pick(g, object{"exact": g.path()}, object{"regex": g.expr()})
	}
	g.maybe(3, match, "method", pick(g, "GET", "POST", "PUT", "CONNECT"))
	g.maybe(3, match, "scheme", "https")
	g.maybe(6, match, "port", g.port())
	g.maybe(3, match, "queryParameters", g.list(1, 2, func() any {
		o := object{"name": g.text()}
		g.maybe(2, o, "match", pick(g, object{}, object{"exact": g.text()}))
		return o
	}))
	g.maybe(2, match, "headers", g.list(1, 3, func() any {
		o := object{"name": g.header()}
		g.maybe(2, o, "invert", true)
		g.maybe(1, o, "match", pick(g,
			object{"exact": g.text()}, object{"prefix": "p" + g.text()}, object{"suffix": "s" + g.text()}, object{"regex": g.expr()},
			object{"range": object{"start": int64(math.MinInt64), "end": int64(math.MaxInt64)}}, object{"range": object{"start": 1, "end": 1}},
		))
		return o
	}))
	http := object{"match": match, "action": object{"weightedTargets": g.list(1, 4, func() any {
		o := object{"virtualNode": g.node(), "weight": pick(g, 0, 0, 50, 100)}
		g.maybe(3, o, "port", g.port())
		return o
	})}}
	g.maybe(2, http, "timeout", g.timeout())
	policy := object{"maxRetries": pick[any](g, 0, 1, int64(math.MaxInt64)), "perRetryTimeout": g.duration()}
	g.maybe(2, policy, "httpRetryEvents", g.list(1, 5, func() any {
		return pick(g, "server-error", "gateway-error", "client-error", "stream-error", "unknown")
	}))
	g.maybe(2, policy, "tcpRetryEvents", []any{"connection-error"})
	g.maybe(2, http, "retryPolicy", policy)
	o := object{pick(g, "httpRoute", "httpRoute", "httpRoute", "http2Route"): http}
	g.maybe(2, o, "priority", pick(g, 0, 1, 1000))
	return o
}

// view builds the view of node "a" or of gateway "edge" of a random mesh.
func (g *generator) view() *mesh.View {
	edit := mesh.NewSnapshot(mesh.MeshID{Account: "000000000001", Region: "us-east-1", Name: "shop"}).Edit()
	shop := object{"egressFilter": object{"type": pick(g, "ALLOW_ALL", "DROP_ALL")}}
	g.maybe(3, shop, "serviceDiscovery", object{"ipPreference": pick(g, preferIPv4, preferIPv6, onlyIPv4, onlyIPv6)})
	edit.Put(g.item(mesh.KindMesh, "", "shop", shop))
	backends := []any{}
	for _, name := range oddServices {
		b := object{"virtualServiceName": name}
		g.maybe(5, b, "clientPolicy", g.clientPolicy())
		backends = append(backends, object{"virtualService": b})
		provider := pick(g, object{"virtualNode": object{"virtualNodeName": g.node()}}, object{"virtualRouter": object{"virtualRouterName": pick(g, "r", "s", "missing")}})
		spec := object{}
		if g.IntN(10) > 0 {
			spec["provider"] = provider
		}
		if g.IntN(10) > 0 {
			edit.Put(g.item(mesh.KindVirtualService, "", name, spec))
		}
	}
	for _, name := range []string{"a", "b", "c_d", "E.f-g"} {
		spec := g.virtualNode()
		spec["backends"] = backends
		edit.Put(g.item(mesh.KindVirtualNode, "", name, spec))
	}
	for _, name := range []string{"r", "s"} {
		edit.Put(g.item(mesh.KindVirtualRouter, "", name, object{"listeners": g.list(0, 3, func() any {
			return object{"portMapping": object{"port": g.port(), "protocol": pick(g, "http", "http", "http", "tcp")}}
		})}))
		for i := range g.IntN(8) {
			edit.Put(g.item(mesh.KindRoute, name, fmt.Sprint("route", i), g.route()))
		}
	}
	edit.Put(g.item(mesh.KindVirtualGateway, "", "edge", g.oddGateway()))
	for i := range g.IntN(8) {
		edit.Put(g.item(mesh.KindGatewayRoute, "edge", fmt.Sprint("route", i), g.oddGatewayRoute()))
	}
	return mesh.BuildView(mesh.NewReader(edit.Done(1)), pick(g, nodeKey("a"), mesh.Key{Kind: mesh.KindVirtualGateway, Name: "edge"}))
}

func (g *generator) oddGateway() object {
	o := object{"listeners": g.list(0, 3, func() any {
		l := object{"portMapping": object{"port": g.port(), "protocol": pick(g, "http", "http", "http2", "grpc")}}
		g.maybe(3, l, "connectionPool", pick(g, object{"http": object{"maxConnections": 1}}, object{"grpc": object{"maxRequests": math.MaxInt32}}))
		check := object{"protocol": "http", "healthyThreshold": 2, "unhealthyThreshold": 10, "timeoutMillis": 2000, "intervalMillis": 5000}
		g.maybe(2, check, "path", g.path())
		g.maybe(3, l, "healthCheck", check)
		g.maybe(8, l, "tls", object{"mode": pick(g, "STRICT", "DISABLED"), "certificate": object{"sds": object{"secretName": "s"}}})
		return l
	})}
	g.maybe(2, o, "logging", object{"accessLog": object{"file": g.accessLog()}})
	g.maybe(6, o, "backendDefaults", object{"clientPolicy": g.clientPolicy()})
	return o
}

func (g *generator) oddGatewayRoute() object {
	host := func() object {
		return pick(g, object{"exact": "a.b"}, object{"exact": "A.b"}, object{"suffix": ".b"}, object{"suffix": "b"}, object{"exact": g.text()}, object{"suffix": g.text()})
	}
	rewrite := object{}
	g.maybe(3, rewrite, "hostname", object{"defaultTargetHostname": pick(g, "ENABLED", "DISABLED")})
	g.maybe(3, rewrite, "prefix", pick(g, object{"value": g.path()}, object{"value": "/v/"}, object{"defaultPrefix": "DISABLED"}))
	g.maybe(6, rewrite, "path", object{"exact": g.path()})
	target := object{"virtualService": object{"virtualServiceName": pick(g, oddServices...)}}
	g.maybe(3, target, "port", g.port())
	action, match := object{"target": target, "rewrite": rewrite}, object{}
	if g.IntN(4) == 0 {
		g.maybe(2, match, "serviceName", g.text())
		g.maybe(3, match, "hostname", host())
		return object{"grpcRoute": object{"match": match, "action": action}}
	}
	for _, r := range g.route() {
		if http, ok := r.(object); ok {
			match = http["match"].(object)
		}
	}
	delete(match, "scheme")
	g.maybe(3, match, "hostname", host())
	return object{pick(g, "httpRoute", "httpRoute", "http2Route"): object{"match": match, "action": action}}
}

// item reads a spec as a store does, which does not check it again.
func (g *generator) item(k mesh.Kind, parent, name string, spec object) *mesh.Item {
	raw, err := json.Marshal(spec)
	if err != nil {
		g.t.Fatal(err)
	}
	typed, err := mesh.ParseSpec(k, raw)
	if err != nil {
		g.t.Fatal(err)
	}
	return item(mesh.Key{Kind: k, Parent: parent, Name: name}, typed)
}
