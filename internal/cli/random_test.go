package cli

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// generator makes random meshes that are valid as a whole. Two of the same name have objects
// of the same names, so that one can be made of the other.
type generator struct {
	*rand.Rand
	mesh string
	docs []map[string]any

	listeners map[string][]listener // of nodes, routers and gateways, by kind and name
	provider  map[string]string     // of services: kind and name of what provides them
}

type listener struct {
	port     int
	protocol string
}

type doc = map[string]any

func newGenerator(seed uint64, name string) *generator {
	return &generator{
		Rand: rand.New(rand.NewPCG(seed, 11)), mesh: name,
		listeners: map[string][]listener{}, provider: map[string]string{},
	}
}

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

func (g *generator) often() bool { return g.IntN(5) > 0 }

func (g *generator) coin() bool { return g.IntN(2) == 0 }

// odd returns text that files and terminals may take for something else.
func (g *generator) odd() string {
	return pick(g, "plain", "yes", "null", "~", "1.10", "0x1f", "2026-01-02", "a: b", "# no", "- x", "{}", "[a]", "'q'", `"`, `\n`, "&a", "*a", "!x",
		"%41", " lead", "trail ", "ünï", "日本", "🌊", "a\tb", "<<", "true", "1e3", "|", ">", "@a", "`", "a#b", "ø:")
}

func (g *generator) add(kind, name string, spec doc, more ...string) {
	d := doc{"kind": kind, "mesh": g.mesh, "name": name, "spec": spec}
	for i := 0; i+1 < len(more); i += 2 {
		d[more[i]] = more[i+1]
	}
	if g.coin() {
		tags := doc{}
		for range g.IntN(3) {
			tags["k"+fmt.Sprint(g.IntN(4))] = g.odd()
		}
		d["tags"] = tags
	}
	g.docs = append(g.docs, d)
}

// mesh makes all documents.
func (g *generator) documents() []doc {
	g.add("Mesh", g.mesh, pick(g, doc{}, doc{"egressFilter": doc{"type": "ALLOW_ALL"}}, doc{"serviceDiscovery": doc{"ipPreference": "IPv4_ONLY"}}))
	delete(g.docs[0], "mesh")
	for family := range 2 {
		g.family(fmt.Sprint(family), pick(g, "http", "http", "http2", "grpc", "tcp"))
	}
	g.gateways()
	g.Shuffle(len(g.docs), func(i, j int) { g.docs[i], g.docs[j] = g.docs[j], g.docs[i] })
	return g.docs
}

// some returns up to most listeners with one protocol.
func (g *generator) some(least, most int, protocol string) []listener {
	var out []listener
	for _, i := range g.Perm(4)[:least+g.IntN(most-least+1)] {
		out = append(out, listener{80 + i, protocol})
	}
	return out
}

func (g *generator) family(f, protocol string) {
	var nodes []string
	for i := range 3 {
		if !g.often() {
			continue
		}
		name := fmt.Sprintf("node-%s-%d", f, i)
		nodes = append(nodes, name)
		g.listeners["node "+name] = g.some(0, 3, protocol)
		g.add("VirtualNode", name, g.node(g.listeners["node "+name]))
	}
	for i := range 2 {
		router := fmt.Sprintf("router-%s-%d", f, i)
		if !g.often() {
			continue
		}
		g.listeners["router "+router] = g.some(1, 3, protocol)
		g.add("VirtualRouter", router, doc{"listeners": mappings(g.listeners["router "+router])})
		for n := range 3 {
			if len(nodes) > 0 && g.often() {
				g.add("Route", fmt.Sprintf("route-%d", n), g.route(protocol, g.listeners["router "+router], nodes), "virtualRouter", router)
			}
		}
		g.service("s"+f+fmt.Sprint(i)+".local", router, nodes)
	}
}

func (g *generator) service(name, router string, nodes []string) {
	spec := doc{}
	switch {
	case g.coin():
		spec["provider"] = doc{"virtualRouter": doc{"virtualRouterName": router}}
		g.provider[name] = "router " + router
	case len(nodes) > 0 && g.coin():
		node := pick(g, nodes...)
		spec["provider"] = doc{"virtualNode": doc{"virtualNodeName": node}}
		g.provider[name] = "node " + node
	default:
		g.provider[name] = ""
	}
	g.add("VirtualService", name, spec)
}

func mappings(all []listener) []doc {
	out := []doc{}
	for _, l := range all {
		out = append(out, doc{"portMapping": doc{"port": l.port, "protocol": l.protocol}})
	}
	return out
}

