package bench

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

var sidecarPairs = flag.Int("pairs", 100, "how many pairs of turns BenchmarkSidecar takes")

// sidecarTurn is how long a turn is.
const sidecarTurn = 250 * time.Millisecond

// BenchmarkSidecar measures HTTP requests that go from a client through its Envoy and the
// Envoy of an application to that application, as Fairlead configures them (fairlead), and
// the same two hops through two Envoys with the least configuration that a hand would
// write, without a control plane (plain). Each Envoy has one worker. Both work in turns
// that form pairs: requests per second of both, the slowest hundredth, and what share of
// the plain rate is reached (ratio), with the bounds of its mean with 95 per cent. The time
// that both Envoys take of a processor for a request (cpu-us) says the same where a busy
// machine does not let the rates.
func BenchmarkSidecar(b *testing.B) {
	meshtest.EnvoyPath(b)
	app := meshtest.Address(b)
	responder(b, net.JoinHostPort(app, "8080"), 100)
	for _, c := range []struct {
		name string
		with string // more of the nodes' specs
		log  bool   // what it makes the plain Envoys write as well
	}{
		{"default", "", false},
		{"accesslog", `,"logging":{"accessLog":{"file":{"path":"/dev/null"}}}`, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			fairlead := &side{name: "fairlead", addr: meshed(b, app, c.with), request: request("GET /", "app.local:8080"), envoys: envoys(b)}
			plain := &side{name: "plain", addr: plainHops(b, net.JoinHostPort(app, "8080"), c.log), request: request("GET /", "app.local:8080")}
			plain.envoys = envoys(b, fairlead.envoys...)
			for _, s := range []*side{fairlead, plain} {
				if len(s.envoys) != 2 {
					b.Fatalf("%s has the Envoys %v, want two", s.name, s.envoys)
				}
				awaitAnswer(b, s)
				s.open(b, 8)
			}
			comparePairs(b, fairlead, plain, *sidecarPairs, sidecarTurn)
		})
	}
}

// request is one with the headers that clients send.
func request(what, host string) []byte {
	return fmt.Appendf(nil, "%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n", what, host)
}

// awaitAnswer waits until requests are answered.
func awaitAnswer(b *testing.B, s *side) {
	b.Helper()
	meshtest.Eventually(b, s.name+" answers", s.answers)
}

// answers sends one request on a connection of its own; nil if it is answered with 200.
func (s *side) answers() error {
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write(s.request[:len(s.request)-2]); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "Connection: close\r\n\r\n"); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err == nil && !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) {
		err = fmt.Errorf("%.200q", answer)
	}
	return err
}

// meshed runs a control plane and the Envoys of a front and an application's node, and
// returns where the front's application would send its requests.
func meshed(b *testing.B, app, with string) string {
	b.Helper()
	back, front := meshtest.Address(b), meshtest.Address(b)
	p := benchMesh(b, back, with)
	p.Proxy(b, meshtest.ProxyConfig{ARN: meshtest.ARN("bench", "app"), Bind: back, App: app}).Ready(b)
	p.Proxy(b, meshtest.ProxyConfig{ARN: meshtest.ARN("bench", "front"), Bind: front, App: meshtest.Address(b)}).Ready(b)
	return net.JoinHostPort(front, "15001")
}

// benchMesh runs a control plane with the nodes front and app, with more in their specs. The
// first calls the second, whose Envoy is at the address back, as app.local.
func benchMesh(b *testing.B, back, with string) *meshtest.Plane {
	b.Helper()
	p := meshtest.Start(b)
	p.Put(b, "/meshes", `{"meshName":"bench"}`)
	spec := func(host string, port int, backends ...string) string {
		return strings.TrimSuffix(meshtest.NodeSpec(host, port, backends...), "}") + with + "}"
	}
	p.Put(b, "/meshes/bench/virtualNodes", `{"virtualNodeName":"app","spec":`+spec(back, 8080)+`}`)
	p.Put(b, "/meshes/bench/virtualNodes", `{"virtualNodeName":"front","spec":`+spec("", 0, "app.local")+`}`)
	p.Put(b, "/meshes/bench/virtualRouters", `{"virtualRouterName":"app","spec":{"listeners":[{"portMapping":{"port":8080,"protocol":"http"}}]}}`)
	p.Put(b, "/meshes/bench/virtualRouter/app/routes",
		`{"routeName":"all","spec":{"httpRoute":{"match":{"prefix":"/"},"action":{"weightedTargets":[{"virtualNode":"app","weight":1}]}}}}`)
	p.Put(b, "/meshes/bench/virtualServices", `{"virtualServiceName":"app.local","spec":{"provider":{"virtualRouter":{"virtualRouterName":"app"}}}}`)
	return p
}

// plainHops runs two Envoys one behind the other, and returns where the first listens.
func plainHops(b *testing.B, app string, log bool) string {
	b.Helper()
	back := plainEnvoy(b, app, log)
	return plainEnvoy(b, back, log)
}

// plainEnvoy runs an Envoy that hands all requests on to an address, and returns where it
// listens.
func plainEnvoy(b *testing.B, to string, log bool) string {
	b.Helper()
	bind := meshtest.Address(b)
	config := filepath.Join(b.TempDir(), "envoy.json")
	meshtest.WriteFile(b, config, plainConfig(b, bind, to, log))
	runEnvoy(b, bind, config)
	return net.JoinHostPort(bind, "10000")
}

// runEnvoy runs an Envoy with one worker on a configuration of its own until the benchmark
// ends, and waits until it is ready. Its administration listens on port 9901 of bind.
func runEnvoy(b *testing.B, bind, config string) {
	b.Helper()
	cmd := exec.Command(meshtest.EnvoyPath(b), "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "error")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // how does not matter
	})
	meshtest.Eventually(b, "a plain Envoy is ready", func() error {
		status, body, err := meshtest.Get(&http.Client{Timeout: time.Second}, "http://"+bind+":9901/ready")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%d %s", status, body)
		}
		return err
	})
}

// plainConfig is the least that hands requests on, with an access log to nowhere if one is
// wanted.
func plainConfig(b *testing.B, bind, to string, log bool) []byte {
	b.Helper()
	type o = map[string]any
	address := func(host string, port any) o { return o{"socket_address": o{"address": host, "port_value": port}} }
	host, port, err := net.SplitHostPort(to)
	if err != nil {
		b.Fatal(err)
	}
	manager := o{
		"@type":       "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix": "http",
		"route_config": o{"virtual_hosts": []any{o{"name": "all", "domains": []any{"*"}, "routes": []any{
			o{"match": o{"prefix": "/"}, "route": o{"cluster": "to"}},
		}}}},
		"http_filters": []any{o{"name": "envoy.filters.http.router", "typed_config": o{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}},
	}
	if log {
		manager["access_log"] = []any{o{"name": "envoy.access_loggers.file", "typed_config": o{
			"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": "/dev/null",
		}}}
	}
	raw, err := json.Marshal(o{
		"admin": o{"address": address(bind, 9901)},
		"static_resources": o{
			"listeners": []any{o{"address": address(bind, 10000), "filter_chains": []any{o{"filters": []any{
				o{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager},
			}}}}},
			"clusters": []any{o{"name": "to", "type": "STATIC", "load_assignment": o{"cluster_name": "to", "endpoints": []any{
				o{"lb_endpoints": []any{o{"endpoint": o{"address": address(host, json.Number(port))}}}},
			}}}},
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	return raw
}
