package envoy

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// targetKey says which listener of a virtual node is meant; port 0 stands for the
// only one, or the first that speaks http.
type targetKey struct {
	node string
	port int64
}

// target is a listener of a virtual node as its clients reach it.
type target struct {
	node     string
	spec     *mesh.VirtualNodeSpec
	found    *mesh.Discovered // its instances, where Cloud Map discovers it; else nil
	listener int              // its place in the spec
	port     uint32           // its port
	cluster  string           // the name of its cluster; see clusterOf
	// reason says why the target cannot be served; "" if it can.
	reason string
}

// key returns the object that a target is: a virtual node, or the policy that copies to a host.
func (g *target) key() mesh.Key {
	if policy, ok := strings.CutPrefix(g.node, mesh.HostOf); ok {
		return policyKey(policy)
	}
	return nodeKey(g.node)
}

// target looks a target of a service up. It emits nothing.
func (t *translator) target(s *mesh.Service, node string, port int64) *target {
	key := targetKey{node, port}
	if known, ok := t.targets[key]; ok {
		return known
	}
	g := &target{node: node}
	t.targets[key] = g
	n := s.Node(node)
	if n == nil {
		g.reason = fmt.Sprintf("virtual node %q does not exist", node)
		return g
	}
	g.spec, g.found = n.Spec, n.Discovered
	g.listener = findListener(g.spec.Listeners, port)
	if g.listener < 0 {
		g.reason = fmt.Sprintf("virtual node %q has no listener", node)
		if port != 0 {
			g.reason += fmt.Sprintf(" on port %d", port)
		}
		return g
	}
	g.port = uint32(g.spec.Listeners[g.listener].PortMapping.Port)
	if other := (targetKey{node, int64(g.port)}); port == 0 {
		if known, ok := t.targets[other]; ok {
			t.targets[key] = known
			return known
		}
		t.targets[other] = g
	}
	g.cluster = egressClusterName(t.mesh, node, g.spec.Listeners[g.listener].PortMapping.Protocol, g.port)
	g.reason = unreachable(node, g.spec, &g.spec.Listeners[g.listener])
	return g
}

// findListener returns the place of the listener on a port, -1 if there is none; port
// 0 stands for any. One that speaks http comes first.
func findListener(listeners []mesh.Listener, port int64) int {
	found := -1
	for i := range listeners {
		m := listeners[i].PortMapping
		if port != 0 && m.Port != port {
			continue
		}
		if m.Protocol == protoHTTP {
			return i
		}
		if found < 0 {
			found = i
		}
	}
	return found
}

// spoken returns the protocol of a target's listener.
func (g *target) spoken() string { return g.spec.Listeners[g.listener].PortMapping.Protocol }

// unreachable returns why clients cannot be sent to a virtual node's listener, or "".
func unreachable(node string, spec *mesh.VirtualNodeSpec, l *mesh.Listener) string {
	d := spec.ServiceDiscovery
	switch {
	case !knownProtocol(l.PortMapping.Protocol):
		return fmt.Sprintf("the listener of virtual node %q on port %d speaks %q, allowed are http, http2, grpc and tcp", node, l.PortMapping.Port, l.PortMapping.Protocol)
	case d == nil || d.Dns == nil && d.AwsCloudMap == nil:
		return fmt.Sprintf("virtual node %q has no service discovery", node)
	case d.Dns != nil && !validHost(d.Dns.Hostname):
		return fmt.Sprintf("virtual node %q has the host name %q: allowed are host names and IP addresses", node, d.Dns.Hostname)
	}
	return ""
}

func knownProtocol(protocol string) bool {
	return protocol == protoHTTP || protocol == protoHTTP2 || protocol == protoGRPC || protocol == protoTCP
}

// asksTLS reports whether a listener is to be served with TLS.
func asksTLS(l *mesh.Listener) bool { return l.Tls != nil && l.Tls.Mode != "DISABLED" }

// carries returns why a route of a protocol cannot lead to a target, or "". The API has
// both speak the same; but a virtual node's protocol may be changed after the route was
// made, and then whatever can work must go on working.
func (g *target) carries(protocol string) string {
	spoken := g.spoken()
	if protocol != protoGRPC || spoken == protoHTTP2 || spoken == protoGRPC {
		return ""
	}
	return fmt.Sprintf("the listener of virtual node %q on port %d speaks %s, over which gRPC cannot be called", g.node, g.port, spoken)
}

// validHost reports whether s is a host name or an IP address that a cluster can lead
// to. Names may hold underscores, and may end with a dot.
func validHost(s string) bool {
	if a, literal := literalAddress(s); literal {
		return a.Zone() == ""
	}
	name := strings.TrimSuffix(s, ".")
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, notInHost) {
			return false
		}
	}
	return true
}

// literalAddress returns the IP address that a host is, if it is one.
func literalAddress(host string) (netip.Addr, bool) {
	if host == "" || strings.IndexByte(host, ':') < 0 && (host[len(host)-1] < '0' || host[len(host)-1] > '9') {
		return netip.Addr{}, false // the usual case, without making an error of it
	}
	a, err := netip.ParseAddr(host)
	return a, err == nil
}

// notInHost reports whether a character cannot stand in a label of a host name.
func notInHost(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}
