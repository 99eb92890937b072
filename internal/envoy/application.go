package envoy

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// ingressCluster returns the cluster of one listener's application.
func (t *translator) ingressCluster(l *mesh.Listener, port uint32, field string) *clusterv3.Cluster {
	name := ingressClusterName(t.mesh, t.view.Key.Name, l.PortMapping.Protocol, port)
	return &clusterv3.Cluster{
		Name:                          name,
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:                ingressConnectTimeout,
		LoadAssignment:                oneEndpoint(name, t.profile.application(t.preference).String(), port),
		CircuitBreakers:               t.connectionPool(l, field+".connectionPool"),
		TypedExtensionProtocolOptions: protocolOptions(l.PortMapping.Protocol),
	}
}

// connectionPool returns the circuit breakers that a listener's connection pool asks
// for. A pool of another protocol than the listener's has no effect.
func (t *translator) connectionPool(l *mesh.Listener, field string) *clusterv3.CircuitBreakers {
	p, protocol := l.ConnectionPool, l.PortMapping.Protocol
	switch {
	case p == nil:
	case protocol == protoHTTP && p.Http != nil:
		pending := uint32(noLimit)
		if p.Http.MaxPendingRequests != nil {
			pending = clampUint32(*p.Http.MaxPendingRequests)
		}
		return breakers(clampUint32(p.Http.MaxConnections), pending)
	case protocol == protoHTTP2 && p.Http2 != nil:
		return requestBreakers(clampUint32(p.Http2.MaxRequests))
	case protocol == protoGRPC && p.Grpc != nil:
		return requestBreakers(clampUint32(p.Grpc.MaxRequests))
	case protocol == protoTCP && p.Tcp != nil:
		return breakers(clampUint32(p.Tcp.MaxConnections), noLimit)
	default:
		t.problem(t.self(), field, "the connection pool is of another protocol than its listener, which is %s: it has no effect", protocol)
	}
	return openBreakers
}

// requestBreakers returns circuit breakers of the default priority with a limit on
// requests under way.
func requestBreakers(requests uint32) *clusterv3.CircuitBreakers {
	b := breakers(noLimit, noLimit)
	b.Thresholds[0].MaxRequests = wrapperspb.UInt32(requests)
	return b
}
