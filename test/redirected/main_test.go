//go:build linux

// Package redirected holds the behaviour tests of proxies as App Mesh places them: the
// kernel hands an application's connections to the Envoy beside it, and the application
// knows nothing of it. Each host of a mesh is a network namespace, which needs root.
package redirected

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

func TestMain(m *testing.M) {
	meshtest.Main(m, nil)
}

const (
	// port is where every application listens.
	port = 8080
	// service is the virtual service that front calls. Nothing listens on its addresses:
	// they only have to be found.
	service = "colour.test.local"
	// serviceURL is how an application calls it.
	serviceURL = "http://colour.test.local:8080/"
)

// stage is a mesh on hosts of its own.
type stage struct {
	t     *testing.T
	hosts *meshtest.Hosts
	plane *meshtest.Plane
	front *meshtest.Host // where calls come from
	proxy *meshtest.Proxy
}

// newStage makes a network and a control plane with an empty mesh of the given spec.
func newStage(t *testing.T, spec string) *stage {
	t.Helper()
	meshtest.EnvoyPath(t) // skips before anything is started
	s := &stage{t: t, hosts: meshtest.NewHosts(t), plane: meshtest.Start(t)}
	s.plane.Put(t, "/meshes", `{"meshName":"test","spec":`+spec+`}`)
	s.serviceName(service)
	return s
}

// serviceName has a service's name found at addresses where nothing is.
func (s *stage) serviceName(name string) {
	nowhere := s.hosts.Nowhere()
	s.hosts.Names.Set(name, nowhere[:]...)
}

// node defines a virtual node.
func (s *stage) node(name, spec string) {
	s.t.Helper()
	s.plane.Put(s.t, "/meshes/test/virtualNodes", fmt.Sprintf(`{"virtualNodeName":%q,"spec":%s}`, name, spec))
}

// start adds a host for a virtual node that is defined, with its Envoy, and redirects
// the application's ports.
func (s *stage) start(name string, ports ...int) (*meshtest.Host, *meshtest.Proxy) {
	s.t.Helper()
	h := s.hosts.Add(name)
	return h, h.Redirect(ports...).Proxy(s.plane, meshtest.ARN("test", name))
}

// app adds a host with an application of http behind an Envoy.
func (s *stage) app(name string, h http.Handler) (*meshtest.Host, *meshtest.Proxy) {
	s.t.Helper()
	s.node(name, meshtest.NodeSpec(name, port))
	host, proxy := s.start(name, port)
	host.Serve(port, h)
	return host, proxy
}

// caller adds the host front, whose node has the services as backends, and waits for its
// Envoy.
func (s *stage) caller(services ...string) {
	s.t.Helper()
	s.node("front", frontSpec(services...))
	s.front, s.proxy = s.start("front")
	s.proxy.Ready(s.t)
}

// frontSpec returns the spec of the node front.
func frontSpec(services ...string) string {
	return strings.TrimSuffix(meshtest.NodeSpec("", 0, services...), "}") + `,"logging":{"accessLog":{"file":{"path":"/dev/stdout"}}}}`
}

// named is an application that answers with its name.
func named(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) })
}

// await waits until a URL is answered with a status and a text in the body.
func await(t *testing.T, c *http.Client, url string, status int, text string) {
	t.Helper()
	meshtest.Eventually(t, fmt.Sprintf("%s answers %d %q", url, status, text), func() error {
		return answers(c, url, status, text)
	})
}

// answers checks one answer.
func answers(c *http.Client, url string, status int, text string) error {
	got, body, err := meshtest.Get(c, url)
	if err == nil && (got != status || !strings.Contains(body, text)) {
		err = fmt.Errorf("answered %d %q", got, body)
	}
	return err
}

// want fails the test unless a URL is answered with a status and a text in the body.
func want(t *testing.T, c *http.Client, url string, status int, text string) {
	t.Helper()
	if err := answers(c, url, status, text); err != nil {
		t.Errorf("%s: %v, want %d %q", url, err, status, text)
	}
}

// count reads one statistic of an Envoy.
func count(t *testing.T, x *meshtest.Proxy, name string) int {
	t.Helper()
	text, err := x.Admin("/stats?filter=" + "^" + strings.ReplaceAll(name, ".", `\.`) + "$")
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if _, value, ok := strings.Cut(text, ": "); ok {
		if _, err := fmt.Sscan(value, &n); err != nil {
			t.Fatalf("statistic %q: %v", text, err)
		}
	}
	return n
}

var errStill = errors.New("not yet")
