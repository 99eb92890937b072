package envoy

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// httpFilters are the HTTP filters of every connection manager, in the order in which
// a request passes them. This literal is the only place that decides the order; each
// line says why it stands where it does.
var httpFilters = []*hcmv3.HttpFilter{
	// Last, because it ends the chain: it chooses the upstream by the route that all
	// filters before it have seen. Envoy refuses a chain that ends otherwise.
	httpFilter("envoy.filters.http.router", &routerv3.Router{}),
}

// originalDst are the listener filters of a redirected proxy: they bring back the
// address that the connection was made to, by which its filter chain is chosen.
var originalDst = []*listenerv3.ListenerFilter{{
	Name:       "envoy.filters.listener.original_dst",
	ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: mustAny(&originaldstv3.OriginalDst{})},
}}

// fromADS tells Envoy to fetch a resource over the stream it has.
var fromADS = &corev3.ConfigSource{
	ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	ResourceApiVersion:    corev3.ApiVersion_V3,
}

// upgrades are the protocols that a connection manager lets a request change to.
var upgrades = []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}}

func httpFilter(name string, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: mustAny(config)}}
}

// mustAny packs a message that is a literal of this package.
func mustAny(m proto.Message) *anypb.Any {
	a, err := pack(m)
	if err != nil {
		panic(err)
	}
	return a
}

// connectionManager returns the network filter for HTTP with the routes of a name. It
// returns nil, and notes a problem of the node, if Envoy would refuse it.
func (t *translator) connectionManager(statPrefix, routes string) []*listenerv3.Filter {
	m := &hcmv3.HttpConnectionManager{
		StatPrefix: statPrefix,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{
			Rds: &hcmv3.Rds{ConfigSource: fromADS, RouteConfigName: routes},
		},
		HttpFilters:    httpFilters,
		AccessLog:      t.accessLog,
		UpgradeConfigs: upgrades,
	}
	return t.networkFilter("envoy.filters.network.http_connection_manager", m)
}

// networkFilter packs the configuration of a network filter, the last of its chain.
func (t *translator) networkFilter(name string, config message) []*listenerv3.Filter {
	if !t.valid(config, t.self(), "", "network filter "+name) {
		return nil
	}
	packed, err := pack(config)
	if err != nil {
		t.problem(t.self(), "", "network filter %s is left out: %v", name, err)
		return nil
	}
	return []*listenerv3.Filter{{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed}}}
}

// passThrough returns the network filter that hands a connection on to where it was
// made to.
func (t *translator) passThrough() []*listenerv3.Filter {
	return t.networkFilter("envoy.filters.network.tcp_proxy", &tcpproxyv3.TcpProxy{
		StatPrefix:       egressStatPrefix,
		ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: allowAllClusterName(t.mesh)},
	})
}
