package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	fileaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// Bootstrap makes Envoy's bootstrap of resolved settings. It looks at nothing else:
// equal settings give equal bootstraps. There is no key in it.
func Bootstrap(s Settings) (*bootstrapv3.Bootstrap, error) {
	admin, err := adminInterface(s.Admin)
	if err != nil {
		return nil, fmt.Errorf("making the admin interface: %w", err)
	}
	cluster, err := xdsCluster(s.XDS)
	if err != nil {
		return nil, fmt.Errorf("making the control plane's cluster: %w", err)
	}
	ads := &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(s.XDS.FetchTimeout),
	}
	return &bootstrapv3.Bootstrap{
		Node: &corev3.Node{Id: s.Resource.ARN, Cluster: s.Cluster, Metadata: nodeMetadata(s.Placement)},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{
			Clusters: []*clusterv3.Cluster{cluster},
		},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{
			LdsConfig: ads,
			CdsConfig: proto.CloneOf(ads),
			AdsConfig: adsSource(s.XDS),
		},
		ClusterManager: &bootstrapv3.ClusterManager{
			OutlierDetection: &bootstrapv3.ClusterManager_OutlierDetection{EventLogPath: s.OutlierLog},
		},
		LayeredRuntime: layeredRuntime(s),
		Admin:          admin,
	}, nil
}

// nodeMetadata says how this Envoy is placed, in the form that the control plane
// reads. Without an address the application is on loopback.
func nodeMetadata(p Placement) *structpb.Struct {
	m := map[string]*structpb.Value{"placement": structpb.NewStringValue("redirected")}
	if p.Bound() {
		m["placement"] = structpb.NewStringValue("bound")
		m["bindAddress"] = structpb.NewStringValue(p.Bind.String())
	}
	if p.Application.IsValid() {
		m["applicationAddress"] = structpb.NewStringValue(p.Application.String())
	}
	return &structpb.Struct{Fields: map[string]*structpb.Value{
		"fairlead": structpb.NewStructValue(&structpb.Struct{Fields: m}),
	}}
}

// layeredRuntime holds App Mesh's settings that Envoy still knows, and a layer that
// the admin interface can change.
func layeredRuntime(s Settings) *bootstrapv3.LayeredRuntime {
	static := &structpb.Struct{Fields: map[string]*structpb.Value{
		"re2.max_program_size.error_level": structpb.NewNumberValue(1000),
	}}
	if s.RequestsPerIOCycle > 0 {
		static.Fields["http.max_requests_per_io_cycle"] = structpb.NewNumberValue(float64(s.RequestsPerIOCycle))
	}
	return &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{
		{Name: "static_layer_0", LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: static}},
		{Name: "admin_layer", LayerSpecifier: &bootstrapv3.RuntimeLayer_AdminLayer_{AdminLayer: &bootstrapv3.RuntimeLayer_AdminLayer{}}},
	}}
}

func adminInterface(a Admin) (*bootstrapv3.Admin, error) {
	out := &bootstrapv3.Admin{Address: socketAddress(a.Address, a.Port)}
	if a.Socket != "" {
		out.Address = &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: a.Socket, Mode: 0o600}}}
	}
	if a.AccessLog == "" {
		return out, nil
	}
	log, err := anypb.New(&fileaccesslogv3.FileAccessLog{Path: a.AccessLog})
	if err != nil {
		return nil, err
	}
	out.AccessLog = []*accesslogv3.AccessLog{{
		Name:       "envoy.access_loggers.file",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: log},
	}}
	return out, nil
}

// socketAddress makes a TCP address. The unspecified IPv6 address takes IPv4 too.
func socketAddress(a netip.Addr, port int) *corev3.Address {
	return tcpAddress(a.String(), port, a == netip.IPv6Unspecified())
}

func tcpAddress(host string, port int, ipv4Too bool) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       host,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
		Ipv4Compat:    ipv4Too,
	}}}
}

// JSON writes a bootstrap as indented JSON, always in the same bytes.
func JSON(b *bootstrapv3.Bootstrap) ([]byte, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encoding the bootstrap: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return nil, fmt.Errorf("encoding the bootstrap: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
