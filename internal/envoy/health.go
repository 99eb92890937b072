package envoy

import (
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// healthChecks returns the checks that clients run against a listener at a host: of
// the virtual node key, at a place in its list.
func (t *translator) healthChecks(l *mesh.Listener, host string, key mesh.Key, listener int) []*corev3.HealthCheck {
	h := l.HealthCheck
	if h == nil {
		return nil
	}
	path, ok := t.healthCheckPath(h, l, key, listener)
	if !ok {
		return nil
	}
	return []*corev3.HealthCheck{{
		Timeout:            durationpb.New(time.Duration(h.TimeoutMillis) * time.Millisecond),
		Interval:           durationpb.New(time.Duration(h.IntervalMillis) * time.Millisecond),
		HealthyThreshold:   wrapperspb.UInt32(clampUint32(h.HealthyThreshold)),
		UnhealthyThreshold: wrapperspb.UInt32(clampUint32(h.UnhealthyThreshold)),
		HealthChecker: &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: &corev3.HealthCheck_HttpHealthCheck{
			// Without a host Envoy would send the cluster's name.
			Host: authority(strings.TrimSuffix(host, "."), uint32(l.PortMapping.Port)),
			Path: path,
		}},
	}}
}

// healthCheckPath returns the path of a health check, and whether the check can be
// served.
func (t *translator) healthCheckPath(h *mesh.HealthCheckPolicy, l *mesh.Listener, key mesh.Key, listener int) (path string, ok bool) {
	field := index("listeners", listener) + ".healthCheck"
	path = "/"
	if h.Path != nil {
		path = *h.Path
	}
	switch {
	case h.Protocol != protoHTTP:
		t.problem(key, field+".protocol", "a health check by %s %s: hosts are taken for healthy", h.Protocol, notServed)
	case h.Port != nil && *h.Port != l.PortMapping.Port:
		t.problem(key, field+".port", "the health check is of port %d, allowed is the listener's, %d: hosts are taken for healthy", *h.Port, l.PortMapping.Port)
	case !strings.HasPrefix(path, "/") || strings.ContainsFunc(path, notInPath):
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
