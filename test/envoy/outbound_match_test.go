package envoy

import (
	"fmt"
	"net/http"
	"testing"

	"golang.org/x/net/http2"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// straight runs an application without an Envoy and defines the virtual node that leads
// to it.
func (s *stage) straight(name, protocol, more string, h http.Handler) {
	s.t.Helper()
	s.node(name, nodeSpec(serveCleartext(s.t, h), protocol, more))
}

// serveCleartext runs an application that takes HTTP/1.1 and HTTP/2 without TLS.
func serveCleartext(t *testing.T, h http.Handler) (addr string) {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return serveWith(t, &http.Server{Handler: h, Protocols: protocols})
}

// TestHeaderMatches tries each form of a condition on a header, and its opposite: on a
// request that meets it, on one that does not, and on one without the header. An
// inverted condition on a value asks for the header to be there.
func TestHeaderMatches(t *testing.T) {
	t.Parallel()
	covers(t,
		"Route.{httpRoute,http2Route}.match.headers.{name,invert}",
		"Route.{httpRoute,http2Route}.match.headers.match.{exact,prefix,suffix,regex,range}",
	)
	for _, protocol := range []string{"http", "http2"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			headerMatches(t, protocol)
		})
	}
}

func headerMatches(t *testing.T, protocol string) {
	t.Helper()
	s := newStage(t)
	s.straight("blue", protocol, "", named("blue"))
	s.straight("green", protocol, "", named("green"))
	s.routed(protocol)
	s.addRoute("all", protocol+"Route", `{"prefix":"/"}`, "", "blue", 1)
	forms := []struct{ name, match, meets, fails string }{
		{"exact", `,"match":{"exact":"a-value"}`, "a-value", "a-valu"},
		{"prefix", `,"match":{"prefix":"a-"}`, "a-value", "b-value"},
		{"suffix", `,"match":{"suffix":"-value"}`, "a-value", "a-values"},
		{"regex", `,"match":{"regex":"a-[a-z]+"}`, "a-value", "a-value1"},
		{"range", `,"match":{"range":{"start":-5,"end":10}}`, "-5", "10"},
		{"range-text", `,"match":{"range":{"start":1,"end":10}}`, "9", "nine"},
		{"present", ``, "anything", ""},
	}
	for _, f := range forms {
		for _, invert := range []string{"false", "true"} {
			s.addRoute(f.name+"-"+invert, protocol+"Route",
				fmt.Sprintf(`{"prefix":"/%s/%s","headers":[{"name":"X-Tested"%s,"invert":%s}]}`, f.name, invert, f.match, invert), "", "green", 1)
		}
	}
	s.caller()
	s.awaitAnswer("/", http.StatusOK)
	check := func(path, want string, headers ...string) {
		t.Helper()
		s.want(s.request("GET", path, headers...), http.StatusOK, want)
	}
	for _, f := range forms {
		plain, inverted := "/"+f.name+"/false", "/"+f.name+"/true"
		check(plain, "green", "x-tested", f.meets)
		check(plain, "blue")
		check(inverted, "blue", "x-tested", f.meets)
		if f.name == "present" {
			check(inverted, "green")
			continue
		}
		check(plain, "blue", "x-tested", f.fails)
		check(inverted, "green", "x-tested", f.fails)
		check(inverted, "blue")
	}
}

