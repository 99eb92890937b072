package envoy

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

func TestWeights(t *testing.T) {
	t.Parallel()
	covers(t, "Route.httpRoute.action.weightedTargets.weight")
	s := newStage(t)
	s.app("blue", named("blue")).Ready(t)
	s.app("green", named("green")).Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 80, "green", 20))
	s.caller()
	s.awaitAnswer("/", http.StatusOK)

	share := func(n int) float64 {
		green := 0
		for range n {
			status, body := s.get("/")
			if status != http.StatusOK {
				t.Fatalf("answered %d %q", status, body)
			}
			if body == "green" {
				green++
			}
		}
		return float64(green) / float64(n)
	}
	// 2,000 draws at 0.2 have a standard deviation of 0.9 points; 4 points are more than
	// four of them.
	if got := share(2000); got < 0.16 || got > 0.24 {
		t.Errorf("green got a share of %.3f, want 0.20", got)
	}
	s.route(meshtest.Weights("blue", 0, "green", 100))
	meshtest.Eventually(t, "all requests go to green", func() error {
		if got := share(20); got != 1 {
			return fmt.Errorf("green got a share of %.2f", got)
		}
		return nil
	})
}

// matching is the spec of a route that sends what matches to a node.
func matching(priority int, match, node string) string {
	return fmt.Sprintf(`{"priority":%d,"httpRoute":{"match":%s,"action":{"weightedTargets":[{"virtualNode":%q,"weight":1}]}}}`,
		priority, match, node)
}

func TestMatches(t *testing.T) {
	t.Parallel()
	covers(t,
		"Route.httpRoute.match.{prefix,path.exact,path.regex,method}",
		"Route.httpRoute.match.headers.{name,invert,match.exact,match.range}",
		"Route.httpRoute.match.queryParameters.{name,match.exact}",
	)
	s := newStage(t)
	s.app("blue", named("blue")).Ready(t)
	s.app("green", named("green")).Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, matching(1000, `{"prefix":"/"}`, "blue"))
	for name, match := range map[string]string{
		"exact":   `{"path":{"exact":"/exact"}}`,
		"regex":   `{"path":{"regex":"/re/[0-9]+"}}`,
		"prefix":  `{"prefix":"/prefix"}`,
		"method":  `{"prefix":"/method","method":"POST"}`,
		"header":  `{"prefix":"/","headers":[{"name":"x-version","match":{"exact":"2"}}]}`,
		"range":   `{"prefix":"/","headers":[{"name":"x-number","match":{"range":{"start":10,"end":20}}}]}`,
		"inverse": `{"prefix":"/inverse","headers":[{"name":"x-plain","invert":true}]}`,
		"query":   `{"prefix":"/","queryParameters":[{"name":"colour","match":{"exact":"green"}}]}`,
	} {
		s.plane.Put(t, "/meshes/test/virtualRouter/colour/routes", `{"routeName":"`+name+`","spec":`+matching(10, match, "green")+`}`)
	}
	s.caller()
	s.awaitAnswer("/", http.StatusOK)

	for _, c := range []struct {
		method, path, headers, want string
	}{
		{"GET", "/", "", "blue"},
		{"GET", "/exact", "", "green"},
		{"GET", "/exact/more", "", "blue"},
		{"GET", "/re/42", "", "green"},
		{"GET", "/re/42x", "", "blue"},
		{"GET", "/prefix/and/more", "", "green"},
		{"POST", "/method", "", "green"},
		{"GET", "/method", "", "blue"},
		{"GET", "/", "x-version=2", "green"},
		{"GET", "/", "x-version=1", "blue"},
		{"GET", "/", "x-number=10", "green"},
		{"GET", "/", "x-number=20", "blue"},
		{"GET", "/inverse", "", "green"},
		{"GET", "/inverse", "x-plain=1", "blue"},
		{"GET", "/?colour=green", "", "green"},
		{"GET", "/?colour=red", "", "blue"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, url(c.path), nil)
		if err != nil {
			t.Fatal(err)
		}
		if name, value, ok := strings.Cut(c.headers, "="); ok {
			req.Header.Set(name, value)
		}
		if status, body, err := meshtest.Do(s.http, req); err != nil || body != c.want {
			t.Errorf("%s %s %s: %d %q %v, want %q", c.method, c.path, c.headers, status, body, err, c.want)
		}
	}
}

