package envoy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

func TestGatewayPorts(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.app("blue", echoing("blue")).Ready(t)
	s.app("green", echoing("green")).Ready(t)
	s.plane.Put(t, "/meshes/test/virtualRouters",
		`{"virtualRouterName":"many","spec":{"listeners":[{"portMapping":{"port":80,"protocol":"http"}},{"portMapping":{"port":81,"protocol":"http"}}]}}`)
	for node, p := range map[string]int{"blue": 80, "green": 81} {
		s.plane.Put(t, "/meshes/test/virtualRouter/many/routes", fmt.Sprintf(
			`{"routeName":%q,"spec":{"httpRoute":{"match":{"prefix":"/","port":%d},"action":{"weightedTargets":[{"virtualNode":%q,"weight":1}]}}}}`, node, p, node))
	}
	s.plane.Put(t, "/meshes/test/virtualServices", `{"virtualServiceName":"many.local","spec":{"provider":{"virtualRouter":{"virtualRouterName":"many"}}}}`)
	d := s.gateway(`{"listeners":[{"portMapping":{"port":8080,"protocol":"http"}},{"portMapping":{"port":8081,"protocol":"http"}}]}`)
	for name, p := range map[string][3]int{"a": {8080, 80}, "b": {8081, 81}} {
		s.plane.Put(t, "/meshes/test/virtualGateway/edge/gatewayRoutes", fmt.Sprintf(
			`{"gatewayRouteName":%q,"spec":{"httpRoute":{"match":{"prefix":"/","port":%d},"action":{"target":{"port":%d,"virtualService":{"virtualServiceName":"many.local"}}}}}}`, name, p[0], p[1]))
	}
	d.await("GET a /", "blue many.local /")
	meshtest.Eventually(t, "the second port answers", func() error {
		_, body, err := meshtest.Get(d.client, "http://"+d.proxy.Bind+":8081/")
		if err == nil && body != "green many.local /" {
			err = fmt.Errorf("answered %q", body)
		}
		return err
	})
}

func TestGatewayWeights(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.app("blue", named("blue")).Ready(t)
	s.app("green", named("green")).Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 80, "green", 20))
	d := s.gateway(onPort("http"))
	s.gatewayRoute("all", `{"prefix":"/colour"}`, service, "")
	meshtest.Eventually(t, "the gateway answers", func() error {
		if status, body := d.call("GET a /colour"); status != http.StatusOK {
			return fmt.Errorf("answered %d %q", status, body)
		}
		return nil
	})
	green := 0
	for range 2000 {
		if _, body := d.call("GET a /colour/x"); body == "green" {
			green++
		}
	}
	// As in TestWeights: more than four standard deviations.
	if green < 320 || green > 480 {
		t.Errorf("green got %d of 2000, want 400", green)
	}
}

// slowPolicy is the spec of a route with a limit of time and with retries.
const slowPolicy = `{"httpRoute":{"match":{"prefix":"/"},"action":{"weightedTargets":[{"virtualNode":%q,"weight":1}]},` +
	`"timeout":{"perRequest":{"unit":"s","value":1}},` +
	`"retryPolicy":{"maxRetries":2,"perRetryTimeout":{"unit":"s","value":15},"httpRetryEvents":["server-error"]}}}`

// The timeouts and retries of a service's route hold behind a gateway, and go on holding
// where the host is not rewritten (App Mesh lost them) and in a second pass.
func TestGatewayTimeoutsAndRetries(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	release := make(chan struct{})
	s.app("slow", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "hang") {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		fmt.Fprint(w, "done")
	})).Ready(t)
	t.Cleanup(func() { close(release) })
	s.app("flaky", &failing{n: 2}).Ready(t)
	s.plane.Routed(t, "test", "slow.local", "slow", port, fmt.Sprintf(slowPolicy, "slow"))
	s.plane.Routed(t, "test", "flaky.local", "flaky", port, fmt.Sprintf(slowPolicy, "flaky"))
	// Routes that make a second pass of what a rewritten prefix leads to.
	for _, router := range []string{"slow", "flaky"} {
		s.plane.Put(t, "/meshes/test/virtualRouter/"+router+"/routes",
			`{"routeName":"image","spec":{"priority":1,`+strings.TrimPrefix(fmt.Sprintf(strings.Replace(slowPolicy, `"prefix":"/"`, `"path":{"regex":".*(png|hang|flaky)"}`, 1), router), "{")+`}`)
	}
	d := s.startGateway(s.defineGateway(onPort("http")))
	keep := `"prefix":{"defaultPrefix":"DISABLED"}`
	for name, rewrite := range map[string]string{
		"plain": "{" + keep + "}",
		"host":  `{"hostname":{"defaultTargetHostname":"DISABLED"},` + keep + `}`,
		"two":   "",
	} {
		s.gatewayRoute(name+"-slow", `{"prefix":"/`+name+`/slow"}`, "slow.local", rewrite)
		s.gatewayRoute(name+"-flaky", `{"prefix":"/`+name+`/flaky"}`, "flaky.local", rewrite)
	}
	for _, name := range []string{"plain", "host", "two"} {
		d.await("GET a /"+name+"/slow/", "done")
		if status, _ := d.call("GET a /" + name + "/slow/hang"); status != http.StatusGatewayTimeout {
			t.Errorf("%s: a request that hangs is answered with %d, want 504", name, status)
		}
		if status, body := d.call("GET a /"+name+"/flaky/flaky", "x-key", name); body != "attempt 3" {
			t.Errorf("%s: with 2 retries: %d %q, want the third attempt's answer", name, status, body)
		}
	}
}

