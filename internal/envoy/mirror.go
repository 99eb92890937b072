package envoy

import (
	"slices"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Copies of requests are made by Envoy's router (RouteAction.request_mirror_policies), when it
// sends the request on: the answer to a copy is dropped, and nobody waits for it or tries it
// again.

// MirrorHeader is the header that copies have; its value is the policy's name.
const MirrorHeader = "x-fairlead-mirror"

// mirrored is what a policy copies, and where to.
type mirrored struct {
	policy string
	lists  [][]*routev3.HeaderMatcher // see conditions
	to     *routev3.RouteAction_RequestMirrorPolicy
}

// mirrorsOut adds the copies of what goes out to a virtual service on a port, by one of its
// router's routes, "" for none.
func (t *translator) mirrorsOut(routes []*routev3.Route, s *mesh.Service, protocol, route string) []*routev3.Route {
	if len(s.Policies) == 0 {
		return routes
	}
	return t.withMirrors(routes, t.mirrors(t.outgoing(s, route), s, protocol, true))
}

// mirrorsIn adds the copies of what a gateway's listener is asked by a gateway route.
func (g *gateway) mirrorsIn(routes []*routev3.Route, m *mesh.PortMapping, gatewayRoute string) []*routev3.Route {
	if g.view.Mirrors == nil || len(g.view.Mirrors.Nodes) == 0 && len(g.view.Policies) == 0 {
		return routes
	}
	s := &mesh.Service{Provider: g.view.Mirrors}
	return g.withMirrors(routes, g.mirrors(g.incoming(m.Port, gatewayRoute), s, m.Protocol, false))
}

// mirrors returns what those of some policies copy that are mirrors, and can be obeyed.
func (t *translator) mirrors(policies []mesh.Policy, s *mesh.Service, protocol string, outgoing bool) []mirrored {
	var out []mirrored
	for _, p := range policies {
		m := p.Spec.Action.Mirror
		if m == nil || m.To.VirtualNode == nil {
			continue
		}
		at := place{policyKey(p.Name), "action.mirror"}
		var port int64
		if m.To.VirtualNode.Port != nil {
			port = *m.To.VirtualNode.Port
		}
		g := t.target(s, m.To.VirtualNode.VirtualNodeName, port)
		reason, cluster := g.reason, ""
		if reason == "" {
			reason = g.carries(protocol)
		}
		if reason == "" {
			cluster, reason = t.reach(s, g)
		}
		if reason != "" {
			t.problemAt(at.in("to.virtualNode"), "%s: nothing is copied", reason)
			continue
		}
		if lists, ok := t.conditions(p, outgoing); ok {
			out = append(out, mirrored{p.Name, lists, newMirror(p.Name, cluster, m.Percentage)})
		}
	}
	return out
}

// newMirror has a part of the requests copied to a cluster.
func newMirror(policy, cluster string, percentage float64) *routev3.RouteAction_RequestMirrorPolicy {
	return &routev3.RouteAction_RequestMirrorPolicy{
		Cluster:         cluster,
		RuntimeFraction: &corev3.RuntimeFractionalPercent{DefaultValue: percent(percentage)},
		// The copy is for the host that the request is for.
		DisableShadowHostSuffixAppend: true,
		RequestHeadersMutations: []*mutationv3.HeaderMutation{{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: MirrorHeader, Value: policy},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}}}},
	}
}

// withMirrors returns routes with copies. Mirrors add up, so a route is there for each set of
// them that a request can meet the conditions of, those with more first.
func (t *translator) withMirrors(routes []*routev3.Route, all []mirrored) []*routev3.Route {
	for _, m := range all {
		var out []*routev3.Route
		for _, r := range routes {
			out = append(out, t.withMirror(r, m)...)
		}
		routes = out
	}
	return routes
}

// withMirror returns a route as it is with copies, for the requests that are meant, and as it
// is without for the others.
func (t *translator) withMirror(r *routev3.Route, m mirrored) []*routev3.Route {
	if r.GetRoute() == nil || len(r.GetRoute().RequestMirrorPolicies) >= mostMirrors {
		return []*routev3.Route{r}
	}
	if leadsTo(r, m.to.Cluster) {
		t.problem(policyKey(m.policy), "action.mirror.to", "requests go there themselves: nothing is copied")
		return []*routev3.Route{r}
	}
	out := make([]*routev3.Route, 0, len(m.lists)+1)
	for _, list := range m.lists {
		if never(r.Match, list) {
			continue
		}
		v := proto.Clone(r).(*routev3.Route)
		v.Match.Headers = append(v.Match.Headers, list...)
		a := v.GetRoute()
		a.RequestMirrorPolicies = append(a.RequestMirrorPolicies, m.to)
		out = append(out, v)
		if len(list) == 0 {
			return out
		}
	}
	return append(out, r)
}

// leadsTo reports whether requests themselves go to a cluster.
func leadsTo(r *routev3.Route, cluster string) bool {
	a := r.GetRoute()
	return a.GetCluster() == cluster || slices.ContainsFunc(a.GetWeightedClusters().GetClusters(), func(w *routev3.WeightedCluster_ClusterWeight) bool { return w.Name == cluster })
}

// mostMirrors is how many copies one request has at most: each doubles the routes that
// conditions need.
const mostMirrors = 4
