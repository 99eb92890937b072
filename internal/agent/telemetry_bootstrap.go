package agent

import (
	"net/netip"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	otelsinkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/stat_sinks/open_telemetry/v3"
	detectorsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/tracers/opentelemetry/resource_detectors/v3"
	samplersv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/tracers/opentelemetry/samplers/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Names of the collectors' clusters. The first two are App Mesh's; the control plane
// is told those of access logs.
const (
	datadogCluster     = "datadog_agent"
	jaegerCluster      = "jaeger"
	otlpTracesCluster  = "fairlead_otlp_traces"
	otlpMetricsCluster = "fairlead_otlp_metrics"
	otlpLogsCluster    = "fairlead_otlp_logs"
	accessLogCluster   = "fairlead_access_log"
)

// addTelemetry puts tracer, statistics and the collectors' clusters into a bootstrap.
func addTelemetry(b *bootstrapv3.Bootstrap, s Settings) error {
	t := s.Telemetry
	if t.Tracer.Kind != "" {
		var err error
		if b.Tracing, err = tracing(t.Tracer); err != nil { //nolint:staticcheck // see tracing
			return err
		}
	}
	for _, c := range []struct {
		name      string
		collector Collector
	}{
		{t.Tracer.cluster(), t.Tracer.Collector}, {otlpMetricsCluster, t.Metrics.Collector}, {otlpLogsCluster, t.Logs}, {accessLogCluster, t.AccessLog},
	} {
		if !c.collector.Set() {
			continue
		}
		cluster, err := collectorCluster(c.name, c.collector)
		if err != nil {
			return err
		}
		b.StaticResources.Clusters = append(b.StaticResources.Clusters, cluster)
	}
	if t.Stats.FlushInterval > 0 {
		b.StatsFlushInterval = durationpb.New(t.Stats.FlushInterval)
	}
	if !t.Stats.Own {
		b.StatsConfig = &metricsv3.StatsConfig{StatsTags: statsTags(t.Stats, s.Resource)}
	}
	var err error
	b.StatsSinks, err = statsSinks(t)
	return err
}

// cluster is the cluster that spans go to.
func (t Tracer) cluster() string {
	switch t.Kind {
	case TracerDatadog:
		return datadogCluster
	case TracerZipkin:
		return jaegerCluster
	}
	return otlpTracesCluster
}

// collectorCluster is where a collector is. Its own requests have nothing to do with
// the mesh.
func collectorCluster(name string, c Collector) (*clusterv3.Cluster, error) {
	out := staticCluster(name, c.Host, c.Port)
	out.ConnectTimeout = durationpb.New(collectorConnectTimeout)
	if !c.HTTP {
		options, err := plainHTTP2()
		if err != nil {
			return nil, err
		}
		out.TypedExtensionProtocolOptions = options
	}
	var err error
	if !isLiteral(c.Host) {
		if out.ClusterDiscoveryType, err = strictDNS(); err != nil {
			return nil, err
		}
	}
	if c.TLS {
		alpn := "h2"
		if c.HTTP {
			alpn = "http/1.1"
		}
		out.TransportSocket, err = tlsSocket(c.Host, c.CAFile, alpn)
	}
	return out, err
}

// tracing is the tracer of all connection managers that trace. The field of the
// bootstrap is deprecated in favour of one in each connection manager, which comes
// from the control plane, and is not for it to know; Envoy 1.40 obeys it.
func tracing(t Tracer) (*tracev3.Tracing, error) {
	var name string
	var config proto.Message
	var err error
	switch t.Kind {
	case TracerXRay:
		name, config = "envoy.tracers.xray", xrayConfig(t)
	case TracerDatadog:
		name, config = "envoy.tracers.datadog", &tracev3.DatadogConfig{CollectorCluster: datadogCluster, ServiceName: t.Service}
	case TracerZipkin:
		version := tracev3.ZipkinConfig_HTTP_PROTO
		if t.JSON {
			version = tracev3.ZipkinConfig_HTTP_JSON
		}
		name, config = "envoy.tracers.zipkin", &tracev3.ZipkinConfig{
			CollectorCluster: jaegerCluster, CollectorEndpoint: "/api/v2/spans",
			CollectorEndpointVersion: version, SharedSpanContext: wrapperspb.Bool(false),
		}
	default:
		name = "envoy.tracers.opentelemetry"
		config, err = otelTracer(t)
	}
	if err != nil {
		return nil, err
	}
	typed, err := anypb.New(config)
	return &tracev3.Tracing{Http: &tracev3.Tracing_Http{Name: name, ConfigType: &tracev3.Tracing_Http_TypedConfig{TypedConfig: typed}}}, err
}

// xrayConfig is the X-Ray tracer. Its segments say what App Mesh's said; a virtual
// gateway's too call its name virtual_node_name.
func xrayConfig(t Tracer) *tracev3.XRayConfig {
	c := &tracev3.XRayConfig{
		SegmentName: t.Service,
		DaemonEndpoint: &corev3.SocketAddress{
			Protocol: corev3.SocketAddress_UDP, Address: t.XRay.Daemon.Addr().String(),
			PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(t.XRay.Daemon.Port())},
		},
		SegmentFields: &tracev3.XRayConfig_SegmentFields{
			Origin: "AWS::AppMesh::Proxy",
			Aws: object("app_mesh", structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
				"mesh_name":         structpb.NewStringValue(t.XRay.Mesh),
				"virtual_node_name": structpb.NewStringValue(t.XRay.Node),
			}})),
		},
	}
	switch {
	case t.XRay.RulesManifest != "":
		c.SamplingRuleManifest = &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: t.XRay.RulesManifest}}
	case t.XRay.Rules != "":
		c.SamplingRuleManifest = &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: t.XRay.Rules}}
	}
	return c
}

