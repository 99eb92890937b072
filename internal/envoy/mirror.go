package envoy

import (
	"fmt"
	"regexp"
	"slices"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Copies of requests are made by Envoy's router (RouteAction.request_mirror_policies), when it
// sends the request on: the answer to a copy is dropped, and nobody waits for it or tries it
// again.

// MirrorHeader is the header that copies have; its value is the policy's name.
const MirrorHeader = "x-fairlead-mirror"

// mirrored is what a policy copies: of the cases the first holds that is true of a request.
type mirrored struct {
	policy string
	cases  []mirrorCase
}

// mirrorCase is what is done with some requests.
type mirrorCase struct {
	headers []*routev3.HeaderMatcher // all must be true
	query   []*routev3.QueryParameterMatcher
	// below is the part of the requests that is meant, nil for all. Envoy holds one random
	// number against the parts of all routes, so of cases one after the other each is for what
	// its part is larger by.
	below *typev3.FractionalPercent
	to    *routev3.RouteAction_RequestMirrorPolicy // nil: nothing is copied
}

// isAll reports whether a case is true of every request.
func (c *mirrorCase) isAll() bool { return len(c.headers)+len(c.query) == 0 && c.below == nil }

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
	if g.view.Mirrors == nil || len(g.view.Policies) == 0 {
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
		if m == nil {
			continue
		}
		at := place{policyKey(p.Name), "action.mirror"}
		cases, reason := t.mirrorTo(p, s, protocol)
		if reason != "" {
			t.problemAt(at.in("to"), "%s: nothing is copied", reason)
			continue
		}
		if lists, ok := t.conditions(p, outgoing); ok {
			out = append(out, mirrored{p.Name, under(lists, cases)})
		}
	}
	return out
}

// under returns cases for requests that are meant: of which any of the lists is true.
func under(lists [][]*routev3.HeaderMatcher, cases []mirrorCase) (out []mirrorCase) {
	for _, list := range lists {
		for _, c := range cases {
			c.headers = slices.Concat(list, c.headers)
			out = append(out, c)
		}
	}
	return out
}

// mirrorTo returns the cases of a mirror where all requests are meant, or why there are none.
func (t *translator) mirrorTo(p mesh.Policy, s *mesh.Service, protocol string) (cases []mirrorCase, reason string) {
	m := p.Spec.Action.Mirror
	port := func(p *int64) int64 {
		if p == nil {
			return 0
		}
		return *p
	}
	switch to := m.To; {
	case to.VirtualNode != nil:
		return t.mirrorToNode(p, s, to.VirtualNode.VirtualNodeName, port(to.VirtualNode.Port), protocol, "")
	case to.Host != nil:
		return t.mirrorToNode(p, s, mesh.HostOf+p.Name, 0, protocol, to.Host.Hostname)
	case to.VirtualService != nil:
		return t.mirrorToService(p, s, to.VirtualService, protocol)
	}
	return nil, "the server does not know where"
}

// mirrorToNode copies to one target; for another host than the request unless that is "".
func (t *translator) mirrorToNode(p mesh.Policy, s *mesh.Service, node string, port int64, protocol, host string) (cases []mirrorCase, reason string) {
	g := t.target(s, node, port)
	if reason = g.reason; reason == "" {
		reason = g.carries(protocol)
	}
	cluster := ""
	if reason == "" {
		cluster, reason = t.reach(s, g)
	}
	if reason != "" {
		return nil, reason
	}
	return []mirrorCase{{to: newMirror(p.Name, cluster, host, p.Spec.Action.Mirror.Percentage)}}, ""
}