func (g *generator) node(all []listener) doc {
	spec := doc{}
	if len(all) > 0 {
		list := mappings(all)
		for i := range list {
			if g.coin() {
				list[i]["healthCheck"] = doc{"protocol": "tcp", "healthyThreshold": 2, "unhealthyThreshold": 3, "intervalMillis": 5000, "timeoutMillis": 2000}
			}
			if g.coin() {
				list[i]["timeout"] = doc{all[i].protocol: doc{"idle": pick(g, doc{"unit": "s"}, doc{"unit": "ms", "value": 0}, doc{})}}
			}
		}
		spec["listeners"] = list
		spec["serviceDiscovery"] = doc{"dns": doc{"hostname": g.odd()}}
	} else if g.coin() {
		spec["listeners"] = []doc{}
	}
	if g.coin() {
		spec["backends"] = []doc{{"virtualService": doc{"virtualServiceName": "s00.local"}}, {"virtualService": doc{"virtualServiceName": strings.ReplaceAll(g.odd(), "\t", "-")}}}[:g.IntN(3)]
	}
	if g.coin() {
		spec["logging"] = doc{"accessLog": doc{"file": doc{"path": g.odd(), "format": doc{"json": []doc{{"key": g.odd(), "value": g.odd()}}}}}}
	}
	return spec
}

// port returns the port of one of several listeners, or of the only one, or none.
func (g *generator) port(all []listener) any {
	if len(all) > 1 || len(all) == 1 && g.coin() {
		return pick(g, all...).port
	}
	return nil
}

func set(o doc, name string, value any) doc {
	if value != nil {
		o[name] = value
	}
	return o
}

func (g *generator) route(protocol string, router []listener, nodes []string) doc {
	var targets []doc
	for _, i := range g.Perm(len(nodes))[:1+g.IntN(len(nodes))] {
		targets = append(targets, set(doc{"virtualNode": nodes[i], "weight": 1 + g.IntN(100)}, "port", g.port(g.listeners["node "+nodes[i]])))
	}
	match := doc{}
	switch protocol {
	case "grpc":
		match["serviceName"] = g.odd()
	case "tcp":
	default:
		match["prefix"] = "/" + g.odd()
		if g.coin() {
			match["headers"] = []doc{{"name": "x-" + fmt.Sprint(g.IntN(9)), "invert": g.coin(), "match": doc{"exact": g.odd()}}}
		}
	}
	body := doc{"action": doc{"weightedTargets": targets}, "match": set(match, "port", g.port(router))}
	spec := doc{protocol + "Route": body}
	if g.coin() {
		spec["priority"] = g.IntN(1001)
	}
	return spec
}

func (g *generator) gateways() {
	protocol := pick(g, "http", "http2", "grpc")
	if !g.often() {
		return
	}
	all := g.some(1, 3, protocol)
	g.add("VirtualGateway", "gateway", doc{"listeners": mappings(all)})
	for _, name := range []string{"s00.local", "s01.local", "s10.local", "s11.local"} {
		provider, ok := g.provider[name]
		if !ok || !g.often() {
			continue
		}
		target := set(doc{"virtualService": doc{"virtualServiceName": name}}, "port", g.port(g.listeners[provider]))
		match := doc{"hostname": doc{"exact": name}}
		spec := doc{protocol + "Route": doc{"action": doc{"target": target}, "match": set(match, "port", g.port(all))}}
		g.add("GatewayRoute", "to-"+name, spec, "virtualGateway", "gateway")
	}
}

// file returns documents as JSON.
func file(docs []doc) string {
	raw, err := json.Marshal(docs)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// want returns the stored specs of documents by their names.
func want(docs []doc) (map[string]any, error) {
	out := map[string]any{}
	for _, d := range docs {
		kind := kindOfTitle(d["kind"].(string))
		raw, err := json.Marshal(d["spec"])
		if err != nil {
			return nil, err
		}
		_, stored, bad := mesh.Decode(kind, "spec", raw)
		if len(bad) > 0 {
			return nil, fmt.Errorf("%v: %w", d, bad)
		}
		name := kind.String() + "/" + d["name"].(string)
		for _, parent := range []string{"virtualRouter", "virtualGateway"} {
			if p, ok := d[parent].(string); ok {
				name = parent + "/" + p + "/" + name
			}
		}
		var v any
		if err := json.Unmarshal(stored, &v); err != nil {
			return nil, err
		}
		out[name] = v
	}
	return out, nil
}