func otelTracer(t Tracer) (*tracev3.OpenTelemetryConfig, error) {
	sampler, err := otelSampler(t.Sampler)
	if err != nil {
		return nil, err
	}
	detectors, err := otelDetectors()
	if err != nil {
		return nil, err
	}
	c := &tracev3.OpenTelemetryConfig{ServiceName: t.Service, Sampler: sampler, ResourceDetectors: detectors}
	if t.Collector.HTTP {
		c.HttpService = httpService(otlpTracesCluster, t.Collector)
	} else {
		c.GrpcService = grpcService(otlpTracesCluster)
	}
	return c, nil
}

// otelSampler is one of OpenTelemetry's samplers; Envoy's share of 0 keeps none.
func otelSampler(s Sampler) (*corev3.TypedExtensionConfig, error) {
	var own proto.Message = &samplersv3.AlwaysOnSamplerConfig{}
	name := "envoy.tracers.opentelemetry.samplers.always_on"
	if s.Share < 1 {
		name = "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based"
		own = &samplersv3.TraceIdRatioBasedSamplerConfig{SamplingPercentage: &typev3.FractionalPercent{
			Numerator: perMillion(s.Share), Denominator: typev3.FractionalPercent_MILLION,
		}}
	}
	out, err := extension(name, own)
	if err != nil || !s.Parent {
		return out, err
	}
	return extension("envoy.tracers.opentelemetry.samplers.parent_based", &samplersv3.ParentBasedSamplerConfig{WrappedSampler: out})
}

// otelDetectors has Envoy take the resource attributes from its environment, where
// the agent puts them.
func otelDetectors() ([]*corev3.TypedExtensionConfig, error) {
	d, err := extension("envoy.tracers.opentelemetry.resource_detectors.environment", &detectorsv3.EnvironmentResourceDetectorConfig{})
	return []*corev3.TypedExtensionConfig{d}, err
}

func extension(name string, config proto.Message) (*corev3.TypedExtensionConfig, error) {
	typed, err := anypb.New(config)
	return &corev3.TypedExtensionConfig{Name: name, TypedConfig: typed}, err
}

func httpService(cluster string, c Collector) *corev3.HttpService {
	return &corev3.HttpService{HttpUri: &corev3.HttpUri{
		Uri: c.uri(), HttpUpstreamType: &corev3.HttpUri_Cluster{Cluster: cluster}, Timeout: durationpb.New(collectorTimeout),
	}}
}

func grpcService(cluster string) *corev3.GrpcService {
	return &corev3.GrpcService{
		TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: cluster}},
		Timeout:         durationpb.New(collectorTimeout),
	}
}

// Regular expressions of App Mesh's agent, which give its tags to what a node with
// several listeners calls ingress.PROTOCOL.PORT.
const (
	protocolTag = `.*?\.ingress\.((\w+?)\.)[0-9]+?\.(.+?)$`
	portTag     = `.*?\.ingress\.\w+?\.(([0-9]+?)\.)(.+?)$`
	routesTag   = `.*?\.ingress\.\w+?\.[0-9]+?\.rds\.((.*?)\.)(.+?)$`
	limitTag    = `^((connection_limit)\.)fairlead\.appmesh\.`
	activeTag   = `^connection_limit\.fairlead\.appmesh\.ActiveConnectionCount(\.(active_connections))$`
)

