package envoy

import (
	"cmp"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// lowestPriority is the priority of a route that has none: it comes after those that
// have one, as AWS's walk-throughs rely on.
const lowestPriority = 1000

// compareRoutes orders two routes of a router. App Mesh documents the priority and,
// for prefixes, the longest first; the rest is ours:
//
//  1. the priority, 0 first, routes without one together with 1000;
//  2. an exact path before a regular expression before a prefix; of gRPC, a service
//     with a method before a service before neither;
//  3. the longer path, expression or prefix; of gRPC, service and method together;
//  4. more conditions: method, scheme, port, headers, metadata and query parameters;
//  5. the name.
func compareRoutes(a, b mesh.Route) int {
	if c := cmp.Compare(priority(a.Spec), priority(b.Spec)); c != 0 {
		return c
	}
	return cmp.Or(weigh(a.Spec).compare(weigh(b.Spec)), cmp.Compare(a.Name, b.Name))
}

func priority(s *mesh.RouteSpec) int64 {
	if s.Priority == nil {
		return lowestPriority
	}
	return *s.Priority
}

// The kinds of path matches, in the order in which they are tried.
const (
	byExactPath = iota
	byRegex
	byPrefix
)

// precision is what the order of routes looks at beside priority and name.
type precision struct {
	kind       int // of path match
	length     int // of what the path is compared with
	conditions int // others than the path
}

func (p precision) compare(other precision) int {
	return cmp.Or(
		cmp.Compare(p.kind, other.kind),
		cmp.Compare(other.length, p.length),
		cmp.Compare(other.conditions, p.conditions),
	)
}

func weigh(s *mesh.RouteSpec) precision {
	switch {
	case s.HttpRoute != nil:
		return weighHTTP(s.HttpRoute.Match)
	case s.Http2Route != nil:
		return weighHTTP(s.Http2Route.Match)
	case s.GrpcRoute != nil:
		return weighGRPC(s.GrpcRoute.Match)
	case s.TcpRoute != nil && s.TcpRoute.Match != nil:
		return precision{kind: byPrefix, conditions: count(s.TcpRoute.Match.Port != nil)}
	}
	return precision{kind: byPrefix}
}

func weighHTTP(m *mesh.HttpRouteMatch) precision {
	p := precision{
		kind:       byPrefix,
		conditions: len(m.Headers) + len(m.QueryParameters) + count(m.Method != nil, m.Scheme != nil, m.Port != nil),
	}
	switch {
	case m.Path != nil && m.Path.Exact != nil:
		p.kind, p.length = byExactPath, len(*m.Path.Exact)
	case m.Path != nil && m.Path.Regex != nil:
		p.kind, p.length = byRegex, len(*m.Path.Regex)
	case m.Prefix != nil:
		p.length = len(*m.Prefix)
	}
	return p
}

func weighGRPC(m *mesh.GrpcRouteMatch) precision {
	p := precision{kind: byPrefix, conditions: len(m.Metadata) + count(m.Port != nil)}
	if m.ServiceName != nil {
		p.length = len(*m.ServiceName)
		if m.MethodName != nil {
			p.kind, p.length = byExactPath, p.length+len(*m.MethodName)
		}
	}
	return p
}

// count returns how many of its arguments are true.
func count(set ...bool) (n int) {
	for _, s := range set {
		if s {
			n++
		}
	}
	return n
}
