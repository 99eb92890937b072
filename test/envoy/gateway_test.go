package envoy

import (
	"fmt"
	"net/http"
	neturl "net/url"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// door is a virtual gateway named edge with its Envoy.
type door struct {
	*stage
	proxy  *meshtest.Proxy
	client *http.Client
	port   int // of the listener that is called
}

// gateway defines a virtual gateway and starts its Envoy.
func (s *stage) gateway(spec string) *door {
	s.t.Helper()
	return s.startGateway(s.defineGateway(spec))
}

func (s *stage) defineGateway(spec string) meshtest.ProxyConfig {
	s.t.Helper()
	s.plane.Put(s.t, "/meshes/test/virtualGateways", `{"virtualGatewayName":"edge","spec":`+spec+`}`)
	return meshtest.ProxyConfig{
		ARN:  "arn:aws:appmesh:" + meshtest.Region + ":" + meshtest.Account + ":mesh/test/virtualGateway/edge",
		Bind: meshtest.Address(s.t), App: meshtest.Address(s.t),
	}
}

func (s *stage) startGateway(c meshtest.ProxyConfig) *door {
	s.t.Helper()
	d := &door{stage: s, port: port, proxy: s.plane.Proxy(s.t, c), client: &http.Client{
		Timeout:       20 * time.Second,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 32},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	d.proxy.Ready(s.t)
	return d
}

// withoutInternalListeners gives an Envoy a bootstrap that has no internal listeners.
func (s *stage) withoutInternalListeners(c meshtest.ProxyConfig) meshtest.ProxyConfig {
	s.t.Helper()
	return s.bootstrapped(c, func(b map[string]any) {
		delete(b, "bootstrap_extensions")
		delete(nodeMetadata(b), "internalListeners")
	})
}

// onPort is the spec of a gateway with one listener.
func onPort(protocol string) string {
	return fmt.Sprintf(`{"listeners":[{"portMapping":{"port":%d,"protocol":%q}}]}`, port, protocol)
}

// bothVersions is the spec of a gateway with a listener for each version of HTTP.
var bothVersions = fmt.Sprintf(`{"listeners":[%s,%s]}`, listener(httpPort, "http", ""), listener(http2Port, "http2", ""))

// versions returns a gateway of bothVersions as it is called in each.
func (d *door) versions() map[string]*door {
	client, two := *d.client, *d
	client.Transport = http2Only()
	two.client, two.port = &client, http2Port
	return map[string]*door{"http": d, "http2": &two}
}

// gatewayRoute defines a gateway route to a service; rewrite may be "".
func (s *stage) gatewayRoute(name, match, service, rewrite string) {
	s.t.Helper()
	s.gatewayRouteOf("httpRoute", name, match, service, rewrite)
}

// gatewayRoutes defines a gateway route for each version of HTTP.
func (s *stage) gatewayRoutes(name, match, service, rewrite string) {
	s.t.Helper()
	s.gatewayRouteOf("httpRoute", name, atPort(match, httpPort), service, rewrite)
	s.gatewayRouteOf("http2Route", name+"-http2", atPort(match, http2Port), service, rewrite)
}

// atPort adds a listener's port to a match.
func atPort(match string, port int) string {
	return fmt.Sprintf(`%s,"port":%d}`, strings.TrimSuffix(match, "}"), port)
}

func (s *stage) gatewayRouteOf(member, name, match, service, rewrite string) {
	s.t.Helper()
	s.plane.Put(s.t, "/meshes/test/virtualGateway/edge/gatewayRoutes",
		fmt.Sprintf(`{"gatewayRouteName":%q,"spec":%s}`, name, gatewayRouteSpec(member, match, service, rewrite)))
}

func gatewayRouteSpec(member, match, service, rewrite string) string {
	if rewrite != "" {
		rewrite = `,"rewrite":` + rewrite
	}
	return fmt.Sprintf(`{%q:{"match":%s,"action":{"target":{"virtualService":{"virtualServiceName":%q}}%s}}}`, member, match, service, rewrite)
}

// leadsTo defines a virtual service that a virtual node provides.
func (s *stage) leadsTo(service, node string) {
	s.t.Helper()
	s.plane.Put(s.t, "/meshes/test/virtualServices", fmt.Sprintf(
		`{"virtualServiceName":%q,"spec":{"provider":{"virtualNode":{"virtualNodeName":%q}}}}`, service, node))
}

// twoRoutes has a gateway that leads /colour and /shape to a service.
func twoRoutes(t *testing.T) (*stage, *door) {
	t.Helper()
	s := newStage(t)
	s.app("blue", named("blue"))
	s.leadsTo(service, "blue")
	d := s.gateway(onPort("http"))
	s.gatewayRoute("colour", `{"prefix":"/colour"}`, service, "")
	s.gatewayRoute("shape", `{"prefix":"/shape"}`, service, "")
	return s, d
}

// answers waits until the gateway answers a GET of shop.test with a status.
func (d *door) answers(path string, want int) {
	d.t.Helper()
	meshtest.Eventually(d.t, fmt.Sprintf("%s answers %d", path, want), func() error {
		if status, body := d.call("GET shop.test " + path); status != want {
			return fmt.Errorf("answered %d %q", status, body)
		}
		return nil
	})
}

// call sends a request to the gateway: "METHOD HOST PATH", with headers as names and
// values in turn. It returns the status and the body.
func (d *door) call(request string, headers ...string) (int, string) {
	d.t.Helper()
	f := strings.SplitN(request, " ", 3)
	req, err := http.NewRequestWithContext(d.t.Context(), f[0], fmt.Sprintf("http://%s:%d", d.proxy.Bind, d.port), http.NoBody)
	if err != nil {
		d.t.Fatal(err)
	}
	// The path is sent as it is written.
	path, query, _ := strings.Cut(f[2], "?")
	req.Host, req.URL.RawPath, req.URL.RawQuery = f[1], path, query
	if req.URL.Path, err = neturl.PathUnescape(path); err != nil {
		d.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	status, body, err := meshtest.Do(d.client, req)
	if err != nil {
		d.t.Fatal(err)
	}
	return status, body
}

// await waits until a request is answered with a body.
func (d *door) await(request, want string) {
	d.t.Helper()
	meshtest.Eventually(d.t, request+" is answered "+want, func() error {
		if status, body := d.call(request); body != want {
			return fmt.Errorf("answered %d %q", status, body)
		}
		return nil
	})
}

// wants fails the test unless requests are answered as said: by a body, or by a status
// that is not 200.
func (d *door) wants(cases map[string]any) {
	d.t.Helper()
	for request, want := range cases {
		parts := strings.Split(request, " | ")
		status, body := d.call(parts[0], parts[1:]...)
		if code, ok := want.(int); ok && status != code || !ok && body != want {
			d.t.Errorf("%s: answered %d %q, want %v", request, status, body, want)
		}
	}
}

// echoing is an application that answers with its name and how it was called.
func echoing(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s", name, r.Host, r.URL.RequestURI())
	})
}

func TestGatewayHosts(t *testing.T) {
	t.Parallel()
	covers(t,
		"GatewayRoute.{httpRoute,http2Route}.match.hostname.{exact,suffix}",
		"GatewayRoute.{httpRoute,http2Route}.action.target.virtualService.virtualServiceName",
	)
	s := newStage(t)
	for _, name := range []string{"whole", "suffix", "rest"} {
		s.app(name, echoing(name)).Ready(t)
		s.leadsTo(name+".local", name)
	}
	d := s.gateway(bothVersions)
	s.gatewayRoutes("whole", `{"hostname":{"exact":"Shop.example.com"},"prefix":"/x"}`, "whole.local", "")
	s.gatewayRoutes("suffix", `{"hostname":{"suffix":".example.com"}}`, "suffix.local", "")
	s.gatewayRoutes("bare", `{"hostname":{"suffix":"example.org"}}`, "suffix.local", "")
	s.gatewayRoutes("rest", `{"prefix":"/"}`, "rest.local", "")
	for version, d := range d.versions() {
		t.Run(version, func(t *testing.T) { d.in(t).hosts() })
	}
}

// in returns a gateway for a part of its test.
func (d *door) in(t *testing.T) *door {
	part, same := *d, *d.stage
	same.t = t
	part.stage = &same
	return &part
}

func (d *door) hosts() {
	d.t.Helper()
	d.await("GET other.net /a", "rest rest.local /a")
	d.await("GET example.org /a", "suffix suffix.local /a")
	d.wants(map[string]any{
		"GET shop.example.com /x/a":      "whole whole.local /a",
		"GET SHOP.EXAMPLE.COM:8080 /x/a": "whole whole.local /a",
		"GET shop.example.com /a":        404, // other routes do not apply to a host that a route names
		"GET www.example.com /a":         "suffix suffix.local /a",
		"GET a.b.example.com:1 /x/a":     "suffix suffix.local /x/a",
		"GET example.com /a":             "rest rest.local /a",
		"GET www.example.org /":          "suffix suffix.local /",
	})
	if _, body := d.call("GET shop.example.com /a"); !strings.Contains(body, "edge") || !strings.Contains(body, "shop.example.com") {
		d.t.Errorf("a request without a route is answered %q, want the gateway and the host", body)
	}
}

func TestGatewayPathsAndRewrites(t *testing.T) {
	t.Parallel()
	covers(t,
		"GatewayRoute.{httpRoute,http2Route}.match.{prefix,path.exact,path.regex}",
		"GatewayRoute.{httpRoute,http2Route}.action.rewrite.{prefix.defaultPrefix,prefix.value,path.exact,hostname.defaultTargetHostname}",
	)
	s := newStage(t)
	s.app("app", echoing("app")).Ready(t)
	s.leadsTo("app.local", "app")
	c := s.defineGateway(bothVersions)
	for name, r := range map[string][2]string{
		"default":  {`{"prefix":"/x"}`, ""},
		"slash":    {`{"prefix":"/s/"}`, ""},
		"disabled": {`{"prefix":"/d"}`, `{"prefix":{"defaultPrefix":"DISABLED"}}`},
		"value":    {`{"prefix":"/v"}`, `{"prefix":{"value":"/new/"}}`},
		"whole":    {`{"prefix":"/w"}`, `{"path":{"exact":"/one"}}`},
		"exact":    {`{"path":{"exact":"/e"}}`, ""},
		"exact-to": {`{"path":{"exact":"/f"}}`, `{"path":{"exact":"/g"}}`},
		"regex":    {`{"path":{"regex":"/r/[0-9]+"}}`, ""},
		"regex-to": {`{"path":{"regex":"/q/.*"}}`, `{"path":{"exact":"/p"}}`},
		"host":     {`{"prefix":"/h"}`, `{"hostname":{"defaultTargetHostname":"DISABLED"}}`},
	} {
		s.gatewayRoutes(name, r[0], "app.local", r[1])
	}
	for version, d := range s.startGateway(c).versions() {
		t.Run(version, func(t *testing.T) { d.in(t).pathsAndRewrites() })
	}
}

func (d *door) pathsAndRewrites() {
	d.t.Helper()
	d.await("GET a /e", "app app.local /e")
	d.wants(map[string]any{
		"GET a /x":           "app app.local /",
		"GET a /x/":          "app app.local /",
		"GET a /x?a=b":       "app app.local /?a=b",
		"GET a /x/y/z?a=b/c": "app app.local /y/z?a=b/c",
		"GET a /xb":          404,
		"GET a /s/y":         "app app.local /y",
		"GET a /s/":          "app app.local /",
		"GET a /s":           404,
		"GET a /d/y":         "app app.local /d/y",
		"GET a /d":           "app app.local /d",
		"GET a /dy":          404,
		"GET a /v/y":         "app app.local /new/y",
		"GET a /v":           "app app.local /new/",
		"GET a /w/y?a=b":     "app app.local /one?a=b",
		"GET a /e":           "app app.local /e",
		"GET a /e/":          404,
		"GET a /f?a=b":       "app app.local /g?a=b",
		"GET a /r/12?a":      "app app.local /r/12?a",
		"GET a /r/12x":       404,
		"GET a /q/x":         "app app.local /p",
		"GET b:8080 /h/y":    "app b:8080 /y",
		// Other spellings of a path are normalised before it is matched.
		"GET a //x//y":     "app app.local /y",
		"GET a /d/../x/y":  "app app.local /y",
		"GET a /%78/y":     "app app.local /y",
		"GET a /x/a%2Fb/c": "app app.local /a%2Fb/c",
	})
}

func TestGatewayConditions(t *testing.T) {
	t.Parallel()
	covers(t,
		"GatewayRoute.{httpRoute,http2Route}.match.{method,queryParameters.name,queryParameters.match.exact,headers.name,headers.invert}",
		"GatewayRoute.{httpRoute,http2Route}.match.headers.match.{exact,prefix,suffix,regex,range}",
	)
	s := newStage(t)
	s.app("yes", named("yes")).Ready(t)
	s.app("no", named("no")).Ready(t)
	s.leadsTo("yes.local", "yes")
	s.leadsTo("no.local", "no")
	c := s.defineGateway(bothVersions)
	s.gatewayRoutes("no", `{"prefix":"/"}`, "no.local", "")
	for name, match := range map[string]string{
		"exact":   `{"prefix":"/exact","headers":[{"name":"x-a","match":{"exact":"b"}}]}`,
		"prefix":  `{"prefix":"/prefix","headers":[{"name":"x-a","match":{"prefix":"b"}}]}`,
		"suffix":  `{"prefix":"/suffix","headers":[{"name":"x-a","match":{"suffix":"b"}}]}`,
		"regex":   `{"prefix":"/regex","headers":[{"name":"x-a","match":{"regex":"b+"}}]}`,
		"range":   `{"prefix":"/range","headers":[{"name":"x-a","match":{"range":{"start":1,"end":3}}}]}`,
		"present": `{"prefix":"/present","headers":[{"name":"x-a"}]}`,
		"absent":  `{"prefix":"/absent","headers":[{"name":"x-a","invert":true}]}`,
		"not":     `{"prefix":"/not","headers":[{"name":"x-a","match":{"exact":"b"},"invert":true}]}`,
		"query":   `{"prefix":"/query","queryParameters":[{"name":"a","match":{"exact":"b"}},{"name":"c"}]}`,
		"method":  `{"prefix":"/method","method":"POST"}`,
	} {
		s.gatewayRoutes(name, match, "yes.local", "")
	}
	for version, d := range s.startGateway(c).versions() {
		t.Run(version, func(t *testing.T) { d.in(t).conditions() })
	}
}

func (d *door) conditions() {
	d.t.Helper()
	meshtest.Eventually(d.t, "all routes are served", func() error {
		for request, headers := range map[string][]string{
			"GET a /exact": {"x-a", "b"}, "GET a /prefix": {"x-a", "b"}, "GET a /suffix": {"x-a", "b"}, "GET a /regex": {"x-a", "b"},
			"GET a /range": {"x-a", "1"}, "GET a /present": {"x-a", "1"}, "GET a /absent": nil, "GET a /not": {"x-a", "c"},
			"GET a /query?a=b&c=d": nil, "POST a /method": nil,
		} {
			if status, body := d.call(request, headers...); body != "yes" {
				return fmt.Errorf("%s: answered %d %q", request, status, body)
			}
		}
		return nil
	})
	d.wants(map[string]any{
		"GET a /exact | x-a | bb":  "no",
		"GET a /exact":             "no",
		"GET a /prefix | x-a | bc": "yes",
		"GET a /prefix | x-a | cb": "no",
		"GET a /suffix | x-a | cb": "yes",
		"GET a /suffix | x-a | bc": "no",
		"GET a /regex | x-a | bbb": "yes",
		"GET a /regex | x-a | bbc": "no",
		"GET a /range | x-a | 3":   "no",
		"GET a /range | x-a | x":   "no",
		"GET a /present":           "no",
		"GET a /absent | x-a | b":  "no",
		"GET a /not | x-a | b":     "no",
		"GET a /query?a=b":         "no",
		"GET a /query?a=c&c=d":     "no",
		"GET a /method":            "no",
	})
}

func TestGatewayPriorities(t *testing.T) {
	t.Parallel()
	covers(t, "GatewayRoute.priority", "GatewayRoute.httpRoute.action.target.virtualService.virtualServiceName")
	s := newStage(t)
	for _, name := range []string{"one", "two", "three"} {
		s.app(name, named(name)).Ready(t)
		s.leadsTo(name+".local", name)
	}
	d := s.gateway(onPort("http"))
	s.gatewayRoute("a", `{"prefix":"/"}`, "one.local", "")
	s.gatewayRoute("b", `{"prefix":"/long"}`, "two.local", "")
	d.await("GET a /long", "two")
	d.await("GET a /", "one")
	s.plane.Put(t, "/meshes/test/virtualGateway/edge/gatewayRoutes",
		`{"gatewayRouteName":"c","spec":{"priority":5,`+strings.TrimPrefix(gatewayRouteSpec("httpRoute", `{"prefix":"/l"}`, "three.local", ""), "{")+`}`)
	d.await("GET a /l", "three")
	s.plane.Put(t, "/meshes/test/virtualGateway/edge/gatewayRoutes/c",
		`{"spec":{"priority":5,`+strings.TrimPrefix(gatewayRouteSpec("httpRoute", `{"prefix":"/"}`, "three.local", ""), "{")+`}`)
	d.await("GET a /long", "three")
}
