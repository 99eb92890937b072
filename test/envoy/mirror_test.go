package envoy

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// copies is an application that counts what it is sent, by path and by the policy that the
// requests are copies for, and fails after a while.
type copies struct {
	mu   sync.Mutex
	seen map[string]int
	wait time.Duration
}

func (c *copies) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	if c.seen == nil {
		c.seen = map[string]int{}
	}
	c.seen[r.URL.Path+" "+r.Header.Get("x-fairlead-mirror")]++
	wait := c.wait
	c.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-r.Context().Done():
	}
	w.WriteHeader(http.StatusInternalServerError)
}

func (c *copies) count(path, policy string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[path+" "+policy]
}

// mirroring is the spec of a policy that copies to green.
func mirroring(target, more string, percentage float64) string {
	return fmt.Sprintf(`{%s,%s"action":{"mirror":{"percentage":%v,"to":{"virtualNode":{"virtualNodeName":"green","port":%d}}}}}`, target, more, percentage, port)
}

// TestMirror measures copies: how many, of which requests, marked, without anything coming
// back from them, and that they end with the policy.
func TestMirror(t *testing.T) {
	t.Parallel()
	covers(t, "Policy.action.mirror.{percentage,to.virtualNode.virtualNodeName,to.virtualNode.port}")
	s := newStage(t)
	green := &copies{wait: 50 * time.Millisecond}
	other := meshtest.Serve(t, port+1, http.NotFoundHandler())
	bind := meshtest.Address(t)
	// The port that is not meant comes first.
	s.node("green", fmt.Sprintf(`{"listeners":[{"portMapping":{"port":%d,"protocol":"http"}},{"portMapping":{"port":%d,"protocol":"http"}}],"serviceDiscovery":{"dns":{"hostname":%q}}}`, port+1, port, bind))
	s.plane.Proxy(t, meshtest.ProxyConfig{ARN: meshtest.ARN("test", "green"), Bind: bind, App: serveBeside(t, other, green)})
	s.app("blue", named("blue"))
	s.routed("http")
	s.addRoute("all", "httpRoute", `{"prefix":"/"}`, "", "blue", 1)
	s.caller()
	s.awaitAnswer("/", http.StatusOK)
	s.policy("half", mirroring(onRouter, `"match":{"prefix":"/half"},`, 50))
	s.policy("all", mirroring(onRoute, `"match":{"prefix":"/all"},`, 100))
	meshtest.Eventually(t, "a request is copied", func() error {
		if status, body := s.get("/all/first"); status != 200 || body != "blue" {
			t.Errorf("answered %d %q", status, body)
		}
		if green.count("/all/first", "all") == 0 {
			return fmt.Errorf("it is not")
		}
		return nil
	})
	for _, path := range []string{"/half", "/all", "/none"} {
		if got := s.tally(200, path); got[200] != 200 {
			t.Errorf("%s was answered %v", path, got)
		}
	}
	meshtest.Eventually(t, "all requests are copied", func() error {
		if n := green.count("/all", "all"); n != 200 {
			return fmt.Errorf("%d of 200", n)
		}
		return nil
	})
	if n := green.count("/half", "half"); n < 60 || n > 140 {
		t.Errorf("of 200 requests half of which are copied %d were", n)
	}
	if n := green.count("/none", ""); n != 0 {
		t.Errorf("%d copies of what is not meant", n)
	}
	s.dropPolicy("all")
	s.dropPolicy("half")
	s.plane.Signed(t).Want(t, http.MethodGet, "/v1/meshes/test/propagation?wait=20", "", nil)
	before := green.count("/all/last", "all")
	s.tally(50, "/all/last")
	s.policy("fence", mirroring(onRouter, `"match":{"prefix":"/fence"},`, 100))
	meshtest.Eventually(t, "what comes after is copied", func() error {
		s.get("/fence")
		if green.count("/fence", "fence") == 0 {
			return fmt.Errorf("it is not")
		}
		return nil
	})
	if n := green.count("/all/last", "all"); n != before {
		t.Errorf("%d copies after the policy's end", n-before)
	}
}

// serveBeside runs an application on the port of the tests, beside one on the next port, and
// returns their address.
func serveBeside(t *testing.T, addr string, h http.Handler) string {
	t.Helper()
	l := listen(t, addr, port)
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return addr
}

// TestMirrorOfGateway copies what a gateway is asked by one of its routes.
func TestMirrorOfGateway(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	green := &copies{}
	s.app("green", green)
	s.app("blue", named("blue"))
	s.leadsTo(service, "blue")
	d := s.gateway(onPort("http"))
	s.gatewayRoute("colour", `{"prefix":"/colour"}`, service, "")
	s.gatewayRoute("shape", `{"prefix":"/shape"}`, service, "")
	s.policy("copy", mirroring(`"target":{"gatewayRoute":{"virtualGatewayName":"edge","gatewayRouteName":"colour"}}`, "", 100))
	meshtest.Eventually(t, "a request is copied", func() error {
		status, body := d.call("GET shop.test /colour/a")
		d.call("GET shop.test /shape/a")
		if status != 200 || body != "blue" || green.count("/a", "copy") == 0 {
			return fmt.Errorf("answered %d %q", status, body)
		}
		return nil
	})
	green.mu.Lock()
	defer green.mu.Unlock()
	for path := range green.seen {
		if path != "/a copy" {
			t.Errorf("%s was copied", path)
		}
	}
}

