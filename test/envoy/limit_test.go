package envoy

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// The ports of limitedNode.
const (
	limitedPort = 8460 + iota
	limitedGRPC
	freePort
)

func limiting(rest string) string { return `"action":{"rateLimit":{` + rest + `}}` }

// limitedNode is a node with ports for HTTP and gRPC, in plain text.
func limitedNode(t *testing.T) *inboundStage {
	t.Helper()
	s := newInbound(t)
	for _, port := range []int{limitedPort, freePort} {
		s.serveHTTP(port, false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for _, name := range []string{"X-Fairlead-Quota-Key", "X-Fairlead-Quota-Mode", "X-Fairlead-Quota-Policy"} {
				if r.Header[name] != nil {
					w.WriteHeader(http.StatusInternalServerError)
				}
			}
			fmt.Fprint(w, len(r.Header["X-Fairlead-Limit-1"]), r.Header.Get("X-Fairlead-Limit-1"))
		}))
	}
	s.serveGRPC(limitedGRPC, &emptyService{})
	s.define("", listener(limitedPort, "http", ""), listener(limitedGRPC, "grpc", ""), listener(freePort, "http", ""))
	s.start(nil)
	return s
}

// ask calls the node and returns the status, the body and the answer's headers.
func (s *inboundStage) ask(port int, path string, headers ...string) (int, http.Header) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(limited(s.t), http.MethodGet, "http://"+s.at(port)+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	answer, err := client(false).Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = answer.Body.Close()
	return answer.StatusCode, answer.Header
}

// from calls the node from an address, and returns the status.
func (s *inboundStage) from(addr, path string) int {
	s.t.Helper()
	c := &http.Client{Timeout: deadline, Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}).DialContext,
	}}
	status, _, err := meshtest.Get(c, "http://"+s.at(limitedPort)+path)
	if err != nil {
		s.t.Fatal(err)
	}
	return status
}

// passes counts how many of n requests are let through.
func (s *inboundStage) passes(n int, path string, headers ...string) int {
	s.t.Helper()
	through := 0
	for range n {
		switch code, _ := s.ask(limitedPort, path, headers...); code {
		case http.StatusOK:
			through++
		case http.StatusTooManyRequests:
		default:
			s.t.Fatalf("%s was answered %d", path, code)
		}
	}
	return through
}

// awaitLimit waits until something is refused.
func (s *inboundStage) awaitLimit(path string, headers ...string) {
	s.t.Helper()
	meshtest.Eventually(s.t, "a request for "+path+" is refused", func() error {
		if code, _ := s.ask(limitedPort, path, headers...); code != http.StatusTooManyRequests {
			return fmt.Errorf("answered %d", code)
		}
		return nil
	})
}

// TestRateLimit measures a limit: the burst, the rate, the answers, and that it is gone with
// its policy. A fault that splits the route leaves one bucket.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	covers(t, "Policy.action.rateLimit.{requests,per,burst}")
	s := limitedNode(t)
	target := fmt.Sprintf(`"target":{"virtualNode":{"virtualNodeName":"target","port":%d}}`, limitedPort)
	s.policy("split", `{`+target+`,"match":{"prefix":"/split"},"action":{"fault":{"delay":{"percentage":100,"duration":{"unit":"ms","value":1}}}}}`)
	s.policy("limit", `{`+target+`,`+limiting(`"requests":20,"per":"second","burst":5`)+`}`)
	s.awaitLimit("/")
	began := time.Now()
	through := 0
	for time.Since(began) < 2*time.Second {
		through += s.passes(1, "/") + s.passes(1, "/split")
	}
	// What is in the bucket at first, and what comes in meanwhile.
	took := time.Since(began).Seconds()
	if most := int(20*took) + 6; through > most || through < int(20*took)/2 {
		t.Errorf("%d requests passed in %.2f s at 20 a second, want about %d", through, took, int(20*took))
	}
	if got, _ := s.ask(freePort, "/"); got != http.StatusOK {
		t.Errorf("another port answered %d", got)
	}
	s.dropPolicy("limit")
	meshtest.Eventually(t, "there is no limit", func() error {
		if n := s.passes(40, "/"); n < 40 {
			return fmt.Errorf("%d of 40 passed", n)
		}
		return nil
	})
	s.policy("burst", `{`+target+`,`+limiting(`"requests":2,"per":"day","burst":7,"by":{"header":"x-key"}`)+`}`)
	s.awaitLimit("/", "x-key", "first")
	if n := s.passes(12, "/", "x-key", "second"); n != 7 {
		t.Errorf("%d of 12 requests at once passed, want 7", n)
	}
}

