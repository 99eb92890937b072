package envoy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// poolName is a name that several instances of an application are found by.
const poolName = "pool.test"

// checkOf returns a health check for the rest of a listener.
func checkOf(protocol, more string) string {
	return fmt.Sprintf(`,"healthCheck":{"protocol":%q,"healthyThreshold":2,"unhealthyThreshold":2,"timeoutMillis":2000,"intervalMillis":5000%s}`, protocol, more)
}

// poolSpec returns the spec of a virtual node with several instances.
func poolSpec(protocol, more string) string { return poolAt(poolName, protocol, more) }

// poolAt is poolSpec for another name.
func poolAt(host, protocol, more string) string {
	return strings.Replace(nodeSpec(host, protocol, more), `{"hostname"`, `{"responseType":"ENDPOINTS","hostname"`, 1)
}

// healthy waits until an Envoy takes so many instances of the pool for healthy, of all.
func (s *stage) healthy(protocol string, want, all int) {
	s.t.Helper()
	meshtest.Eventually(s.t, fmt.Sprintf("%d of %d instances are healthy", want, all), func() error {
		return s.isHealthy("pool", protocol, want, all)
	})
}

// isHealthy returns an error unless an Envoy takes so many instances of a virtual node for
// healthy now, of all.
func (s *stage) isHealthy(node, protocol string, want, all int) error {
	cluster := fmt.Sprintf("cluster.cds_egress_test_%s_%s_%d.", node, protocol, port)
	n, err := stat(s.front, cluster+"membership_healthy")
	if err != nil {
		return err
	}
	total, err := stat(s.front, cluster+"membership_total")
	if err == nil && (n != want || total != all) {
		err = fmt.Errorf("%d of %d instances of %s are healthy, want %d of %d", n, total, node, want, all)
	}
	return err
}

// answering answers all but a health check that it fails.
func answering(name string, ok bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ping" && (!ok || r.Host != fmt.Sprintf("%s:%d", poolName, port)) {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprint(w, name)
	})
}

// TestHealthChecks has clients check three instances by each protocol. One of them fails
// and gets no requests, without any retry.
func TestHealthChecks(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualNode.listeners.healthCheck.{path,protocol}")
	for _, c := range []struct{ name, protocol, check string }{
		{"http", "http", checkOf("http", `,"path":"/ping"`)},
		{"http2", "http2", checkOf("http2", `,"path":"/ping"`)},
		{"http of http2", "http2", checkOf("http", `,"path":"/ping"`)},
		{"tcp of http", "http", checkOf("tcp", "")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			names := newZone(t, 0)
			bad := meshtest.Address(t) // nobody is there
			if !strings.HasPrefix(c.name, "tcp") {
				bad = serveCleartext(t, answering("bad", false))
			}
			names.set(poolName, serveCleartext(t, answering("good", true)), bad, serveCleartext(t, answering("good", true)))
			s.node("pool", poolSpec(c.protocol, c.check))
			s.routed(c.protocol)
			s.addRoute("all", c.protocol+"Route", `{"prefix":"/"}`, noRetries, "pool", 1)
			s.callerWith(names.resolver)
			s.healthy(c.protocol, 2, 3)
			for range 30 {
				s.want(s.request("GET", "/"), http.StatusOK, "good")
			}
		})
	}
}

// noRetries turns a route's retries off.
const noRetries = `,"retryPolicy":{"maxRetries":0,"perRetryTimeout":{"unit":"s","value":1},"httpRetryEvents":["server-error"]}`

// Of gRPC it is the standard health service that is asked.
func TestHealthChecksOfGRPC(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualNode.listeners.healthCheck.protocol")
	s := newStage(t)
	names := newZone(t, 0)
	var addrs []string
	for i := range 3 {
		app, addr := serveGRPC(t, fmt.Sprint("app", i))
		if i == 1 {
			app.health.SetServingStatus("", healthgrpc.HealthCheckResponse_NOT_SERVING)
		}
		addrs = append(addrs, addr)
	}
	names.set(poolName, addrs...)
	s.node("pool", poolSpec("grpc", checkOf("grpc", "")))
	s.routed("grpc")
	s.addRoute("all", "grpcRoute", `{}`, "", "pool", 1)
	s.callerWith(names.resolver)
	s.healthy("grpc", 2, 3)
	c := s.grpcCaller()
	for range 30 {
		if got, err := call(t.Context(), c); err != nil || strings.HasPrefix(got, "app1") {
			t.Errorf("a call: %q %v, want another than app1", got, err)
		}
	}
}