// What one pass cannot do, a second on an internal listener does; without one such a
// route answers 503, and the others go on.
func TestGatewaySecondPass(t *testing.T) {
	t.Parallel()
	for _, internal := range []bool{true, false} {
		t.Run(fmt.Sprint("internal=", internal), func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.app("images", echoing("images")).Ready(t)
			s.app("pages", echoing("pages")).Ready(t)
			s.plane.Routed(t, "test", service, "colour", port, matching(1000, `{"prefix":"/"}`, "pages"))
			s.plane.Put(t, "/meshes/test/virtualRouter/colour/routes", `{"routeName":"images","spec":`+matching(1, `{"path":{"regex":".*[.]png"}}`, "images")+`}`)
			c := s.defineGateway(onPort("http"))
			if !internal {
				c = s.withoutInternalListeners(c)
			}
			d := s.startGateway(c)
			s.gatewayRoute("rewritten", `{"prefix":"/shop"}`, service, "")
			s.gatewayRoute("kept", `{"prefix":"/kept"}`, service, `{"prefix":{"defaultPrefix":"DISABLED"},"hostname":{"defaultTargetHostname":"DISABLED"}}`)
			d.await("GET a /kept/x.png?a=b", "images a /kept/x.png?a=b")
			want := map[string]any{"GET a /kept/x": "pages a /kept/x", "GET a /shop": "pages " + service + " /"}
			if internal {
				want["GET a /shop/x.png?a=b"] = "images " + service + " /x.png?a=b"
				want["GET a /shop/x"] = "pages " + service + " /x"
			} else {
				want["GET a /shop/x.png"] = http.StatusServiceUnavailable
				want["GET a /shop/x"] = http.StatusServiceUnavailable
			}
			d.await("GET a /shop", "pages "+service+" /")
			d.wants(want)
			big := strings.Repeat("x", 1<<20)
			if internal {
				d.upload("/shop/x", big)
			}
		})
	}
}

// upload sends a body and fails the test unless it arrives.
func (d *door) upload(path, body string) {
	d.t.Helper()
	resp, err := d.client.Post(fmt.Sprintf("http://%s:%d%s", d.proxy.Bind, port, path), "text/plain", strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		d.t.Errorf("%d bytes to %s: %d %q", len(body), path, resp.StatusCode, answer)
	}
}

// A service's router decides what is there: what none of its routes matches is answered
// with 404 and goes to no other gateway route.
func TestGatewayRouteKeepsItsRequests(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.app("narrow", echoing("narrow")).Ready(t)
	s.app("rest", echoing("rest")).Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, matching(1, `{"prefix":"/in","method":"GET","headers":[{"name":"x-a"}]}`, "narrow"))
	s.leadsTo("rest.local", "rest")
	d := s.gateway(onPort("http"))
	s.gatewayRoute("narrow", `{"prefix":"/narrow","headers":[{"name":"x-b"}]}`, service, "")
	s.gatewayRoute("rest", `{"prefix":"/"}`, "rest.local", "")
	d.await("GET a /", "rest rest.local /")
	meshtest.Eventually(t, "the narrow route is served", func() error {
		if status, body := d.call("GET a /narrow/inside", "x-a", "1", "x-b", "1"); body != "narrow "+service+" /inside" {
			return fmt.Errorf("answered %d %q", status, body)
		}
		return nil
	})
	d.wants(map[string]any{
		"GET a /narrow/in | x-a | 1":             "rest rest.local /narrow/in",
		"GET a /narrow/in | x-b | 1":             404,
		"POST a /narrow/in | x-a | 1 | x-b | 1":  404,
		"GET a /narrow/out | x-a | 1 | x-b | 1":  404,
		"GET a /narrow | x-a | 1 | x-b | 1":      404,
		"GET a /narrowed/in | x-a | 1 | x-b | 1": "rest rest.local /narrowed/in",
	})
}

