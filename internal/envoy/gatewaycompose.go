package envoy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// compose returns routes that do for the requests of a gateway route whose path is in
// one of its paths what two passes through a connection manager would do: match the
// gateway route, change the request as it says, and match the routes of a service's
// port. As many as can be are done in one pass. From the first on that cannot, requests
// are handed to a second pass, in which those before it do not match either.
func (g *gateway) compose(r *gatewayRoute, path gatewayPath, p *servicePort) (out []*routev3.Route) {
	if s := g.services[p.service]; s != nil && asksWhatChanges(s.Policies) {
		return append(out, g.secondPass(r, path, p))
	}
	for _, second := range p.routes {
		routes, all, exact := r.compose(path, second)
		if !exact {
			return append(out, g.secondPass(r, path, p))
		}
		if out = append(out, routes...); all {
			return out
		}
	}
	return append(out, &routev3.Route{
		Name:   r.name,
		Match:  r.match(path),
		Action: answer(404, fmt.Sprintf("Fairlead: virtual service %q has no route for this request.\n", p.service)),
	})
}

// asksWhatChanges reports whether filters are to ask of requests to a service what gateway
// routes may change: filters of one pass see a request as it came in.
func asksWhatChanges(policies []mesh.Policy) bool {
	changes := func(h mesh.HttpRouteHeader) bool {
		return slices.Contains([]string{"host", ":authority", "x-forwarded-host", "x-envoy-original-path", ":path"}, lower(h.Name))
	}
	return slices.ContainsFunc(policies, func(p mesh.Policy) bool {
		s := p.Spec
		if s.Action.Access == nil && s.Action.RateLimit == nil {
			return false
		}
		m := s.Match
		return m != nil && (m.Prefix != nil || m.Path != nil || slices.ContainsFunc(m.Headers, changes)) ||
			slices.ContainsFunc(s.From, func(c mesh.PolicyClient) bool { return slices.ContainsFunc(c.Headers, changes) })
	})
}

// compose returns what a gateway route's path and one route of the service become
// together. all is set if that route takes every request of the path, so that no later
// one is reached.
func (r *gatewayRoute) compose(path gatewayPath, second *routev3.Route) (out []*routev3.Route, all, exact bool) {
	sets, known := pathsOf(second.Match)
	if !known || !changeable(second) {
		return nil, false, false
	}
	// Everything that the second route asks for, the path and the headers aside.
	rest := proto.Clone(second.Match).(*routev3.RouteMatch)
	rest.PathSpecifier, rest.Headers = nil, nil
	plain := proto.Size(rest) == 0
	headers, never, exactHeaders := r.conditionsOf(path, second.Match.Headers)
	for _, set := range sets {
		meeting, fits, exact := path.meet(set)
		if !fits && exact || never {
			continue
		}
		if !exact || !exactHeaders {
			return nil, false, false
		}
		out = append(out, r.composed(meeting, second, headers))
		all = all || meeting == path && plain && len(headers) == 0
	}
	return out, all, true
}

// composed returns one route of the one pass: for requests of a gateway route with a
// path, that the second route takes once it has looked at its own headers.
func (r *gatewayRoute) composed(p gatewayPath, second *routev3.Route, headers []*routev3.HeaderMatcher) *routev3.Route {
	out := proto.Clone(second).(*routev3.Route)
	if out.Name = r.name; second.Name != "" {
		out.Name += "/" + second.Name
	}
	m := out.Match
	p.specify(m)
	m.Headers = append(append(make([]*routev3.HeaderMatcher, 0, len(r.headers)+len(headers)+1), r.headers...), headers...)
	if p.begins != "" {
		m.Headers = append(m.Headers, &routev3.HeaderMatcher{
			Name:                 ":path",
			HeaderMatchSpecifier: stringMatch(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: p.begins}}),
		})
	}
	m.QueryParameters = append(append([]*routev3.QueryParameterMatcher(nil), r.query...), m.QueryParameters...)
	if r.grpc {
		m.Grpc = &routev3.RouteMatch_GrpcRouteMatchOptions{}
	}
	if a := out.GetRoute(); a != nil {
		r.change(a, p)
	}
	return out
}

