package agent

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3" // for typedBootstrap, as those below
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/aws_request_signing/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/stat_sinks/open_telemetry/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/tracers/opentelemetry/resource_detectors/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/tracers/opentelemetry/samplers/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/golden"
)

// TestBootstrapGolden: each txtar has "env" (NAME=VALUE lines) and the
// "bootstrap.json" made of it, which real Envoy must accept.
func TestBootstrapGolden(t *testing.T) {
	t.Parallel()
	golden.Run(t, "testdata/bootstrap/*.txtar", func(t *testing.T, c *golden.Case) {
		env := parseEnv(t, c.Section("env"))
		got := bootstrapOf(t, env)
		c.Equal(t, "bootstrap.json", string(got))
		typedBootstrap(t, got)
		checkYAML(t, got)
		validate(t, got, versionProblem(t, env))
	})
}

// bootstrapOf makes the bootstrap of an environment, as the command does.
func bootstrapOf(t *testing.T, v vars) []byte {
	t.Helper()
	s, _, err := ReadSettings(v.lookup)
	if err == nil {
		s, err = s.Resolve()
	}
	if err != nil {
		t.Fatal(err)
	}
	text := textOf(t, s)
	for name, value := range v {
		if (strings.Contains(name, "SECRET") || name == "AWS_SESSION_TOKEN" || name == "AWS_ACCESS_KEY_ID") && strings.Contains(string(text), value) {
			t.Errorf("the bootstrap holds the value of %s", name)
		}
	}
	return text
}

