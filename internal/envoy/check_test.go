package envoy

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	internalbootv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fairlead-mesh/fairlead/internal/envoybin"
)

// checkResources checks what holds for all that Translate returns: order, names, the
// protos' own limits, and that nothing refers to what is not there.
func checkResources(t *testing.T, resources []Resource) {
	t.Helper()
	have := map[Type]map[string]bool{}
	var last Resource
	for i, r := range resources {
		if i > 0 && (r.Type < last.Type || r.Type == last.Type && r.Name <= last.Name) {
			t.Errorf("%s %q does not come after %s %q", r.Type, r.Name, last.Type, last.Name)
		}
		last = r
		if err := r.Message.(message).ValidateAll(); err != nil {
			t.Errorf("%s %q is not valid: %v", r.Type, r.Name, err)
		}
		if name := nameOf(r.Message); name != r.Name {
			t.Errorf("the message of %s %q has the name %q", r.Type, r.Name, name)
		}
		if have[r.Type] == nil {
			have[r.Type] = map[string]bool{}
		}
		have[r.Type][r.Name] = true
	}
	used := map[string]bool{}
	for _, r := range resources {
		if r.Object.Kind == 0 {
			t.Errorf("%s %q is no object's", r.Type, r.Name)
		}
		switch m := r.Message.(type) {
		case *clusterv3.Cluster:
			if m.GetType() == clusterv3.Cluster_EDS && !have[TypeEndpoint][m.Name] {
				t.Errorf("cluster %q has no endpoints", m.Name)
			}
		case *listenerv3.Listener:
			checkListener(t, m, have, used)
		case *routev3.RouteConfiguration:
			checkRoutes(t, m, have[TypeCluster])
		}
	}
	for name := range have[TypeRoute] {
		if !used[name] {
			t.Errorf("no listener has route configuration %q", name)
		}
	}
	checkSecrets(t, resources, have[TypeSecret])
}

// checkSecrets checks that all secrets that listeners and clusters fetch from the
// control plane are there.
func checkSecrets(t *testing.T, resources []Resource, have map[string]bool) {
	t.Helper()
	for _, r := range resources {
		var sockets []*corev3.TransportSocket
		switch m := r.Message.(type) {
		case *listenerv3.Listener:
			for _, c := range m.FilterChains {
				sockets = append(sockets, c.TransportSocket)
			}
		case *clusterv3.Cluster:
			sockets = append(sockets, m.TransportSocket)
		}
		for _, s := range sockets {
			if s == nil {
				continue
			}
			for _, secret := range secretsOf(unpack(t, s.GetTypedConfig())) {
				if secret.SdsConfig.GetAds() != nil && !have[secret.Name] {
					t.Errorf("%s %q has secret %q, which is not there", r.Type, r.Name, secret.Name)
				}
			}
		}
	}
}

// secretsOf returns where a transport socket finds its secrets.
func secretsOf(socket proto.Message) []*tlsv3.SdsSecretConfig {
	context, ok := socket.(interface {
		GetCommonTlsContext() *tlsv3.CommonTlsContext
	})
	if !ok {
		return nil
	}
	c := context.GetCommonTlsContext()
	out := append([]*tlsv3.SdsSecretConfig{}, c.TlsCertificateSdsSecretConfigs...)
	for _, trust := range []*tlsv3.SdsSecretConfig{
		c.GetValidationContextSdsSecretConfig(), c.GetCombinedValidationContext().GetValidationContextSdsSecretConfig(),
	} {
		if trust != nil {
			out = append(out, trust)
		}
	}
	return out
}

// nameOf returns the name that a message has in itself.
func nameOf(m proto.Message) string {
	if a, ok := m.(*endpointv3.ClusterLoadAssignment); ok {
		return a.ClusterName
	}
	return m.(interface{ GetName() string }).GetName()
}

