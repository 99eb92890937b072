package envoy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// router defines a router with listeners of one protocol on several ports, and a service
// of its own behind it, whose name it returns.
func (s *stage) router(name, protocol string, ports ...int) (service string) {
	s.t.Helper()
	var listeners []string
	for _, p := range ports {
		listeners = append(listeners, listener(p, protocol, ""))
	}
	s.plane.Put(s.t, "/meshes/test/virtualRouters", fmt.Sprintf(`{"virtualRouterName":%q,"spec":{"listeners":[%s]}}`, name, strings.Join(listeners, ",")))
	service = name + ".test.local"
	s.plane.Put(s.t, "/meshes/test/virtualServices", fmt.Sprintf(
		`{"virtualServiceName":%q,"spec":{"provider":{"virtualRouter":{"virtualRouterName":%q}}}}`, service, name))
	return service
}

// routeOf adds a route to a router.
func (s *stage) routeOf(router, name, spec string) {
	s.t.Helper()
	s.plane.Put(s.t, "/meshes/test/virtualRouter/"+router+"/routes", fmt.Sprintf(`{"routeName":%q,"spec":%s}`, name, spec))
}

// getGRPC makes a request that gRPC routes take for a call and all others for a request.
func (s *stage) getGRPC(host, path string, headers ...string) (status int, body string) {
	s.t.Helper()
	status, body, err := meshtest.Get(s.http, "http://"+host+path, append(headers, "content-type", "application/grpc")...)
	if err != nil {
		s.t.Fatal(err)
	}
	return status, body
}

// greeter is an application for TCP that says its name and closes the connection.
func greeter(t *testing.T, addr string, port int, name string) {
	t.Helper()
	l := listen(t, addr, port)
	t.Cleanup(func() { _ = l.Close() })
	go meshtest.HandleConns(l, func(c net.Conn) { _, _ = io.WriteString(c, name+"\n") })
}

// TestTargetsOfRoutes has a router of each protocol with two ports. Each of its routes is
// for one of them, and leads to the second port of a virtual node of its own: nothing else
// tells them apart.
func TestTargetsOfRoutes(t *testing.T) {
	t.Parallel()
	covers(t,
		"Route.{httpRoute,http2Route,grpcRoute,tcpRoute}.match.port",
		"Route.{httpRoute,http2Route,grpcRoute,tcpRoute}.action.weightedTargets.{virtualNode,port}",
		"VirtualRouter.listeners.portMapping.{port,protocol}",
	)
	s := newStage(t)
	protocols := []string{"http", "http2", "grpc", "tcp"}
	var services []string
	for i, protocol := range protocols {
		first := 1000 + 10*i
		services = append(services, s.router(protocol, protocol, first, first+1))
		for j, name := range []string{"a", "b"} {
			node := protocol + "-" + name
			addr := meshtest.Address(t)
			for k, answer := range []string{"wrong", node} {
				if protocol == "tcp" {
					greeter(t, addr, port+k, answer)
				} else {
					serveAt(t, addr, port+k, named(answer))
				}
			}
			s.node(node, fmt.Sprintf(`{"listeners":[%s,%s],"serviceDiscovery":{"dns":{"hostname":%q}}}`,
				listener(port, protocol, ""), listener(port+1, protocol, ""), addr))
			match := fmt.Sprintf(`{"prefix":"/","port":%d}`, first+j)
			if protocol == "grpc" || protocol == "tcp" {
				match = fmt.Sprintf(`{"port":%d}`, first+j)
			}
			s.routeOf(protocol, name, fmt.Sprintf(`{%q:{"match":%s,"action":{"weightedTargets":[{"virtualNode":%q,"weight":1,"port":%d}]}}}`,
				protocol+"Route", match, node, port+1))
		}
	}
	s.callerOf("", services...)
	for i, protocol := range protocols {
		for j, name := range []string{"a", "b"} {
			s.awaitTarget(protocol, 1000+10*i+j, protocol+"-"+name)
		}
	}
}

