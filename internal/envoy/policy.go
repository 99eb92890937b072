package envoy

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Policies become parts of routes: the filters that obey them stand in every chain and do
// nothing (filters.go), until a route has a configuration for them. So a policy that comes,
// changes or goes is a change of routes, which ends no connection, and without policies
// routes are what they were. A policy that is for some requests of a route only has a route
// of its own before it, with the policy's conditions added to the route's; the first that
// matches holds, so that the order in which policies are asked is the order of the routes.

// policyKey is the object at fault where a policy cannot be obeyed.
func policyKey(name string) mesh.Key { return mesh.Key{Kind: mesh.KindPolicy, Name: name} }

// incoming returns the policies for what the translated node or gateway is asked on a port,
// by a gateway route unless its name is "", the most specific first.
func (t *translator) incoming(port int64, gatewayRoute string) []mesh.Policy {
	var out []mesh.Policy
	for _, p := range t.view.Policies {
		g := p.Spec.Target.GatewayRoute
		if g != nil && g.GatewayRouteName == gatewayRoute || g == nil && (p.Spec.Target.Port() == 0 || p.Spec.Target.Port() == port) {
			out = append(out, p)
		}
	}
	return out
}

// outgoing returns the policies for requests to a virtual service that go by one of its
// router's routes, "" for none, as far as they are for the translated node or gateway, the
// most specific first.
func (t *translator) outgoing(s *mesh.Service, route string) []mesh.Policy {
	var out []mesh.Policy
	for _, p := range s.Policies {
		if r := p.Spec.Target.Route; r != nil && r.RouteName != route {
			continue
		}
		if p.Spec.From == nil || slices.ContainsFunc(p.Spec.From, t.mayBe) {
			out = append(out, p)
		}
	}
	return out
}

// policiesOut returns routes to a virtual service on a port, by one of its router's routes, ""
// for none, with what policies make of them.
func (t *translator) policiesOut(routes []*routev3.Route, s *mesh.Service, protocol, route string) []*routev3.Route {
	routes = t.markedOut(t.accessOut(routes, s, route), s, route)
	return t.quotasOut(t.faultsOut(t.mirrorsOut(routes, s, protocol, route), s, route), s, route)
}

// mayBe reports whether requests of the translated node or gateway can be a client's, as far
// as that can be said before they are there.
func (t *translator) mayBe(c mesh.PolicyClient) bool {
	self := t.view.Key
	switch {
	case c.VirtualNode != nil && (self.Kind != mesh.KindVirtualNode || self.Name != *c.VirtualNode):
		return false
	case c.VirtualGateway != nil && (self.Kind != mesh.KindVirtualGateway || self.Name != *c.VirtualGateway):
		return false
	case c.Account != nil && t.view.Owner != *c.Account:
		return false
	}
	return true
}

// personal reports whether what is made of a service depends on who calls it.
func personal(s *mesh.Service) bool {
	return slices.ContainsFunc(s.Policies, func(p mesh.Policy) bool {
		if q := p.Spec.Action.Quota; q != nil && q.By != nil && q.By.Client != nil && *q.By.Client {
			return true
		}
		return slices.ContainsFunc(p.Spec.From, func(c mesh.PolicyClient) bool {
			return c.VirtualNode != nil || c.VirtualGateway != nil || c.Account != nil
		})
	})
}

// conditions returns what must be true of a request for a policy to hold: all of any of the
// lists. It is true of every request where a list is empty. ok is false, and a problem
// noted, if that cannot be asked.
func (t *translator) conditions(p mesh.Policy, outgoing bool) (lists [][]*routev3.HeaderMatcher, ok bool) {
	at := place{policyKey(p.Name), "match"}
	common, ok := t.policyMatch(at, p.Spec.Match)
	if !ok {
		return nil, false
	}
	if p.Spec.From == nil {
		return [][]*routev3.HeaderMatcher{common}, true
	}
	for i, c := range p.Spec.From {
		if outgoing && !t.mayBe(c) {
			continue
		}
		list := slices.Clone(common)
		for n := range c.Headers {
			h := t.matchHeader(place{policyKey(p.Name), index("from", i)}.in("headers").at(n), c.Headers[n].Name, c.Headers[n].Invert, c.Headers[n].Match)
			if h == nil {
				return nil, false
			}
			list = append(list, h)
		}
		lists = append(lists, list)
	}
	return lists, true
}

// policyMatch translates what requests are to be like.
func (t *translator) policyMatch(at place, m *mesh.PolicyMatch) (out []*routev3.HeaderMatcher, ok bool) {
	if m == nil {
		return nil, true
	}
	if m.Method != nil {
		out = append(out, exactHeader(":method", *m.Method))
	}
	path, ok := t.policyPath(at, m)
	if !ok {
		return nil, false
	}
	if path != nil {
		out = append(out, &routev3.HeaderMatcher{Name: ":path", HeaderMatchSpecifier: stringMatch(path)})
	}
	for i := range m.Headers {
		h := t.matchHeader(at.in("headers").at(i), m.Headers[i].Name, m.Headers[i].Invert, m.Headers[i].Match)
		if h == nil {
			return nil, false
		}
		out = append(out, h)
	}
	return out, true
}

// afterPath is what can follow a path in the header :path.
const afterPath = `(\?.*)?`

