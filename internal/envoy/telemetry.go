package envoy

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	otellogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/open_telemetry/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	detectorsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/tracers/opentelemetry/resource_detectors/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// What a proxy wants to know of its traffic beside the log files that the API names
// is for its bootstrap to say, and reaches us in its node metadata.

// tracing returns the tracing of a connection manager: what the tracer of the
// bootstrap samples, as App Mesh had it. Without it no span is made, and deciding
// about spans that nobody takes costs time.
func (t *translator) tracing() *hcmv3.HttpConnectionManager_Tracing {
	if !t.profile.Tracing {
		return nil
	}
	return traced
}

var traced = &hcmv3.HttpConnectionManager_Tracing{}

// managerLogs returns the access logs of a connection manager.
func (t *translator) managerLogs(statPrefix string) accessLogs {
	outbound := statPrefix == egressStatPrefix
	var out accessLogs
	out = append(out, t.accessLog...)
	out = append(out, t.serviceLogs()...)
	if !t.lacks(requestAccess | stdoutLogs) {
		out = append(out, requestsTried...)
	}
	m := t.metricLogs()
	if m == nil {
		return out
	}
	if !outbound {
		out = append(out, m.inbound...)
	}
	if outbound || t.view.Node == nil {
		out = append(out, m.outbound...)
	}
	return out
}

// serviceLogs returns the access logs that go to services.
func (t *translator) serviceLogs() accessLogs {
	var out accessLogs
	if s := t.profile.Logs.GRPC; s.Cluster != "" && !t.lacks(grpcLogs) {
		out = append(out, t.serviceLog(grpcLogger, &grpclogv3.HttpGrpcAccessLogConfig{
			CommonConfig: &grpclogv3.CommonGrpcAccessLogConfig{
				LogName: s.Name, GrpcService: grpcService(s.Cluster), TransportApiVersion: corev3.ApiVersion_V3,
			},
		})...)
	}
	if s := t.profile.Logs.OpenTelemetry; s.Cluster != "" && !t.lacks(otelLogs) {
		config := &otellogv3.OpenTelemetryAccessLogConfig{LogName: s.Name}
		if t.lacks(logResources) {
			t.nameService(config)
		} else {
			config.ResourceDetectors = fromEnvironment
		}
		if s.URI != "" {
			config.HttpService = &corev3.HttpService{HttpUri: &corev3.HttpUri{
				Uri: s.URI, Timeout: logTimeout,
				HttpUpstreamType: &corev3.HttpUri_Cluster{Cluster: s.Cluster},
			}}
		} else {
			config.GrpcService = grpcService(s.Cluster)
		}
		out = append(out, t.serviceLog(otelLogger, config)...)
	}
	return out
}

// logTimeout is how long a service may take to take a batch of records.
var logTimeout = durationpb.New(5 * time.Second)

// fromEnvironment has a proxy name itself in its log records by the variable
// OTEL_RESOURCE_ATTRIBUTES of its own, so that proxies that differ in nothing else
// need no resources of their own.
var fromEnvironment = []*corev3.TypedExtensionConfig{{
	Name:        envDetector,
	TypedConfig: mustAny(&detectorsv3.EnvironmentResourceDetectorConfig{}),
}}

// nameService has a proxy name itself in its log records as the agent does in the
// environment unless it is told otherwise. The messages are OpenTelemetry's, which is why
// they are made through Envoy's.
func (t *translator) nameService(config *otellogv3.OpenTelemetryAccessLogConfig) {
	field := func(m protoreflect.Message, name protoreflect.Name) protoreflect.FieldDescriptor {
		return m.Descriptor().Fields().ByName(name)
	}
	m := config.ProtoReflect()
	m = m.Mutable(field(m, "resource_attributes")).Message()
	m = m.Mutable(field(m, "values")).List().AppendMutable().Message()
	m.Set(field(m, "key"), protoreflect.ValueOfString("service.name"))
	m = m.Mutable(field(m, "value")).Message()
	m.Set(field(m, "string_value"), protoreflect.ValueOfString(t.mesh+"/"+t.view.Key.Name))
}

func grpcService(cluster string) *corev3.GrpcService {
	return &corev3.GrpcService{
		TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: cluster}},
		Timeout:         logTimeout,
	}
}

// serviceLog packs the configuration of an access log, none if Envoy would refuse it.
func (t *translator) serviceLog(name string, config message) accessLogs {
	packed := t.packed(config, t.self(), "", "access log "+name)
	if packed == nil {
		return nil
	}
	return accessLogs{{Name: name, ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: packed}}}
}

// clusterName is what the clusters of a bootstrap may be called.
var clusterName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// logServices reads which services a proxy sends its access log to.
func logServices(fields map[string]*structpb.Value) (out LogServices, err error) {
	v, ok := fields["accessLogs"]
	if !ok {
		return LogServices{}, nil
	}
	if _, ok := v.GetKind().(*structpb.Value_StructValue); !ok {
		return LogServices{}, fmt.Errorf("node metadata fairlead.accessLogs must be an object")
	}
	fields = v.GetStructValue().GetFields()
	if out.GRPC, err = logService(fields, "grpc"); err != nil {
		return LogServices{}, err
	}
	if out.GRPC.URI != "" {
		return LogServices{}, fmt.Errorf("node metadata fairlead.accessLogs.grpc.uri must be absent")
	}
	if out.OpenTelemetry, err = logService(fields, "openTelemetry"); err != nil {
		return LogServices{}, err
	}
	return out, nil
}

func logService(fields map[string]*structpb.Value, name string) (s LogService, err error) {
	v, ok := fields[name]
	if !ok {
		return LogService{}, nil
	}
	if _, ok := v.GetKind().(*structpb.Value_StructValue); !ok {
		return LogService{}, fmt.Errorf("node metadata fairlead.accessLogs.%s must be an object", name)
	}
	members := v.GetStructValue().GetFields()
	for member, into := range map[string]*string{"cluster": &s.Cluster, "logName": &s.Name, "uri": &s.URI} {
		if *into, err = text(members, member, ""); err != nil {
			return LogService{}, fmt.Errorf("node metadata fairlead.accessLogs.%s.%s must be a string", name, member)
		}
	}
	if !clusterName.MatchString(s.Cluster) {
		return LogService{}, fmt.Errorf("node metadata fairlead.accessLogs.%s.cluster is %q, allowed is the name of a cluster of the bootstrap", name, s.Cluster)
	}
	if s.Name == "" {
		s.Name = "fairlead"
	}
	if s.URI != "" && !strings.HasPrefix(s.URI, "http://") && !strings.HasPrefix(s.URI, "https://") {
		return LogService{}, fmt.Errorf("node metadata fairlead.accessLogs.%s.uri is %q, allowed is a URI of http or https", name, s.URI)
	}
	return s, nil
}
