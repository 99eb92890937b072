package randmesh

import (
	"fmt"
	"slices"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// policies makes policies for some of the objects, one for each, so that none contradicts
// another.
func (g *generator) policies() {
	for i, o := range g.mesh.Objects {
		if r, ok := o.Spec.(*mesh.RouteSpec); g.IntN(3) > 0 || ok && r.TcpRoute != nil {
			continue
		}
		target := g.policyTarget(o)
		g.add(mesh.KindPolicy, "", fmt.Sprintf("%s-%d", pick(g, "p", "P.", "p_"), i), func() object {
			out := object{"target": target, "action": g.policyAction(o)}
			if g.coin() {
				out["match"] = g.structure("PolicyMatch")
			}
			if g.coin() {
				out["from"] = g.policyClients(o.Kind)
			}
			if g.coin() {
				out["notBefore"] = pick(g, "2001-01-01T00:00:00Z", "2020-02-29T23:59:59.999999999+14:00")
			}
			if g.coin() {
				out["notAfter"] = pick(g, "9999-12-31T23:59:59Z", "2100-01-01T00:00:00-11:30")
			}
			return out
		})
	}
}

// access makes access policies for some of the objects, which add up; and a default for some.
func (g *generator) access() {
	for i, o := range g.mesh.Objects {
		if _, ok := o.Spec.(*mesh.RouteSpec); o.Kind == mesh.KindPolicy || g.IntN(3) > 0 {
			continue
		} else if r, _ := o.Spec.(*mesh.RouteSpec); ok && r.TcpRoute != nil {
			continue
		}
		target := g.policyTarget(o)
		g.add(mesh.KindPolicy, "", fmt.Sprintf("access-%d", i), func() object {
			action := object{"rule": pick(g, "allow", "deny")}
			out := object{"target": target, "action": object{"access": action}}
			if g.IntN(3) == 0 {
				delete(action, "rule")
				action["default"] = pick(g, "open", "closed")
			}
			if (action["rule"] == "deny" || action["default"] == "closed") && g.coin() {
				action["dryRun"] = g.coin()
			}
			if action["rule"] != nil && g.coin() {
				out["match"] = g.structure("PolicyMatch")
			}
			if action["rule"] != nil && g.coin() {
				out["from"] = g.accessClients(o.Kind)
			}
			return out
		})
	}
}

// accessClients are clients that access policies for a kind of target can ask for.
func (g *generator) accessClients(k mesh.Kind) []any {
	out := g.policyClients(k)
	for _, c := range out {
		switch client := c.(object); k {
		case mesh.KindVirtualService, mesh.KindVirtualRouter, mesh.KindRoute:
		case mesh.KindMesh, mesh.KindGatewayRoute:
			if g.coin() {
				client["spiffeId"] = pick(g, "spiffe://fairlead.internal/000000000001/m/virtualNode/a", "spiffe://a.example/*")
			} else if g.coin() {
				client["account"] = pick(g, "000000000001", "123456789012")
			}
			fallthrough
		default:
			if g.coin() {
				client["ipRanges"] = []any{pick(g, "10.0.0.0/8", "192.0.2.7"), pick(g, "2001:db8::/32", "::1", "0.0.0.0/0")}
			}
		}
	}
	return out
}

// policyAction makes what is done: copies only where requests go out and there is somewhere to
// send them.
func (g *generator) policyAction(o Object) object {
	if g.IntN(3) == 0 {
		return object{"rateLimit": g.rateLimit(o.Kind)}
	}
	if g.IntN(4) == 0 {
		return object{"quota": g.quota(o.Kind)}
	}
	to := pick(g, nodes...)
	all := slices.DeleteFunc(slices.Clone(g.listeners[mesh.Key{Kind: mesh.KindVirtualNode, Name: to}]), func(l listener) bool { return l.protocol == "tcp" })
	if o.Kind == mesh.KindMesh || o.Kind == mesh.KindVirtualNode || len(all) == 0 || leads(o, to) || g.coin() {
		return object{"fault": g.structure("FaultAction")}
	}
	dest := object{"virtualNode": object{"virtualNodeName": to, "port": pick(g, all...).port}}
	switch services := g.others(o); {
	case g.IntN(3) == 0:
		dest = object{"host": g.mirrorHost()}
	case len(services) > 0 && g.coin():
		service := object{"virtualServiceName": pick(g, services...)}
		if g.coin() {
			service["port"] = pick(g, 80, 8080, 9000)
		}
		dest = object{"virtualService": service}
	}
	return object{"mirror": object{"percentage": g.value(member("MirrorAction", "percentage")), "to": dest}}
}

// rateLimit makes a limit that the proxies of a kind of target can keep.
func (g *generator) rateLimit(k mesh.Kind) object {
	out := object{"requests": pick(g, 1, 100, 1_000_000_000), "per": pick(g, "second", "minute", "hour", "day")}
	if g.coin() {
		out["burst"] = pick(g, 1, 7)
	}
	if g.coin() {
		out["dryRun"] = g.coin()
	}
	if g.coin() {
		by := object{"path": true}
		if g.coin() {
			by["header"] = pick(g, "x-api-key", "X-Tenant")
		}
		if k == mesh.KindMesh || k == mesh.KindVirtualNode || k == mesh.KindVirtualGateway || k == mesh.KindGatewayRoute {
			by["address"], by["client"] = g.coin(), g.coin()
		}
		out["by"] = by
	}
	return out
}

// quota makes one that the proxies of a kind of target can keep.
func (g *generator) quota(k mesh.Kind) object {
	out := g.rateLimit(k)
	delete(out, "burst")
	delete(out, "dryRun")
	if g.coin() {
		out["withoutAnswer"] = pick(g, "last", "allow", "deny")
	}
	return out
}

// others are the virtual services that a policy for an object can copy to: provided by a node
// to which its requests do not go, as far as its spec says.
func (g *generator) others(o Object) (out []string) {
	if o.Kind == mesh.KindVirtualRouter || o.Kind == mesh.KindRoute {
		return nil
	}
	for _, other := range g.mesh.Objects {
		if other.Kind == mesh.KindVirtualService && other.Name != o.Name {
			out = append(out, other.Name)
		}
	}
	return out
}

// mirrorHost makes a host outside of the mesh.
func (g *generator) mirrorHost() object {
	out := object{"hostname": pick(g, "away.example", "192.0.2.9", "2001:db8::9", "a_b.example"), "port": pick(g, 80, 443, 65535)}
	if g.coin() {
		out["protocol"] = pick(g, "http", "http2", "grpc")
	}
	if g.coin() {
		out["tls"] = g.structure("MirrorTls")
	}
	return out
}

// leads reports whether requests that an object is about go to a node.
func leads(o Object, node string) bool {
	switch s := o.Spec.(type) {
	case *mesh.RouteSpec:
		return slices.ContainsFunc(s.Targets(), func(t mesh.WeightedTarget) bool { return t.VirtualNode == node })
	case *mesh.VirtualServiceSpec:
		return s.Provider != nil && s.Provider.VirtualNode != nil && s.Provider.VirtualNode.VirtualNodeName == node
	}
	return false
}

// policyTarget names an object, and now and then one of its ports.
func (g *generator) policyTarget(o Object) object {
	if o.Kind == mesh.KindMesh {
		return object{"mesh": object{}}
	}
	out := object{o.Kind.NameMember(): o.Name}
	if p := o.Kind.Parent(); p != 0 {
		out[p.NameMember()] = o.Parent
	}
	if o.Kind == mesh.KindVirtualNode || o.Kind == mesh.KindVirtualGateway {
		if all := g.listeners[mesh.Key{Kind: o.Kind, Name: o.Name}]; len(all) > 0 && g.coin() {
			if l := pick(g, all...); l.protocol != "tcp" {
				out["port"] = l.port
			}
		}
	}
	return object{o.Kind.String(): out}
}

// policyClients are clients that the proxies of a kind of target can know.
func (g *generator) policyClients(k mesh.Kind) []any {
	headers := member("PolicyClient", "headers")
	return g.list(member("PolicySpec", "from"), func() any {
		out := object{}
		switch {
		case k != mesh.KindVirtualService && k != mesh.KindVirtualRouter && k != mesh.KindRoute:
		case g.coin():
			out["virtualNode"] = pick(g, nodes...)
		case g.coin():
			out["virtualGateway"] = pick(g, Gateway, "back-door")
		case g.coin():
			out["account"] = pick(g, "000000000001", "123456789012")
		}
		if len(out) == 0 || g.coin() {
			out["headers"] = g.member("PolicyClient", headers)
		}
		return out
	})
}