// awaitTarget waits until a service's port leads to an application.
func (s *stage) awaitTarget(protocol string, port int, want string) {
	s.t.Helper()
	s.http = priorKnowledge(s.front)
	meshtest.Eventually(s.t, fmt.Sprintf("port %d leads to %s", port, want), func() error {
		if protocol == "tcp" {
			if name, err := s.hello(port); name != want {
				return fmt.Errorf("answered %q %w", name, err)
			}
			return nil
		}
		if status, body := s.getGRPC(net.JoinHostPort(protocol+".test.local", fmt.Sprint(port)), "/any/call"); body != want {
			return fmt.Errorf("answered %d %q", status, body)
		}
		return nil
	})
}

// Weights count for routes of HTTP/2 and gRPC as well; TestWeights and TestTCPRoutes have
// the others.
func TestWeightsOfTheOtherProtocols(t *testing.T) {
	t.Parallel()
	covers(t, "Route.{http2Route,grpcRoute}.action.weightedTargets.{virtualNode,weight}")
	s := newStage(t)
	var services []string
	protocols := []string{"http2", "grpc"}
	for i, protocol := range protocols {
		for _, name := range []string{"blue", "green"} {
			s.straight(protocol+"-"+name, protocol, "", named(name))
		}
		services = append(services, s.router(protocol, protocol, 1000+i))
		match := map[string]string{"http2": `{"prefix":"/"}`, "grpc": `{}`}[protocol]
		s.routeOf(protocol, "all", routeSpec(protocol+"Route", match, "", protocol+"-blue", 90, protocol+"-green", 10))
	}
	s.callerOf("", services...)
	s.http = priorKnowledge(s.front)
	for i, protocol := range protocols {
		meshtest.Eventually(t, protocol+" is served", func() error {
			if status, body := s.getGRPC(services[i], "/any/call"); status != http.StatusOK || body == "" {
				return fmt.Errorf("answered %d %q", status, body)
			}
			return nil
		})
		green := 0
		for range 400 {
			if _, body := s.getGRPC(services[i], "/any/call"); body == "green" {
				green++
			}
		}
		// 400 draws at 0.1 have a standard deviation of 6; these are more than four and a half
		// below and ten above.
		if green < 12 || green > 100 {
			t.Errorf("%s: green got %d of 400, want 40", protocol, green)
		}
	}
}

// The events of HTTP hold for calls of gRPC too, whose server may have a proxy before it
// that knows HTTP only.
func TestHTTPRetryEventsOfGRPC(t *testing.T) {
	t.Parallel()
	covers(t, "Route.grpcRoute.retryPolicy.{httpRetryEvents,maxRetries}")
	s := newStage(t)
	s.straight("flaky", "grpc", "", &failingAs{seen: map[string]int{}})
	s.routed("grpc")
	for name, events := range map[string]string{"tried": `"httpRetryEvents":["gateway-error"]`, "told": `"grpcRetryEvents":["unavailable"]`} {
		s.addRoute(name, "grpcRoute", fmt.Sprintf(`{"serviceName":%q}`, name),
			`,"retryPolicy":{"maxRetries":2,"perRetryTimeout":{"unit":"s","value":5},`+events+`}`, "flaky", 1)
	}
	s.caller()
	s.http = priorKnowledge(s.front)
	host := fmt.Sprintf("%s:%d", service, port)
	meshtest.Eventually(t, "the service answers", func() error {
		if status, body := s.getGRPC(host, "/tried/x"); status != http.StatusOK || !strings.HasPrefix(body, "attempt") {
			return fmt.Errorf("answered %d %q", status, body)
		}
		return nil
	})
	if status, body := s.getGRPC(host, "/tried/x", "x-key", "tried", "x-how", "502", "x-attempts", "3"); body != "attempt 3" {
		t.Errorf("with the event: %d %q, want the third attempt's answer", status, body)
	}
	if status, body := s.getGRPC(host, "/told/x", "x-key", "told", "x-how", "502", "x-attempts", "3"); body != "" {
		t.Errorf("without the event: %d %q, want the first attempt's answer", status, body)
	}
}
