package envoy

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// servicePort is one port of a virtual service with the routes of its requests.
type servicePort struct {
	service string
	// protocol is the port's: that of the router's listener, or of the node's where a
	// node provides the service; "" where the port is not known.
	protocol string
	// port is 0 where it is not known on which ports the service would be.
	port uint32
	// first is set on the port that the service's bare name stands for where the port
	// that was called is not known: the first that takes requests.
	first bool
	// routes are those of requests. A port for TCP that cannot be served has some as
	// well, which refuse them.
	routes []*routev3.Route
	// limits stand at the port's virtual host.
	limits limited
	// tcp takes the connections of a port for TCP; nil where they are closed.
	tcp *tcpproxyv3.TcpProxy
	// memo keeps the port's virtual host; nil without a memo.
	memo *memoHost
	// encrypted is set on a port for TCP whose connections must be encrypted.
	encrypted bool
}

// isTCP reports whether a port is one for TCP.
func (p *servicePort) isTCP() bool { return p.protocol == protoTCP }

// servicePorts returns the ports of all backends, in name order and then in the
// order in which their provider lists them.
func (t *translator) servicePorts() []servicePort {
	out := make([]servicePort, 0, len(t.view.Services))
	for i := range t.view.Services {
		out = append(out, t.remembered(&t.view.Services[i])...)
	}
	return out
}

// portsOf returns the ports of a service in the order in which its provider lists
// them; none for a service that is left out. A port that cannot be served is among
// them and answers 503: left out, its requests would go past the mesh in a mesh that
// allows all egress, and so perhaps in plain text.
func (t *translator) portsOf(s *mesh.Service) []servicePort {
	if !t.validService(s.Name) {
		return nil
	}
	var out []servicePort
	switch {
	case s.Missing:
		t.problem(t.self(), t.backendField(s.Name)+".virtualServiceName", "virtual service %q does not exist: it is not served", s.Name)
	case s.NodeName != "":
		out = t.nodePorts(s)
	case s.Router != nil:
		out = t.routerPorts(s)
	default:
		t.problem(serviceKey(s.Name), "provider", "the virtual service has no provider: it is not served")
	}
	if len(out) == 0 {
		out = append(out, servicePort{service: s.Name, routes: refused(s.Name)})
	}
	out[max(slices.IndexFunc(out, func(p servicePort) bool { return !p.isTCP() }), 0)].first = true
	limits := t.limited(t.limitsOut(s), "egress."+s.Name)
	for i := range out {
		out[i].limits = limits
	}
	return out
}

// validService reports whether a virtual service's name can be a host that Envoy
// tells from others, and notes a problem if not.
func (t *translator) validService(name string) bool {
	switch {
	case name == "" || strings.ContainsFunc(name, unicode.IsControl):
		t.problem(serviceKey(name), "", "the name cannot be a host name: the service is left out")
	case name[0] == '*' || name[len(name)-1] == '*':
		t.problem(serviceKey(name), "", "Envoy would take the name for a wildcard of host names: the service is left out")
	default:
		return true
	}
	return false
}

// nodePorts returns the ports of a service that a virtual node provides: its listeners'.
func (t *translator) nodePorts(s *mesh.Service) []servicePort {
	const field = "provider.virtualNode.virtualNodeName"
	n := s.Node(s.NodeName)
	if n == nil || len(n.Spec.Listeners) == 0 {
		t.problem(serviceKey(s.Name), field, "%s: requests are answered with 503", t.target(s, s.NodeName, 0).reason)
		return nil
	}
	spec := n.Spec
	var out []servicePort
	for i := range spec.Listeners {
		port := uint32(spec.Listeners[i].PortMapping.Port)
		if hasPort(out, port) {
			continue // reported where the node itself is translated
		}
		out = append(out, t.nodePort(s, port, spec.Listeners[i].PortMapping.Protocol))
	}
	return out
}

