package envoy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// What App Mesh keeps to itself on a gateway.
var (
	reservedPaths    = []string{"/aws-app-mesh", "/aws-appmesh"}
	reservedServices = []string{"aws.app-mesh", "aws.appmesh"}
)

// disabled is how the API says that a default rewrite is not made.
const disabled = "DISABLED"

// readHTTP reads a gateway route for http or http2, and reports whether it can be served
// as it is written.
func (g *gateway) readHTTP(r *gatewayRoute, s *mesh.HttpGatewayRoute) bool {
	m, field := s.Match, r.member+".match."
	r.port = m.Port
	ok := g.readHost(r, m.Hostname)
	ok = g.readPath(r, m, s.Action.Rewrite) && ok
	if m.Method != nil {
		if *m.Method == "CONNECT" {
			g.problem(r.key, field+"method", "the method CONNECT %s: the route is left out", notServed)
			ok = false
		}
		r.headers = append(r.headers, exactHeader(":method", *m.Method))
	}
	for i := range m.Headers {
		h := g.matchHeader(place{r.key, fmt.Sprintf("%sheaders[%d]", field, i)}, m.Headers[i].Name, m.Headers[i].Invert, m.Headers[i].Match)
		ok = ok && h != nil
		r.headers = append(r.headers, h)
	}
	for i, q := range m.QueryParameters {
		if q.Name == "" || len(q.Name) > longestQueryName {
			g.problem(r.key, fmt.Sprintf("%squeryParameters[%d].name", field, i),
				"a name of %d bytes was given, allowed are 1 to %d: the route is left out", len(q.Name), longestQueryName)
			ok = false
		}
		r.query = append(r.query, matchQuery(q))
	}
	r.conditions = len(r.headers) + len(r.query)
	if w := s.Action.Rewrite; w != nil {
		r.keepHost = keepsHost(w.Hostname)
	}
	return ok
}

// readGRPC reads a gateway route for gRPC, and reports whether it can be served as it is
// written.
func (g *gateway) readGRPC(r *gatewayRoute, s *mesh.GrpcGatewayRoute) bool {
	m, field := s.Match, r.member+".match."
	r.port, r.grpc = m.Port, true
	ok := g.readHost(r, m.Hostname)
	path := pathMatch{pathUnder, "/"}
	if m.ServiceName != nil {
		name := *m.ServiceName
		path.text = "/" + name + "/"
		switch {
		case name == "" || strings.ContainsFunc(name, notInPath) || strings.ContainsAny(name, "/?#"):
			g.problem(r.key, field+"serviceName", "%q is not the name of a gRPC service: the route is left out", name)
			ok = false
		case hasPrefix(name, reservedServices):
			g.problem(r.key, field+"serviceName", "%q is reserved: the route is left out", name)
			ok = false
		}
	}
	r.kind, r.length = 2, len(path.text)
	r.paths = []gatewayPath{{pathMatch: path}}
	for i := range m.Metadata {
		d := &m.Metadata[i]
		h := g.matchHeader(place{r.key, fmt.Sprintf("%smetadata[%d]", field, i)}, d.Name, d.Invert, (*mesh.HeaderMatchMethod)(d.Match))
		ok = ok && h != nil
		r.headers = append(r.headers, h)
	}
	r.conditions = len(r.headers)
	if w := s.Action.Rewrite; w != nil {
		r.keepHost = keepsHost(w.Hostname)
	}
	return ok
}

func keepsHost(w *mesh.GatewayRouteHostnameRewrite) bool {
	return w != nil && w.DefaultTargetHostname != nil && *w.DefaultTargetHostname == disabled
}

func hasPrefix(s string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// readPath reads which paths a route is for and what becomes of them, and reports
// whether it could.
func (g *gateway) readPath(r *gatewayRoute, m *mesh.HttpGatewayRouteMatch, w *mesh.HttpGatewayRouteRewrite) bool {
	field := r.member + ".match."
	path, ok := pathMatch{}, true
	switch {
	case m.Path != nil && m.Prefix != nil:
		g.problem(r.key, field+"path", "both a path and a prefix are given, allowed is one of them: the route is left out")
		return false
	case m.Path != nil && (m.Path.Exact == nil) == (m.Path.Regex == nil):
		g.problem(r.key, field+"path", "allowed is one of exact and regex: the route is left out")
		return false
	case m.Path != nil && m.Path.Exact != nil:
		path, r.kind = pathMatch{pathExact, *m.Path.Exact}, 0
		ok = g.pathLike(place{r.key, field + "path.exact"}, path.text)
	case m.Path != nil:
		path, r.kind = pathMatch{pathRegex, *m.Path.Regex}, 1
		if _, err := regex(path.text); err != nil {
			g.problem(r.key, field+"path.regex", "%v: the route is left out", err)
			ok = false
		}
	case m.Prefix != nil:
		path, r.kind = pathMatch{pathUnder, *m.Prefix}, 2
		ok = g.pathLike(place{r.key, field + "prefix"}, path.text)
		if hasPrefix(path.text, reservedPaths) {
			g.problem(r.key, field+"prefix", "%q is reserved: the route is left out", path.text)
			ok = false
		}
	default:
		path, r.kind = pathMatch{pathUnder, "/"}, 2
	}
	r.length = len(path.text)
	to, made := g.readRewrite(r, path, w)
	r.paths = to
	return ok && made
}

// readRewrite returns the paths of a route with what becomes of them, and reports
// whether the rewrite can be made. By default a prefix becomes "/", and a path stays as
// it is.
func (g *gateway) readRewrite(r *gatewayRoute, path pathMatch, w *mesh.HttpGatewayRouteRewrite) ([]gatewayPath, bool) {
	field := r.member + ".action.rewrite."
	switch {
	case w == nil || w.Path == nil && w.Prefix == nil:
		return split(path, "/"), true
	case w.Path != nil && w.Prefix != nil:
		g.problem(r.key, field+"path", "both a path and a prefix are given, allowed is one of them: the route is left out")
		return nil, false
	case w.Path != nil && w.Path.Exact != nil:
		return whole(path, *w.Path.Exact), g.newPath(r.key, field+"path.exact", *w.Path.Exact)
	case w.Path != nil:
		return split(path, "/"), true
	case path.kind != pathUnder:
		if w.Prefix.Value != nil || w.Prefix.DefaultPrefix != nil && *w.Prefix.DefaultPrefix != disabled {
			g.problem(r.key, field+"prefix", "the route matches a path and no prefix: the rewrite has no effect")
		}
		return split(path, "/"), true
	case w.Prefix.Value != nil:
		to := *w.Prefix.Value
		if !strings.HasSuffix(to, "/") {
			g.problem(r.key, field+"prefix.value", `%q does not end with "/": the route is left out`, to)
			return nil, false
		}
		return split(path, to), g.newPath(r.key, field+"prefix.value", to)
	case w.Prefix.DefaultPrefix != nil && *w.Prefix.DefaultPrefix == disabled:
		return split(path, ""), true
	}
	return split(path, "/"), true
}

// newPath reports whether a request can be given a path, and notes a problem if not.
func (g *gateway) newPath(key mesh.Key, field, s string) bool {
	if strings.HasPrefix(s, "/") && !strings.ContainsFunc(s, notInPath) && !strings.ContainsAny(s, "?#") {
		return true
	}
	g.problem(key, field, "%q is not a path: the route is left out", s)
	return false
}
