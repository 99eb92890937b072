package envoy

import (
	"net/netip"
	"strconv"
	"strings"
)

// The names of resources are App Mesh's: people's dashboards and scripts read them
// out of Envoy's statistics. A name is made from what the resource is for and never
// from its content or its place in a list, so that an edit changes a resource and
// does not replace it.

// The ports on which a redirected proxy takes its traffic. A bound proxy's egress
// listener uses the latter.
const (
	ingressPort uint32 = 15000
	egressPort  uint32 = 15001
)

// The protocols of listeners and routes, as the API and names spell them.
const (
	protoHTTP  = "http"
	protoHTTP2 = "http2"
	protoGRPC  = "grpc"
	protoTCP   = "tcp"
)

// fallbackHost is the name of the virtual host for hosts that are no backend. No
// virtual service can have it: a wildcard is refused as a name.
const fallbackHost = "*"

func ingressListenerName(ip netip.Addr, port uint32) string {
	return "lds_ingress_" + ip.String() + "_" + decimal(port)
}

func egressListenerName(ip netip.Addr, port uint32) string {
	return "lds_egress_" + ip.String() + "_" + decimal(port)
}

func dnsListenerName(ip netip.Addr, port uint32) string {
	return "lds_dns_" + ip.String() + "_" + decimal(port)
}

func ingressClusterName(mesh, node, protocol string, port uint32) string {
	return "cds_ingress_" + mesh + "_" + node + "_" + protocol + "_" + decimal(port)
}

func egressClusterName(mesh, node, protocol string, port uint32) string {
	return "cds_egress_" + mesh + "_" + node + "_" + protocol + "_" + decimal(port)
}

func amazonClusterName(mesh string) string { return "cds_egress_" + mesh + "_amazonaws" }

// The names of a gateway's second pass for a port of a service.
func internalClusterName(mesh, service string, port uint32) string {
	return "cds_internal_" + mesh + "_" + service + "_" + decimal(port)
}

func internalListenerName(service string, port uint32) string {
	return "lds_internal_" + service + "_" + decimal(port)
}

func internalRoutesName(service string, port uint32) string {
	return "rds_internal_" + service + "_" + decimal(port)
}

func allowAllClusterName(mesh string) string { return "cds_egress_" + mesh + "_mesh-allow-all" }

func ingressRoutesName(protocol string, port uint32) string {
	return "rds_ingress_" + protocol + "_" + decimal(port)
}

// egressRoutesName names the routes of all services on a port. Services of several
// protocols that carry HTTP may share one, so the name has always App Mesh's "http".
func egressRoutesName(port uint32) string { return "rds_egress_" + protoHTTP + "_" + decimal(port) }

// apartSuffix ends the name of a route configuration whose virtual hosts are resources of
// their own. That it has another name than one that holds them brings a proxy from the one
// to the other without a gap: its listener goes on with the old one until the new one has
// its virtual hosts.
const apartSuffix = "_vhds"

// virtualHostName names a virtual host that is a resource of its own. Envoy finds by the
// part before the slash which route configuration it is for.
func virtualHostName(routes, host string) string { return routes + "/" + host }

// RoutesOf returns the name of the route configuration that a virtual host of its own is
// for.
func RoutesOf(virtualHost string) string {
	routes, _, _ := strings.Cut(virtualHost, "/")
	return routes
}

// bareHost returns the name of a virtual host within its route configuration.
func bareHost(routes, virtualHost string) string { return strings.TrimPrefix(virtualHost, routes+"/") }

// ingressStatPrefix returns the prefix of a listener's statistics, which tells the
// listeners apart only where a node declares several.
func ingressStatPrefix(declared int, protocol string, port uint32) string {
	if declared < 2 {
		return "ingress"
	}
	return "ingress." + protocol + "." + decimal(port)
}

const egressStatPrefix = "egress"

func decimal(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
