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
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	internalbootv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
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
		if name := r.Message.(interface{ GetName() string }).GetName(); name != r.Name {
			t.Errorf("the message of %s %q has the name %q", r.Type, r.Name, name)
		}
		if have[r.Type] == nil {
			have[r.Type] = map[string]bool{}
		}
		have[r.Type][r.Name] = true
	}
	used := map[string]bool{}
	for _, r := range resources {
		switch m := r.Message.(type) {
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
			if !have[TypeCluster][config.GetCluster()] {
				t.Errorf("listener %q has cluster %q, which is not there", l.Name, config.GetCluster())
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
			if d != "*" && (strings.HasPrefix(d, "*") && !gateway || strings.HasSuffix(d, "*")) {
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
	envoy, file := findEnvoy(t), writeBootstrap(t, resources)
	out, err := exec.Command(envoy, "--mode", "validate", "-l", "warning", "-c", file).CombinedOutput()
	if err != nil {
		t.Errorf("Envoy refuses the resources: %v\n%s", err, out)
	} else if strings.Contains(string(out), "[warning]") {
		t.Errorf("Envoy warns of the resources:\n%s", out)
	}
}

// findEnvoy returns the Envoy to test with, and skips the test if there is none.
func findEnvoy(t *testing.T) string {
	t.Helper()
	envoy, err := envoybin.Find(os.Getenv("ENVOY_PATH"), "../..")
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

// staticBootstrap returns a bootstrap that holds the resources, each route
// configuration within the connection manager that would fetch it.
func staticBootstrap(t *testing.T, resources []Resource) *bootstrapv3.Bootstrap {
	t.Helper()
	limit, err := structpb.NewStruct(map[string]any{"re2.max_program_size.error_level": regexLimit})
	if err != nil {
		t.Fatal(err)
	}
	static := &bootstrapv3.Bootstrap_StaticResources{}
	routes := map[string]*routev3.RouteConfiguration{}
	for _, r := range resources {
		switch m := r.Message.(type) {
		case *clusterv3.Cluster:
			static.Clusters = append(static.Clusters, m)
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
	return &bootstrapv3.Bootstrap{
		BootstrapExtensions: []*corev3.TypedExtensionConfig{{
			Name: "envoy.bootstrap.internal_listener", TypedConfig: mustAny(&internalbootv3.InternalListener{}),
		}},
		StaticResources: static,
		LayeredRuntime: &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
			Name:           "static",
			LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: limit},
		}}},
	}
}
