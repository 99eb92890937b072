package envoy

import (
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// longestQueryName is the longest name of a query parameter that Envoy takes, in bytes.
const longestQueryName = 1024

// match translates what a route matches. It returns nil, having noted why, if the
// match cannot be served as it is written: a route with a condition less would take
// requests that are not meant for it.
func (t *translator) match(at place, m *mesh.HttpRouteMatch) *routev3.RouteMatch {
	out := &routev3.RouteMatch{}
	ok := t.matchPath(out, at, m)
	if m.Method != nil {
		if *m.Method == "CONNECT" {
			t.problemAt(at.in("method"), "Envoy takes no notice of routes for the method CONNECT unless they are for nothing else: the route is left out")
			ok = false
		}
		out.Headers = append(out.Headers, exactHeader(":method", *m.Method))
	}
	if m.Scheme != nil {
		out.Headers = append(out.Headers, exactHeader(":scheme", *m.Scheme))
	}
	for i := range m.Headers {
		h := t.matchHeader(at.in("headers").at(i), m.Headers[i].Name, m.Headers[i].Invert, m.Headers[i].Match)
		ok = ok && h != nil
		out.Headers = append(out.Headers, h)
	}
	for i, q := range m.QueryParameters {
		if q.Name == "" || len(q.Name) > longestQueryName {
			t.problemAt(at.in("queryParameters").at(i).in("name"),
				"a name of %d bytes was given, allowed are 1 to %d: the route is left out", len(q.Name), longestQueryName)
			ok = false
		}
		out.QueryParameters = append(out.QueryParameters, matchQuery(q))
	}
	if !ok {
		return nil
	}
	return out
}

// matchPath translates the part of a match that is about the path, and reports
// whether it could.
func (t *translator) matchPath(out *routev3.RouteMatch, at place, m *mesh.HttpRouteMatch) bool {
	switch {
	case m.Path != nil && m.Prefix != nil:
		t.problemAt(at.in("path"), "both a path and a prefix are given, allowed is one of them: the route is left out")
	case m.Path != nil && m.Path.Exact != nil && m.Path.Regex != nil:
		t.problemAt(at.in("path"), "both exact and regex are given, allowed is one of them: the route is left out")
	case m.Path != nil && m.Path.Regex != nil:
		re, err := regex(*m.Path.Regex)
		if err != nil {
			t.problemAt(at.in("path.regex"), "%v: the route is left out", err)
			return false
		}
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: re}
		return true
	case m.Path != nil && m.Path.Exact != nil:
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: *m.Path.Exact}
		return t.pathLike(at.in("path.exact"), *m.Path.Exact)
	case m.Path != nil:
		t.problemAt(at.in("path"), "neither exact nor regex is given: the route is left out")
	case m.Prefix != nil:
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: *m.Prefix}
		return t.pathLike(at.in("prefix"), *m.Prefix)
	default:
		out.PathSpecifier = anyPath.PathSpecifier
		return true
	}
	return false
}

// pathLike reports whether a path or prefix can match any request, and notes a
// problem if not.
func (t *translator) pathLike(at place, s string) bool {
	switch {
	case !strings.HasPrefix(s, "/"):
		t.problemAt(at, "%q does not begin with /, so no request can match: the route is left out", s)
	case strings.ContainsFunc(s, notInPath) || strings.ContainsAny(s, "?#"):
		t.problemAt(at, "%q has characters that no path has, so no request can match: the route is left out", s)
	default:
		return true
	}
	return false
}

// matchHeader translates a condition on a header, which in gRPC is called metadata. It returns nil, having noted why, if
// it cannot be served. As in App Mesh, an inverted condition on a value matches only
// requests that have the header.
func (t *translator) matchHeader(at place, name string, invert *bool, m *mesh.HeaderMatchMethod) *routev3.HeaderMatcher {
	if !isToken(name) {
		t.problemAt(at.in("name"), "%q is not the name of a header: the route is left out", name)
		return nil
	}
	out := &routev3.HeaderMatcher{Name: name, InvertMatch: invert != nil && *invert}
	switch {
	case m == nil:
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}
	case m.Exact != nil:
		out.HeaderMatchSpecifier = stringMatch(exactly(*m.Exact))
	case m.Prefix != nil:
		out.HeaderMatchSpecifier = stringMatch(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: *m.Prefix}})
	case m.Suffix != nil:
		out.HeaderMatchSpecifier = stringMatch(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: *m.Suffix}})
	case m.Regex != nil:
		re, err := regex(*m.Regex)
		if err != nil {
			t.problemAt(at.in("match.regex"), "%v: the route is left out", err)
			return nil
		}
		out.HeaderMatchSpecifier = stringMatch(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: re}})
	case m.Range != nil:
		if m.Range.Start >= m.Range.End {
			t.problemAt(at.in("match.range"), "start %d is not below end %d, so no value is in the range: the route is left out", m.Range.Start, m.Range.End)
			return nil
		}
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_RangeMatch{RangeMatch: &typev3.Int64Range{Start: m.Range.Start, End: m.Range.End}}
	default:
		t.problemAt(at.in("match"), "no condition is given: the route is left out")
		return nil
	}
	return out
}

// matchQuery translates a condition on a query parameter.
func matchQuery(q mesh.HttpQueryParameter) *routev3.QueryParameterMatcher {
	if q.Match == nil || q.Match.Exact == nil {
		return &routev3.QueryParameterMatcher{
			Name:                         q.Name,
			QueryParameterMatchSpecifier: &routev3.QueryParameterMatcher_PresentMatch{PresentMatch: true},
		}
	}
	return &routev3.QueryParameterMatcher{
		Name:                         q.Name,
		QueryParameterMatchSpecifier: &routev3.QueryParameterMatcher_StringMatch{StringMatch: exactly(*q.Match.Exact)},
	}
}

func exactHeader(name, value string) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: stringMatch(exactly(value))}
}

func exactly(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: s}}
}

func stringMatch(m *matcherv3.StringMatcher) *routev3.HeaderMatcher_StringMatch {
	return &routev3.HeaderMatcher_StringMatch{StringMatch: m}
}

// isToken reports whether s can be the name of a header.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}
