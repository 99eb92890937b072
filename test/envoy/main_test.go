// Package envoy holds the behaviour tests: real Envoys under fairlead-agent, real
// traffic, and a whole control plane in the test's process. Each shows that a field of
// the API does what it says.
package envoy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

func TestMain(m *testing.M) {
	meshtest.Main(m, nil)
}

// port is the listener port of every application here; each has an address of its own.
const port = 8080

// service is the virtual service that front calls.
const service = "colour.test.local"

// stage is a mesh with applications and their Envoys.
type stage struct {
	t     *testing.T
	plane *meshtest.Plane
	front *meshtest.Proxy
	http  *http.Client // as front's application calls
}

// newStage starts a control plane with an empty mesh named test.
func newStage(t *testing.T) *stage {
	t.Helper()
	meshtest.EnvoyPath(t) // skips before anything is started
	s := &stage{t: t, plane: meshtest.Start(t)}
	s.plane.Put(t, "/meshes", `{"meshName":"test"}`)
	return s
}

// app runs an application behind an Envoy of its own and defines its virtual node.
func (s *stage) app(name string, h http.Handler) *meshtest.Proxy {
	s.t.Helper()
	app := meshtest.Serve(s.t, port, h)
	bind := meshtest.Address(s.t)
	s.plane.Node(s.t, "test", name, bind, port)
	return s.plane.Proxy(s.t, meshtest.ProxyConfig{ARN: meshtest.ARN("test", name), Bind: bind, App: app})
}

// named is an application that answers with its name.
func named(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) })
}

// caller defines a virtual node named front that has the service as its backend, and
// starts its Envoy. The log of its access goes to front.Log.
func (s *stage) caller() {
	s.t.Helper()
	s.startFront(s.defineFront())
}

// callerWith is caller with an Envoy whose bootstrap is changed first.
func (s *stage) callerWith(change func(bootstrap map[string]any)) {
	s.t.Helper()
	s.startFrontWith(s.defineFront(), change)
}

// startFrontWith is startFront with an Envoy whose bootstrap is changed first.
func (s *stage) startFrontWith(c meshtest.ProxyConfig, change func(bootstrap map[string]any)) {
	s.t.Helper()
	s.startFront(s.bootstrapped(c, change))
}

// bootstrapped gives an Envoy the bootstrap that its agent would make, changed.
func (s *stage) bootstrapped(c meshtest.ProxyConfig, change func(bootstrap map[string]any)) meshtest.ProxyConfig {
	s.t.Helper()
	b := s.plane.Bootstrap(s.t, c)
	change(b)
	text, err := json.Marshal(b)
	if err != nil {
		s.t.Fatal(err)
	}
	file := filepath.Join(s.t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
	c.Env = append(c.Env, "ENVOY_CONFIG_FILE="+file)
	return c
}

func (s *stage) defineFront() meshtest.ProxyConfig {
	s.t.Helper()
	spec := strings.TrimSuffix(meshtest.NodeSpec("", 0, service), "}") +
		`,"logging":{"accessLog":{"file":{"path":"/dev/stdout"}}}}`
	s.plane.Put(s.t, "/meshes/test/virtualNodes", `{"virtualNodeName":"front","spec":`+spec+`}`)
	return meshtest.ProxyConfig{ARN: meshtest.ARN("test", "front"), Bind: meshtest.Address(s.t), App: meshtest.Address(s.t)}
}

func (s *stage) startFront(c meshtest.ProxyConfig) {
	s.t.Helper()
	s.front = s.plane.Proxy(s.t, c)
	s.http = s.front.Outbound()
	s.front.Ready(s.t)
}

// awaitAnswer waits until the service answers a GET of a path with a status.
func (s *stage) awaitAnswer(path string, want int) {
	s.t.Helper()
	meshtest.Eventually(s.t, fmt.Sprintf("%s answers %d", path, want), func() error {
		status, body, err := meshtest.Get(s.http, url(path))
		if err == nil && status != want {
			return fmt.Errorf("answered %d %q", status, body)
		}
		return err
	})
}

// route replaces the spec of the service's one route.
func (s *stage) route(spec string) {
	s.t.Helper()
	s.plane.Put(s.t, "/meshes/test/virtualRouter/colour/routes/all", `{"spec":`+spec+`}`)
}

func url(path string) string { return fmt.Sprintf("http://%s:%d%s", service, port, path) }

// get calls the service and fails the test if it cannot be called.
func (s *stage) get(path string, headers ...string) (int, string) {
	s.t.Helper()
	status, body, err := meshtest.Get(s.http, url(path), headers...)
	if err != nil {
		s.t.Fatal(err)
	}
	return status, body
}
