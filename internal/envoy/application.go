package envoy

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// ingressCluster returns the cluster of one listener's application.
func (t *translator) ingressCluster(l *mesh.Listener, port uint32, field string) *clusterv3.Cluster {
	name := ingressClusterName(t.mesh, t.view.Key.Name, l.PortMapping.Protocol, port)
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       ingressConnectTimeout,
		LoadAssignment:       oneEndpoint(name, t.profile.application(t.preference).String(), port),
		CircuitBreakers:      t.connectionPool(l.ConnectionPool, field+".connectionPool"),
	}
}

// connectionPool returns the circuit breakers that a listener's connection pool asks
// for.
func (t *translator) connectionPool(p *mesh.VirtualNodeConnectionPool, field string) *clusterv3.CircuitBreakers {
	switch {
	case p == nil:
		return openBreakers
	case p.Http == nil:
		t.problem(t.self(), field, "the connection pool is of another protocol than its listener, which is http: it has no effect")
		return openBreakers
	case p.Http.MaxPendingRequests == nil:
		return breakers(clampUint32(p.Http.MaxConnections), noLimit)
	}
	return breakers(clampUint32(p.Http.MaxConnections), clampUint32(*p.Http.MaxPendingRequests))
}
