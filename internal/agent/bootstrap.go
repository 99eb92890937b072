package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	fileaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	internalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// BootstrapText makes the text of Envoy's bootstrap of resolved settings, as JSON: our
// own, and the parts that the user's files bring.
func BootstrapText(s Settings) ([]byte, error) {
	b, err := Bootstrap(s)
	if err != nil {
		return nil, err
	}
	text, err := JSON(b)
	if err != nil {
		return nil, err
	}
	return merged(text, s.Overlays)
}

// Bootstrap makes our own part of Envoy's bootstrap of resolved settings. It looks at
// nothing else: equal settings give equal bootstraps. There is no key in it.
func Bootstrap(s Settings) (*bootstrapv3.Bootstrap, error) {
	admin, err := adminInterface(s.Admin)
	if err != nil {
		return nil, fmt.Errorf("making the admin interface: %w", err)
	}
	cluster, err := xdsCluster(s.reached())
	if err != nil {
		return nil, fmt.Errorf("making the control plane's cluster: %w", err)
	}
	ads := &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(s.XDS.FetchTimeout),
	}
	b := &bootstrapv3.Bootstrap{
		Node: &corev3.Node{Id: s.Resource.ARN, Cluster: s.Cluster, Metadata: nodeMetadata(s), Locality: locality(s)},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{
			Clusters: []*clusterv3.Cluster{cluster},
		},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{
			LdsConfig: ads,
			CdsConfig: proto.CloneOf(ads),
			AdsConfig: adsSource(s.reached()),
		},
		ClusterManager: &bootstrapv3.ClusterManager{
			OutlierDetection: &bootstrapv3.ClusterManager_OutlierDetection{EventLogPath: s.OutlierLog},
		},
		LayeredRuntime: layeredRuntime(s),
		Admin:          admin,
	}
	if b.BootstrapExtensions, err = bootstrapExtensions(); err != nil {
		return nil, fmt.Errorf("making the extensions: %w", err)
	}
	for _, source := range []struct{ cluster, socket string }{{sdsClusterName, s.SDSSocket}, {workloadClusterName, s.WorkloadSocket}} {
		if source.socket == "" {
			continue
		}
		sds, err := socketCluster(source.cluster, source.socket)
		if err != nil {
			return nil, fmt.Errorf("making the cluster of a source of secrets: %w", err)
		}
		b.StaticResources.Clusters = append(b.StaticResources.Clusters, sds)
	}
	if err := addTelemetry(b, s); err != nil {
		return nil, fmt.Errorf("making what leads to traces, metrics and logs: %w", err)
	}
	return b, nil
}

// bootstrapExtensions lets listeners be internal ones.
func bootstrapExtensions() ([]*corev3.TypedExtensionConfig, error) {
	internal, err := extension("envoy.bootstrap.internal_listener", &internalv3.InternalListener{})
	return []*corev3.TypedExtensionConfig{internal}, err
}

// nodeMetadata says how this Envoy is placed and what its bootstrap lets it do, in the
// form that the control plane reads. Without an address the application is on
// loopback.
func nodeMetadata(s Settings) *structpb.Struct {
	m := map[string]any{"placement": "redirected", "internalListeners": true}
	if s.Placement.Bound() {
		m["placement"] = "bound"
		m["bindAddress"] = s.Placement.Bind.String()
	}
	s.Placement.Explicit.metadata(m)
	if s.Placement.Application.IsValid() {
		m["applicationAddress"] = s.Placement.Application.String()
	}
	if s.ReloadDir != "" {
		m["reloadDirectory"] = s.ReloadDir
	}
	if s.WorkloadSocket != "" {
		m["workloadCertificates"] = true
	}
	if s.Names.Port != 0 {
		m["dnsPort"] = s.Names.filterPort()
	}
	if s.ClientCertificate != "" {
		m["clientCertificate"] = s.ClientCertificate
	}
	if s.traces() {
		m["tracing"] = true
	}
	if logs := s.Telemetry.logMetadata(); len(logs) > 0 {
		m["accessLogs"] = logs
	}
	all := map[string]any{"fairlead": m, "aws.appmesh.static_runtime": staticRuntime(s).AsMap()}
	maps.Copy(all, s.Platform.Metadata)
	if s.Telemetry.Stats.Aggregate {
		all["aws.appmesh.metric_filter"] = map[string]any{"level": "1"}
	}
	out, err := structpb.NewStruct(all)
	if err != nil { // a text is not UTF-8: the variables have been checked
		return &structpb.Struct{}
	}
	return out
}

// locality says in which zone this Envoy is; nil where it is not known.
func locality(s Settings) *corev3.Locality {
	if s.Platform.Zone == "" {
		return nil
	}
	return &corev3.Locality{Region: s.XDS.Region, Zone: s.Platform.Zone}
}

// traces reports whether the bootstrap has a tracer.
func (s Settings) traces() bool {
	return s.Telemetry.Tracer.Kind != "" ||
		slices.ContainsFunc(s.Overlays, func(o Overlay) bool { return o.Content["tracing"] != nil })
}

// logMetadata says which clusters access logs go to.
func (t Telemetry) logMetadata() map[string]any {
	logs := map[string]any{}
	if t.AccessLog.Set() {
		logs["grpc"] = map[string]any{"cluster": accessLogCluster, "logName": t.LogName}
	}
	if t.Logs.Set() {
		m := map[string]any{"cluster": otlpLogsCluster, "logName": t.LogName}
		if t.Logs.HTTP {
			m["uri"] = t.Logs.uri()
		}
		logs["openTelemetry"] = m
	}
	return logs
}

// staticRuntime holds App Mesh's settings that Envoy still knows. The others were guards of
// changes that Envoy has made for good, and it complains of them.
func staticRuntime(s Settings) *structpb.Struct {
	static := &structpb.Struct{Fields: map[string]*structpb.Value{
		// Parts of a bootstrap that users bring may be older than their Envoy.
		"envoy.features.enable_all_deprecated_features": structpb.NewBoolValue(true),
		"re2.max_program_size.error_level":              structpb.NewNumberValue(1000),
	}}
	if s.RequestsPerIOCycle > 0 {
		static.Fields["http.max_requests_per_io_cycle"] = structpb.NewNumberValue(float64(s.RequestsPerIOCycle))
	}
	return static
}

// layeredRuntime holds the static settings, and a layer that the admin interface can change.
func layeredRuntime(s Settings) *bootstrapv3.LayeredRuntime {
	return &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{
		{Name: "static_layer_0", LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: staticRuntime(s)}},
		{Name: "admin_layer", LayerSpecifier: &bootstrapv3.RuntimeLayer_AdminLayer_{AdminLayer: &bootstrapv3.RuntimeLayer_AdminLayer{}}},
	}}
}

func adminInterface(a Admin) (*bootstrapv3.Admin, error) {
	out := &bootstrapv3.Admin{Address: socketAddress(a.Address, a.Port)}
	if a.Socket != "" {
		out.Address = pipe(a.Socket, 0o600)
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

// pipe makes the address of a Unix socket; mode 0 leaves it to what is there.
func pipe(path string, mode uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path, Mode: mode}}}
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
