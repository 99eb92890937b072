package envoy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

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

// Explain says what the resources that Translate made of a view do, along the way of a
// request: the way in, the way out, and the targets. It reads the resources and not the
// view, so that it tells what is sent and not what was meant; the view is asked only
// which objects are behind them.
func Explain(v *mesh.View, resources []Resource) []Explanation {
	x := explainer{view: v, routes: map[string]*routev3.RouteConfiguration{}, endpoints: map[string]*endpointv3.ClusterLoadAssignment{}}
	var listeners []*listenerv3.Listener
	var clusters []*clusterv3.Cluster
	for _, r := range resources {
		switch m := r.Message.(type) {
		case *listenerv3.Listener:
			listeners = append(listeners, m)
		case *clusterv3.Cluster:
			clusters = append(clusters, m)
		case *routev3.RouteConfiguration:
			x.routes[m.Name] = m
		case *endpointv3.ClusterLoadAssignment:
			x.endpoints[m.ClusterName] = m
		}
	}
	// The way in comes first.
	slices.SortStableFunc(listeners, func(a, b *listenerv3.Listener) int { return cmp.Compare(a.TrafficDirection, b.TrafficDirection) })
	for _, l := range listeners {
		x.listener(l)
	}
	if len(clusters) > 0 {
		x.say(0, mesh.Key{}, "targets")
	}
	for _, c := range clusters {
		x.cluster(c)
	}
	return x.lines
}

// explainer is one explanation under way.
type explainer struct {
	view      *mesh.View
	routes    map[string]*routev3.RouteConfiguration
	endpoints map[string]*endpointv3.ClusterLoadAssignment
	lines     []Explanation
}

func (x *explainer) say(depth int, object mesh.Key, format string, args ...any) {
	x.lines = append(x.lines, Explanation{Depth: depth, Text: fmt.Sprintf(format, args...), Object: object})
}

func (x *explainer) listener(l *listenerv3.Listener) {
	at := "inside the proxy"
	if a := l.GetAddress().GetSocketAddress(); a != nil {
		at = authority(a.Address, a.GetPortValue())
	}
	x.say(0, x.view.Key, "listener %s on %s", l.Name, at)
	for _, c := range l.FilterChains {
		x.chain(takenBy(c.FilterChainMatch), c)
	}
	if l.DefaultFilterChain != nil {
		x.chain("any other connection", l.DefaultFilterChain)
	} else if len(l.FilterChains) > 0 && l.FilterChains[0].FilterChainMatch != nil {
		x.say(1, mesh.Key{}, "any other connection: closed")
	}
}

// takenBy says which connections a filter chain takes.
func takenBy(m *listenerv3.FilterChainMatch) string {
	var parts []string
	if p := m.GetDestinationPort(); p != nil {
		parts = append(parts, fmt.Sprintf("to port %d", p.Value))
	}
	if names := m.GetServerNames(); len(names) > 0 {
		parts = append(parts, "with the server name "+strings.Join(names, " or "))
	}
	switch m.GetTransportProtocol() {
	case "tls":
		parts = append(parts, "with TLS")
	case "raw_buffer":
		parts = append(parts, "without TLS")
	}
	if len(parts) == 0 {
		return "every connection"
	}
	return "connections " + strings.Join(parts, ", ")
}

func (x *explainer) chain(match string, c *listenerv3.FilterChain) {
	if c.TransportSocket != nil {
		match += ", ended here with TLS"
	}
	for _, f := range c.Filters {
		hcm, tcp := new(hcmv3.HttpConnectionManager), new(tcpproxyv3.TcpProxy)
		switch {
		case f.GetTypedConfig().UnmarshalTo(hcm) == nil:
			x.say(1, mesh.Key{}, "%s: HTTP, by route configuration %s", match, hcm.GetRds().GetRouteConfigName())
			x.routeConfiguration(x.routes[hcm.GetRds().GetRouteConfigName()])
		case f.GetTypedConfig().UnmarshalTo(tcp) == nil:
			x.say(1, mesh.Key{}, "%s: TCP, to %s", match, tcpTargets(tcp))
		}
	}
}

func tcpTargets(p *tcpproxyv3.TcpProxy) string {
	if w := p.GetWeightedClusters(); w != nil {
		parts := make([]string, len(w.Clusters))
		for i, c := range w.Clusters {
			parts[i] = fmt.Sprintf("%s (weight %d)", c.Name, c.Weight)
		}
		return strings.Join(parts, ", ")
	}
	return p.GetCluster()
}