// nodePort returns one port of a service that a virtual node provides.
func (t *translator) nodePort(s *mesh.Service, port uint32, protocol string) servicePort {
	p := servicePort{service: s.Name, port: port, protocol: protocol}
	g := t.target(s, s.NodeName, int64(port))
	cluster, reason := t.reach(s, g)
	p.encrypted = g.reason == "" && t.useOf(s, g).tls
	switch {
	case reason != "":
		t.problem(serviceKey(s.Name), "provider.virtualNode.virtualNodeName", "%s: %s", reason, unservedPort(&p))
		p.routes = refused(s.Name)
	case p.isTCP():
		if !t.refusesConnections(s, "") {
			p.tcp = t.spreadConnections([]share{{cluster, 1}}, nil)
		}
		p.routes = onlyTCP(&p)
	default:
		p.routes = t.policiesOut([]*routev3.Route{{
			Match: anyPath,
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster},
				Timeout:          defaultPerRequest,
				IdleTimeout:      defaultIdle,
				RetryPolicy:      t.defaultRetries(),
			}},
		}}, s, protocol, "")
	}
	return p
}

// unservedPort says what becomes of the calls of a port that cannot be served.
func unservedPort(p *servicePort) string {
	if p.isTCP() {
		return fmt.Sprintf("connections to port %d are closed", p.port)
	}
	return fmt.Sprintf("requests to port %d are answered with 503", p.port)
}

// routerPorts returns the ports of a service that a virtual router provides: its
// listeners'.
func (t *translator) routerPorts(s *mesh.Service) []servicePort {
	r := s.Router
	if r.Missing {
		t.problem(serviceKey(s.Name), "provider.virtualRouter.virtualRouterName", "virtual router %q does not exist: requests are answered with 503", r.Name)
		return nil
	}
	if len(r.Spec.Listeners) == 0 {
		t.problem(routerKey(r.Name), "listeners", "the virtual router has no listener, so its services have no port: requests are answered with 503")
		return nil
	}
	var out []servicePort
	sorted := t.sortedRoutes(r)
	for i := range r.Spec.Listeners {
		m := r.Spec.Listeners[i].PortMapping
		p := servicePort{service: s.Name, port: uint32(m.Port), protocol: m.Protocol}
		field := index("listeners", i) + ".portMapping."
		switch {
		case hasPort(out, p.port):
			t.problem(routerKey(r.Name), field+"port", "port %d is listed twice: the first listener holds", m.Port)
			continue
		case !knownProtocol(m.Protocol):
			t.problem(routerKey(r.Name), field+"protocol", "%q is not a protocol, allowed are http, http2, grpc and tcp: %s", m.Protocol, unservedPort(&p))
			p.routes = refused(s.Name)
		case p.isTCP():
			p.tcp, p.encrypted = t.tcpRoute(s, m, sorted)
			p.routes = onlyTCP(&p)
		default:
			p.routes = t.httpRoutes(s, m, sorted)
		}
		out = append(out, p)
	}
	return out
}

func hasPort(ports []servicePort, port uint32) bool {
	return slices.ContainsFunc(ports, func(p servicePort) bool { return p.port == port })
}

// anyPath matches every request.
var anyPath = &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}

// refused returns the routes of a service that cannot be served.
func refused(service string) []*routev3.Route {
	return []*routev3.Route{{
		Match:  anyPath,
		Action: answer(503, fmt.Sprintf("Fairlead cannot serve virtual service %q: its problems say why.\n", service)),
	}}
}

// onlyTCP returns the routes for requests to a service's port for TCP, which find their
// way to an HTTP port or proxy.
func onlyTCP(p *servicePort) []*routev3.Route {
	return []*routev3.Route{{
		Match:  anyPath,
		Action: answer(503, fmt.Sprintf("Fairlead: virtual service %q takes TCP connections on port %d, no requests.\n", p.service, p.port)),
	}}
}

// passThroughRoutes send every request to where its connection was made to, without
// a limit of time: the mesh has no say in it.
func passThroughRoutes(cluster string) []*routev3.Route {
	return []*routev3.Route{{
		Match: anyPath,
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster},
			Timeout:          off,
			IdleTimeout:      off,
		}},
	}}
}

// ingressRoute sends every request to the application.
func ingressRoute(cluster string, perRequest, idle *durationpb.Duration) []*routev3.Route {
	return []*routev3.Route{{
		Match: anyPath,
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster},
			Timeout:          perRequest,
			IdleTimeout:      idle,
		}},
	}}
}
