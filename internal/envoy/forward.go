package envoy

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	forwardclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"
	forwardv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/dynamic_forward_proxy/v3"
	forwardfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_forward_proxy/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// What an explicit proxy lets out of the mesh goes to the host that a request names: the
// filter finds its address, the cluster connects to it.
const (
	forwardFilter  = "envoy.filters.http.dynamic_forward_proxy"
	forwardCluster = "envoy.clusters.dynamic_forward_proxy"
)

// mostForwarded is how many hosts outside of the mesh are known at a time; one that nobody
// has called for 5 minutes is forgotten. Envoy's own 1,024 are few for a crawler.
const mostForwarded = 16384

// forwardNames is the cache of addresses that filters and clusters share. Envoy refuses
// another one of the same name, so the family is in it.
func (t *translator) forwardNames() *forwardv3.DnsCacheConfig {
	family := lookupFamily(t.preference)
	return &forwardv3.DnsCacheConfig{Name: "fairlead_" + family.String(), DnsLookupFamily: family, MaxHosts: wrapperspb.UInt32(mostForwarded)}
}

// forwardFilters are httpFilters of a proxy that lets requests out of the mesh.
func (t *translator) forwardFilters() []*hcmv3.HttpFilter {
	// Before the router, which needs the address; it does nothing for requests to services.
	first := httpFilter(forwardFilter, &forwardfilterv3.FilterConfig{
		ImplementationSpecifier: &forwardfilterv3.FilterConfig_DnsCacheConfig{DnsCacheConfig: t.forwardNames()},
	})
	return append([]*hcmv3.HttpFilter{first}, t.httpFilters(false, true)...)
}

// emitForward emits a cluster that leads to the host that a request names, if it is wanted,
// and returns its name; "" if it is not, or Envoy would refuse it.
func (t *translator) emitForward(name string, wanted bool) string {
	if !wanted {
		return ""
	}
	packed, err := pack(&forwardclusterv3.ClusterConfig{
		ClusterImplementationSpecifier: &forwardclusterv3.ClusterConfig_DnsCacheConfig{DnsCacheConfig: t.forwardNames()},
		AllowInsecureClusterOptions:    true, // which are about TLS, of which it begins none
	})
	if err != nil {
		t.problem(t.self(), "", "the way out of the mesh is left out: %v", err)
		return ""
	}
	c := &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{Name: forwardCluster, TypedConfig: packed}},
		LbPolicy:             clusterv3.Cluster_CLUSTER_PROVIDED,
		ConnectTimeout:       allowAllConnectTimeout,
		CircuitBreakers:      openBreakers,
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": downstreamProtocol,
		},
	}
	if !t.valid(c, t.self(), "", "the way out of the mesh") {
		return ""
	}
	t.emit(TypeCluster, name, c)
	return name
}