// TestRequestMatches tries the other conditions of a match, over HTTP/2 as well, which an
// application begins without asking: only there can a request say its scheme.
func TestRequestMatches(t *testing.T) {
	t.Parallel()
	covers(t, "Route.{httpRoute,http2Route}.match.{prefix,method,scheme,path.exact,path.regex,queryParameters.name,queryParameters.match.exact}")
	for _, protocol := range []string{"http", "http2"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			kind := protocol + "Route"
			s := newStage(t)
			s.straight("blue", protocol, "", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "blue ", r.ProtoMajor) }))
			s.straight("green", protocol, "", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "green ", r.ProtoMajor) }))
			s.routed(protocol)
			s.addRoute("all", kind, `{"prefix":"/"}`, "", "blue", 1)
			s.addRoute("method", kind, `{"prefix":"/method","method":"PATCH"}`, "", "green", 1)
			s.addRoute("https", kind, `{"prefix":"/scheme/https","scheme":"https"}`, "", "green", 1)
			s.addRoute("plain", kind, `{"prefix":"/scheme/plain","scheme":"http"}`, "", "green", 1)
			s.addRoute("query", kind, `{"prefix":"/query","queryParameters":[{"name":"a"},{"name":"b","match":{"exact":"1"}}]}`, "", "green", 1)
			s.addRoute("regex", kind, `{"path":{"regex":"/(x|y)/[0-9]+"}}`, "", "green", 1)
			s.addRoute("exact", kind, `{"path":{"exact":"/exact"}}`, "", "green", 1)
			s.caller()
			s.awaitAnswer("/", http.StatusOK)
			blue, green := "blue 1", "green 1"
			if protocol == "http2" {
				blue, green = "blue 2", "green 2"
				s.http = priorKnowledge(s.front)
			}
			for _, c := range []struct{ method, path, want string }{
				{"PATCH", "/method", green},
				{"GET", "/method", blue},
				{"GET", "/scheme/plain", green},
				{"GET", "/scheme/https", blue},
				{"GET", "/query?a&b=1", green},
				{"GET", "/query?b=1&a=x", green},
				{"GET", "/query?b=1", blue},
				{"GET", "/query?a&b=2", blue},
				{"GET", "/x/1", green},
				{"GET", "/x/1/", blue},
				{"GET", "/exact", green},
				{"GET", "/exact?a=b", green},
				{"GET", "/exact/", blue},
			} {
				s.want(s.request(c.method, c.path), http.StatusOK, c.want)
			}
			if protocol == "http2" {
				s.http = s.sayingHTTPS()
				req := s.request("GET", "/scheme/https")
				req.URL.Scheme = "https"
				s.want(req, http.StatusOK, green)
			}
		})
	}
}

// TestPortsOfARouter has one router with two ports stand behind two services. Each route
// is for one of the ports, and leads to one of the ports of a virtual node.
func TestPortsOfARouter(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualRouter.listeners.portMapping.{port,protocol}")
	s := newStage(t)
	addr := serveCleartext(t, named("first"))
	serveAt(t, addr, port+1, named("second"))
	s.node("both", fmt.Sprintf(`{"listeners":[{"portMapping":{"port":%d,"protocol":"http"}},{"portMapping":{"port":%d,"protocol":"http2"}}],"serviceDiscovery":{"dns":{"hostname":%q}}}`, port, port+1, addr))
	s.plane.Put(t, "/meshes/test/virtualRouters", `{"virtualRouterName":"colour","spec":{"listeners":[{"portMapping":{"port":1000,"protocol":"http"}},{"portMapping":{"port":2000,"protocol":"http2"}}]}}`)
	for _, name := range []string{service, "other.test.local"} {
		s.plane.Put(t, "/meshes/test/virtualServices", fmt.Sprintf(`{"virtualServiceName":%q,"spec":{"provider":{"virtualRouter":{"virtualRouterName":"colour"}}}}`, name))
	}
	target := func(kind string, from, to int) string {
		return fmt.Sprintf(`{%q:{"match":{"prefix":"/","port":%d},"action":{"weightedTargets":[{"virtualNode":"both","weight":1,"port":%d}]}}}`, kind, from, to)
	}
	s.plane.Put(t, "/meshes/test/virtualRouter/colour/routes", `{"routeName":"a","spec":`+target("httpRoute", 1000, port)+`}`)
	s.plane.Put(t, "/meshes/test/virtualRouter/colour/routes", `{"routeName":"b","spec":`+target("http2Route", 2000, port+1)+`}`)
	s.callerOf("", service, "other.test.local")
	for _, c := range []struct {
		host, want string
		status     int
	}{
		{service, "first", 200},
		{service + ":1000", "first", 200},
		{service + ":2000", "second", 200},
		{"other.test.local:1000", "first", 200},
		{"other.test.local:2000", "second", 200},
		{service + ":3000", "", 404},
	} {
		if status, body, err := meshtest.Get(s.http, "http://"+c.host+"/"); err != nil || status != c.status || c.want != "" && body != c.want {
			t.Errorf("%s: %d %q %v, want %d %q", c.host, status, body, err, c.status, c.want)
		}
	}
}

