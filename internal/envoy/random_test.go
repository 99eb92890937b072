package envoy

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/randmesh"
)

var meshes = flag.Int("meshes", 30, "how many random meshes TestRandomMeshes has an Envoy check; TestOddMeshes takes a third as many")

// TestRandomMeshes has an Envoy check what Translate makes of random meshes that the API
// accepts, for a node or a gateway of each.
func TestRandomMeshes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := randmesh.WriteFiles(dir); err != nil {
		t.Fatal(err)
	}
	for seed := range *meshes {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			m, err := randmesh.New(randmesh.Config{Seed: uint64(seed), Mesh: "shop", Dir: dir, Hosts: []string{"a.internal", "10.0.0.1", "::1"}})
			if err != nil {
				t.Fatal(err)
			}
			key := nodeKey(randmesh.Node)
			if seed%2 == 1 {
				key = mesh.Key{Kind: mesh.KindVirtualGateway, Name: randmesh.Gateway}
			}
			snapshot := m.Snapshot(mesh.MeshID{Account: "000000000001", Region: "us-east-1", Name: "shop"})
			view := mesh.BuildView(mesh.NewReader(snapshot), key)
			g := &generator{Rand: rand.New(rand.NewPCG(uint64(seed), 9)), t: t}
			resources, problems := Translate(view, g.profile(dir))
			checkResources(t, resources)
			validateWithEnvoy(t, resources)
			if t.Failed() {
				t.Logf("%s\n%s\n%s", m.Documents(), printResources(t, resources), printProblems(problems))
			}
		})
	}
}

// profile returns a random one.
func (g *generator) profile(reload string) Profile {
	o := object{}
	if g.coin() {
		o["placement"], o["bindAddress"] = "bound", pick(g, "127.0.0.2", "::2")
		if g.coin() {
			o["explicit"], o["egressAddress"], o["internalListeners"] = true, pick(g, "127.0.0.3", "::1"), true
			g.maybe(2, o, "tcpPorts", "a:80=16390")
		}
	}
	g.maybe(2, o, "dnsPort", 15054)
	if g.coin() {
		o["reloadDirectory"] = reload
	}
	if o["explicit"] == nil {
		g.maybe(2, o, "internalListeners", g.coin())
	}
	g.maybe(2, o, "clientCertificate", pick(g, "remove", "set", "append"))
	if g.coin() {
		discovery := object{"cluster": "fairlead_xds"}
		g.maybe(2, discovery, "authority", "fairlead.example:9081")
		o["discovery"] = discovery
	}
	metadata := object{"fairlead": o}
	if g.coin() {
		metadata["aws.appmesh.metric_filter"] = object{"level": "1"}
	}
	if g.coin() {
		records := object{"cluster": "fairlead_otlp_logs"}
		g.maybe(2, records, "uri", "http://127.0.0.1:4318/v1/logs")
		o["accessLogs"] = object{"grpc": object{"cluster": "fairlead_access_log"}, "openTelemetry": records}
	}
	return caseProxy{Version: testedVersion(g.t), Metadata: metadata}.profile(g.t)
}

func (g *generator) coin() bool { return g.IntN(2) == 0 }

// TestOddMeshes has an Envoy check what Translate makes of meshes in which every text,
// number and choice is as odd as a store may hold it: an earlier version, or an import,
// may have let in what the API refuses.
func TestOddMeshes(t *testing.T) {
	t.Parallel()
	for seed := range *meshes / 3 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			g := &generator{Rand: rand.New(rand.NewPCG(uint64(seed), 7)), t: t}
			view := g.view()
			p := g.profile(t.TempDir())
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
	// alike is set where no service has a client policy of its own.
	alike bool
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
	g.maybe(1, o, "serviceDiscovery", pick(g, object{"dns": dns}, object{"dns": dns}, object{"awsCloudMap": g.cloudMap()}))
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
	trust := pick(g, object{"file": object{"certificateChain": pick(g, "/ca", "/other", g.path())}}, object{"sds": object{"secretName": "t" + g.text()}},
		object{"acm": object{"certificateAuthorityArns": []any{"arn:x"}}})
	validation := object{"trust": trust}
	g.maybe(3, validation, "subjectAlternativeNames", object{"match": object{"exact": g.list(0, 2, func() any {
		return pick(g, "a.b", "spiffe://a/b", "10.0.0.1", "*.x", g.text())
	})}})
	tls := object{"validation": validation}
	g.maybe(2, tls, "enforce", g.IntN(2) == 0)
	if !g.alike {
		g.maybe(2, tls, "ports", g.list(0, 2, g.port))
	}
	g.maybe(3, tls, "certificate", pick(g, object{"sds": object{"secretName": g.text()}}, object{"file": object{"certificateChain": g.path(), "privateKey": "/k"}}))
	return pick(g, object{}, object{"tls": tls}, object{"tls": tls})
}