// pathsOf returns the paths that a match of Envoy's is for, and whether it is one that
// can be composed.
func pathsOf(m *routev3.RouteMatch) ([]pathMatch, bool) {
	if m.CaseSensitive != nil && !m.CaseSensitive.Value {
		return nil, false
	}
	switch s := m.PathSpecifier.(type) {
	case *routev3.RouteMatch_Prefix:
		return []pathMatch{{pathUnder, s.Prefix}}, true
	case *routev3.RouteMatch_Path:
		return []pathMatch{{pathExact, s.Path}}, true
	case *routev3.RouteMatch_SafeRegex:
		return []pathMatch{{pathRegex, s.SafeRegex.Regex}}, true
	case *routev3.RouteMatch_PathSeparatedPrefix:
		return []pathMatch{{pathExact, s.PathSeparatedPrefix}, {pathUnder, s.PathSeparatedPrefix + "/"}}, true
	}
	return nil, false
}

// changeable reports whether a gateway route's changes can be added to what a route
// does: not if it makes changes of its own to the same.
func changeable(second *routev3.Route) bool {
	switch a := second.Action.(type) {
	case *routev3.Route_DirectResponse:
		return true
	case *routev3.Route_Route:
		return a.Route.PrefixRewrite == "" && a.Route.RegexRewrite == nil && a.Route.PathRewritePolicy == nil && a.Route.HostRewriteSpecifier == nil
	}
	return false
}

// conditionsOf returns what is left to ask of the headers of a request that comes in,
// where the second pass would ask conditions of the request that the gateway route has
// changed. never is set if no request can meet them. exact is false if that cannot be
// said of the request as it comes in.
func (r *gatewayRoute) conditionsOf(p gatewayPath, conditions []*routev3.HeaderMatcher) (left []*routev3.HeaderMatcher, never, exact bool) {
	exact = true
	for _, h := range conditions {
		switch name := lower(h.Name); {
		case (name == "host" || name == ":authority") && !r.keepHost:
			meets, known := meetsCondition(r.service, h)
			never, exact = never || known && !meets, exact && known
		case name == "x-forwarded-host" && !r.keepHost, name == "x-envoy-original-path" && p.rewrite != rewriteNone, name == ":path":
			exact = false // set by the first pass
		default:
			left = append(left, h)
		}
	}
	return left, never, exact
}

// meetsCondition reports whether a header with a value meets a condition, and whether
// that is known.
func meetsCondition(value string, h *routev3.HeaderMatcher) (meets, known bool) {
	known = true
	switch m := h.HeaderMatchSpecifier.(type) {
	case *routev3.HeaderMatcher_PresentMatch:
		meets = m.PresentMatch
	case *routev3.HeaderMatcher_RangeMatch:
		n, err := strconv.ParseInt(value, 10, 64)
		meets = err == nil && m.RangeMatch.Start <= n && n < m.RangeMatch.End
	case *routev3.HeaderMatcher_StringMatch:
		if m.StringMatch.IgnoreCase {
			return false, false
		}
		switch s := m.StringMatch.MatchPattern.(type) {
		case *matcherv3.StringMatcher_Exact:
			meets = value == s.Exact
		case *matcherv3.StringMatcher_Prefix:
			meets = strings.HasPrefix(value, s.Prefix)
		case *matcherv3.StringMatcher_Suffix:
			meets = strings.HasSuffix(value, s.Suffix)
		case *matcherv3.StringMatcher_SafeRegex:
			meets, known = matchesRegex(s.SafeRegex.Regex, value)
		default:
			return false, false
		}
	default:
		return false, false
	}
	return meets != h.InvertMatch, known
}