// A check is made with TLS where calls are, in its own protocol.
func TestHealthChecksWithTLS(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ protocol, check string }{{"http", "http"}, {"http2", "http"}, {"http", "http2"}, {"http", "tcp"}} {
		t.Run(c.check+" of "+c.protocol, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			ca := meshtest.NewAuthority(t)
			names := newZone(t, 0)
			names.set(poolName, serveOutbound(t, ca, meshtest.Leaf{Name: "pool", DNS: []string{poolName}}, tls.NoClientCert))
			s.node("pool", poolSpec(c.protocol, checkOf(c.check, "")+`,"tls":{"mode":"STRICT","certificate":{"file":{"certificateChain":"/c","privateKey":"/k"}}}`))
			s.provided(service, "pool")
			s.startFrontWith(s.defineCaller(fmt.Sprintf(`,"backendDefaults":{"clientPolicy":{"tls":{"validation":{"trust":{"file":{"certificateChain":%q}}}}}}`, ca.File), service), names.resolver)
			s.healthy(c.protocol, 1, 1)
			if status, body := s.get("/"); status != http.StatusOK || !strings.HasPrefix(body, "tls ") {
				t.Errorf("a request: %d %q, want it with TLS", status, body)
			}
		})
	}
}

// TestHealthCheckEditsFailNoRequest changes a health check in every way under steady
// load, retries off: no change may leave a client without instances, as App Mesh's did
// for half an hour. Not even one to a check that all instances fail: then Envoy takes it
// for better to call them all. In the second run names are resolved slowly.
func TestHealthCheckEditsFailNoRequest(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]time.Duration{"quick names": 0, "slow names": 300 * time.Millisecond} {
		for _, discovery := range []string{"ENDPOINTS", "LOADBALANCER"} {
			t.Run(name+" "+discovery, func(t *testing.T) {
				t.Parallel()
				s := newStage(t)
				names := newZone(t, late)
				var checks sync.Map // path -> true
				app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/fails" {
						w.WriteHeader(http.StatusServiceUnavailable)
					}
					checks.Store(r.URL.Path, true)
					fmt.Fprint(w, "pool")
				})
				names.set(poolName, serveCleartext(t, app), serveCleartext(t, app), serveCleartext(t, app))
				spec := func(more string) string {
					return strings.Replace(poolSpec("http", more), "ENDPOINTS", discovery, 1)
				}
				s.node("pool", spec(""))
				s.routed("http")
				s.addRoute("all", "httpRoute", `{"prefix":"/"}`, noRetries, "pool", 1)
				s.callerWith(names.resolver)
				s.awaitAnswer("/", http.StatusOK)
				l := s.startLoad()
				all := 3
				if discovery == "LOADBALANCER" {
					all = 1
				}
				for _, edit := range []struct{ path, check string }{
					{"/one", checkOf("http", `,"path":"/one"`)},
					{"/two", checkOf("http", `,"path":"/two"`)},
					{"/three", strings.Replace(checkOf("http", `,"path":"/three"`), "5000", "6000", 1)},
					{"/four", checkOf("http2", `,"path":"/four"`)},
					{"/fails", checkOf("http", `,"path":"/fails"`)},
					{"", checkOf("tcp", "")},
					{"/fails", checkOf("http2", `,"path":"/fails"`)},
					{"", ""},
					{"/five", checkOf("http", `,"path":"/five"`)},
				} {
					s.updateNode("pool", spec(edit.check))
					want := all
					if edit.path == "/fails" {
						want = 0
					}
					if edit.path != "" {
						meshtest.Eventually(t, edit.path+" is asked for", func() error {
							if _, ok := checks.Load(edit.path); !ok {
								return errors.New("not yet")
							}
							return nil
						})
					}
					s.healthy("http", want, all)
					l.awaitShift(t, "pool")
				}
				l.end(t)
				s.noMeshFailures()
			})
		}
	}
}
