package envoy

import (
	"fmt"
	"net/http"
	"sync"
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