func checkListener(t *testing.T, l *listenerv3.Listener, have map[Type]map[string]bool, used map[string]bool) {
	t.Helper()
	for _, filter := range listenerFilters(l) {
		switch config := unpack(t, filter.GetTypedConfig()).(type) {
		case *hcmv3.HttpConnectionManager:
			if err := config.ValidateAll(); err != nil {
				t.Errorf("listener %q: %v", l.Name, err)
			}
			name := config.GetRds().GetRouteConfigName()
			if used[name] = true; !have[TypeRoute][name] {
				t.Errorf("listener %q has route configuration %q, which is not there", l.Name, name)
			}
		case *tcpproxyv3.TcpProxy:
			targets := []string{}
			if config.GetCluster() != "" {
				targets = append(targets, config.GetCluster())
			}
			for _, w := range config.GetWeightedClusters().GetClusters() {
				targets = append(targets, w.Name)
			}
			if len(targets) == 0 {
				t.Errorf("listener %q has a TCP proxy that leads nowhere", l.Name)
			}
			for _, name := range targets {
				if !have[TypeCluster][name] {
					t.Errorf("listener %q has cluster %q, which is not there", l.Name, name)
				}
			}
		}
	}
}

func checkRoutes(t *testing.T, c *routev3.RouteConfiguration, clusters map[string]bool) {
	t.Helper()
	names, domains := map[string]bool{}, map[string]bool{}
	for _, h := range c.VirtualHosts {
		if names[h.Name] {
			t.Errorf("%s: virtual host %q is there twice", c.Name, h.Name)
		}
		names[h.Name] = true
		for _, d := range h.Domains {
			if domains[strings.ToLower(d)] {
				t.Errorf("%s: domain %q is there twice", c.Name, d)
			}
			gateway := strings.HasPrefix(c.Name, "rds_ingress_")
			if d != "*" && d != "*.amazonaws.com:443" && (strings.HasPrefix(d, "*") && !gateway || strings.HasSuffix(d, "*")) {
				t.Errorf("%s: domain %q is a wildcard", c.Name, d)
			}
			domains[strings.ToLower(d)] = true
		}
		for _, r := range h.Routes {
			targets := []string{}
			if r.GetRoute().GetCluster() != "" {
				targets = append(targets, r.GetRoute().GetCluster())
			}
			for _, w := range r.GetRoute().GetWeightedClusters().GetClusters() {
				targets = append(targets, w.Name)
			}
			if len(targets) == 0 && r.GetDirectResponse() == nil {
				t.Errorf("%s: route %q of %q leads nowhere", c.Name, r.Name, h.Name)
			}
			for _, name := range targets {
				if !clusters[name] {
					t.Errorf("%s: route %q of %q leads to %q, which is not there", c.Name, r.Name, h.Name, name)
				}
			}
		}
	}
}

func listenerFilters(l *listenerv3.Listener) []*listenerv3.Filter {
	var out []*listenerv3.Filter
	for _, chain := range l.FilterChains {
		out = append(out, chain.Filters...)
	}
	return append(out, l.GetDefaultFilterChain().GetFilters()...)
}