func (g *generator) listener() any {
	protocol := pick(g, "http", "http", "http", "http2", "grpc", "tcp")
	o := object{"portMapping": object{"port": g.port(), "protocol": protocol}}
	g.maybe(3, o, "timeout", object{pick(g, protocol, protocol, "http", "http2", "grpc", "tcp"): g.timeout()})
	g.maybe(3, o, "connectionPool", object{pick(g, protocol, protocol, "http", "http2", "grpc", "tcp"): object{
		"maxConnections": 1, "maxPendingRequests": math.MaxInt32, "maxRequests": pick[any](g, 0, 1, int64(math.MaxInt64)),
	}})
	g.maybe(3, o, "outlierDetection", object{
		"maxServerErrors": pick[any](g, 1, int64(math.MaxInt64)), "interval": g.duration(), "baseEjectionDuration": g.duration(), "maxEjectionPercent": pick(g, 0, 100),
	})
	check := object{"protocol": pick(g, protocol, "http", "http2", "grpc", "tcp"), "healthyThreshold": 2, "unhealthyThreshold": 10, "timeoutMillis": pick(g, 2000, 60000), "intervalMillis": 5000}
	g.maybe(2, check, "path", g.path())
	g.maybe(3, o, "healthCheck", check)
	g.maybe(3, o, "tls", g.listenerTLS())
	return o
}

func (g *generator) listenerTLS() object {
	o := object{
		"mode": pick(g, "STRICT", "PERMISSIVE", "PERMISSIVE", "DISABLED"),
		"certificate": pick(g, object{"sds": object{"secretName": g.text()}}, object{"file": object{"certificateChain": g.path(), "privateKey": "/k"}},
			object{"file": object{"certificateChain": "c", "privateKey": g.path()}}, object{"acm": object{"certificateArn": "arn:x"}}),
	}
	validation := object{"trust": pick(g, object{"sds": object{"secretName": g.text()}}, object{"file": object{"certificateChain": g.path()}})}
	g.maybe(2, validation, "subjectAlternativeNames", object{"match": object{"exact": g.list(0, 2, func() any { return g.text() })}})
	g.maybe(2, o, "validation", validation)
	return o
}

func (g *generator) route() object {
	kind := pick(g, "httpRoute", "httpRoute", "http2Route", "grpcRoute", "tcpRoute")
	var match object
	switch kind {
	case "grpcRoute":
		match = g.grpcMatch()
	case "tcpRoute":
		match = object{}
	default:
		match = g.httpMatch()
	}
	g.maybe(3, match, "port", g.port())
	route := object{"match": match, "action": object{"weightedTargets": g.list(1, 4, func() any {
		o := object{"virtualNode": g.node(), "weight": pick(g, 0, 0, 50, 100)}
		g.maybe(3, o, "port", g.port())
		return o
	})}}
	g.maybe(2, route, "timeout", g.timeout())
	policy := object{"maxRetries": pick[any](g, 0, 1, int64(math.MaxInt64)), "perRetryTimeout": g.duration()}
	g.maybe(2, policy, "httpRetryEvents", g.list(1, 5, func() any {
		return pick(g, "server-error", "gateway-error", "client-error", "stream-error", "unknown")
	}))
	g.maybe(2, policy, "grpcRetryEvents", g.list(1, 5, func() any {
		return pick(g, "cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable", "unknown")
	}))
	g.maybe(2, policy, "tcpRetryEvents", []any{"connection-error"})
	g.maybe(2, route, "retryPolicy", policy)
	o := object{kind: route}
	g.maybe(2, o, "priority", pick(g, 0, 1, 1000))
	return o
}

func (g *generator) httpMatch() object {
	match := object{}
	if g.IntN(2) == 0 {
		match["prefix"] = g.path()
	} else {
		match["path"] = pick(g, object{"exact": g.path()}, object{"regex": g.expr()})
	}
	g.maybe(3, match, "method", pick(g, "GET", "POST", "PUT", "CONNECT"))
	g.maybe(3, match, "scheme", "https")
	g.maybe(3, match, "queryParameters", g.list(1, 2, func() any {
		o := object{"name": g.text()}
		g.maybe(2, o, "match", pick(g, object{}, object{"exact": g.text()}))
		return o
	}))
	g.maybe(2, match, "headers", g.list(1, 3, g.headerMatch))
	return match
}

