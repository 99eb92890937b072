// Package telemetry holds the tests of what goes beside the traffic: metrics, logs and
// traces. Real Envoys under fairlead-agent send them, and receivers that parse the real
// formats must get what was sent. The OpenTelemetry collector and Prometheus are a
// program of a module of their own, in receivers.
package telemetry

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

func TestMain(m *testing.M) {
	meshtest.Main(m, nil)
}

const (
	port    = 8080
	service = "blue.test.local"
)

// stage is a mesh named test in which a node named front calls one named blue, each
// behind an Envoy with the same environment.
type stage struct {
	t           *testing.T
	front, blue *meshtest.Proxy
	http        *http.Client // as front's application calls
}

// newStage starts the mesh. An answer of blue says which path was asked for; /missing
// is answered with 404.
func newStage(t *testing.T, env ...string) *stage {
	t.Helper()
	meshtest.EnvoyPath(t) // skips before anything is started
	p := meshtest.Start(t)
	p.Put(t, "/meshes", `{"meshName":"test"}`)
	app := meshtest.Serve(t, port, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/missing" {
			w.WriteHeader(http.StatusNotFound)
		}
		fmt.Fprint(w, "you asked for ", r.URL.Path)
	}))
	bind := meshtest.Address(t)
	p.Node(t, "test", "blue", bind, port)
	p.Put(t, "/meshes/test/virtualServices", `{"virtualServiceName":"`+service+`","spec":{"provider":{"virtualNode":{"virtualNodeName":"blue"}}}}`)
	p.Put(t, "/meshes/test/virtualNodes", `{"virtualNodeName":"front","spec":`+meshtest.NodeSpec("", 0, service)+`}`)
	// Statistics are sent often, so that a test need not wait.
	env = append([]string{"ENVOY_STATS_FLUSH_INTERVAL=200ms"}, env...)
	s := &stage{t: t}
	s.blue = p.Proxy(t, meshtest.ProxyConfig{ARN: meshtest.ARN("test", "blue"), Bind: bind, App: app, Env: env})
	s.front = p.Proxy(t, meshtest.ProxyConfig{ARN: meshtest.ARN("test", "front"), Bind: meshtest.Address(t), App: meshtest.Address(t), Env: env})
	s.http = s.front.Outbound()
	t.Cleanup(func() {
		if t.Failed() {
			stats, err := s.front.Admin("/stats?filter=appmesh|tracing|rejected|access_log")
			t.Logf("front's statistics: %v\n%s", err, stats)
		}
	})
	s.blue.Ready(t)
	s.front.Ready(t)
	meshtest.Eventually(t, "blue answers", func() error {
		status, body, err := meshtest.Get(s.http, url("/warm"))
		if err == nil && status != http.StatusOK {
			return fmt.Errorf("answered %d %q", status, body)
		}
		return err
	})
	return s
}

func url(path string) string { return fmt.Sprintf("http://%s:%d%s", service, port, path) }

// get makes a request and checks the status of the answer.
func (s *stage) get(path string, want int) {
	s.t.Helper()
	status, body, err := meshtest.Get(s.http, url(path))
	if err != nil || status != want {
		s.t.Fatalf("%s: %d %q %v, want %d", path, status, body, err, want)
	}
}
