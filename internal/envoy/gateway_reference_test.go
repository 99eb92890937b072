package envoy

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// request is a request as far as routes look at it. The names of its headers are in
// lower case; host is not among them.
type request struct {
	method, host, path, query string
	headers                   map[string]string
}

func (r request) String() string {
	return fmt.Sprintf("%s http://%s%s?%s %v", r.method, r.host, r.path, r.query, r.headers)
}

// verdict is what becomes of a request: a status that the proxy answers with, or the
// node that gets it and how it looks then.
type verdict struct {
	Status     int
	Node       string
	Path, Host string
}

// The two evaluators below say what becomes of a request. They have nothing in common:
// one reads App Mesh's specs and makes the two passes that its documentation describes,
// the other reads Envoy's routes as Envoy does.

// reference makes the two passes.
func reference(v *mesh.View, in request) verdict {
	best := slices.Clone(v.GatewayRoutes)
	slices.SortStableFunc(best, func(a, b mesh.GatewayRoute) int {
		ma, mb := a.Spec.HttpRoute.Match, b.Spec.HttpRoute.Match
		return cmp.Or(
			cmp.Compare(orLowest(a.Spec.Priority), orLowest(b.Spec.Priority)),
			refRank(ma.Path, ma.Prefix).compare(refRank(mb.Path, mb.Prefix)),
			-cmp.Compare(refConditions(ma.Method, ma.Port, nil, len(ma.Headers), len(ma.QueryParameters)), refConditions(mb.Method, mb.Port, nil, len(mb.Headers), len(mb.QueryParameters))),
			cmp.Compare(a.Name, b.Name))
	})
	host, _, _ := strings.Cut(strings.ToLower(in.host), ":")
	named := refHost(best, host)
	for _, g := range best {
		m := g.Spec.HttpRoute.Match
		if refHostKey(m.Hostname) != named || !refGatewayPath(m, in.path) || m.Method != nil && *m.Method != in.method || !refQueries(m.QueryParameters, in.query) {
			continue
		}
		if slices.ContainsFunc(m.Headers, func(h mesh.HttpGatewayRouteHeader) bool { return !refHeader(mesh.HttpRouteHeader(h), in) }) {
			continue
		}
		return refSecond(v, g.Spec.HttpRoute, refRewrite(g.Spec.HttpRoute, in))
	}
	return verdict{Status: 404}
}

// refSecond is the second pass.
func refSecond(v *mesh.View, g *mesh.HttpGatewayRoute, in request) verdict {
	i := slices.IndexFunc(v.Services, func(s mesh.Service) bool { return s.Name == g.Action.Target.VirtualService.VirtualServiceName })
	routes := slices.Clone(v.Services[i].Router.Routes)
	slices.SortStableFunc(routes, func(a, b mesh.Route) int {
		ma, mb := a.Spec.HttpRoute.Match, b.Spec.HttpRoute.Match
		return cmp.Or(
			cmp.Compare(orLowest(a.Spec.Priority), orLowest(b.Spec.Priority)),
			refRank(ma.Path, ma.Prefix).compare(refRank(mb.Path, mb.Prefix)),
			-cmp.Compare(refConditions(ma.Method, ma.Port, ma.Scheme, len(ma.Headers), len(ma.QueryParameters)), refConditions(mb.Method, mb.Port, mb.Scheme, len(mb.Headers), len(mb.QueryParameters))),
			cmp.Compare(a.Name, b.Name))
	})
	for _, r := range routes {
		m := r.Spec.HttpRoute.Match
		switch {
		case m.Prefix != nil && !strings.HasPrefix(in.path, *m.Prefix), m.Path != nil && !refPath(m.Path, in.path):
		case m.Method != nil && *m.Method != in.method, m.Scheme != nil && *m.Scheme != "http", !refQueries(m.QueryParameters, in.query):
		case slices.ContainsFunc(m.Headers, func(h mesh.HttpRouteHeader) bool { return !refHeader(h, in) }):
		default:
			return verdict{Node: r.Spec.HttpRoute.Action.WeightedTargets[0].VirtualNode, Path: in.path, Host: in.host}
		}
	}
	return verdict{Status: 404}
}

func orLowest(p *int64) int64 {
	if p == nil {
		return 1000
	}
	return *p
}

type rank struct{ kind, length int }

