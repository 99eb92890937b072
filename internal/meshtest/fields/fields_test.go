package fields

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

func TestExpand(t *testing.T) {
	t.Parallel()
	got, err := Expand("Route.{httpRoute,http2Route}.match.{prefix,method}")
	want := []string{"Route.httpRoute.match.prefix", "Route.httpRoute.match.method", "Route.http2Route.match.prefix", "Route.http2Route.match.method"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	for _, bad := range []string{"", "Route", "Route.httpRoute.match", "Route.{httpRoute,none}.match.prefix", "Route.httpRoute.timeout.idle.unit"} {
		if got, err := Expand(bad); err == nil || !strings.Contains(err.Error(), "the model has no field") {
			t.Errorf("Expand(%q) returns %q and %v", bad, got, err)
		}
	}
}

func TestExemptFieldsAreKnown(t *testing.T) {
	t.Parallel()
	for _, exempt := range []map[string]string{NoEffect, NoBehaviour} {
		for path, reason := range exempt {
			if !Known(path) || len(reason) < 20 {
				t.Errorf("%s: %q: want a field of the model, and a reason", path, reason)
			}
		}
	}
}

const node = `{
	"listeners": [
		{"portMapping": {"port": 80, "protocol": "http"}, "timeout": {"http": {"idle": {"unit": "s", "value": 1}}}},
		{"portMapping": {"port": 81, "protocol": "tcp"}}
	],
	"serviceDiscovery": {"dns": {"hostname": "a", "responseType": "ENDPOINTS"}},
	"logging": {"accessLog": {"file": {"path": "/log", "format": {"json": [{"key": "k", "value": "v"}]}}}}
}`

func parse(t *testing.T, k mesh.Kind, text string) any {
	t.Helper()
	spec, err := mesh.ParseSpec(k, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestUsed(t *testing.T) {
	t.Parallel()
	want := []string{
		"VirtualNode.listeners.portMapping.port", "VirtualNode.listeners.portMapping.protocol", "VirtualNode.listeners.timeout.http.idle",
		"VirtualNode.logging.accessLog.file.format.json", "VirtualNode.logging.accessLog.file.path",
		"VirtualNode.serviceDiscovery.dns.hostname", "VirtualNode.serviceDiscovery.dns.responseType",
	}
	if diff := cmp.Diff(want, Used(mesh.KindVirtualNode, parse(t, mesh.KindVirtualNode, node))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTake(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind                mesh.Kind
		field, before, want string
		nothing             bool
	}{
		{mesh.KindVirtualNode, "VirtualNode.listeners.timeout.http.idle", node, strings.ReplaceAll(node, `"idle": {"unit": "s", "value": 1}`, ""), false},
		{mesh.KindVirtualNode, "VirtualNode.listeners.portMapping.port", node, strings.NewReplacer("80", "81", "81", "82").Replace(node), false},
		{mesh.KindVirtualNode, "VirtualNode.listeners.portMapping.protocol", node, strings.NewReplacer(`"protocol": "http"`, `"protocol": "tcp"`, `"protocol": "tcp"`, `"protocol": "http"`).Replace(node), false},
		{mesh.KindVirtualNode, "VirtualNode.logging.accessLog.file.path", node, strings.ReplaceAll(node, `"/log"`, `"/dev/null"`), false},
		{mesh.KindVirtualNode, "VirtualNode.logging.accessLog.file.format.json", node, strings.ReplaceAll(node, `"json": [{"key": "k", "value": "v"}]`, ""), false},
		{mesh.KindVirtualNode, "VirtualNode.backends.virtualService.virtualServiceName", node, node, true},
		{mesh.KindVirtualNode, "VirtualNode.serviceDiscovery.dns.ipPreference", node, node, true},
		{mesh.KindMesh, "VirtualNode.serviceDiscovery.dns.hostname", `{"egressFilter":{"type":"DROP_ALL"}}`, `{"egressFilter":{"type":"DROP_ALL"}}`, true},
		{mesh.KindMesh, "Mesh.egressFilter.type", `{"egressFilter":{"type":"ALLOW_ALL"}}`, `{"egressFilter":{"type":"DROP_ALL"}}`, false},
		{
			mesh.KindRoute, "Route.httpRoute.retryPolicy.perRetryTimeout",
			`{"httpRoute":{"match":{},"action":{"weightedTargets":[]},"retryPolicy":{"maxRetries":2,"perRetryTimeout":{"unit":"ms","value":5}}}}`,
			`{"httpRoute":{"match":{},"action":{"weightedTargets":[]},"retryPolicy":{"maxRetries":2,"perRetryTimeout":{"unit":"s","value":3600}}}}`, false,
		},
		{
			mesh.KindRoute, "Route.tcpRoute.action.weightedTargets.weight",
			`{"tcpRoute":{"action":{"weightedTargets":[{"virtualNode":"a","weight":9},{"virtualNode":"b","weight":0}]}}}`,
			`{"tcpRoute":{"action":{"weightedTargets":[{"virtualNode":"a","weight":1},{"virtualNode":"b","weight":1}]}}}`, false,
		},
	} {
		spec := parse(t, c.kind, c.before)
		if taken := Take(c.kind, spec, c.field); taken == c.nothing {
			t.Errorf("%s: taken: %v", c.field, taken)
		}
		if diff := cmp.Diff(parse(t, c.kind, c.want), spec); diff != "" {
			t.Errorf("%s, -want +got:\n%s", c.field, diff)
		}
	}
}

// TestEveryFieldCanBeTaken fills a spec of each kind with one of everything: each field
// is used then, and not what it was once it is taken.
func TestEveryFieldCanBeTaken(t *testing.T) {
	t.Parallel()
	for _, k := range mesh.Kinds {
		whole, err := json.Marshal(everything(k.SpecShape()))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range Used(k, parse(t, k, string(whole))) {
			spec := parse(t, k, string(whole))
			if !Take(k, spec, path) || cmp.Equal(spec, parse(t, k, string(whole))) {
				t.Errorf("taking %s out changes nothing", path)
			}
		}
		used := len(Used(k, parse(t, k, string(whole))))
		all := 0
		for _, path := range All() {
			if strings.HasPrefix(path, k.Title()+".") {
				all++
			}
		}
		if used != all {
			t.Errorf("a %s with everything uses %d fields of %d", k, used, all)
		}
	}
}

// everything returns a structure with all members, of unions too.
func everything(shape string) map[string]any {
	out := map[string]any{}
	s, _ := mesh.Model(shape)
	for _, m := range s.Members {
		out[m.Name] = one(m)
	}
	return out
}

func one(m mesh.Member) any {
	switch {
	case m.Type == "structure":
		return everything(m.Shape)
	case m.Type == "list":
		return []any{one(*m.Elem)}
	case m.Type == "boolean":
		return true
	case len(m.Enum) > 0:
		return m.Enum[0]
	case m.Type == "string":
		return "a"
	}
	return 7
}

func TestDeclared(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("test/a/a_test.go", `package a
func TestB(t *testing.T) { covers(t, "Route.priority", "Mesh.egressFilter.type") }
func TestA(t *testing.T) { t.Run("x", func(t *testing.T) { meshtest.Covers(t, "Route.{priority,priority}") }) }
func helper(t *testing.T) { covers(t, name) }
`)
	write("test/a/testdata/b_test.go", "not Go, and has covers(")
	got, err := Declared(root)
	want := map[string][]Test{
		"Route.priority":         {{"test/a", "TestA"}, {"test/a", "TestB"}},
		"Mesh.egressFilter.type": {{"test/a", "TestB"}},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	for text, want := range map[string]string{
		`covers(t, "Route.none")`: "c_test.go:2:38: the model has no field Route.none",
		"covers(t, name)":         "c_test.go:2:38: what a test covers must be a string literal",
	} {
		write("test/c_test.go", "package c\nfunc TestC(t *testing.T) { "+text+" }\n")
		if _, err := Declared(root); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