func (g *generator) grpcMatch() object {
	match := object{}
	g.maybe(2, match, "serviceName", pick(g, "a.B", "a.B", "", "a/b", g.text()))
	g.maybe(2, match, "methodName", pick(g, "C", "", "c d", g.text()))
	g.maybe(2, match, "metadata", g.list(1, 3, g.headerMatch))
	return match
}

func (g *generator) headerMatch() any {
	o := object{"name": g.header()}
	g.maybe(2, o, "invert", true)
	g.maybe(1, o, "match", pick(g,
		object{"exact": g.text()}, object{"prefix": "p" + g.text()}, object{"suffix": "s" + g.text()}, object{"regex": g.expr()},
		object{"range": object{"start": int64(math.MinInt64), "end": int64(math.MaxInt64)}}, object{"range": object{"start": 1, "end": 1}},
	))
	return o
}

// view builds the view of node "a" or of gateway "edge" of a random mesh.
func (g *generator) view() *mesh.View {
	r := mesh.NewReader(g.snapshot())
	r.Instances = g.registry()
	return mesh.BuildView(r, pick(g, nodeKey("a"), mesh.Key{Kind: mesh.KindVirtualGateway, Name: "edge"}))
}

// snapshot makes a random mesh.
func (g *generator) snapshot() *mesh.Snapshot {
	edit := mesh.NewSnapshot(mesh.MeshID{Account: "000000000001", Region: "us-east-1", Name: "shop"}).Edit()
	shop := object{"egressFilter": object{"type": pick(g, "ALLOW_ALL", "DROP_ALL")}}
	g.maybe(3, shop, "serviceDiscovery", object{"ipPreference": pick(g, preferIPv4, preferIPv6, onlyIPv4, onlyIPv6)})
	edit.Put(g.item(mesh.KindMesh, "", "shop", shop))
	backends := []any{}
	for _, name := range oddServices {
		b := object{"virtualServiceName": name}
		if !g.alike {
			g.maybe(5, b, "clientPolicy", g.clientPolicy())
		}
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
			return object{"portMapping": object{"port": g.port(), "protocol": pick(g, "http", "http", "http2", "grpc", "tcp")}}
		})}))
		for i := range g.IntN(8) {
			edit.Put(g.item(mesh.KindRoute, name, fmt.Sprint("route", i), g.route()))
		}
	}
	edit.Put(g.item(mesh.KindVirtualGateway, "", "edge", g.oddGateway()))
	for i := range g.IntN(8) {
		edit.Put(g.item(mesh.KindGatewayRoute, "edge", fmt.Sprint("route", i), g.oddGatewayRoute()))
	}
	return edit.Done(1)
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

func (g *generator) cloudMap() object {
	o := object{"namespaceName": pick(g, "n", "n", g.text()), "serviceName": pick(g, "s", "t", g.text())}
	g.maybe(3, o, "attributes", g.list(1, 2, func() any { return object{"key": pick(g, "k", "l"), "value": pick(g, "a", "b")} }))
	g.maybe(3, o, "ipPreference", pick(g, preferIPv4, preferIPv6, onlyIPv4, onlyIPv6))
	return o
}

// registry makes random instances. Asked again it knows the same.
func (g *generator) registry() mesh.Instances {
	known := map[mesh.InstancesKey][]mesh.Instance{}
	return func(k mesh.InstancesKey) ([]mesh.Instance, bool) {
		list, asked := known[k]
		if !asked && g.IntN(5) > 0 {
			list = make([]mesh.Instance, g.IntN(9))
			for i := range list {
				list[i] = mesh.Instance{
					ID: fmt.Sprint(i), IPv4: pick(g, "10.0.0.1", "10.0.0.2", "10.0.0.3", "", "127.1", "224.0.0.1", "2001:db8::1"),
					IPv6: pick(g, "2001:db8::1", "2001:DB8::2", "", "fe80::1%1", "::", "::ffff:10.0.0.1", "10.0.0.1"),
					Port: pick[uint32](g, 0, 0, 80, 65535, 65536, math.MaxUint32), Zone: pick(g, "", "b", "a", "ü"),
					Attributes: map[string]string{"k": pick(g, "a", "b"), "l": pick(g, "a", "b")}, Unhealthy: g.IntN(4) == 0,
				}
			}
		}
		known[k] = list
		return list, list != nil
	}
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