// TestOrderOfRoutes shows which of several routes that match takes a request: rule by
// rule, each against a route that would win by the rules below.
func TestOrderOfRoutes(t *testing.T) {
	t.Parallel()
	covers(t, "Route.priority")
	s := newStage(t)
	s.straight("no", "http", "", named("no"))
	s.straight("yes", "http", "", named("yes"))
	s.routed("http")
	put := func(name, node, match string, priority int) {
		spec := routeSpec("httpRoute", match, "", node, 1)
		if priority >= 0 {
			spec = withPriority(priority, spec)
		}
		s.plane.Put(t, "/meshes/test/virtualRouter/colour/routes", fmt.Sprintf(`{"routeName":%q,"spec":%s}`, name, spec))
	}
	header := `,"headers":[{"name":"x","match":{"exact":"1"}}]`
	put("priority-1", "no", `{"path":{"exact":"/priority"}}`, 2)
	put("priority-2", "yes", `{"prefix":"/"`+header+`}`, 1)
	put("a-none", "no", `{"path":{"exact":"/none"}}`, -1)
	put("b-none", "yes", `{"prefix":"/none"}`, 999)
	put("kind-regex", "no", `{"path":{"regex":"/kind.*"}}`, -1)
	put("z-kind-exact", "yes", `{"path":{"exact":"/kind"}}`, -1)
	put("a-kind2-prefix", "no", `{"prefix":"/kind2/a/long/one"}`, -1)
	put("kind2-regex", "yes", `{"path":{"regex":"/kind2.*"}}`, -1)
	put("a-length", "no", `{"prefix":"/length/"`+header+`}`, -1)
	put("b-length", "yes", `{"prefix":"/length/more"}`, -1)
	put("a-conditions", "no", `{"prefix":"/conditions"`+header+`}`, -1)
	put("b-conditions", "yes", `{"prefix":"/conditions","method":"GET"`+header+`}`, -1)
	put("b-name", "no", `{"prefix":"/name","method":"GET"}`, -1)
	put("a-name", "yes", `{"prefix":"/name"`+header+`}`, -1)
	s.caller()
	s.awaitAnswer("/none", http.StatusOK)
	for _, path := range []string{"/none", "/kind", "/kind2/a/long/one", "/length/more"} {
		s.want(s.request("GET", path), http.StatusOK, "yes")
	}
	for _, path := range []string{"/priority", "/conditions", "/name"} {
		s.want(s.request("GET", path, "x", "1"), http.StatusOK, "yes")
	}
	s.want(s.request("GET", "/priority"), http.StatusOK, "no")
	s.want(s.request("GET", "/nothing"), http.StatusNotFound, "")
}

// priorKnowledge returns a client that speaks HTTP/2 to an Envoy's way out without
// asking, as gRPC does.
func priorKnowledge(x *meshtest.Proxy) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Timeout: deadline, Transport: &http.Transport{Protocols: protocols, DialContext: dialer(x)}}
}

// sayingHTTPS is priorKnowledge for requests that say that their scheme is https, on a
// connection without TLS.
func (s *stage) sayingHTTPS() *http.Client {
	s.t.Helper()
	conn, err := dialer(s.front)(s.t.Context(), "", "")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	c, err := new(http2.Transport).NewClientConn(conn) //nolint:staticcheck // what replaces it speaks TLS where the scheme is https
	if err != nil {
		s.t.Fatal(err)
	}
	return &http.Client{Transport: c}
}
