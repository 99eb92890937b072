package envoy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	networkdirectv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Explanation is one line that says, for people, what a part of a proxy's resources does.
type Explanation struct {
	// Depth is how deep the line stands below those before it, from 0.
	Depth int
	Text  string
	// Object is what causes it; its kind is 0 where nothing does.
	Object mesh.Key
}

// How much an explanation tells of what can be very much. What is more is counted; the
// resources have all of it.
const (
	mostLines   = 4000 // of the listeners, and
	mostMore    = 2000 // of all else
	mostChains  = 100  // of a listener
	mostHosts   = 100  // virtual hosts of a route configuration
	mostRoutes  = 50   // of a virtual host
	mostTargets = 500
	mostSecrets = 100
	mostNamed   = 8   // in a list within a line
	mostText    = 160 // characters of one name, path or expression
)

// Explain says what the resources that Translate made of a view do, along the way of a
// request: the way in, the way out, the targets, and the secrets. It reads the resources
// and not the view, so that it tells what is sent and not what was meant; the view is asked
// only which objects are behind them. What it cannot read it names. However much the
// resources are, it is some thousands of lines at most.
func Explain(v *mesh.View, resources []Resource) []Explanation {
	x := newExplainer(v, resources)
	var listeners, clusters, secrets []Resource
	for _, r := range resources {
		switch r.Type {
		case TypeListener:
			listeners = append(listeners, r)
		case TypeCluster:
			clusters = append(clusters, r)
		case TypeSecret:
			secrets = append(secrets, r)
		case TypeEndpoint, TypeRoute, TypeVirtualHost, NumTypes:
		}
	}
	// The way in comes first, and what is inside the proxy last.
	order := func(r Resource) int {
		l, ok := r.Message.(*listenerv3.Listener)
		if !ok || l.GetInternalListener() != nil {
			return 1 << 10
		}
		return int(l.TrafficDirection)
	}
	slices.SortStableFunc(listeners, func(a, b Resource) int { return cmp.Compare(order(a), order(b)) })
	for _, r := range listeners {
		x.listener(r)
	}
	x.most = len(x.lines) + mostMore
	explainAll(x, "targets", clusters, mostTargets, x.cluster)
	explainAll(x, "secrets", secrets, mostSecrets, x.secret)
	if x.left > 0 {
		x.lines = append(x.lines, Explanation{Text: fmt.Sprintf("and %d more lines; the resources themselves have all of it", x.left)})
	}
	return x.lines
}

// explainer is one explanation under way.
type explainer struct {
	view      *mesh.View
	routes    map[string]*routev3.RouteConfiguration
	hosts     map[string][]*routev3.VirtualHost // of their own, by the routes that they are for
	endpoints map[string]Resource
	secrets   map[string]*tlsv3.Secret
	// inside are the listeners within the proxy, by the clusters that lead to them.
	inside map[string]string
	told   map[string]bool // route configurations
	lines  []Explanation
	most   int // how many lines there may be
	left   int // how many lines were too many
}

func newExplainer(v *mesh.View, resources []Resource) *explainer {
	x := &explainer{
		view: v, routes: map[string]*routev3.RouteConfiguration{}, hosts: map[string][]*routev3.VirtualHost{}, endpoints: map[string]Resource{},
		secrets: map[string]*tlsv3.Secret{}, inside: map[string]string{},
		told: map[string]bool{}, most: mostLines,
	}
	for _, r := range resources {
		switch m := r.Message.(type) {
		case *routev3.RouteConfiguration:
			x.routes[r.Name] = m
		case *routev3.VirtualHost:
			x.hosts[RoutesOf(r.Name)] = append(x.hosts[RoutesOf(r.Name)], m)
		case *tlsv3.Secret:
			x.secrets[r.Name] = m
		case *clusterv3.Cluster:
			for _, e := range m.GetLoadAssignment().GetEndpoints() {
				for _, h := range e.LbEndpoints {
					if i := h.GetEndpoint().GetAddress().GetEnvoyInternalAddress(); i != nil {
						x.inside[r.Name] = i.GetServerListenerName()
					}
				}
			}
		}
		if r.Type == TypeEndpoint {
			x.endpoints[r.Name] = r
		}
	}
	return x
}