func TestGatewayPoolHealthAndAccessLog(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	release := make(chan struct{})
	s.app("app", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			<-release
		}
	})).Ready(t)
	s.leadsTo("app.local", "app")
	d := s.gateway(`{"listeners":[{"portMapping":{"port":8080,"protocol":"http"},` +
		`"connectionPool":{"http":{"maxConnections":1,"maxPendingRequests":1}},` +
		`"healthCheck":{"protocol":"http","path":"/ping","healthyThreshold":2,"unhealthyThreshold":2,"timeoutMillis":2000,"intervalMillis":5000}}],` +
		`"logging":{"accessLog":{"file":{"path":"/dev/stdout","format":{"text":"gateway %REQ(:AUTHORITY)% %RESPONSE_CODE%\n"}}}}}`)
	s.gatewayRoute("all", `{"prefix":"/app"}`, "app.local", "")
	d.await("GET a /app", "")
	d.wants(map[string]any{"GET a /ping": "Fairlead: the virtual gateway is up.\n", "GET a /pong": 404})

	// One connection and one request that waits for it; a third is turned away.
	var wg sync.WaitGroup
	codes := make(chan int, 5)
	for range 5 {
		wg.Go(func() {
			status, _, err := meshtest.Get(d.client, fmt.Sprintf("http://%s:%d/app/hold", d.proxy.Bind, port))
			if err != nil {
				t.Error(err)
			}
			codes <- status
		})
	}
	refused := 0
	for range 3 {
		if <-codes == http.StatusServiceUnavailable {
			refused++
		}
	}
	close(release)
	wg.Wait()
	if refused != 3 {
		t.Errorf("%d of 5 requests were turned away, want 3", refused)
	}
	meshtest.Eventually(t, "the access log has the request", func() error {
		if log := d.proxy.Log.String(); !strings.Contains(log, "gateway a 404\n") {
			return fmt.Errorf("the log: %s", log)
		}
		return nil
	})
}

// http2 and grpc listeners take HTTP/2 without an upgrade; a gRPC gateway route matches
// the service, its metadata and the host, and nothing but gRPC.
func TestGatewayHTTP2AndGRPC(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.app("app", echoing("app")).Ready(t)
	s.app("gold", echoing("gold")).Ready(t)
	s.leadsTo("app.local", "app")
	s.leadsTo("gold.local", "gold")
	d := s.gateway(`{"listeners":[{"portMapping":{"port":8080,"protocol":"http2"}},{"portMapping":{"port":8081,"protocol":"grpc"}}]}`)
	d.client.Transport = http2Only()
	route := func(name, member, match, service string) {
		s.plane.Put(t, "/meshes/test/virtualGateway/edge/gatewayRoutes", fmt.Sprintf(`{"gatewayRouteName":%q,"spec":%s}`, name, gatewayRouteSpec(member, match, service, "")))
	}
	route("two", "http2Route", `{"prefix":"/two","port":8080}`, "app.local")
	route("cart", "grpcRoute", `{"serviceName":"shop.Cart","port":8081}`, "app.local")
	route("gold", "grpcRoute", `{"serviceName":"shop.Cart","port":8081,"metadata":[{"name":"tier","match":{"exact":"gold"}}]}`, "gold.local")
	route("host", "grpcRoute", `{"hostname":{"exact":"gold.example.com"},"port":8081}`, "gold.local")
	d.await("GET a /two/x", "app app.local /x")
	call := func(host, path, contentType, tier string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+d.proxy.Bind+":8081"+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		req.Header.Set("content-type", contentType)
		req.Header.Set("tier", tier)
		_, body, err := meshtest.Do(d.client, req)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	meshtest.Eventually(t, "the gRPC routes are served", func() error {
		a, b := call("a", "/shop.Cart/Add", "application/grpc", "gold"), call("gold.example.com", "/other/Add", "application/grpc", "")
		if a != "gold gold.local /shop.Cart/Add" || b != "gold gold.local /other/Add" {
			return fmt.Errorf("answered %q and %q", a, b)
		}
		return nil
	})
	if got := call("a", "/shop.Cart/Add", "application/grpc+proto", "tin"); got != "app app.local /shop.Cart/Add" {
		t.Errorf("a request of the service: %q", got)
	}
	for _, c := range [][3]string{{"a", "/shop.Cart/Add", "text/plain"}, {"a", "/shop.Carts/Add", "application/grpc"}} {
		if got := call(c[0], c[1], c[2], "gold"); strings.HasPrefix(got, "app ") || strings.HasPrefix(got, "gold ") {
			t.Errorf("%v reached %q", c, got)
		}
	}
}

// http2Only speaks HTTP/2 without TLS.
func http2Only() *http.Transport {
	t := &http.Transport{Protocols: new(http.Protocols)}
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}