// TestRateLimitBy shows that each value has a limit of its own, which nobody gets round by
// leaving it out or by making up where he comes from.
func TestRateLimitBy(t *testing.T) {
	t.Parallel()
	covers(t, "Policy.action.rateLimit.by.{header,address,path}")
	s := limitedNode(t)
	s.policy("key", `{`+onTarget+`,"match":{"prefix":"/key"},`+limiting(`"requests":3,"per":"day","by":{"header":"x-key"}`)+`}`)
	s.policy("path", `{`+onTarget+`,"match":{"prefix":"/path"},`+limiting(`"requests":3,"per":"day","by":{"path":true}`)+`}`)
	s.policy("address", `{`+onTarget+`,"match":{"prefix":"/address"},`+limiting(`"requests":3,"per":"day","by":{"address":true}`)+`}`)
	s.awaitLimit("/path/x")
	want := map[string][]string{"/path/x": {"3", "0"}, "/path/y": {"3", "2"}, "/": {"", ""}}
	if meshtest.EnvoyMinor(t) < 38 {
		want = map[string][]string{"/path/x": {"", ""}, "/": {"", ""}}
	}
	for path, want := range want {
		_, h := s.ask(limitedPort, path)
		if h.Get("x-ratelimit-limit") != want[0] || h.Get("x-ratelimit-remaining") != want[1] {
			t.Errorf("%s was answered with %v, want %v", path, h, want)
		}
	}
	s.awaitLimit("/address", "x-forwarded-for", "192.0.2.1")
	if n := s.passes(5, "/address", "x-forwarded-for", "192.0.2.2", "x-fairlead-limit-1", "made-up", "x-fairlead-limit-2", "made-up"); n != 0 {
		t.Errorf("%d requests passed from an address that is made up", n)
	}
	if code := s.from("127.0.0.77", "/address"); code != http.StatusOK {
		t.Errorf("another address was answered %d", code)
	}
	for _, key := range []string{"a", "b", "c"} {
		if n := s.passes(6, "/key", "x-key", key); n != 3 {
			t.Errorf("%d of 6 requests with key %s passed, want 3", n, key)
		}
	}
	if n := s.passes(6, "/key"); n != 3 {
		t.Errorf("%d of 6 requests without a key passed, want 3", n)
	}
	if n := s.passes(6, "/path/a?b") + s.passes(6, "/path/a?c"); n != 3 {
		t.Errorf("%d of 12 requests for a path passed, want 3", n)
	}
	if n := s.passes(6, "/path/b"); n != 3 {
		t.Errorf("%d of 6 requests for another path passed, want 3", n)
	}
	if n := s.passes(20, "/"); n != 20 {
		t.Errorf("%d of 20 requests passed that no limit is for", n)
	}
	_, body, err := meshtest.Get(client(false), "http://"+s.at(limitedPort)+"/")
	if err != nil || body != "0" {
		t.Errorf("the application was told %q, %v", body, err)
	}
}

// TestRateLimitsAddUp shows that all limits hold, that clients that are meant twice take one
// token, and that gRPC has its own word for a refusal.
func TestRateLimitsAddUp(t *testing.T) {
	t.Parallel()
	s := limitedNode(t)
	s.policy("some", `{`+onTarget+`,"from":[{"headers":[{"name":"x-a"}]},{"headers":[{"name":"x-b","match":{"exact":"b"}},{"name":"x-c"}]}],`+limiting(`"requests":6,"per":"day"`)+`}`)
	s.policy("all", `{"target":{"mesh":{}},`+limiting(`"requests":10,"per":"day"`)+`}`)
	calls := s.callGRPC(limitedGRPC, insecure.NewCredentials())
	meshtest.Eventually(t, "gRPC is refused", func() error {
		if _, err := calls.EmptyCall(limited(t), &grpc_testing.Empty{}); status.Code(err) != codes.ResourceExhausted {
			return fmt.Errorf("answered %w", err)
		}
		return nil
	})
	if n := s.passes(20, "/", "x-a", "", "x-b", "b", "x-c", ""); n != 6 {
		t.Errorf("%d requests passed of a client that is meant twice, want 6", n)
	}
	if n := s.passes(20, "/", "x-b", "b"); n > 4 {
		t.Errorf("%d requests passed of others, want 4 at most", n)
	}
}

// TestRateLimitDryRun shows that nothing is refused, and counted.
func TestRateLimitDryRun(t *testing.T) {
	t.Parallel()
	covers(t, "Policy.action.rateLimit.dryRun")
	s := limitedNode(t)
	s.policy("try", `{`+onTarget+`,`+limiting(`"requests":5,"per":"day","dryRun":true`)+`}`)
	counter := fmt.Sprintf("limit.dry_run.ingress.http.%d.http_local_rate_limit.rate_limited", limitedPort)
	meshtest.Eventually(t, "it is counted", func() error {
		if n := s.passes(10, "/"); n != 10 {
			t.Fatalf("%d of 10 passed", n)
		}
		text, err := s.proxy.Admin("/stats?usedonly&filter=" + counter)
		if err == nil && text == "" {
			err = fmt.Errorf("no %s", counter)
		}
		return err
	})
	s.setPolicy("try", `{`+onTarget+`,`+limiting(`"requests":5,"per":"day"`)+`}`)
	s.awaitLimit("/")
}