// TestMirrorToService copies as the routes of another service lead: by its conditions, and to
// one of its targets by their weights; and to a service that a node provides.
func TestMirrorToService(t *testing.T) {
	t.Parallel()
	covers(t, "Policy.action.mirror.to.virtualService.{virtualServiceName,port}")
	s := newStage(t)
	one, two := &copies{}, &copies{}
	s.app("one", one)
	s.app("two", two)
	s.app("blue", named("blue"))
	s.routed("http")
	s.addRoute("all", "httpRoute", `{"prefix":"/"}`, "", "blue", 1)
	s.provided("single.test", "two")
	s.plane.Put(t, "/meshes/test/virtualRouters", fmt.Sprintf(`{"virtualRouterName":"next","spec":{"listeners":[{"portMapping":{"port":%d,"protocol":"http"}},{"portMapping":{"port":%d,"protocol":"http"}}]}}`, port+7, port))
	s.plane.Put(t, "/meshes/test/virtualServices", `{"virtualServiceName":"next.test","spec":{"provider":{"virtualRouter":{"virtualRouterName":"next"}}}}`)
	for name, spec := range map[string]string{
		"a-first":  routeSpec("httpRoute", fmt.Sprintf(`{"prefix":"/only","port":%d,"headers":[{"name":"x-one","match":{"exact":"1"}}],"queryParameters":[{"name":"q","match":{"exact":"1"}}]}`, port), "", "one", 1),
		"b-second": routeSpec("httpRoute", fmt.Sprintf(`{"prefix":"/only","port":%d}`, port), "", "two", 1),
		"c-spread": routeSpec("httpRoute", fmt.Sprintf(`{"prefix":"/spread","port":%d}`, port), "", "one", 75, "two", 25),
		"d-other":  routeSpec("httpRoute", fmt.Sprintf(`{"prefix":"/other","port":%d}`, port+7), "", "one", 1),
	} {
		s.plane.Put(t, "/meshes/test/virtualRouter/next/routes", fmt.Sprintf(`{"routeName":%q,"spec":%s}`, name, spec))
	}
	s.caller()
	s.awaitAnswer("/", http.StatusOK)
	s.policy("next", fmt.Sprintf(`{%s,"action":{"mirror":{"percentage":40,"to":{"virtualService":{"virtualServiceName":"next.test","port":%d}}}}}`, onRoute, port))
	s.policy("single", `{`+onRoute+`,"match":{"prefix":"/single"},"action":{"mirror":{"percentage":100,"to":{"virtualService":{"virtualServiceName":"single.test"}}}}}`)
	meshtest.Eventually(t, "requests are copied", func() error {
		s.tally(5, "/single/first")
		if two.count("/single/first", "single") == 0 {
			return fmt.Errorf("they are not")
		}
		return nil
	})
	const n = 600
	s.tally(n, "/spread")
	s.tally(n, "/only?q=1", "x-one", "1")
	s.tally(n, "/only?q=2", "x-one", "1")
	s.tally(n, "/other")
	s.tally(n, "/nowhere")
	s.tally(n, "/single")
	meshtest.Eventually(t, "the last request is copied", func() error {
		if got := two.count("/single", "single"); got != n {
			return fmt.Errorf("%d of %d", got, n)
		}
		return nil
	})
	for _, c := range []struct {
		what      string
		got, want int
	}{
		{"/spread to one", one.count("/spread", "next"), n * 30 / 100},
		{"/spread to two", two.count("/spread", "next"), n * 10 / 100},
		{"/only, by either", one.count("/only", "next") + two.count("/only", "next"), 2 * n * 40 / 100},
		{"/only to one", one.count("/only", "next"), n * 40 / 100},
	} {
		if c.got < c.want*2/3 || c.got > c.want*4/3 {
			t.Errorf("%s: %d copies, want about %d", c.what, c.got, c.want)
		}
	}
	if got := one.count("/other", "next") + one.count("/nowhere", "next") + two.count("/nowhere", "next"); got != 0 {
		t.Errorf("%d copies by no route", got)
	}
	// Another route of that service, and another provider.
	s.plane.Put(t, "/meshes/test/virtualRouter/next/routes/b-second", `{"spec":`+routeSpec("httpRoute", fmt.Sprintf(`{"prefix":"/nowhere","port":%d}`, port), "", "two", 1)+`}`)
	meshtest.Eventually(t, "the change is followed", func() error {
		if s.tally(5, "/nowhere"); two.count("/nowhere", "next") == 0 {
			return fmt.Errorf("it is not")
		}
		return nil
	})
}