func (x *explainer) say(depth int, object mesh.Key, format string, args ...any) {
	if len(x.lines) >= x.most {
		x.left++
		return
	}
	x.lines = append(x.lines, Explanation{Depth: depth, Text: fmt.Sprintf(format, args...), Object: object})
}

// explainAll explains a section's resources, as many as are told of.
func explainAll(x *explainer, title string, all []Resource, most int, f func(Resource)) {
	if len(all) == 0 {
		return
	}
	x.say(0, mesh.Key{}, "%s", title)
	for _, r := range all[:min(most, len(all))] {
		f(r)
	}
	x.more(1, len(all)-most, title)
}

// more says how many were left out, if any.
func (x *explainer) more(depth, n int, what string) {
	if n > 0 {
		x.say(depth, mesh.Key{}, "and %d more %s", n, what)
	}
}

func (x *explainer) listener(r Resource) {
	l, ok := r.Message.(*listenerv3.Listener)
	if !ok {
		x.say(0, r.Object, "listener %s: it cannot be read", short(r.Name))
		return
	}
	at := "inside the proxy"
	if a := l.GetAddress().GetSocketAddress(); a != nil {
		at = "on " + authority(a.Address, a.GetPortValue())
	}
	x.say(0, r.Object, "listener %s %s", short(l.Name), at)
	if log := logText(l.AccessLog); log != "" {
		x.say(1, mesh.Key{}, "each connection: %s", log)
	}
	for _, c := range l.FilterChains[:min(mostChains, len(l.FilterChains))] {
		x.chain(l, takenBy(c.FilterChainMatch), c)
	}
	x.more(1, len(l.FilterChains)-mostChains, "kinds of connections")
	if names := nameTexts(l); names != nil {
		x.say(1, mesh.Key{}, "DNS: answers for %d names%s", len(names), strings.TrimSuffix(": "+listed(names, ", "), ": "))
	}
	if l.DefaultFilterChain != nil {
		x.chain(l, "any other connection", l.DefaultFilterChain)
	} else if len(l.FilterChains) > 0 && !slices.ContainsFunc(l.FilterChains, takesAll) {
		x.say(1, mesh.Key{}, "any other connection: closed")
	}
}

// takesAll reports whether no connection is left for other filter chains.
func takesAll(c *listenerv3.FilterChain) bool { return takenBy(c.FilterChainMatch) == everyConnection }

const everyConnection = "every connection"

// takenBy says which connections a filter chain takes.
func takenBy(m *listenerv3.FilterChainMatch) string {
	var parts []string
	if p := m.GetDestinationPort(); p != nil {
		parts = append(parts, fmt.Sprintf("to port %d", p.Value))
	}
	for i, r := range m.GetPrefixRanges() {
		parts = append(parts, []string{"", "or "}[min(i, 1)]+"to "+r.AddressPrefix+"/"+decimal(r.GetPrefixLen().GetValue()))
	}
	if names := m.GetServerNames(); len(names) > 0 {
		parts = append(parts, "with the server name "+listed(names, " or "))
	}
	switch m.GetTransportProtocol() {
	case overTLS:
		parts = append(parts, "with TLS")
	case plainText:
		parts = append(parts, "without TLS")
	}
	if len(parts) == 0 {
		return everyConnection
	}
	return "connections " + strings.Join(parts, ", ")
}

