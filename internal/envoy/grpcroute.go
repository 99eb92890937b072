package envoy

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// grpcMatch translates what a gRPC route matches. It returns nil, having noted why, if
// the match cannot be served as it is written. Only gRPC requests match, told by their
// content type.
func (t *translator) grpcMatch(at place, m *mesh.GrpcRouteMatch) *routev3.RouteMatch {
	out := &routev3.RouteMatch{PathSpecifier: anyPath.PathSpecifier, Grpc: &routev3.RouteMatch_GrpcRouteMatchOptions{}}
	ok := true
	switch {
	case m.ServiceName == nil && m.MethodName != nil:
		t.problemAt(at.in("serviceName"), "a method is given without its service: the route is left out")
		ok = false
	case m.ServiceName != nil && m.MethodName != nil:
		path := "/" + *m.ServiceName + "/" + *m.MethodName
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: path}
		ok = t.pathLike(at.in("methodName"), path)
	case m.ServiceName != nil:
		path := "/" + *m.ServiceName + "/"
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: path}
		ok = t.pathLike(at.in("serviceName"), path)
	}
	for i, d := range m.Metadata {
		h := t.matchHeader(at.in("metadata").at(i), d.Name, d.Invert, (*mesh.HeaderMatchMethod)(d.Match))
		ok = ok && h != nil
		out.Headers = append(out.Headers, h)
	}
	if !ok {
		return nil
	}
	return out
}