func (x *explainer) routeConfiguration(c *routev3.RouteConfiguration) {
	if c == nil {
		x.say(2, mesh.Key{}, "which is not there: every request is answered with 404")
		return
	}
	var rest []*routev3.VirtualHost
	for _, h := range c.VirtualHosts {
		if slices.Contains(h.Domains, "*") {
			rest = append(rest, h)
			continue
		}
		x.virtualHost(h, "")
	}
	for _, h := range rest {
		if len(c.VirtualHosts) > 1 {
			x.virtualHost(h, "any other host")
		} else {
			x.virtualHost(h, "any host")
		}
	}
}

// virtualHost explains a virtual host; hosts stands in for its domains, unless it is "".
func (x *explainer) virtualHost(h *routev3.VirtualHost, hosts string) {
	if hosts == "" {
		hosts = strings.Join(h.Domains, ", ")
	}
	service := x.service(h)
	object := mesh.Key{}
	if service != nil {
		object = serviceKey(service.Name)
	}
	x.say(2, object, "%s", hosts)
	if len(h.Routes) == 0 {
		x.say(3, object, "no route: answered with 404")
	}
	for i, r := range h.Routes {
		object := mesh.Key{}
		if r.Name != "" && service != nil && service.Router != nil {
			object = routeKey(service.Router.Name, r.Name)
		}
		number := ""
		if len(h.Routes) > 1 {
			number = fmt.Sprintf("%d. ", i+1)
		}
		x.say(3, object, "%s%s: %s", number, matchText(r.Match), actionText(r))
	}
}

// service returns the virtual service that a virtual host is of, nil if it is of none.
func (x *explainer) service(h *routev3.VirtualHost) *mesh.Service {
	for i := range x.view.Services {
		s := &x.view.Services[i]
		if slices.Contains(h.Domains, s.Name) || strings.HasPrefix(h.Name, s.Name+":") {
			return s
		}
	}
	return nil
}

func (x *explainer) cluster(c *clusterv3.Cluster) {
	object := x.owner(c.Name)
	x.say(1, object, "%s: %s", c.Name, x.discovery(c))
	if c.TransportSocket != nil {
		x.say(2, object, "spoken to with TLS")
	}
	for _, h := range c.HealthChecks {
		x.say(2, object, "health checked every %s, %d failures take a host out", h.Interval.AsDuration(), h.UnhealthyThreshold.GetValue())
	}
	if o := c.OutlierDetection; o != nil {
		x.say(2, object, "a host is ejected for %s after %d errors in a row", o.BaseEjectionTime.AsDuration(), o.Consecutive_5Xx.GetValue())
	}
	for _, t := range c.CircuitBreakers.GetThresholds() {
		for _, limit := range []struct {
			what string
			n    uint32
		}{{"connections", t.MaxConnections.GetValue()}, {"waiting requests", t.MaxPendingRequests.GetValue()}, {"requests", t.MaxRequests.GetValue()}} {
			if limit.n != noLimit && limit.n != 0 {
				x.say(2, object, "at most %d %s at once", limit.n, limit.what)
			}
		}
	}
}

// owner returns the virtual node or gateway that a cluster leads to; names are made from
// their objects' (naming.go).
func (x *explainer) owner(cluster string) mesh.Key {
	if strings.HasPrefix(cluster, "cds_ingress_"+x.view.Mesh.Name+"_") {
		return x.view.Key
	}
	rest, ok := strings.CutPrefix(cluster, "cds_egress_"+x.view.Mesh.Name+"_")
	if !ok {
		return mesh.Key{}
	}
	best := ""
	for name := range x.view.Nodes {
		if strings.HasPrefix(rest, name+"_") && len(name) > len(best) {
			best = name
		}
	}
	if best == "" {
		return mesh.Key{}
	}
	return nodeKey(best)
}

// discovery says how a cluster's hosts are found.
func (x *explainer) discovery(c *clusterv3.Cluster) string {
	switch c.GetType() {
	case clusterv3.Cluster_ORIGINAL_DST:
		return "where the connection was made to"
	case clusterv3.Cluster_EDS:
		return "the registered instances " + hosts(x.endpoints[c.Name])
	case clusterv3.Cluster_STRICT_DNS:
		return "every address of " + hosts(c.LoadAssignment)
	case clusterv3.Cluster_LOGICAL_DNS:
		return "the DNS name " + hosts(c.LoadAssignment)
	case clusterv3.Cluster_STATIC:
	}
	return hosts(c.LoadAssignment)
}

func hosts(a *endpointv3.ClusterLoadAssignment) string {
	var out []string
	for _, l := range a.GetEndpoints() {
		for _, e := range l.LbEndpoints {
			address := e.GetEndpoint().GetAddress()
			if s := address.GetSocketAddress(); s != nil {
				out = append(out, authority(s.Address, s.GetPortValue()))
			} else if i := address.GetEnvoyInternalAddress(); i != nil {
				out = append(out, "listener "+i.GetServerListenerName())
			}
		}
	}
	if len(out) == 0 {
		return "(none)"
	}
	return strings.Join(out, ", ")
}