// mirrorToService copies as the routes of a virtual service lead, without what its policies say.
func (t *translator) mirrorToService(p mesh.Policy, s *mesh.Service, to *mesh.MirrorService, protocol string) (cases []mirrorCase, reason string) {
	i := slices.IndexFunc(s.Copied, func(c mesh.Copied) bool { return c.Name == to.VirtualServiceName })
	if i < 0 {
		return nil, fmt.Sprintf("virtual service %q does not exist", to.VirtualServiceName)
	}
	copied := &s.Copied[i]
	var port int64
	if to.Port != nil {
		port = *to.Port
	}
	switch {
	case copied.NodeName != "":
		return t.mirrorToNode(p, s, copied.NodeName, port, protocol, "")
	case copied.Router == nil:
		return nil, fmt.Sprintf("virtual service %q has no provider, or does not exist", to.VirtualServiceName)
	case copied.Router.Missing:
		return nil, fmt.Sprintf("virtual router %q does not exist", copied.Router.Name)
	}
	l := listenerFor(copied.Router.Spec.Listeners, port, protocol)
	if l == nil {
		return nil, fmt.Sprintf("virtual router %q has no such listener for requests", copied.Router.Name)
	}
	for _, r := range t.sortedRoutes(copied.Router) {
		if !kindOfRoute(r.Spec).takes(l) {
			continue
		}
		more, reason := t.mirrorByRoute(p, s, copied.Router, &r)
		if reason != "" {
			return nil, reason
		}
		if cases = append(cases, more...); len(more) > 0 && more[len(more)-1].isAll() {
			break
		}
	}
	return cases, ""
}

// listenerFor returns the router's listener on a port; 0 stands for the first that speaks a
// protocol, or else the first for requests.
func listenerFor(all []mesh.VirtualRouterListener, port int64, protocol string) (other *mesh.PortMapping) {
	for _, l := range all {
		m := l.PortMapping
		switch {
		case !carriesHTTP(m.Protocol) || port != 0 && m.Port != port:
		case m.Protocol == protocol:
			return m
		case other == nil:
			other = m
		}
	}
	return other
}

// mirrorByRoute copies as one route of a service's router leads: what its other conditions are
// true of, to one of its targets by their weights.
func (t *translator) mirrorByRoute(p mesh.Policy, s *mesh.Service, router *mesh.Router, r *mesh.Route) (cases []mirrorCase, reason string) {
	there := t.route(&mesh.Service{Name: s.Name, Policy: s.Policy, Provider: &mesh.Provider{Nodes: s.Nodes, Router: router}}, r)
	if there == nil {
		return nil, "" // it is left out there as well
	}
	match := mirrorCase{headers: headersOf(there.Match), query: there.Match.QueryParameters}
	shares := sharesOf(there)
	if len(shares) == 0 {
		return []mirrorCase{match}, ""
	}
	percentage := p.Spec.Action.Mirror.Percentage
	if len(shares) == 1 {
		match.to = newMirror(p.Name, shares[0].cluster, "", percentage)
		return []mirrorCase{match}, ""
	}
	var sum, total uint64
	for _, one := range shares {
		total += uint64(one.weight)
	}
	for _, one := range shares {
		sum += uint64(one.weight)
		c := match
		c.below = percent(percentage * float64(sum) / float64(total))
		c.to = newMirror(p.Name, one.cluster, "", 100)
		cases = append(cases, c)
	}
	return append(cases, match), "" // what is beyond the percentage goes by no later route
}

// sharesOf returns where a route leads, with the weights, without what has none.
func sharesOf(r *routev3.Route) (out []share) {
	a := r.GetRoute()
	if c := a.GetCluster(); c != "" {
		return []share{{c, 1}}
	}
	for _, w := range a.GetWeightedClusters().GetClusters() {
		if n := w.Weight.GetValue(); n > 0 {
			out = append(out, share{w.Name, n})
		}
	}
	return out
}