// The least priority is matched first, even where another route says more.
func TestPriority(t *testing.T) {
	t.Parallel()
	covers(t, "Route.priority")
	s := newStage(t)
	s.app("blue", named("blue")).Ready(t)
	s.app("green", named("green")).Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, matching(7, `{"prefix":"/"}`, "green"))
	s.plane.Put(t, "/meshes/test/virtualRouter/colour/routes", `{"routeName":"exact","spec":`+matching(8, `{"path":{"exact":"/exact"}}`, "blue")+`}`)
	s.caller()
	s.awaitAnswer("/", http.StatusOK)
	if status, body := s.get("/exact"); status != http.StatusOK || body != "green" {
		t.Errorf("answered %d %q, want green, whose route has the lesser priority", status, body)
	}
	s.route(matching(9, `{"prefix":"/"}`, "green"))
	meshtest.Eventually(t, "the exact route comes first", func() error {
		if status, body := s.get("/exact"); body != "blue" {
			return fmt.Errorf("answered %d %q", status, body)
		}
		return nil
	})
}

func TestAHostThatIsNoBackendIsRefusedByName(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.app("blue", named("blue")).Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1))
	s.caller()
	s.awaitAnswer("/", http.StatusOK)
	status, body, err := meshtest.Get(s.http, "http://stranger.local/")
	if err != nil || status != http.StatusNotFound || !strings.Contains(body, "stranger.local") {
		t.Errorf("a host that is no backend: %d %q %v, want 404 and its name", status, body, err)
	}
}

// failing answers the first n requests of each key with 503.
type failing struct {
	n    int64
	seen sync.Map // key -> *atomic.Int64
}

func (f *failing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	counter, _ := f.seen.LoadOrStore(r.Header.Get("x-key"), new(atomic.Int64))
	attempt := counter.(*atomic.Int64).Add(1)
	if attempt <= f.n {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintf(w, "attempt %d", attempt)
}

func TestRetries(t *testing.T) {
	t.Parallel()
	covers(t, "Route.httpRoute.retryPolicy.{maxRetries,httpRetryEvents}")
	s := newStage(t)
	s.app("flaky", &failing{n: 2}).Ready(t)
	policy := func(retries int) string {
		return fmt.Sprintf(`{"httpRoute":{"match":{"prefix":"/"},"action":{"weightedTargets":[{"virtualNode":"flaky","weight":1}]},`+
			`"retryPolicy":{"maxRetries":%d,"perRetryTimeout":{"unit":"s","value":2},"httpRetryEvents":["server-error"]}}}`, retries)
	}
	s.plane.Routed(t, "test", service, "colour", port, policy(2))
	s.caller()
	s.awaitAnswer("/", http.StatusOK) // its key is empty, and used up
	if status, body := s.get("/", "x-key", "a"); status != http.StatusOK || body != "attempt 3" {
		t.Errorf("with 2 retries: %d %q, want the third attempt's answer", status, body)
	}
	s.route(policy(1))
	i := 0
	meshtest.Eventually(t, "one retry is not enough", func() error {
		i++
		status, body := s.get("/", "x-key", fmt.Sprint("b", i))
		if status != http.StatusServiceUnavailable {
			return fmt.Errorf("answered %d %q", status, body)
		}
		return nil
	})
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	covers(t, "Route.httpRoute.timeout.perRequest")
	s := newStage(t)
	release := make(chan struct{})
	s.app("slow", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		fmt.Fprint(w, "done")
	})).Ready(t)
	t.Cleanup(func() { close(release) })
	s.plane.Routed(t, "test", service, "colour", port,
		`{"httpRoute":{"match":{"prefix":"/"},"action":{"weightedTargets":[{"virtualNode":"slow","weight":1}]},`+
			`"timeout":{"perRequest":{"unit":"s","value":1}},`+
			`"retryPolicy":{"maxRetries":0,"perRetryTimeout":{"unit":"s","value":15},"httpRetryEvents":["server-error"]}}}`)
	s.caller()
	s.awaitAnswer("/", http.StatusOK)
	// The application answers only when the test ends: an answer shows that the route's
	// timeout made it, for the default of 15 s is over the client's patience here.
	client := *s.http
	client.Timeout = 14 * time.Second
	status, body, err := meshtest.Get(&client, url("/hang"))
	if err != nil || status != http.StatusGatewayTimeout {
		t.Errorf("a request that hangs: %d %q %v, want 504", status, body, err)
	}
}