func unpack(t *testing.T, a *anypb.Any) proto.Message {
	t.Helper()
	m, err := a.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// validateWithEnvoy has an Envoy check the resources, as a configuration of its own.
func validateWithEnvoy(t *testing.T, resources []Resource) {
	t.Helper()
	envoy, file := needEnvoy(t), writeBootstrap(t, resources)
	check := exec.Command(envoy, "--mode", "validate", "-l", "warning", "-c", file)
	check.Env = append(os.Environ(), "OTEL_RESOURCE_ATTRIBUTES=service.name=test") // as the agent has it
	out, err := check.CombinedOutput()
	if err != nil {
		t.Errorf("Envoy refuses the resources: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		// Envoy 1.37 says so of the logger that its later versions call stable.
		unfinished := strings.Contains(line, "'envoy.extensions.access_loggers.stats.v3.Config' is marked as work-in-progress") ||
			strings.Contains(line, "'envoy.type.v3.RateLimitStrategy' is contained in proto file 'envoy/type/v3/ratelimit_strategy.proto' marked as work-in-progress")
		if strings.Contains(line, "[warning]") && !unfinished {
			t.Errorf("Envoy warns of the resources: %s", line)
		}
	}
}

// findEnvoy returns the Envoy to test with.
func findEnvoy() (string, error) { return envoybin.Find(os.Getenv("ENVOY_PATH"), "../..") }

// needEnvoy returns the Envoy to test with, and skips the test if there is none.
func needEnvoy(t *testing.T) string {
	t.Helper()
	envoy, err := findEnvoy()
	if errors.Is(err, envoybin.ErrNone) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return envoy
}

// writeBootstrap writes the resources as a configuration of their own into a file.
func writeBootstrap(t *testing.T, resources []Resource) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "envoy.json")
	raw, err := protojson.Marshal(staticBootstrap(t, resources))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// withEndpoints puts endpoints into their cluster, as if it were a static one.
func withEndpoints(clusters []*clusterv3.Cluster, a *endpointv3.ClusterLoadAssignment) {
	for i, c := range clusters {
		if c.Name == a.ClusterName {
			c = proto.Clone(c).(*clusterv3.Cluster)
			c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
			c.EdsClusterConfig, c.LoadAssignment = nil, a
			clusters[i] = c
		}
	}
}

// staticBootstrap returns a bootstrap that holds the resources, each route
// configuration within the connection manager that would fetch it.
func staticBootstrap(t *testing.T, resources []Resource) *bootstrapv3.Bootstrap {
	t.Helper()
	limit, err := structpb.NewStruct(map[string]any{"re2.max_program_size.error_level": regexLimit})
	if err != nil {
		t.Fatal(err)
	}
	static := &bootstrapv3.Bootstrap_StaticResources{}
	for _, name := range []string{"fairlead_access_log", "fairlead_otlp_logs", "fairlead_xds"} { // what an agent's bootstrap may have
		static.Clusters = append(static.Clusters, &clusterv3.Cluster{Name: name, TypedExtensionProtocolOptions: protocolOptions(protoHTTP2)})
	}
	routes := map[string]*routev3.RouteConfiguration{}
	for _, r := range resources {
		switch m := r.Message.(type) {
		case *clusterv3.Cluster:
			static.Clusters = append(static.Clusters, withoutADS(t, m))
		case *endpointv3.ClusterLoadAssignment:
			withEndpoints(static.Clusters, m)
		case *listenerv3.Listener:
			static.Listeners = append(static.Listeners, proto.Clone(m).(*listenerv3.Listener))
		case *routev3.RouteConfiguration:
			routes[m.Name] = m
		}
	}
	for _, l := range static.Listeners {
		for _, filter := range listenerFilters(l) {
			config, ok := unpack(t, filter.GetTypedConfig()).(*hcmv3.HttpConnectionManager)
			if !ok {
				continue
			}
			config.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: routes[config.GetRds().RouteConfigName]}
			packed, err := anypb.New(config)
			if err != nil {
				t.Fatal(err)
			}
			filter.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: packed}
		}
	}
	// Where secrets come from; nothing connects to it.
	static.Clusters = append(static.Clusters, socketCluster("xds"), socketCluster(sdsCluster), socketCluster(workloadCluster))
	return &bootstrapv3.Bootstrap{
		Node: &corev3.Node{Id: "test", Cluster: "test"},
		BootstrapExtensions: []*corev3.TypedExtensionConfig{{
			Name: "envoy.bootstrap.internal_listener", TypedConfig: mustAny(&internalbootv3.InternalListener{}),
		}},
		StaticResources: static,
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{AdsConfig: &corev3.ApiConfigSource{
			ApiType: corev3.ApiConfigSource_GRPC, TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: "xds"},
			}}},
		}},
		LayeredRuntime: &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
			Name:           "static",
			LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: limit},
		}}},
	}
}

// socketCluster returns a cluster that leads to a Unix socket that is not there.
func socketCluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name: name, TypedExtensionProtocolOptions: http2Options,
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/nonexistent/" + name}}},
			}}}},
		}}},
	}
}

// withoutADS returns a cluster that fetches secrets from the workload's own source where
// it would from the control plane: an Envoy that validates crashes on those.
func withoutADS(t *testing.T, c *clusterv3.Cluster) *clusterv3.Cluster {
	t.Helper()
	if c.TransportSocket == nil {
		return c
	}
	c = proto.Clone(c).(*clusterv3.Cluster)
	context := unpack(t, c.TransportSocket.GetTypedConfig())
	for _, secret := range secretsOf(context) {
		secret.SdsConfig = fromSocket
	}
	packed, err := anypb.New(context)
	if err != nil {
		t.Fatal(err)
	}
	c.TransportSocket.ConfigType = &corev3.TransportSocket_TypedConfig{TypedConfig: packed}
	return c
}
