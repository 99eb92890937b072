package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// heads are the columns that only objects of one kind have.
var heads = map[mesh.Kind][]string{
	mesh.KindMesh:           {"EGRESS"},
	mesh.KindVirtualNode:    {"LISTENERS", "FOUND BY", "BACKENDS"},
	mesh.KindVirtualRouter:  {"LISTENERS"},
	mesh.KindRoute:          {"TYPE", "PRIORITY", "MATCH", "TARGETS"},
	mesh.KindVirtualService: {"PROVIDER"},
	mesh.KindVirtualGateway: {"LISTENERS"},
	mesh.KindGatewayRoute:   {"TYPE", "PRIORITY", "MATCH", "SERVICE"},
	mesh.KindPolicy:         {"ACTION", "TARGET", "WHEN"},
}

// objectTable is a table of objects of one kind.
func objectTable(now time.Time, k mesh.Kind, objects []*object, wide bool) *table {
	t := &table{head: []string{"NAME", "MESH", "OWNER", parentHead(k)}}
	foreign := slices.ContainsFunc(objects, func(o *object) bool { return o.Owner != "" || o.ResourceOwner != o.MeshOwner })
	severalMeshes := slices.ContainsFunc(objects, func(o *object) bool { return o.mesh() != objects[0].mesh() })
	t.head = append(append(t.head, heads[k]...), "VERSION", "AGE")
	if wide {
		t.head = append(t.head, "UPDATED", "UID", "ARN", "TAGS")
	}
	for _, o := range objects {
		meshName, owner := "", ""
		if k != mesh.KindMesh && severalMeshes {
			meshName = o.Mesh
		}
		if foreign {
			owner = o.ResourceOwner
		}
		row := append([]string{o.Name, meshName, owner, o.Parent}, cells(o)...)
		row = append(row, strconv.FormatInt(o.Version, 10), age(now, o.CreatedAt))
		if wide {
			row = append(row, age(now, o.UpdatedAt), o.UID, o.ARN, tagText(o.Tags))
		}
		t.add(row...)
	}
	return t
}

func parentHead(k mesh.Kind) string {
	switch k {
	case mesh.KindRoute:
		return "ROUTER"
	case mesh.KindGatewayRoute:
		return "GATEWAY"
	}
	return ""
}

func tagText(tags map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, k+"="+tags[k])
	}
	return strings.Join(out, ",")
}

// cells returns the columns of heads for one object; a spec that cannot be read leaves them
// empty.
func cells(o *object) []string {
	out := make([]string, len(heads[o.Kind]))
	spec, err := mesh.ParseSpec(o.Kind, o.Spec)
	if err != nil {
		return out
	}
	switch s := spec.(type) {
	case *mesh.MeshSpec:
		if s.EgressFilter != nil {
			out[0] = s.EgressFilter.Type
		}
	case *mesh.VirtualNodeSpec:
		out[0], out[1], out[2] = listenerText(nodeMappings(s)), discoveryText(s.ServiceDiscovery), strconv.Itoa(len(s.Backends))
	case *mesh.VirtualRouterSpec:
		out[0] = listenerText(routerMappings(s))
	case *mesh.RouteSpec:
		out[0], out[1], out[2] = routeText(s)
		out[3] = targetText(s.Targets())
	case *mesh.VirtualServiceSpec:
		out[0] = providerText(s)
	case *mesh.VirtualGatewaySpec:
		out[0] = listenerText(gatewayMappings(s))
	case *mesh.GatewayRouteSpec:
		out[0], out[1], out[2] = gatewayRouteText(s)
		for _, k := range mesh.References(s) {
			out[3] = k.Name // there is one
		}
	case *mesh.PolicySpec:
		out[0], out[1], out[2] = s.Action.Kind(), policyTargetText(o.Ref, s), policyTimeText(s)
	}
	return out
}

// policyTargetText names what a policy is about, with its port.
func policyTargetText(r Ref, s *mesh.PolicySpec) string {
	text := s.Target.Key(mesh.MeshID{Name: r.Mesh}).String()
	if p := s.Target.Port(); p != 0 {
		text += ":" + strconv.FormatInt(p, 10)
	}
	return text
}

// policyTimeText says when a policy begins and ends.
func policyTimeText(s *mesh.PolicySpec) string {
	switch {
	case s.NotBefore != nil && s.NotAfter != nil:
		return *s.NotBefore + " to " + *s.NotAfter
	case s.NotBefore != nil:
		return "from " + *s.NotBefore
	case s.NotAfter != nil:
		return "until " + *s.NotAfter
	}
	return "always"
}

func nodeMappings(s *mesh.VirtualNodeSpec) []mesh.PortMapping {
	var out []mesh.PortMapping
	for _, l := range s.Listeners {
		out = append(out, *l.PortMapping)
	}
	return out
}

func routerMappings(s *mesh.VirtualRouterSpec) []mesh.PortMapping {
	var out []mesh.PortMapping
	for _, l := range s.Listeners {
		out = append(out, *l.PortMapping)
	}
	return out
}

