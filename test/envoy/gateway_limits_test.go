package envoy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

func TestGatewayPoolHealthAndAccessLog(t *testing.T) {
	t.Parallel()
	covers(t,
		"VirtualGateway.listeners.connectionPool.http.{maxConnections,maxPendingRequests}",
		"VirtualGateway.listeners.healthCheck.{path,protocol}",
		"VirtualGateway.logging.accessLog.file.{path,format.text,format.json}",
	)
	s := newStage(t)
	g := newGate()
	t.Cleanup(g.open)
	s.straight("app", "http", "", g)
	s.leadsTo("app.local", "app")
	spec := func(format string) string {
		check := `"healthCheck":{"protocol":%q,"path":"/ping","healthyThreshold":2,"unhealthyThreshold":2,"timeoutMillis":2000,"intervalMillis":5000}`
		return fmt.Sprintf(`{"listeners":[%s,%s],"logging":{"accessLog":{"file":{"path":"/dev/stdout","format":%s}}}}`,
			listener(httpPort, "http", `,"connectionPool":{"http":{"maxConnections":1,"maxPendingRequests":1}},`+fmt.Sprintf(check, "http")),
			listener(http2Port, "http2", ","+fmt.Sprintf(check, "grpc")), format)
	}
	c := s.defineGateway(spec(`{"text":"gateway %REQ(:AUTHORITY)% %RESPONSE_CODE%\n"}`))
	s.gatewayRoute("all", atPort(`{"prefix":"/app"}`, httpPort), "app.local", "")
	d := s.startGateway(c)
	d.wants(map[string]any{"GET a /app": "ok", "GET a /ping": "Fairlead: the virtual gateway is up.\n", "GET a /pong": 404})
	// A check in gRPC's own protocol asks for a service, not for a path.
	d.versions()["http2"].wants(map[string]any{"GET a /ping": 404})

	d.oneAtATime(g, "/app/hold")
	d.logs("gateway a 404")
	s.plane.Put(t, "/meshes/test/virtualGateways/edge", `{"spec":`+spec(`{"json":[{"key":"host","value":"%REQ(:AUTHORITY)%"},{"key":"status","value":"%RESPONSE_CODE%"}]}`)+`}`)
	line := d.logs(`{"`)
	var got map[string]any
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if diff := cmp.Diff(map[string]any{"host": fmt.Sprintf("%s:%d", d.proxy.Bind, d.port), "status": 404.0}, got); diff != "" {
		t.Errorf("the access log as JSON (-want +got):\n%s", diff)
	}
}

// oneAtATime fails the test unless the application has one connection, on which one
// request is held, one more waits for it and all others are turned away.
func (d *door) oneAtATime(g *gate, path string) {
	d.t.Helper()
	first := d.later(path)
	g.await(d.t)
	second := d.later(path)
	d.awaits(`cluster\.cds_egress_test_app_.*\.upstream_rq_pending_active$`, 1)
	for range 3 {
		status, _, err := meshtest.Get(d.client, fmt.Sprintf("http://%s:%d%s", d.proxy.Bind, d.port, path))
		if err != nil || status != http.StatusServiceUnavailable {
			d.t.Errorf("a third request: %d %v, want 503", status, err)
		}
	}
	d.awaits(`cluster\.cds_egress_test_app_.*\.upstream_cx_active$`, 1)
	if len(g.arrived) > 0 {
		d.t.Error("a second request has reached the application")
	}
	g.open()
	for _, answer := range []<-chan string{first, second} {
		if got := <-answer; got != "ok" {
			d.t.Errorf("a request that had waited was answered %q", got)
		}
	}
}

// awaits waits until the sum of statistics is what it should be.
func (d *door) awaits(pattern string, want int) {
	d.t.Helper()
	meshtest.Eventually(d.t, fmt.Sprintf("%s is %d", pattern, want), func() error {
		if got := sum(d.t, d.proxy, pattern); got != want {
			return fmt.Errorf("it is %d", got)
		}
		return nil
	})
}

// logs calls the gateway until its access log has a line that begins so: the first calls
// may be logged as before.
func (d *door) logs(prefix string) (line string) {
	d.t.Helper()
	meshtest.Eventually(d.t, "the access log has a line "+prefix, func() error {
		if _, _, err := meshtest.Get(d.client, fmt.Sprintf("http://%s:%d/pong", d.proxy.Bind, d.port)); err != nil {
			return err
		}
		log := d.proxy.Log.String()
		for line = range strings.Lines(log) {
			if strings.HasPrefix(line, prefix) {
				return nil
			}
		}
		return fmt.Errorf("the log: %s", log)
	})
	return line
}

// The pools of http2 and grpc listeners limit requests, whatever connection they are on.
func TestGatewayRequestLimits(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualGateway.listeners.connectionPool.{http2,grpc}.maxRequests")
	s := newStage(t)
	gates := map[string]*gate{"http2": newGate(), "grpc": newGate()}
	c := s.defineGateway(fmt.Sprintf(`{"listeners":[%s,%s]}`,
		listener(http2Port, "http2", `,"connectionPool":{"http2":{"maxRequests":1}}`),
		listener(grpcPort, "grpc", `,"connectionPool":{"grpc":{"maxRequests":1}}`)))
	for protocol, g := range gates {
		t.Cleanup(g.open)
		s.straight(protocol, protocol, "", g)
		s.leadsTo(protocol+".local", protocol)
	}
	s.gatewayRouteOf("http2Route", "http2", atPort(`{"prefix":"/"}`, http2Port), "http2.local", "")
	s.gatewayRouteOf("grpcRoute", "grpc", atPort(`{"serviceName":"hold"}`, grpcPort), "grpc.local", "")
	d := s.startGateway(c)
	d.client.Transport = http2Only()
	for protocol, p := range map[string]int{"http2": http2Port, "grpc": grpcPort} {
		d, g := *d, gates[protocol]
		d.port = p
		first, second := d.later("/hold/it"), (<-chan string)(nil)
		g.await(t)
		second = d.later("/hold/it")
		select {
		case <-g.arrived:
			t.Errorf("%s: a second request reached the application", protocol)
		case answer := <-second:
			over := fmt.Sprintf(`cluster\.cds_egress_test_%s_.*\.upstream_rq_(active|pending)_overflow$`, protocol)
			if n := sum(t, d.proxy, over); n != 1 {
				t.Errorf("%s: a second request was answered %q, and %d were over the limit, want 1", protocol, answer, n)
			}
		case <-time.After(deadline):
			t.Errorf("%s: a second request was neither refused nor let through", protocol)
		}
		g.open()
		if answer := <-first; answer != "ok" {
			t.Errorf("%s: the first request was answered %q", protocol, answer)
		}
	}
}

// later makes a call while the test goes on.
func (d *door) later(path string) <-chan string {
	out := make(chan string, 1)
	c, host := *d, d.proxy.Bind
	go func() {
		_, body, err := meshtest.Get(c.client, fmt.Sprintf("http://%s:%d%s", host, c.port, path), "content-type", "application/grpc")
		if err != nil {
			body = err.Error()
		}
		out <- body
	}()
	return out
}
