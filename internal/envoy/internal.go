package envoy

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	internalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// secondPass returns the route of requests that cannot be matched with the routes of
// their service as they come in: it changes them and hands them to a second connection
// manager, on an internal listener, which has the service's routes. An internal listener
// is reached within the process: no socket is opened that others could call.
func (g *gateway) secondPass(r *gatewayRoute, path gatewayPath, p *servicePort) *routev3.Route {
	if !g.profile.Internal {
		g.problem(r.key, r.member+".match", "together with the routes of virtual service %q the route needs Envoy's internal listener, which the proxy's bootstrap or its Envoy does not have (envoy.bootstrap.internal_listener): what needs it is answered with 503", r.service)
		return r.refuse(path, "Fairlead: this gateway route needs Envoy's internal listener, which the proxy does not have.\n")
	}
	cluster := g.internalListener(p)
	if cluster == "" {
		return r.refuse(path, "Fairlead cannot serve this gateway route: its problems say why.\n")
	}
	a := &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster},
		// The second pass has the limits of time, and the service's retries.
		Timeout: off, IdleTimeout: off,
		RetryPolicy: untilListening,
	}
	r.change(a, path)
	return &routev3.Route{Name: r.name, Match: r.match(path), Action: &routev3.Route_Route{Route: a}}
}

// untilListening tries again to reach an internal listener. One that is new listens once
// it has its routes, which the proxy asks for when it learns of the listener: by then it
// may have the routes that lead there. A request that has reached it is not sent again.
var untilListening = &routev3.RetryPolicy{
	RetryOn:    "connect-failure",
	NumRetries: wrapperspb.UInt32(20),
	RetryBackOff: &routev3.RetryPolicy_RetryBackOff{
		BaseInterval: durationpb.New(10 * time.Millisecond),
		MaxInterval:  durationpb.New(250 * time.Millisecond),
	},
}

// internalListener emits the second connection manager for a port of a service, the
// first time, and returns the cluster that leads to it; "" if it cannot be.
func (g *gateway) internalListener(p *servicePort) string {
	name := internalClusterName(g.mesh, p.service, p.port)
	if made, known := g.second[name]; known {
		if made == nil {
			return ""
		}
		return name
	}
	g.second[name] = nil
	routes, key := internalRoutesName(p.service, p.port), serviceKey(p.service)
	filters := g.networkFilter(managerName, &hcmv3.HttpConnectionManager{
		StatPrefix: egressStatPrefix,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{
			Rds: &hcmv3.Rds{ConfigSource: fromADS, RouteConfigName: routes},
		},
		HttpFilters:    g.httpFilters(false, true),
		UpgradeConfigs: upgrades,
		// The first pass has done these; it logs the request as well.
		GenerateRequestId:          wrapperspb.Bool(false),
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
		// Whoever calls is the first pass.
		InternalAddressConfig: &hcmv3.HttpConnectionManager_InternalAddressConfig{},
	})
	listener := &listenerv3.Listener{
		Name:              internalListenerName(p.service, p.port),
		ListenerSpecifier: &listenerv3.Listener_InternalListener{InternalListener: &listenerv3.Listener_InternalListenerConfig{}},
		TrafficDirection:  corev3.TrafficDirection_OUTBOUND,
		FilterChains:      []*listenerv3.FilterChain{{Filters: filters}},
	}
	cluster := internalCluster(name, listener.Name)
	config := &routev3.RouteConfiguration{Name: routes, VirtualHosts: []*routev3.VirtualHost{{
		Name: fallbackHost, Domains: []string{"*"}, Routes: p.routes, Metadata: g.metricTag(tagService, p.service),
		TypedPerFilterConfig: p.limits.filters, RequestHeadersToRemove: p.limits.remove,
	}}}
	if filters == nil || !g.valid(listener, key, "", "the internal listener") ||
		!g.valid(cluster, key, "", "the internal listener") || !g.acceptable(config.VirtualHosts[0], p.service) {
		return ""
	}
	g.emit(TypeCluster, name, cluster)
	g.emit(TypeListener, listener.Name, listener)
	g.emit(TypeRoute, routes, config)
	g.second[name] = config.VirtualHosts[0].Routes
	return name
}

// internalCluster returns the cluster that leads to an internal listener. What came in
// as HTTP/1.1 goes on as HTTP/1.1, so that an upgrade stays one.
func internalCluster(name, listener string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       ingressConnectTimeout,
		CircuitBreakers:      openBreakers,
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{
				LbEndpoints: []*endpointv3.LbEndpoint{{
					HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
						Address: &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{
							EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
								AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: listener},
							},
						}},
					}},
				}},
			}},
		},
		TransportSocket: internalUpstream,
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": downstreamProtocol,
		},
	}
}

// internalUpstream carries bytes to an internal listener as they are.
var internalUpstream = &corev3.TransportSocket{
	Name: internalSocket,
	ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: mustAny(&internalv3.InternalUpstreamTransport{
		TransportSocket: &corev3.TransportSocket{
			Name:       rawSocket,
			ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: mustAny(&rawv3.RawBuffer{})},
		},
	})},
}