// headersOf returns what a match asks for of headers, among which are the path and the method.
func headersOf(m *routev3.RouteMatch) []*routev3.HeaderMatcher {
	var path *matcherv3.StringMatcher
	switch s := m.PathSpecifier.(type) {
	case *routev3.RouteMatch_Prefix:
		if s.Prefix != "/" {
			path = &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: s.Prefix}}
		}
	case *routev3.RouteMatch_Path:
		path = likePath(regexp.QuoteMeta(s.Path))
	case *routev3.RouteMatch_SafeRegex:
		path = likePath("(?:" + s.SafeRegex.Regex + ")")
	}
	out := slices.Clone(m.Headers)
	if path != nil {
		out = append(out, &routev3.HeaderMatcher{Name: ":path", HeaderMatchSpecifier: stringMatch(path)})
	}
	if m.Grpc != nil {
		out = append(out, &routev3.HeaderMatcher{Name: "content-type", HeaderMatchSpecifier: stringMatch(&matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "application/grpc"},
		})})
	}
	return out
}

// likePath matches the header :path by an expression for the path.
func likePath(expression string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: expression + afterPath}}}
}

// newMirror has a part of the requests copied to a cluster, for another host unless that is "".
func newMirror(policy, cluster, host string, percentage float64) *routev3.RouteAction_RequestMirrorPolicy {
	return &routev3.RouteAction_RequestMirrorPolicy{
		Cluster:         cluster,
		RuntimeFraction: &corev3.RuntimeFractionalPercent{DefaultValue: percent(percentage)},
		// The copy is for the host that the request is for, if not for another.
		DisableShadowHostSuffixAppend: true,
		HostRewriteLiteral:            host,
		RequestHeadersMutations:       []*mutationv3.HeaderMutation{writes(MirrorHeader, policy)},
	}
}

// withMirrors returns routes with copies. Mirrors add up, so a route is there for each set of
// them that a request can meet the conditions of, those with more first.
func (t *translator) withMirrors(routes []*routev3.Route, all []mirrored) []*routev3.Route {
	for _, m := range all {
		if len(routes)*len(m.cases) > mostMirrorRoutes {
			t.problem(policyKey(m.policy), "action.mirror.to", "with the other mirrors of its place it would make more than %d routes of one: nothing is copied", mostMirrorRoutes)
			continue
		}
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
	out := make([]*routev3.Route, 0, len(m.cases)+1)
	for i := range m.cases {
		c := &m.cases[i]
		if never(r.Match, c.headers) {
			continue
		}
		if c.to != nil && leadsTo(r, c.to.Cluster) {
			t.problem(policyKey(m.policy), "action.mirror.to", "requests go there themselves: nothing is copied")
			return []*routev3.Route{r}
		}
		out = append(out, mirroredRoute(r, c))
		if c.isAll() {
			return out
		}
	}
	return append(out, r)
}

// mirroredRoute returns a route as it is for a case.
func mirroredRoute(r *routev3.Route, c *mirrorCase) *routev3.Route {
	v := proto.Clone(r).(*routev3.Route)
	m := v.Match
	m.Headers, m.QueryParameters = append(m.Headers, c.headers...), append(m.QueryParameters, c.query...)
	if there := m.RuntimeFraction; c.below != nil && (there == nil || c.below.Numerator < there.DefaultValue.Numerator) {
		m.RuntimeFraction = &corev3.RuntimeFractionalPercent{DefaultValue: c.below}
	}
	if c.to != nil {
		v.GetRoute().RequestMirrorPolicies = append(v.GetRoute().RequestMirrorPolicies, c.to)
	}
	return v
}

// leadsTo reports whether requests themselves go to a cluster.
func leadsTo(r *routev3.Route, cluster string) bool {
	a := r.GetRoute()
	return a.GetCluster() == cluster || slices.ContainsFunc(a.GetWeightedClusters().GetClusters(), func(w *routev3.WeightedCluster_ClusterWeight) bool { return w.Name == cluster })
}

// mostMirrors is how many copies one request has at most: each doubles the routes that
// conditions need.
const mostMirrors = 4

// mostMirrorRoutes is how many routes the conditions and weights of copies make of one at most.
const mostMirrorRoutes = 512
