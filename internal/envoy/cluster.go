package envoy

import (
	"math"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// noLimit is what App Mesh opens a circuit breaker to where nothing is asked.
const noLimit = 2147483647

// The time that a connection may take to be made. They cannot be set.
var (
	egressConnectTimeout   = durationpb.New(time.Second)
	ingressConnectTimeout  = durationpb.New(250 * time.Millisecond)
	allowAllConnectTimeout = durationpb.New(5 * time.Second)
)

// openBreakers limit nothing.
var openBreakers = breakers(noLimit, noLimit)

// breakers returns circuit breakers of the default priority with limits on
// connections and on requests that wait for one.
func breakers(connections, pending uint32) *clusterv3.CircuitBreakers {
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections:     wrapperspb.UInt32(connections),
		MaxPendingRequests: wrapperspb.UInt32(pending),
		MaxRequests:        wrapperspb.UInt32(noLimit),
		MaxRetries:         wrapperspb.UInt32(noLimit),
	}}}
}

// egressCluster returns the cluster of a target as its clients see it, with TLS by a
// transport socket if there is one.
func (t *translator) egressCluster(name string, key mesh.Key, g *target, socket *corev3.TransportSocket) *clusterv3.Cluster {
	l := &g.spec.Listeners[g.listener]
	c := &clusterv3.Cluster{
		Name:                          name,
		ConnectTimeout:                egressConnectTimeout,
		CircuitBreakers:               openBreakers,
		OutlierDetection:              t.outlierDetection(l.OutlierDetection, key, g.listener),
		HealthChecks:                  t.healthChecks(g, socket != nil),
		TransportSocket:               socket,
		TypedExtensionProtocolOptions: protocolOptions(g.spoken()),
		Metadata:                      t.metricTag(tagNode, key.Name),
	}
	if dns := g.spec.ServiceDiscovery.Dns; dns != nil {
		t.discoverByName(c, dns, g)
	} else {
		discoverByEDS(c)
	}
	return c
}

// discoverByName has a cluster's hosts found by DNS.
func (t *translator) discoverByName(c *clusterv3.Cluster, dns *mesh.DnsServiceDiscovery, g *target) {
	c.LoadAssignment = oneEndpoint(c.Name, dns.Hostname, g.port)
	kind := clusterv3.Cluster_LOGICAL_DNS
	if _, literal := literalAddress(dns.Hostname); literal {
		// Nothing is to be resolved, so the cluster is warm at once.
		kind = clusterv3.Cluster_STATIC
	} else {
		c.DnsLookupFamily = lookupFamily(t.ipPreference(g.spec))
		if dns.ResponseType != nil && *dns.ResponseType == "ENDPOINTS" {
			kind = clusterv3.Cluster_STRICT_DNS
		}
	}
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: kind}
}

// edsFromADS tells Envoy to fetch a cluster's endpoints over the stream it has, and to
// wait for them. Envoy's own patience of 15 s would, when a cluster is changed while
// the control plane is away, end with the cluster replaced by an empty one.
var edsFromADS = &corev3.ConfigSource{
	ConfigSourceSpecifier: fromADS.ConfigSourceSpecifier,
	ResourceApiVersion:    fromADS.ResourceApiVersion,
	InitialFetchTimeout:   off,
}

// discoverByEDS has a cluster's hosts sent by the control plane. One that is not sent
// any more is gone at once, even if it still passes its health check.
func discoverByEDS(c *clusterv3.Cluster) {
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
	c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: edsFromADS}
	c.IgnoreHealthOnHostRemoval = true
}

// lookupFamily returns the family of addresses that a name is resolved to. Without a
// preference it is IPv4 where there are both: listeners without one take no other.
func lookupFamily(preference string) clusterv3.Cluster_DnsLookupFamily {
	switch preference {
	case preferIPv6:
		return clusterv3.Cluster_AUTO
	case onlyIPv4:
		return clusterv3.Cluster_V4_ONLY
	case onlyIPv6:
		return clusterv3.Cluster_V6_ONLY
	}
	return clusterv3.Cluster_V4_PREFERRED
}

// originalDstCluster returns a cluster that sends each connection to where the
// application made it to, in the protocol that the application spoke.
func originalDstCluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST},
		LbPolicy:             clusterv3.Cluster_CLUSTER_PROVIDED,
		ConnectTimeout:       allowAllConnectTimeout,
		CircuitBreakers:      openBreakers,
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": downstreamProtocol,
		},
	}
}

// protocolOptions returns how a cluster's hosts are spoken to: HTTP/2 for http2 and gRPC,
// HTTP/1.1 for http, which is Envoy's own default; nil for that and for TCP.
func protocolOptions(protocol string) map[string]*anypb.Any {
	if protocol != protoHTTP2 && protocol != protoGRPC {
		return nil
	}
	return http2Options
}

var http2Options = map[string]*anypb.Any{
	"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": mustAny(&httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
					Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
				},
			},
		},
	}),
}

var downstreamProtocol = mustAny(&httpv3.HttpProtocolOptions{
	UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_UseDownstreamProtocolConfig{
		UseDownstreamProtocolConfig: &httpv3.HttpProtocolOptions_UseDownstreamHttpConfig{
			HttpProtocolOptions:  &corev3.Http1ProtocolOptions{},
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
		},
	},
})

// oneEndpoint returns the endpoints of a cluster that has one, by name or address.
func oneEndpoint(cluster, host string, port uint32) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{
		ClusterName: cluster,
		Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
					Endpoint: &endpointv3.Endpoint{Address: socket(host, port)},
				},
			}},
		}},
	}
}

// socket returns a TCP address.
func socket(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{
		SocketAddress: &corev3.SocketAddress{
			Address:       host,
			PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
		},
	}}
}

// outlierDetection returns how clients eject hosts of a listener: of the virtual node
// key, at a place in its list.
func (t *translator) outlierDetection(o *mesh.OutlierDetection, key mesh.Key, listener int) *clusterv3.OutlierDetection {
	if o == nil {
		return nil
	}
	field := index("listeners", listener) + ".outlierDetection"
	interval, base := duration(o.Interval), duration(o.BaseEjectionDuration)
	if interval == 0 {
		t.problem(key, field+".interval", "an interval of 0 is not possible: no host is ejected")
		return nil
	}
	if base == 0 {
		t.problem(key, field+".baseEjectionDuration", "an ejection of 0 is not possible: no host is ejected")
		return nil
	}
	return &clusterv3.OutlierDetection{
		Consecutive_5Xx:    wrapperspb.UInt32(clampUint32(o.MaxServerErrors)),
		Interval:           durationpb.New(interval),
		BaseEjectionTime:   durationpb.New(base),
		MaxEjectionPercent: wrapperspb.UInt32(clampUint32(o.MaxEjectionPercent)),
		// Envoy would also eject by success rate, which the API has no words for.
		EnforcingSuccessRate: wrapperspb.UInt32(0),
		// App Mesh promises that one host may go whatever the percentage.
		AlwaysEjectOneHost: wrapperspb.Bool(true),
	}
}

// clampUint32 returns n as the nearest value that an Envoy field can hold.
func clampUint32(n int64) uint32 { return uint32(min(max(n, 0), math.MaxUint32)) }