func gatewayMappings(s *mesh.VirtualGatewaySpec) []mesh.PortMapping {
	var out []mesh.PortMapping
	for _, l := range s.Listeners {
		out = append(out, mesh.PortMapping{Port: l.PortMapping.Port, Protocol: l.PortMapping.Protocol})
	}
	return out
}

func listenerText(all []mesh.PortMapping) string {
	var out []string
	for _, m := range all {
		out = append(out, fmt.Sprintf("%d/%s", m.Port, m.Protocol))
	}
	return strings.Join(out, ",")
}

func discoveryText(d *mesh.ServiceDiscovery) string {
	switch {
	case d == nil:
		return ""
	case d.Dns != nil:
		return "dns " + d.Dns.Hostname
	case d.AwsCloudMap != nil:
		return "cloudmap " + d.AwsCloudMap.NamespaceName + "/" + d.AwsCloudMap.ServiceName
	}
	return ""
}

func providerText(s *mesh.VirtualServiceSpec) string {
	switch p := s.Provider; {
	case p == nil:
		return ""
	case p.VirtualRouter != nil:
		return "router " + p.VirtualRouter.VirtualRouterName
	default:
		return "node " + p.VirtualNode.VirtualNodeName
	}
}

// targetText words a route's targets with their part of the traffic.
func targetText(targets []mesh.WeightedTarget) string {
	var sum int64
	for _, t := range targets {
		sum += t.Weight
	}
	var out []string
	for _, t := range targets {
		name := t.VirtualNode
		if t.Port != nil {
			name += fmt.Sprintf(":%d", *t.Port)
		}
		out = append(out, fmt.Sprintf("%s %s", name, share(t.Weight, sum)))
	}
	return strings.Join(out, ", ")
}

// share words a weight as a part of all: "10%", "33.3%".
func share(weight, sum int64) string {
	if sum == 0 {
		return "0%"
	}
	text := strconv.FormatFloat(float64(weight)*100/float64(sum), 'f', 1, 64)
	return strings.TrimSuffix(text, ".0") + "%"
}

func number(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}

func words(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
}

func text(label string, s *string) string {
	if s == nil {
		return ""
	}
	return label + *s
}

func some(n int, one string) string {
	if n == 0 {
		return ""
	}
	return "+" + plural(n, one, one+"s")
}

func portText(p *int64) string {
	if p == nil {
		return ""
	}
	return ":" + number(p)
}

func pathText(prefix *string, p *mesh.HttpPathMatch) string {
	if p == nil {
		return text("prefix ", prefix)
	}
	return text("path ", p.Exact) + text("path ~ ", p.Regex)
}

// routeText words what a route takes.
func routeText(s *mesh.RouteSpec) (kind, priority, match string) {
	priority = number(s.Priority)
	http := func(r *mesh.HttpRoute) string {
		m := r.Match
		return words(portText(m.Port), text("", m.Method), text("", m.Scheme), pathText(m.Prefix, m.Path), some(len(m.Headers), "header"), some(len(m.QueryParameters), "parameter"))
	}
	switch {
	case s.HttpRoute != nil:
		return "http", priority, http(s.HttpRoute)
	case s.Http2Route != nil:
		return "http2", priority, http(s.Http2Route)
	case s.GrpcRoute != nil:
		m := s.GrpcRoute.Match
		return "grpc", priority, words(portText(m.Port), text("service ", m.ServiceName), text("method ", m.MethodName), some(len(m.Metadata), "metadata entry"))
	case s.TcpRoute != nil && s.TcpRoute.Match != nil:
		return "tcp", priority, portText(s.TcpRoute.Match.Port)
	case s.TcpRoute != nil:
		return "tcp", priority, ""
	}
	return "", priority, ""
}

// gatewayRouteText words what a gateway route takes.
func gatewayRouteText(s *mesh.GatewayRouteSpec) (kind, priority, match string) {
	priority = number(s.Priority)
	host := func(h *mesh.GatewayRouteHostnameMatch) string {
		if h == nil {
			return ""
		}
		return text("host ", h.Exact) + text("host *", h.Suffix)
	}
	http := func(r *mesh.HttpGatewayRoute) string {
		m := r.Match
		return words(portText(m.Port), text("", m.Method), host(m.Hostname), pathText(m.Prefix, m.Path), some(len(m.Headers), "header"), some(len(m.QueryParameters), "parameter"))
	}
	switch {
	case s.HttpRoute != nil:
		return "http", priority, http(s.HttpRoute)
	case s.Http2Route != nil:
		return "http2", priority, http(s.Http2Route)
	case s.GrpcRoute != nil:
		m := s.GrpcRoute.Match
		return "grpc", priority, words(portText(m.Port), host(m.Hostname), text("service ", m.ServiceName), some(len(m.Metadata), "metadata entry"))
	}
	return "", priority, ""
}