func (a rank) compare(b rank) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(b.length, a.length))
}

func refRank(p *mesh.HttpPathMatch, prefix *string) rank {
	switch {
	case p != nil && p.Exact != nil:
		return rank{0, len(*p.Exact)}
	case p != nil:
		return rank{1, len(*p.Regex)}
	case prefix != nil:
		return rank{2, len(*prefix)}
	}
	return rank{2, 1}
}

func refConditions(method *string, port *int64, scheme *string, headers, queries int) int {
	n := headers + queries
	for _, set := range []bool{method != nil, port != nil, scheme != nil} {
		if set {
			n++
		}
	}
	return n
}

func refHostKey(m *mesh.GatewayRouteHostnameMatch) string {
	switch {
	case m == nil:
		return "*"
	case m.Exact != nil:
		return "=" + strings.ToLower(*m.Exact)
	}
	return "." + strings.ToLower(*m.Suffix)
}

// refHost returns which routes a host belongs to: those that name it, else those with
// its longest suffix, else those without a host.
func refHost(routes []mesh.GatewayRoute, host string) string {
	best := "*"
	for _, g := range routes {
		k := refHostKey(g.Spec.HttpRoute.Match.Hostname)
		switch {
		case k == "="+host:
			return k
		case k[0] == '.' && strings.HasSuffix(host, k[1:]) && (len(k) > len(best) || best == "*"):
			best = k
		}
	}
	return best
}

func refPath(m *mesh.HttpPathMatch, path string) bool {
	if m.Exact != nil {
		return path == *m.Exact
	}
	return regexp.MustCompile(`^(?:` + *m.Regex + `)$`).MatchString(path)
}

func refGatewayPath(m *mesh.HttpGatewayRouteMatch, path string) bool {
	switch {
	case m.Path != nil:
		return refPath(m.Path, path)
	case m.Prefix == nil:
		return true
	}
	return path == *m.Prefix || strings.HasPrefix(path, strings.TrimSuffix(*m.Prefix, "/")+"/")
}

func refQueries(all []mesh.HttpQueryParameter, query string) bool {
	have, err := url.ParseQuery(query)
	if err != nil {
		panic(err)
	}
	for _, q := range all {
		values, ok := have[q.Name]
		if !ok || q.Match != nil && q.Match.Exact != nil && values[0] != *q.Match.Exact {
			return false
		}
	}
	return true
}

func refHeader(h mesh.HttpRouteHeader, in request) bool {
	invert := h.Invert != nil && *h.Invert
	value, ok := in.headers[strings.ToLower(h.Name)]
	if strings.EqualFold(h.Name, "host") {
		value, ok = in.host, true
	}
	if h.Match == nil {
		return ok != invert
	}
	if !ok {
		return false
	}
	var is bool
	switch m := h.Match; {
	case m.Exact != nil:
		is = value == *m.Exact
	case m.Prefix != nil:
		is = strings.HasPrefix(value, *m.Prefix)
	case m.Suffix != nil:
		is = strings.HasSuffix(value, *m.Suffix)
	case m.Regex != nil:
		is = regexp.MustCompile(`^(?:` + *m.Regex + `)$`).MatchString(value)
	case m.Range != nil:
		n, err := strconv.ParseInt(value, 10, 64)
		is = err == nil && m.Range.Start <= n && n < m.Range.End
	}
	return is != invert
}

// refRewrite returns the request as a gateway route passes it on.
func refRewrite(g *mesh.HttpGatewayRoute, in request) request {
	out := in
	out.headers = map[string]string{}
	for k, v := range in.headers {
		out.headers[k] = v
	}
	w := g.Action.Rewrite
	if w == nil {
		w = &mesh.HttpGatewayRouteRewrite{}
	}
	if w.Hostname == nil || w.Hostname.DefaultTargetHostname == nil || *w.Hostname.DefaultTargetHostname == "ENABLED" {
		out.host = g.Action.Target.VirtualService.VirtualServiceName
		out.headers["x-forwarded-host"] = in.host
	}
	prefix := "/"
	if g.Match.Prefix != nil {
		prefix = *g.Match.Prefix
	}
	to := "/"
	switch p := w.Prefix; {
	case w.Path != nil:
		out.path = *w.Path.Exact
		return out
	case g.Match.Path != nil || p != nil && p.DefaultPrefix != nil && *p.DefaultPrefix == "DISABLED":
		return out
	case p != nil && p.Value != nil:
		to = *p.Value
	}
	out.path = to + strings.TrimPrefix(strings.TrimPrefix(in.path, strings.TrimSuffix(prefix, "/")), "/")
	return out
}