// TestRateLimitOut shows limits where requests go out: of one route, and of a service.
func TestRateLimitOut(t *testing.T) {
	t.Parallel()
	s := faulty(t)
	s.addRoute("second", "httpRoute", `{"prefix":"/second"}`, "", "blue", 1)
	s.policy("split", `{`+onRouter+`,"match":{"method":"POST"},`+aborting(100, 501)+`}`)
	s.policy("route", `{`+onRoute+`,"from":[{"virtualNode":"front"}],`+limiting(`"requests":5,"per":"day","by":{"path":true}`)+`}`)
	s.policy("others", `{`+onRoute+`,"from":[{"virtualNode":"other"}],`+limiting(`"requests":1,"per":"day"`)+`}`)
	s.eventually(429, "/")
	if got := s.tally(12, "/x?a"); got[200] != 5 || got[429] != 7 {
		t.Errorf("of 12 requests by the route there were %v, want 5 with 200", got)
	}
	if got := s.tally(12, "/second"); got[200] != 12 {
		t.Errorf("of 12 requests by another route there were %v", got)
	}
	s.policy("service", `{"target":{"virtualService":{"virtualServiceName":"`+service+`"}},`+limiting(`"requests":3,"per":"day"`)+`}`)
	s.eventually(429, "/second")
	s.dropPolicy("service")
	s.eventually(200, "/second")
}

// TestLimitsAndAccessOfGateway shows who may ask a gateway and how often: at its listener, by
// one of its routes, and of a service that it leads to. Its health check asks nobody.
func TestLimitsAndAccessOfGateway(t *testing.T) {
	t.Parallel()
	s, d := twoRoutes(t)
	const onEdge, onColour = `"target":{"virtualGateway":{"virtualGatewayName":"edge"}}`, `"target":{"gatewayRoute":{"virtualGatewayName":"edge","gatewayRouteName":"colour"}}`
	d.answers("/colour", 200)
	s.policy("few", `{`+onColour+`,`+limiting(`"requests":2,"per":"day"`)+`}`)
	s.policy("service", `{"target":{"virtualService":{"virtualServiceName":"`+service+`"}},"from":[{"virtualGateway":"edge"}],"match":{"prefix":"/round"},`+limiting(`"requests":2,"per":"day"`)+`}`)
	d.answers("/colour", 429)
	d.answers("/shape", 200)
	d.answers("/shape/round", 429)
	d.answers("/shape", 200)
	s.dropPolicy("few")
	s.dropPolicy("service")
	d.answers("/colour", 200)
	d.answers("/shape/round", 200)
	s.policy("closed", `{`+onEdge+`,"action":{"access":{"default":"closed"}}}`)
	d.answers("/colour", 403)
	d.answers("/nowhere", 403)
	s.policy("colour", `{`+onColour+`,"from":[{"ipRanges":["127.0.0.0/8"]}],"action":{"access":{"rule":"allow"}}}`)
	d.answers("/colour", 200)
	d.answers("/shape", 403)
	s.policy("open", `{"target":{"gatewayRoute":{"virtualGatewayName":"edge","gatewayRouteName":"shape"}},"action":{"access":{"default":"open"}}}`)
	d.answers("/shape", 200)
	s.policy("deny", `{`+onEdge+`,"match":{"prefix":"/shape/no"},"action":{"access":{"rule":"deny"}}}`)
	d.answers("/shape/no", 403)
	d.answers("/shape", 200)
	for _, name := range []string{"closed", "colour", "open", "deny"} {
		s.dropPolicy(name)
	}
	// The path as it goes on, which the gateway route has changed.
	s.policy("service", `{"target":{"virtualService":{"virtualServiceName":"`+service+`"}},"match":{"prefix":"/admin"},"action":{"access":{"rule":"deny"}}}`)
	d.answers("/shape/admin", 403)
	d.answers("/colour/admin/x", 403)
	d.answers("/shape/other", 200)
}

// TestRateLimitByClient shows that each client has a limit of its own, by its certificate, and
// those without one have one together.
func TestRateLimitByClient(t *testing.T) {
	t.Parallel()
	covers(t, "Policy.action.rateLimit.by.client")
	s := guarded(t)
	s.policy("clients", `{`+onTarget+`,`+limiting(`"requests":4,"per":"day","by":{"client":true}`)+`}`)
	s.awaitAccess(http.StatusTooManyRequests, "plain", "GET", "/")
	for _, caller := range []string{"front", "other"} {
		passed := 0
		for range 8 {
			switch code, err := s.call(caller, "GET", "/"); {
			case err != nil:
				t.Fatal(err)
			case code == http.StatusOK:
				passed++
			}
		}
		if passed != 4 {
			t.Errorf("%d of 8 requests by %s passed, want 4", passed, caller)
		}
	}
}
