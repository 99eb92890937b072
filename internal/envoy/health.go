package envoy

import (
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// healthChecks returns the checks that clients run against a target, with TLS where
// encrypted is set. A check is what App Mesh documents: of http and http2 a GET that is
// answered with 200, of grpc a Check of the standard health service, of tcp a connection.
func (t *translator) healthChecks(g *target, encrypted bool) []*corev3.HealthCheck {
	l := &g.spec.Listeners[g.listener]
	h := l.HealthCheck
	if h == nil {
		return nil
	}
	path, ok := t.healthCheckPath(h, l, nodeKey(g.node), g.listener)
	if !ok {
		return nil
	}
	interval := durationpb.New(time.Duration(h.IntervalMillis) * time.Millisecond)
	out := &corev3.HealthCheck{
		Timeout:            durationpb.New(time.Duration(h.TimeoutMillis) * time.Millisecond),
		Interval:           interval,
		HealthyThreshold:   wrapperspb.UInt32(clampUint32(h.HealthyThreshold)),
		UnhealthyThreshold: wrapperspb.UInt32(clampUint32(h.UnhealthyThreshold)),
		// Envoy would check once a minute only where no request was sent yet, so that a
		// host which fails its first check stayed away for that long.
		NoTrafficInterval: interval,
	}
	setChecker(out, h.Protocol, authority(g.host(), g.port), path)
	if encrypted && h.Protocol != l.PortMapping.Protocol {
		if protocols := offered(h.Protocol); protocols != nil {
			out.TlsOptions = &corev3.HealthCheck_TlsOptions{AlpnProtocols: protocols}
		}
	}
	return []*corev3.HealthCheck{out}
}

// setChecker sets what a check does. The host is what it asks for: without one Envoy
// would send the cluster's name.
func setChecker(out *corev3.HealthCheck, protocol, host, path string) {
	switch protocol {
	case protoTCP:
		out.HealthChecker = &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &corev3.HealthCheck_TcpHealthCheck{}}
	case protoGRPC:
		out.HealthChecker = &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{Authority: host}}
	default:
		check := &corev3.HealthCheck_HttpHealthCheck{Host: host, Path: path}
		if protocol == protoHTTP2 {
			check.CodecClientType = typev3.CodecClientType_HTTP2
		}
		out.HealthChecker = &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: check}
	}
}

// healthCheckPath returns the path of a health check by http or http2, and whether the
// check can be served. The listener is that of the virtual node key at a place in its
// list, where a problem is noted if not.
func (t *translator) healthCheckPath(h *mesh.HealthCheckPolicy, l *mesh.Listener, key mesh.Key, listener int) (path string, ok bool) {
	field := index("listeners", listener) + ".healthCheck"
	path = "/"
	if h.Path != nil {
		path = *h.Path
	}
	switch {
	case !knownProtocol(h.Protocol):
		t.problem(key, field+".protocol", "%q is not a protocol, allowed are http, http2, grpc and tcp: hosts are taken for healthy", h.Protocol)
	case h.Protocol == protoGRPC && l.PortMapping.Protocol != protoGRPC && l.PortMapping.Protocol != protoHTTP2:
		t.problem(key, field+".protocol", "Envoy checks by grpc only what it calls by grpc or http2, the listener speaks %s: hosts are taken for healthy", l.PortMapping.Protocol)
	case h.Port != nil && *h.Port != l.PortMapping.Port:
		t.problem(key, field+".port", "the health check is of port %d, allowed is the listener's, %d: hosts are taken for healthy", *h.Port, l.PortMapping.Port)
	case (h.Protocol == protoHTTP || h.Protocol == protoHTTP2) && (!strings.HasPrefix(path, "/") || strings.ContainsFunc(path, notInPath)):
		t.problem(key, field+".path", "%q is not a path: hosts are taken for healthy", path)
	default:
		return path, true
	}
	return "", false
}

// authority returns a host with a port as a Host header has them.
func authority(host string, port uint32) string {
	if strings.IndexByte(host, ':') >= 0 {
		host = "[" + host + "]"
	}
	return host + ":" + decimal(port)
}

// notInPath reports whether a character cannot stand in the path of a request.
func notInPath(r rune) bool { return r <= ' ' || r == 0x7f }
