package server_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/server"
)

// What happened is in the audit's file, streams and what was cut off at the end too.
func TestAuditOfCallsAndStreams(t *testing.T) {
	t.Parallel()
	var file string
	p := meshtest.StartWith(t, meshtest.Options{Change: func(c *server.Config) { file = c.Audit.Path }})
	p.Put(t, "/meshes", `{"meshName":"test"}`)
	p.Node(t, "test", "front", "10.0.0.1", 8080)
	d := p.Delta(t, &corev3.Node{Id: meshtest.ARN("test", "front")})
	d.Await(t, "a first configuration", func() bool { return len(d.Resources(envoy.TypeListener)) > 0 })
	wantMetric(t, p, "fairlead_audit_events_total", "3") // two calls, and the stream's beginning
	wantMetric(t, p, "fairlead_audit_lost_events_total", "0")
	p.Stop(t)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for line := range strings.Lines(string(raw)) {
		var e struct{ EventName string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		seen[e.EventName]++
	}
	if seen["CreateMesh"] != 1 || seen["CreateVirtualNode"] != 1 || seen["StreamAggregatedResources"] < 2 {
		t.Errorf("events are %v, want the two calls, and the stream's beginning and end", seen)
	}
	if strings.Contains(string(raw), p.Creds.SecretAccessKey) {
		t.Error("the audit has a secret")
	}
}

func TestNoAudit(t *testing.T) {
	t.Parallel()
	var dir string
	p := meshtest.StartWith(t, meshtest.Options{Change: func(c *server.Config) { dir, c.Audit.Path = filepath.Dir(c.Audit.Path), "" }})
	p.Put(t, "/meshes", `{"meshName":"test"}`)
	p.Stop(t)
	if _, err := os.Stat(dir); err == nil {
		t.Error("there is an audit that nobody asked for")
	}
}

// What is known of proxies reaches the API.
func TestProxiesAreShownByTheAPI(t *testing.T) {
	t.Parallel()
	p := meshtest.Start(t)
	p.Put(t, "/meshes", `{"meshName":"test"}`)
	p.Node(t, "test", "front", "", 0, "missing.local")
	d := p.Delta(t, &corev3.Node{Id: meshtest.ARN("test", "front")})
	d.Await(t, "a first configuration", func() bool { return len(d.Resources(envoy.TypeListener)) > 0 })
	var proxies struct{ Proxies []json.RawMessage }
	p.Signed(t).Want(t, "GET", "/v1/meshes/test/proxies", "", &proxies)
	if len(proxies.Proxies) != 1 {
		t.Errorf("proxies are %s", proxies.Proxies)
	}
	var problems struct{ Problems []json.RawMessage }
	p.Signed(t).Want(t, "GET", "/v1/meshes/test/problems", "", &problems)
	if len(problems.Problems) == 0 {
		t.Error("there are no problems; the backend does not exist")
	}
}

func TestQuotasOfTheServer(t *testing.T) {
	t.Parallel()
	most := meshtest.MostQuotas()
	p := meshtest.StartWith(t, meshtest.Options{Quotas: most})
	if got := p.Server().Store().Quotas(meshtest.Account); got != most {
		t.Errorf("quotas are %v, want %v", got, most)
	}
}