// TestMirrorToHost copies to hosts outside of the mesh, in plain text and with TLS both ways, by
// files and by secrets; to one whose certificate is not trusted, or has another name, nothing
// goes.
func TestMirrorToHost(t *testing.T) {
	t.Parallel()
	covers(t, "Policy.action.mirror.to.host.{hostname,port,protocol}",
		"Policy.action.mirror.to.host.tls.validation.{trust.file.certificateChain,trust.sds.secretName,subjectAlternativeNames.match.exact}",
		"Policy.action.mirror.to.host.tls.certificate.{file.certificateChain,file.privateKey,sds.secretName}")
	s := newStage(t)
	ca, other := meshtest.NewAuthority(t), meshtest.NewAuthority(t)
	leaf := ca.WriteLeaf(t, t.TempDir(), "localhost", meshtest.Leaf{Name: "server", DNS: []string{"localhost"}, URIs: []string{"spiffe://away/shadow"}})
	own := ca.WriteLeaf(t, t.TempDir(), "own", meshtest.Leaf{Name: "own"})
	source, socket := startSecrets(t)
	source.trust(t, ca, "their-ca")
	source.issue(t, ca, "own", meshtest.Leaf{Name: "own"})
	s.app("blue", named("blue"))
	s.routed("http")
	s.addRoute("all", "httpRoute", `{"prefix":"/"}`, "", "blue", 1)
	s.callerWith(withSecrets(socket))
	s.awaitAnswer("/", http.StatusOK)
	certificate := fmt.Sprintf(`,"certificate":{"file":{"certificateChain":%q,"privateKey":%q}}`, own.Cert, own.Key)
	validation := func(a *meshtest.Authority, name string) string {
		return fmt.Sprintf(`,"protocol":"http2","tls":{"validation":{"trust":{"file":{"certificateChain":%q}},"subjectAlternativeNames":{"match":{"exact":[%q]}}}%s}`, a.File, name, certificate)
	}
	hosts := map[string]*outsider{}
	for name, tls := range map[string]string{
		"plain": "", "files": validation(ca, "spiffe://away/shadow"), "distrusted": validation(other, "localhost"), "misnamed": validation(ca, "spiffe://away/other"),
		"secrets": `,"tls":{"validation":{"trust":{"sds":{"secretName":"their-ca"}}},"certificate":{"sds":{"secretName":"own"}}}`,
	} {
		hosts[name] = outside(t, ca, leaf, name != "plain")
		// Four copies is what a request has at most.
		s.policy(name, fmt.Sprintf(`{%s,"match":{"prefix":"/%s"},"action":{"mirror":{"percentage":100,"to":{"host":{"hostname":"localhost","port":%d%s}}}}}`, onRoute, name, hosts[name].port, tls))
	}
	meshtest.Eventually(t, "requests are copied", func() error {
		for name := range hosts {
			if status, body := s.get("/" + name); status != 200 || body != "blue" {
				t.Errorf("answered %d %q", status, body)
			}
		}
		for _, name := range []string{"plain", "files", "secrets"} {
			if hosts[name].count("/"+name, name) == 0 {
				return fmt.Errorf("not to %s", name)
			}
			if h := hosts[name].host.Load(); h != "localhost" {
				t.Errorf("the copy was for host %q", h)
			}
		}
		return nil
	})
	if one, two := hosts["secrets"].http.Load(), hosts["files"].http.Load(); one != 1 || two != 2 {
		t.Errorf("copies came by HTTP/%d and HTTP/%d, want 1 and 2", one, two)
	}
	for _, name := range []string{"distrusted", "misnamed"} {
		if n := hosts[name].count("/"+name, name); n != 0 {
			t.Errorf("%d copies to %s", n, name)
		}
	}
}

// outsider is a server outside of the mesh.
type outsider struct {
	copies
	port int
	host atomic.Value // of the last request
	http atomic.Int32 // its major version
}

// outside starts a server on localhost, with TLS if it is secure: then its clients show
// certificates of an authority.
func outside(t *testing.T, clients *meshtest.Authority, leaf meshtest.Files, secure bool) *outsider {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &outsider{port: l.Addr().(*net.TCPAddr).Port}
	server := &http.Server{ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.host.Store(strings.Split(r.Host, ":")[0])
		o.http.Store(int32(r.ProtoMajor)) //nolint:gosec // 1 or 2
		o.ServeHTTP(w, r)
	})}
	server.TLSConfig = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients.Pool, MinVersion: tls.VersionTLS12}
	if !secure {
		go func() { _ = server.Serve(l) }()
	} else {
		go func() { _ = server.ServeTLS(l, leaf.Cert, leaf.Key) }()
	}
	t.Cleanup(func() { _ = server.Close() })
	return o
}