// evaluate does with a request what Envoy does with a configuration's routes. internal
// holds the routes behind the clusters of internal listeners.
func evaluate(c *routev3.RouteConfiguration, internal map[string]*routev3.RouteConfiguration, in request) verdict {
	h := envoyHost(c, in)
	if h == nil {
		return verdict{Status: 404}
	}
	for _, r := range h.Routes {
		matched, ok := envoyPath(r.Match, in.path)
		if !ok || !envoyConditions(r.Match, in) {
			continue
		}
		if d := r.GetDirectResponse(); d != nil {
			return verdict{Status: int(d.Status)}
		}
		a, out := r.GetRoute(), in
		out.headers = map[string]string{}
		for k, v := range in.headers {
			out.headers[k] = v
		}
		if l := a.GetHostRewriteLiteral(); l != "" {
			out.host = l
			if a.AppendXForwardedHost {
				out.headers["x-forwarded-host"] = in.host
			}
		}
		if a.PrefixRewrite != "" {
			out.path = a.PrefixRewrite + strings.TrimPrefix(in.path, matched)
		}
		if w := a.RegexRewrite; w != nil {
			literal := strings.ReplaceAll(w.Substitution, `\\`, `\`)
			out.path = regexp.MustCompile(w.Pattern.Regex).ReplaceAllLiteralString(in.path, literal)
		}
		if second := internal[a.GetCluster()]; second != nil {
			return evaluate(second, nil, out)
		}
		return verdict{Node: a.GetCluster(), Path: out.path, Host: out.host}
	}
	return verdict{Status: 404}
}

func envoyHost(c *routev3.RouteConfiguration, in request) *routev3.VirtualHost {
	host := strings.ToLower(in.host)
	if c.IgnorePortInHostMatching {
		host, _, _ = strings.Cut(host, ":")
	}
	var best *routev3.VirtualHost
	length := -1
	for _, h := range c.VirtualHosts {
		for _, d := range h.Domains {
			suffix, wild := strings.CutPrefix(d, "*")
			switch {
			case !wild && strings.ToLower(d) == host:
				return h
			case wild && len(suffix) > length && (suffix == "" || len(host) > len(suffix)) && strings.HasSuffix(host, suffix):
				best, length = h, len(suffix)
			}
		}
	}
	return best
}

// envoyPath reports whether a path matches, and what of it a prefix rewrite replaces.
func envoyPath(m *routev3.RouteMatch, path string) (matched string, ok bool) {
	switch s := m.PathSpecifier.(type) {
	case *routev3.RouteMatch_Prefix:
		return s.Prefix, strings.HasPrefix(path, s.Prefix)
	case *routev3.RouteMatch_Path:
		return s.Path, path == s.Path
	case *routev3.RouteMatch_SafeRegex:
		return path, regexp.MustCompile(`^(?:` + s.SafeRegex.Regex + `)$`).MatchString(path)
	}
	panic(fmt.Sprintf("unknown path specifier %T", m.PathSpecifier))
}

func envoyConditions(m *routev3.RouteMatch, in request) bool {
	for _, h := range m.Headers {
		value, ok := in.headers[strings.ToLower(h.Name)]
		switch strings.ToLower(h.Name) {
		case ":method":
			value, ok = in.method, true
		case ":scheme":
			value, ok = "http", true
		case ":path":
			value, ok = in.path, true
			if in.query != "" {
				value += "?" + in.query
			}
		case "host":
			value, ok = in.host, true
		}
		if _, presence := h.HeaderMatchSpecifier.(*routev3.HeaderMatcher_PresentMatch); presence {
			if ok == h.InvertMatch {
				return false
			}
			continue
		}
		if is, known := meetsCondition(value, h); !ok || !known || !is {
			return false
		}
	}
	have, _ := url.ParseQuery(in.query)
	for _, q := range m.QueryParameters {
		values, ok := have[q.Name]
		if !ok || q.GetStringMatch() != nil && values[0] != q.GetStringMatch().GetExact() {
			return false
		}
	}
	return true
}