// statsTags are the tags of statistics beside Envoy's own.
func statsTags(s Stats, r Resource) []*metricsv3.TagSpecifier {
	mesh, kind, name := r.parts()
	snake, camel := "virtual_node", "VirtualNode"
	if kind == "virtualGateway" {
		snake, camel = "virtual_gateway", "VirtualGateway"
	}
	var out []*metricsv3.TagSpecifier
	if s.Tags {
		out = append(out, fixedTag("appmesh.mesh", mesh), fixedTag("appmesh."+snake, name))
	}
	if s.Aggregate {
		out = append(out, regexTag("fairlead.source", limitTag), regexTag("fairlead.gauge", activeTag),
			fixedTag("Mesh", mesh), fixedTag(camel, name))
	}
	return append(out,
		regexTag("appmesh.listener_protocol", protocolTag), regexTag("appmesh.listener_port", portTag), regexTag("envoy_rds_route_config", routesTag))
}

func fixedTag(name, value string) *metricsv3.TagSpecifier {
	return &metricsv3.TagSpecifier{TagName: name, TagValue: &metricsv3.TagSpecifier_FixedValue{FixedValue: value}}
}

func regexTag(name, regex string) *metricsv3.TagSpecifier {
	return &metricsv3.TagSpecifier{TagName: name, TagValue: &metricsv3.TagSpecifier_Regex{Regex: regex}}
}

// statsSinks are where statistics are sent.
func statsSinks(t Telemetry) ([]*metricsv3.StatsSink, error) {
	var out []*metricsv3.StatsSink
	add := func(name string, config proto.Message) error {
		typed, err := anypb.New(config)
		out = append(out, &metricsv3.StatsSink{Name: name, ConfigType: &metricsv3.StatsSink_TypedConfig{TypedConfig: typed}})
		return err
	}
	if t.Stats.DogStatsD {
		sink := &metricsv3.DogStatsdSink{DogStatsdSpecifier: &metricsv3.DogStatsdSink_Address{Address: statsdAddress(t.Stats)}}
		if t.Stats.Socket != "" {
			// Linux holds ten datagrams for a socket, and what comes on top is lost: one
			// statistic in each, as over UDP, would be hundreds at a time.
			sink.MaxBytesPerDatagram = wrapperspb.UInt64(8192)
		}
		if err := add("envoy.stat_sinks.dog_statsd", sink); err != nil {
			return nil, err
		}
	}
	if t.Stats.StatsD {
		if err := add("envoy.stat_sinks.statsd", &metricsv3.StatsdSink{
			StatsdSpecifier: &metricsv3.StatsdSink_Address{Address: statsdAddress(t.Stats)},
		}); err != nil {
			return nil, err
		}
	}
	if t.Metrics.Set() {
		config, err := otelSink(t.Metrics)
		if err != nil {
			return nil, err
		}
		if err := add("envoy.stat_sinks.open_telemetry", config); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func otelSink(m OTLPMetrics) (*otelsinkv3.SinkConfig, error) {
	detectors, err := otelDetectors()
	if err != nil {
		return nil, err
	}
	c := &otelsinkv3.SinkConfig{ResourceDetectors: detectors, ReportCountersAsDeltas: m.Delta, ReportHistogramsAsDeltas: m.Delta, Prefix: "envoy"}
	if m.HTTP {
		c.ProtocolSpecifier = &otelsinkv3.SinkConfig_HttpService{HttpService: httpService(otlpMetricsCluster, m.Collector)}
	} else {
		c.ProtocolSpecifier = &otelsinkv3.SinkConfig_GrpcService{GrpcService: grpcService(otlpMetricsCluster)}
	}
	return c, nil
}

func statsdAddress(s Stats) *corev3.Address {
	if s.Socket != "" {
		return pipe(s.Socket, 0)
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Protocol: corev3.SocketAddress_UDP, Address: s.Address.Addr().String(),
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(s.Address.Port())},
	}}}
}

// isLiteral reports whether a host is an IP address.
func isLiteral(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// object is a JSON object with one member.
func object(name string, value *structpb.Value) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{name: value}}
}
