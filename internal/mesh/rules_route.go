package mesh

import (
	"slices"
	"strings"
)

// httpRetryEvents are the events that App Mesh knows; the model has them as text.
var httpRetryEvents = []string{"client-error", "gateway-error", "server-error", "stream-error"}

// route checks a route's spec.
func (r *rules) route(path string, s *RouteSpec) {
	r.exactlyOne(path,
		choice{"grpcRoute", s.GrpcRoute != nil}, choice{"http2Route", s.Http2Route != nil},
		choice{"httpRoute", s.HttpRoute != nil}, choice{"tcpRoute", s.TcpRoute != nil})
	if s.GrpcRoute != nil {
		r.grpcRoute(path+".grpcRoute", s.GrpcRoute)
	}
	if s.Http2Route != nil {
		r.httpRoute(path+".http2Route", s.Http2Route)
	}
	if s.HttpRoute != nil {
		r.httpRoute(path+".httpRoute", s.HttpRoute)
	}
	if s.TcpRoute != nil {
		r.targets(path+".tcpRoute", s.TcpRoute.Action.WeightedTargets)
	}
}

func (r *rules) httpRoute(path string, s *HttpRoute) {
	m, at := s.Match, path+".match"
	r.exactlyOne(at, choice{"path", m.Path != nil}, choice{"prefix", m.Prefix != nil})
	r.prefix(at+".prefix", m.Prefix)
	r.pathMatch(at+".path", m.Path)
	for i, h := range m.Headers {
		r.matchMethod(matchAt(at+".headers", i), h.Match)
	}
	if p := s.RetryPolicy; p != nil {
		r.retryEvents(path+".retryPolicy", p.HttpRetryEvents,
			[]string{"httpRetryEvents", "tcpRetryEvents"}, len(p.HttpRetryEvents)+len(p.TcpRetryEvents))
	}
	r.targets(path, s.Action.WeightedTargets)
}

func (r *rules) grpcRoute(path string, s *GrpcRoute) {
	m, at := s.Match, path+".match"
	if m.MethodName != nil && m.ServiceName == nil {
		r.fail(at+".serviceName", "is required with methodName")
	}
	for i, h := range m.Metadata {
		r.matchMethod(matchAt(at+".metadata", i), (*HeaderMatchMethod)(h.Match))
	}
	if p := s.RetryPolicy; p != nil {
		r.retryEvents(path+".retryPolicy", p.HttpRetryEvents,
			[]string{"grpcRetryEvents", "httpRetryEvents", "tcpRetryEvents"},
			len(p.GrpcRetryEvents)+len(p.HttpRetryEvents)+len(p.TcpRetryEvents))
	}
	r.targets(path, s.Action.WeightedTargets)
}

// matchAt is the path of the match of a list's element.
func matchAt(path string, i int) string { return at(path, i) + ".match" }

// pathMatch checks a path match: an exact path or an expression.
func (r *rules) pathMatch(path string, m *HttpPathMatch) {
	if m == nil {
		return
	}
	r.exactlyOne(path, choice{"exact", m.Exact != nil}, choice{"regex", m.Regex != nil})
	r.regex(path+".regex", m.Regex)
}

// targets checks the names of a route's targets and that some target gets traffic.
func (r *rules) targets(route string, targets []WeightedTarget) {
	path := route + ".action.weightedTargets"
	idle := true
	for i, t := range targets {
		idle = idle && t.Weight == 0 && r.known(at(path, i)+".weight")
		r.name(at(path, i)+".virtualNode", KindVirtualNode, t.VirtualNode)
	}
	if idle {
		r.fail(path, "must have a target with a weight above 0")
	}
}

// retryEvents checks that a retry policy names an event, and only known ones.
func (r *rules) retryEvents(path string, http, members []string, total int) {
	known := true
	for _, m := range members {
		known = known && r.known(path+"."+m)
	}
	if total == 0 && known {
		r.fail(path, "must name at least one event in %s", strings.Join(members, ", "))
	}
	for i, e := range http {
		if !slices.Contains(httpRetryEvents, e) {
			r.fail(at(path+".httpRetryEvents", i), "must be one of %s, %s was given", strings.Join(httpRetryEvents, ", "), quote(e))
		}
	}
}