// policyPath translates a condition on the path, nil if there is none.
func (t *translator) policyPath(at place, m *mesh.PolicyMatch) (out *matcherv3.StringMatcher, ok bool) {
	expression, field := "", "path"
	switch {
	case m.Prefix != nil:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: *m.Prefix}}, true
	case m.Path == nil:
		return nil, true
	case m.Path.Exact != nil:
		expression, field = regexp.QuoteMeta(*m.Path.Exact)+afterPath, "path.exact"
	case m.Path.Regex != nil:
		expression, field = "(?:"+*m.Path.Regex+")"+afterPath, "path.regex"
	}
	re, err := regex(expression)
	if err != nil {
		t.problemAt(at.in(field), "%v: the policy is left out", err)
		return nil, false
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: re}}, true
}

// configured is the configuration that a policy gives a filter of some requests.
type configured struct {
	policy     string                   // its name
	conditions []*routev3.HeaderMatcher // all must hold
	config     *anypb.Any
}

// configurations returns those of a kind of policies, the most specific first, up to the first
// that is for every request. config returns what one comes to, nil for nothing.
func (t *translator) configurations(policies []mesh.Policy, outgoing bool, config func(mesh.Policy) message) []configured {
	var out []configured
	for _, p := range policies {
		m := config(p)
		if m == nil {
			continue
		}
		lists, ok := t.conditions(p, outgoing)
		if !ok {
			continue
		}
		kind := p.Spec.Action.Kind()
		packed := t.packed(m, policyKey(p.Name), "action."+kind, "the "+kind)
		if packed == nil {
			continue
		}
		for _, list := range lists {
			out = append(out, configured{p.Name, list, packed})
			if len(list) == 0 {
				return out
			}
		}
	}
	return out
}

// withPolicies returns a route before which there is one for each configuration, for the
// requests that it is for. One without conditions takes the route's place.
func withPolicies(r *routev3.Route, filter string, all []configured) []*routev3.Route {
	if r.GetRoute() == nil { // it is answered by the proxy itself
		return []*routev3.Route{r}
	}
	out := make([]*routev3.Route, 0, len(all)+1)
	for _, c := range all {
		if never(r.Match, c.conditions) {
			continue
		}
		v := proto.Clone(r).(*routev3.Route)
		v.Match.Headers = append(v.Match.Headers, c.conditions...)
		if v.TypedPerFilterConfig == nil {
			v.TypedPerFilterConfig = map[string]*anypb.Any{}
		}
		v.TypedPerFilterConfig[filter] = c.config
		v.Metadata = withData(v.Metadata, &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
			policyData: {Fields: map[string]*structpb.Value{filter: structpb.NewStringValue(c.policy)}},
		}})
		out = append(out, v)
		if len(c.conditions) == 0 {
			return out
		}
	}
	return append(out, r)
}

// never reports whether no request that a route matches can meet a policy's conditions too, as
// far as that is plain to see.
func never(m *routev3.RouteMatch, conditions []*routev3.HeaderMatcher) bool {
	return slices.ContainsFunc(conditions, func(c *routev3.HeaderMatcher) bool {
		if prefix := c.GetStringMatch().GetPrefix(); c.Name == ":path" && prefix != "" {
			return otherPaths(m, prefix)
		}
		return slices.ContainsFunc(m.Headers, func(h *routev3.HeaderMatcher) bool {
			a, exactly := exactOf(h)
			b, both := exactOf(c)
			return exactly && both && a != b && lower(h.Name) == lower(c.Name)
		})
	})
}

// otherPaths reports whether no path that a route matches begins so.
func otherPaths(m *routev3.RouteMatch, prefix string) bool {
	switch s := m.PathSpecifier.(type) {
	case *routev3.RouteMatch_Path:
		return !strings.HasPrefix(s.Path, prefix) && !strings.Contains(prefix, "?")
	case *routev3.RouteMatch_Prefix:
		return !strings.HasPrefix(s.Prefix, prefix) && !strings.HasPrefix(prefix, s.Prefix)
	}
	return false
}

// exactOf returns the only value that a condition on a header allows, if there is one only.
func exactOf(h *routev3.HeaderMatcher) (string, bool) {
	m, ok := h.GetStringMatch().GetMatchPattern().(*matcherv3.StringMatcher_Exact)
	if !ok || h.InvertMatch || h.GetStringMatch().IgnoreCase {
		return "", false
	}
	return m.Exact, true
}

// policyData is where a route's metadata has, by filter, the name of the policy that has
// configured it. Nothing in Envoy asks for it: it is for people, and for Explain.
const policyData = "fairlead.policies"

// withData returns metadata with more; either may be nil, and neither is changed.
func withData(m, more *corev3.Metadata) *corev3.Metadata {
	if m == nil || more == nil {
		return cmp.Or(m, more)
	}
	out := proto.Clone(m).(*corev3.Metadata)
	if out.FilterMetadata == nil {
		out.FilterMetadata = map[string]*structpb.Struct{}
	}
	for name, data := range more.FilterMetadata {
		if there := out.FilterMetadata[name]; there != nil {
			maps.Copy(there.Fields, data.Fields)
		} else {
			out.FilterMetadata[name] = data
		}
	}
	return out
}

// allWithPolicies does so with several routes.
func allWithPolicies(routes []*routev3.Route, filter string, all []configured) []*routev3.Route {
	if len(all) == 0 {
		return routes
	}
	out := make([]*routev3.Route, 0, 2*len(routes))
	for _, r := range routes {
		out = append(out, withPolicies(r, filter, all)...)
	}
	return out
}

// header is a header with a value, whatever it had before.
func header(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// writes writes a header.
func writes(name, value string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: header(name, value)}}
}