func textOf(t *testing.T, s Settings) []byte {
	t.Helper()
	text, err := BootstrapText(s)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// typedBootstrap reads a bootstrap by the types of Envoy's API, which refuse a field or a type
// that they do not know, and a value out of bounds.
func typedBootstrap(t *testing.T, text []byte) *bootstrapv3.Bootstrap {
	t.Helper()
	b := &bootstrapv3.Bootstrap{}
	if err := protojson.Unmarshal(text, b); err != nil {
		t.Fatalf("it is not a bootstrap: %v\n%s", err, text)
	}
	if err := b.ValidateAll(); err != nil {
		t.Errorf("the bootstrap is not valid: %v", err)
	}
	return b
}

// checkYAML checks that the YAML form says the same.
func checkYAML(t *testing.T, jsonText []byte) {
	t.Helper()
	yamlText, err := YAML(jsonText)
	if err != nil {
		t.Fatal(err)
	}
	var fromYAML, want any
	if err := yaml.Unmarshal(yamlText, &fromYAML); err != nil {
		t.Fatalf("%v in\n%s", err, yamlText)
	}
	again, err := json.Marshal(fromYAML)
	if err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(again, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(jsonText, &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("YAML differs from JSON (-json +yaml):\n%s", diff)
	}
}

// versionProblem returns what the agent says of the Envoy to test with.
func versionProblem(t *testing.T, v vars) error {
	t.Helper()
	s, _, err := ReadSettings(v.lookup)
	if err != nil {
		t.Fatal(err)
	}
	return checkVersion(t.Context(), RunConfig{Settings: s, Envoy: envoyBinary(t), Logger: slog.New(slog.DiscardHandler)})
}

// validate has real Envoy check a bootstrap. It must refuse what the agent would not start
// it with, and nothing else.
func validate(t *testing.T, text []byte, problem error) {
	t.Helper()
	envoy := envoyBinary(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "bootstrap.json")
	// Envoy opens the log even to validate, and another user may own the usual one.
	text = bytes.ReplaceAll(text, []byte(adminAccessLog), []byte(filepath.Join(dir, "admin.log")))
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	check := exec.Command(envoy, "--mode", "validate", "-l", "warning", "-c", file)
	check.Env = append(os.Environ(), "OTEL_RESOURCE_ATTRIBUTES=service.name=test") // as Run has it
	out, err := check.CombinedOutput()
	if problem != nil {
		if err == nil {
			t.Errorf("Envoy takes the bootstrap, but the agent says: %v", problem)
		}
		return
	}
	if err != nil {
		t.Errorf("Envoy refuses the bootstrap: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		// See tracing: there is no other place for a tracer that the control plane does not know.
		if strings.Contains(line, "eprecated") && !strings.Contains(line, "'envoy.config.bootstrap.v3.Bootstrap.tracing'") {
			t.Errorf("Envoy warns of the bootstrap: %s", line)
		}
	}
}

// TestPlatformIsNoProfile: where an Envoy runs is in its node, is taken by Envoy, and makes no
// other proxy of it for the control plane, which makes resources once for all of a node.
func TestPlatformIsNoProfile(t *testing.T) {
	t.Parallel()
	s, _, err := ReadSettings(base().with(vars{"FAIRLEAD_XDS_CA_FILE": "testdata/ca.pem"}).lookup)
	if err == nil {
		s, err = s.Resolve()
	}
	if err != nil {
		t.Fatal(err)
	}
	plain := typedBootstrap(t, textOf(t, s))
	ecs := vars{"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE", "FAIRLEAD_AVAILABILITY_ZONE": "euw1-az2"}
	placed := s.Locate(t.Context(), ecs.lookup, slog.New(slog.DiscardHandler))
	text := textOf(t, placed)
	located := typedBootstrap(t, text)
	if l := located.GetNode().GetLocality(); l.GetZone() != "euw1-az2" || l.GetRegion() != "us-east-1" || plain.GetNode().GetLocality() != nil {
		t.Errorf("locality %v, and without a zone %v", l, plain.GetNode().GetLocality())
	}
	for _, key := range []string{"aws.appmesh.platformInfo", "aws.appmesh.task.interfaces"} {
		if located.GetNode().GetMetadata().GetFields()[key] == nil || plain.GetNode().GetMetadata().GetFields()[key] != nil {
			t.Errorf("%s is missing, or there without a platform", key)
		}
	}
	want, err := envoy.ParseProfile(plain.GetNode())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := envoy.ParseProfile(located.GetNode()); err != nil || got != want {
		t.Errorf("profile %+v, %v, want %+v", got, err, want)
	}
	validate(t, text, nil)
}

// TestBootstrapOfARun: what only Run knows is taken by Envoy, and is where the control plane
// looks for it. A folder that no bootstrap can name is refused.
func TestBootstrapOfARun(t *testing.T) {
	t.Parallel()
	s, _, err := ReadSettings(base().with(vars{"FAIRLEAD_XDS_CA_FILE": "testdata/ca.pem"}).lookup)
	if err == nil {
		s, err = s.Resolve()
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s.ReloadDir, s.CacheDir, s.WorkloadSocket = dir, dir, filepath.Join(dir, "workload")
	text := textOf(t, s)
	b := typedBootstrap(t, text)
	var sockets []string
	for _, c := range b.GetStaticResources().GetClusters() {
		sockets = append(sockets, c.GetName()+" "+c.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().GetAddress().GetPipe().GetPath())
	}
	want := []string{"fairlead_xds " + dir + cacheSocket, "fairlead_workload_sds " + s.WorkloadSocket}
	if diff := cmp.Diff(want, sockets); diff != "" {
		t.Errorf("clusters (-want +got):\n%s", diff)
	}
	if a := b.GetDynamicResources().GetAdsConfig().GetGrpcServices()[0].GetEnvoyGrpc().GetAuthority(); a != "localhost" {
		t.Errorf("the relay is called %q", a)
	}
	p, err := envoy.ParseProfile(b.GetNode())
	if err != nil || p.ReloadDir != dir || !p.Workloads {
		t.Errorf("profile %+v, %v", p, err)
	}
	validate(t, text, nil)
	s.ReloadDir = "/tmp/\xff"
	if text, err := BootstrapText(s); err == nil || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("%v and\n%s", err, text)
	}
}

func TestYAML(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{}`, `[]`, `"x"`, `12`, `null`,
		`{"a":{},"b":[],"c":[[1,2],[],{"d":[{"e":"f: #g","h":null},{"i":true}]}],"no":"yes","@x":"line\nbreak","ü":"<&>"}`,
		`[{"a":{"b":[1.5,-2]}},"- x"]`,
	} {
		checkYAML(t, []byte(text))
	}
	for _, text := range []string{``, `{`, `{"a":1`, `[1}`, `1 2`} {
		if out, err := YAML([]byte(text)); err == nil {
			t.Errorf("%q gives %q, want an error", text, out)
		}
	}
}

func parseEnv(t *testing.T, text string) vars {
	t.Helper()
	v := vars{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			t.Fatalf("line %q of env is not NAME=VALUE", line)
		}
		v[name] = value
	}
	return v
}
