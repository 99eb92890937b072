package envoy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// Each port of a gateway has a route of its own to one port of a service, over each
// protocol; nothing else tells them apart.
func TestGatewayPorts(t *testing.T) {
	t.Parallel()
	covers(t,
		"VirtualGateway.listeners.portMapping.{port,protocol}",
		"GatewayRoute.{httpRoute,http2Route,grpcRoute}.match.port",
		"GatewayRoute.{httpRoute,http2Route,grpcRoute}.action.target.{port,virtualService.virtualServiceName}",
		"VirtualRouter.listeners.portMapping.{port,protocol}",
	)
	s := newStage(t)
	protocols := []string{"http", "http2", "grpc"}
	var listeners []string
	for i, protocol := range protocols {
		listeners = append(listeners, listener(8000+10*i, protocol, ""), listener(8001+10*i, protocol, ""))
	}
	c := s.defineGateway(`{"listeners":[` + strings.Join(listeners, ",") + `]}`)
	for i, protocol := range protocols {
		member, matches := protocol+"Route", `"prefix":"/"`
		if protocol == "grpc" {
			matches = `"serviceName":"any"`
		}
		service := s.router(protocol, protocol, 80, 81)
		for j, name := range []string{"blue", "green"} {
			node := protocol + "-" + name
			s.straight(node, protocol, "", echoing(node))
			s.routeOf(protocol, name, routeSpec(member, fmt.Sprintf(`{%s,"port":%d}`, matches, 80+j), "", node, 1))
			s.plane.Put(t, "/meshes/test/virtualGateway/edge/gatewayRoutes", fmt.Sprintf(
				`{"gatewayRouteName":%q,"spec":{%q:{"match":{%s,"port":%d},"action":{"target":{"port":%d,"virtualService":{"virtualServiceName":%q}}}}}}`,
				node, member, matches, 8000+10*i+j, 80+j, service))
		}
	}
	d := s.startGateway(c)
	s.http = &http.Client{Timeout: deadline, Transport: http2Only()}
	for i, protocol := range protocols {
		for j, name := range []string{"blue", "green"} {
			want := fmt.Sprintf("%s-%s %s.test.local /any/call", protocol, name, protocol)
			if status, body := s.getGRPC(fmt.Sprintf("%s:%d", d.proxy.Bind, 8000+10*i+j), "/any/call"); body != want {
				t.Errorf("%s to port %d of the gateway: %d %q, want %q", protocol, 8000+10*i+j, status, body, want)
			}
		}
	}
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

// http2Only speaks HTTP/2 without TLS.
func http2Only() *http.Transport {
	t := &http.Transport{Protocols: new(http.Protocols)}
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}
