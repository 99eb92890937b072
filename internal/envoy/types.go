package envoy

import (
	"net/netip"

	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Type is a type of xDS resource. The types are in the order in which a change must
// reach a proxy: what is referred to comes before what refers to it.
type Type uint8

// The types of resources.
const (
	TypeCluster Type = iota
	TypeEndpoint
	TypeSecret
	TypeListener
	TypeRoute
	TypeVirtualHost
	NumTypes // the number of types; not a type itself
)

// typeURLs holds the type URL of each type.
var typeURLs = [NumTypes]string{
	TypeCluster:     "type.googleapis.com/envoy.config.cluster.v3.Cluster",
	TypeEndpoint:    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
	TypeSecret:      "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
	TypeListener:    "type.googleapis.com/envoy.config.listener.v3.Listener",
	TypeRoute:       "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
	TypeVirtualHost: "type.googleapis.com/envoy.config.route.v3.VirtualHost",
}

// URL returns the type's URL as discovery requests carry it, for example
// "type.googleapis.com/envoy.config.cluster.v3.Cluster"; "" for no known type.
func (t Type) URL() string {
	if t >= NumTypes {
		return ""
	}
	return typeURLs[t]
}

// String returns the last part of the type's URL, for example "Cluster".
func (t Type) String() string {
	names := [NumTypes]string{"Cluster", "ClusterLoadAssignment", "Secret", "Listener", "RouteConfiguration", "VirtualHost"}
	if t >= NumTypes {
		return "unknown"
	}
	return names[t]
}

// ParseType returns the type that has a URL.
func ParseType(url string) (Type, bool) {
	for t, u := range typeURLs {
		if u == url {
			return Type(t), true
		}
	}
	return NumTypes, false
}

// Resource is one Envoy resource. Its message must not be changed: messages may
// share parts with one another.
type Resource struct {
	Type    Type
	Name    string
	Message proto.Message
	// Object is what the resource is made for, and what a proxy that refuses it refuses:
	// the virtual node that a cluster leads to, or the one translated.
	Object mesh.Key
	// Assignment says how endpoints are made of instances; nil for all else.
	Assignment *Assignment
	// Slot keeps what is made of the message; nil for one that a Memo does not remember.
	Slot *Slot
}

// Problem is a part of the configuration that is not served, or not as written.
type Problem struct {
	// Object is the object at fault. It may be another than the one translated: a
	// route, or the virtual node it leads to.
	Object mesh.Key
	// Field is the path of the field within the object's spec, for example
	// "listeners[0].tls.mode"; "" where the object as a whole is meant.
	Field string
	// Message says in one line what is wrong and what was done about it.
	Message string
	// Instances is set where the problem was found in the instances of a service.
	Instances mesh.InstancesKey
}

// Profile is how a proxy is placed, as far as its resources depend on it. Proxies of
// one ARN and one profile get the same resources. A Profile can be a map key; the zero
// value is a redirected proxy, its application on loopback.
type Profile struct {
	// Bound is set for a proxy that binds an address of its own; one for which it is
	// not gets its traffic by redirection.
	Bound bool
	// Bind is the address that a bound proxy listens on; invalid for a redirected one.
	Bind netip.Addr
	// App is the address on which the application listens. It is invalid where the
	// node metadata names none: then it is loopback, of the family that the node's or
	// the mesh's IP preference asks for.
	App netip.Addr
	// Egress is the address on which a bound proxy takes its application's calls where
	// the application knows of it: an explicit proxy. Else it is invalid.
	Egress netip.Addr
	// TCPPorts are the ports of an explicit proxy for services for TCP that are set:
	// "SERVICE:PORT=LOCAL,…"; others are found.
	TCPPorts string
	// DNSPort is where the proxy answers for the names of virtual services; 0 for nowhere.
	DNSPort uint16
	// ReloadDir is a directory that the agent moves a file into whenever a file that a
	// secret names has changed, so that Envoy reads it again; "" for none.
	ReloadDir string
	// NoSecretSource is set where the proxy's bootstrap is known to lead to no source of
	// secrets of the workload's own (SDS). Envoy would refuse all that refers to one.
	NoSecretSource bool
	// Workloads is set where the agent serves the workload's certificate and the trust
	// bundle of its mesh: what ARNs of ACM stand for.
	Workloads bool
	// Internal is set where the proxy's bootstrap lets listeners be internal ones.
	Internal bool
	// HostsApart is set where the proxy can be sent virtual hosts as resources of their own
	// (Envoy's Virtual Host Discovery Service): its stream is incremental.
	HostsApart bool
	// ClientCertificate says what becomes of the header x-forwarded-client-cert on its
	// way in.
	ClientCertificate ClientCertificate
	// Tracing is set where the proxy may have a tracer: its requests make spans.
	Tracing bool
	// Metrics says whether the proxy keeps App Mesh's aggregate metrics.
	Metrics Metrics
	// Logs are where requests are logged beside the files that the API names.
	Logs LogServices
	// Discovery is how the proxy reaches this server, as its bootstrap has it.
	Discovery Discovery
	// TrustDomain is the host part of the names in certificates of the mesh's authority.
	TrustDomain string
	// Lacks is what the proxy's Envoy is without, of what it would get else.
	Lacks Features
}

// Discovery is how a proxy reaches the server that it has its configuration from; the zero
// value is not known.
type Discovery struct {
	// Cluster is the one of its bootstrap that leads there.
	Cluster string
	// Authority is what it calls the server in requests; "" for the cluster's name.
	Authority string
}

// Metrics says whether a proxy keeps App Mesh's aggregate metrics, and how.
type Metrics uint8

// How metrics are kept.
const (
	// MetricsOff is without.
	MetricsOff Metrics = iota
	// MetricsPrefixed is in the form that Envoys before 1.39 know.
	MetricsPrefixed
	// MetricsScoped is in the form of Envoy 1.39 and later.
	MetricsScoped
)

// LogServices are services that a proxy sends its access log to; each leads to a
// cluster of its bootstrap.
type LogServices struct {
	// GRPC is Envoy's own access log service.
	GRPC LogService
	// OpenTelemetry takes the log as OpenTelemetry's log records.
	OpenTelemetry LogService
}

// LogService is one such service; the zero value is none.
type LogService struct {
	// Cluster is a cluster of the bootstrap.
	Cluster string
	// Name is the log's name, sent with it.
	Name string
	// URI is where records are posted by HTTP; "" where they go by gRPC.
	URI string
}

// ClientCertificate says what a proxy tells its application of a client's certificate
// in the header x-forwarded-client-cert.
type ClientCertificate uint8

// What can be done with the header.
const (
	// ClientCertificateRemoved takes the header out: nothing is told.
	ClientCertificateRemoved ClientCertificate = iota
	// ClientCertificateSet replaces it by the client's certificate.
	ClientCertificateSet
	// ClientCertificateAppended adds the client's certificate to what came.
	ClientCertificateAppended
)

// String says for people how a proxy is placed, for example "bound to 127.0.0.2".
func (p Profile) String() string {
	s := "redirected"
	if p.Bound {
		s = "bound to " + p.Bind.String()
	}
	if p.Egress.IsValid() {
		s += ", called on " + p.Egress.String()
	}
	if p.App.IsValid() {
		s += ", application on " + p.App.String()
	}
	return s
}