func (x *explainer) chain(l *listenerv3.Listener, match string, c *listenerv3.FilterChain) {
	if c.TransportSocket != nil {
		match += ", TLS ends here"
	}
	tls := func() {
		if c.TransportSocket != nil {
			x.say(2, x.view.Key, "%s", x.downstreamText(c.TransportSocket))
		}
	}
	for _, f := range c.Filters {
		hcm, tcp := new(hcmv3.HttpConnectionManager), new(tcpproxyv3.TcpProxy)
		switch {
		case f.GetTypedConfig().UnmarshalTo(hcm) == nil:
			routes := hcm.GetRds().GetRouteConfigName()
			x.say(1, mesh.Key{}, "%s: HTTP, by route configuration %s", match, short(routes))
			tls()
			if log := logText(hcm.AccessLog); log != "" {
				x.say(2, x.view.Key, "each request: %s", log)
			}
			if hcm.Tracing != nil {
				x.say(2, x.view.Key, "each request: traced, as the bootstrap's tracer samples")
			}
			x.routeConfiguration(routes)
		case x.connectionAccess(2, f.GetTypedConfig()):
		case f.GetTypedConfig().UnmarshalTo(tcp) == nil:
			x.say(1, x.tcpObject(l, c), "%s: TCP, to %s", match, tcpText(tcp))
			tls()
			if log := logText(tcp.AccessLog); log != "" {
				x.say(2, x.view.Key, "each connection: %s", log)
			}
		case f.GetTypedConfig().MessageIs(new(networkdirectv3.Config)):
			x.say(1, x.tcpObject(l, c), "%s: closed at once", match)
		case f.Name != connectionLimit: // which counts connections and limits none
			x.say(1, mesh.Key{}, "%s: network filter %s, which is not explained", match, short(f.Name))
		}
	}
}

// tcpText says where connections are handed on to.
func tcpText(p *tcpproxyv3.TcpProxy) string {
	text := short(p.GetCluster())
	if w := p.GetWeightedClusters(); w != nil {
		var parts []weighted
		for _, c := range w.Clusters {
			parts = append(parts, weighted{c.Name, c.Weight})
		}
		text = weightsText(parts)
	}
	if p.IdleTimeout != nil {
		text += "; idle " + limitText(p.IdleTimeout)
	}
	return text
}

// tcpObject returns what the connections of a filter chain are of: the node on the way in,
// else the route or the virtual service, where there is one only that has the port.
func (x *explainer) tcpObject(l *listenerv3.Listener, c *listenerv3.FilterChain) mesh.Key {
	port := int64(l.GetAddress().GetSocketAddress().GetPortValue())
	if p := c.GetFilterChainMatch().GetDestinationPort(); p != nil {
		port = int64(p.Value)
	}
	if _, p, ok := localService(l.Name); ok {
		port = int64(p)
	}
	if strings.HasPrefix(l.Name, "lds_ingress_") {
		return x.view.Key
	}
	if len(c.GetFilterChainMatch().GetServerNames()) > 0 {
		return mesh.Key{}
	}
	var found []mesh.Key
	for i := range x.view.Services {
		if k := x.tcpService(&x.view.Services[i], port); k.Kind != 0 {
			found = append(found, k)
		}
	}
	if len(found) != 1 {
		return mesh.Key{}
	}
	return found[0]
}

// tcpService returns the route that takes the connections to a port of a service, or the
// service where there is none or several; no key if that is no port for TCP.
func (x *explainer) tcpService(s *mesh.Service, port int64) mesh.Key {
	if n := s.Node(s.NodeName); n != nil {
		for i := range n.Spec.Listeners {
			if m := n.Spec.Listeners[i].PortMapping; m.Port == port && m.Protocol == protoTCP {
				return serviceKey(s.Name)
			}
		}
	}
	if s.Router == nil || s.Router.Missing {
		return mesh.Key{}
	}
	for i := range s.Router.Spec.Listeners {
		m := s.Router.Spec.Listeners[i].PortMapping
		if m.Port != port || m.Protocol != protoTCP {
			continue
		}
		var routes []mesh.Key
		for _, r := range s.Router.Routes {
			if kindOfRoute(r.Spec).takes(m) {
				routes = append(routes, routeKey(s.Router.Name, r.Name))
			}
		}
		if len(routes) == 1 {
			return routes[0]
		}
		return serviceKey(s.Name)
	}
	return mesh.Key{}
}

// listed puts names into a line, as many as can be read.
func listed(names []string, between string) string {
	out := make([]string, 0, mostNamed)
	for _, n := range names[:min(mostNamed, len(names))] {
		out = append(out, short(n))
	}
	text := strings.Join(out, between)
	if n := len(names) - mostNamed; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

// short shortens a text that is others' to what can be read.
func short(s string) string {
	if len(s) <= mostText {
		return s
	}
	r := []rune(s)
	if len(r) <= mostText {
		return s
	}
	return string(r[:mostText]) + "…"
}
