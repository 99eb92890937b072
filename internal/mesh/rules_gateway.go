package mesh

import "strings"

// What App Mesh keeps to itself on a gateway: path prefixes, and prefixes of gRPC
// service names.
var (
	reservedPaths    = []string{"/aws-app-mesh", "/aws-appmesh"}
	reservedServices = []string{"aws.app-mesh", "aws.appmesh"}
)

// gatewayRoute checks a gateway route's spec.
func (r *rules) gatewayRoute(path string, s *GatewayRouteSpec) {
	r.exactlyOne(path, choice{"grpcRoute", s.GrpcRoute != nil},
		choice{"http2Route", s.Http2Route != nil}, choice{"httpRoute", s.HttpRoute != nil})
	if s.GrpcRoute != nil {
		r.grpcGatewayRoute(path+".grpcRoute", s.GrpcRoute)
	}
	if s.Http2Route != nil {
		r.httpGatewayRoute(path+".http2Route", s.Http2Route)
	}
	if s.HttpRoute != nil {
		r.httpGatewayRoute(path+".httpRoute", s.HttpRoute)
	}
}

func (r *rules) grpcGatewayRoute(path string, s *GrpcGatewayRoute) {
	m, at := s.Match, path+".match"
	r.hostname(at+".hostname", m.Hostname)
	r.reserved(at+".serviceName", m.ServiceName, reservedServices)
	for i, h := range m.Metadata {
		r.matchMethod(matchAt(at+".metadata", i), (*HeaderMatchMethod)(h.Match))
	}
	r.target(path, s.Action.Target)
}

func (r *rules) httpGatewayRoute(path string, s *HttpGatewayRoute) {
	m, at := s.Match, path+".match"
	r.atMostOne(at, choice{"path", m.Path != nil}, choice{"prefix", m.Prefix != nil})
	r.prefix(at+".prefix", m.Prefix)
	r.reserved(at+".prefix", m.Prefix, reservedPaths)
	r.pathMatch(at+".path", m.Path)
	r.hostname(at+".hostname", m.Hostname)
	for i, h := range m.Headers {
		r.matchMethod(matchAt(at+".headers", i), h.Match)
	}
	r.rewrite(path+".action.rewrite", s.Action.Rewrite)
	r.target(path, s.Action.Target)
}

// target checks the name of the virtual service that a gateway route leads to.
func (r *rules) target(route string, t *GatewayRouteTarget) {
	r.name(route+".action.target.virtualService.virtualServiceName", KindVirtualService,
		t.VirtualService.VirtualServiceName)
}

func (r *rules) hostname(path string, m *GatewayRouteHostnameMatch) {
	if m != nil {
		r.exactlyOne(path, choice{"exact", m.Exact != nil}, choice{"suffix", m.Suffix != nil})
	}
}

func (r *rules) reserved(path string, value *string, prefixes []string) {
	for _, p := range prefixes {
		if value != nil && strings.HasPrefix(*value, p) {
			r.fail(path, "must not begin with %s, which is reserved, %s was given", strings.Join(prefixes, " or "), quote(*value))
			return
		}
	}
}

// rewrite checks how a gateway route changes the path.
func (r *rules) rewrite(path string, w *HttpGatewayRouteRewrite) {
	if w == nil {
		return
	}
	r.atMostOne(path, choice{"path", w.Path != nil}, choice{"prefix", w.Prefix != nil})
	if p := w.Prefix; p != nil {
		r.atMostOne(path+".prefix", choice{"defaultPrefix", p.DefaultPrefix != nil}, choice{"value", p.Value != nil})
		if p.Value != nil && (!strings.HasPrefix(*p.Value, "/") || !strings.HasSuffix(*p.Value, "/")) {
			r.fail(path+".prefix.value", `must begin and end with "/", %s was given`, quote(*p.Value))
		}
	}
}
