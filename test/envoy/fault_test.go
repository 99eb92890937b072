package envoy

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

const (
	onRouter = `"target":{"virtualRouter":{"virtualRouterName":"colour"}}`
	onRoute  = `"target":{"route":{"virtualRouterName":"colour","routeName":"all"}}`
	onBlue   = `"target":{"virtualNode":{"virtualNodeName":"blue"}}`
)

func aborting(percentage float64, status int) string {
	return fmt.Sprintf(`"action":{"fault":{"abort":{"percentage":%v,"httpStatus":%d}}}`, percentage, status)
}

// faulty starts an application blue behind an Envoy, the service with one route that does
// not try again, and the caller.
func faulty(t *testing.T) *stage {
	t.Helper()
	s := newStage(t)
	s.app("blue", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			_, _ = w.Write(bytes.Repeat([]byte("x"), 48<<10))
			return
		}
		fmt.Fprint(w, "blue")
	}))
	s.routed("http")
	s.addRoute("all", "httpRoute", `{"prefix":"/"}`, `,"retryPolicy":{"maxRetries":0,"perRetryTimeout":{"unit":"s","value":15},"httpRetryEvents":["client-error"]}`, "blue", 1)
	s.caller()
	s.awaitAnswer("/", http.StatusOK)
	return s
}

// TestFaultsOut measures each fault where requests go out: which requests have it, how many,
// which policy holds, and that it is gone with its policy.
func TestFaultsOut(t *testing.T) {
	t.Parallel()
	covers(t, "Policy.target.{virtualRouter.virtualRouterName,route.virtualRouterName,route.routeName}",
		"Policy.action.fault.abort.{percentage,httpStatus}", "Policy.match.{prefix,method,path.exact}", "Policy.from.virtualNode")
	s := faulty(t)

	s.policy("half", `{`+onRouter+`,"match":{"prefix":"/half"},`+aborting(50, 501)+`}`)
	s.policy("all", `{`+onRouter+`,`+aborting(100, 503)+`}`)
	s.eventually(503, "/other")
	if got := s.tally(400, "/half?x=1"); got[501] < 140 || got[501] > 260 || got[501]+got[200] != 400 {
		t.Errorf("of 400 requests half of which fail there were %v", got)
	}

	// More specific: the route, for a method and a header.
	s.policy("route", `{`+onRoute+`,"from":[{"virtualNode":"other"},{"headers":[{"name":"x-fault","match":{"prefix":"y"}}]}],"match":{"method":"GET","path":{"exact":"/path"}},`+aborting(100, 418)+`}`)
	s.eventually(418, "/path?a=b", "x-fault", "yes")
	for _, c := range []struct {
		path, fault string
		want        int
	}{{"/path", "yes", 418}, {"/path", "no", 503}, {"/path/", "yes", 503}, {"/pathology", "yes", 503}} {
		if got, _ := s.get(c.path, "x-fault", c.fault); got != c.want {
			t.Errorf("%s with x-fault: %s was answered %d, want %d", c.path, c.fault, got, c.want)
		}
	}
	s.want(s.request(http.MethodPost, "/path", "x-fault", "yes"), 503, "")

	// Not for this caller, and for it.
	s.setPolicy("route", `{`+onRoute+`,"from":[{"virtualNode":"other"}],`+aborting(100, 418)+`}`)
	s.eventually(503, "/path", "x-fault", "yes")
	s.setPolicy("route", `{`+onRoute+`,"from":[{"virtualNode":"front"}],`+aborting(100, 418)+`}`)
	s.eventually(418, "/path")

	// What was there before holds again, one after the other.
	s.dropPolicy("route")
	s.eventually(503, "/path")
	s.dropPolicy("all")
	s.eventually(200, "/path")
	s.dropPolicy("half")
	s.eventually(200, "/half")
	if got := s.tally(100, "/half"); got[200] != 100 {
		t.Errorf("without policies requests were answered %v", got)
	}
}

// TestFaultsSlow measures delays and rates.
func TestFaultsSlow(t *testing.T) {
	t.Parallel()
	covers(t, "Policy.action.fault.delay.{percentage,duration}", "Policy.action.fault.responseRate.{percentage,kibibytesPerSecond}")
	s := faulty(t)
	s.policy("slow", `{`+onRouter+`,"match":{"prefix":"/slow"},"action":{"fault":{"delay":{"percentage":100,"duration":{"unit":"ms","value":400}},"abort":{"percentage":100,"httpStatus":599}}}}`)
	s.policy("thin", `{`+onRouter+`,"match":{"path":{"exact":"/long"}},"action":{"fault":{"responseRate":{"percentage":100,"kibibytesPerSecond":64}}}}`)
	s.eventually(599, "/slow")
	began := time.Now()
	if status, _ := s.get("/slow"); status != 599 || time.Since(began) < 390*time.Millisecond { // Envoy's clock ticks
		t.Errorf("with a delay of 400 ms and an abort it was answered %d after %s", status, time.Since(began))
	}
	// 48 KiB at 64 a second.
	if d := s.took("/long"); d < 600*time.Millisecond {
		t.Errorf("48 KiB at 64 KiB a second took %s", d)
	}
}

// TestFaultsIn shows that the faults of a node are behind its callers' retries, which hide
// them, and that its port is more specific than the node and the node than the mesh.
func TestFaultsIn(t *testing.T) {
	t.Parallel()
	covers(t, "Policy.target.virtualNode.{virtualNodeName,port}")
	s := faulty(t)
	s.policy("mesh", `{"target":{"mesh":{}},`+aborting(100, 502)+`}`)
	s.eventually(502, "/")
	s.policy("node", `{`+onBlue+`,`+aborting(50, 503)+`}`)
	s.eventually(200, "/")
	if got := s.tally(200, "/"); got[503] < 60 || got[503] > 140 || got[502] > 0 {
		t.Errorf("of 200 requests half of which fail at the node there were %v", got)
	}
	s.setRoute("all", "httpRoute", `{"prefix":"/"}`, `,"retryPolicy":{"maxRetries":20,"perRetryTimeout":{"unit":"s","value":5},"httpRetryEvents":["server-error"]}`, "blue", 1)
	s.hidden()
	s.policy("port", fmt.Sprintf(`{"target":{"virtualNode":{"virtualNodeName":"blue","port":%d}},%s}`, port, aborting(100, 404)))
	s.eventually(404, "/")
	for _, name := range []string{"port", "node", "mesh"} {
		s.dropPolicy(name)
	}
	s.eventually(200, "/")
}

// hidden waits until no fault is seen, for 100 requests one after the other.
func (s *stage) hidden() {
	s.t.Helper()
	for range 20 {
		if s.tally(100, "/")[200] == 100 {
			return
		}
	}
	s.t.Error("the retries do not hide the faults")
}

// TestFaultsInTime shows that a policy begins and ends by itself.
func TestFaultsInTime(t *testing.T) {
	t.Parallel()
	s := faulty(t)
	begin, end := time.Now().Add(1500*time.Millisecond), time.Now().Add(4*time.Second)
	s.policy("later", fmt.Sprintf(`{%s,"notBefore":%q,"notAfter":%q,%s}`, onRouter, begin.Format(time.RFC3339Nano), end.Format(time.RFC3339Nano), aborting(100, 503)))
	if status, _ := s.get("/"); status != 200 && time.Now().Before(begin) {
		t.Errorf("before it begins a request was answered %d", status)
	}
	s.eventually(503, "/")
	if now := time.Now(); now.Before(begin) {
		t.Errorf("it began %s early", begin.Sub(now))
	}
	s.eventually(200, "/")
	if now := time.Now(); now.Before(end) {
		t.Errorf("it ended %s early", end.Sub(now))
	}
}

// TestFaultsOfGateway measures faults at a gateway's routes and listener, and of a service
// that it leads to.
func TestFaultsOfGateway(t *testing.T) {
	t.Parallel()
	covers(t, "Policy.target.virtualGateway.{virtualGatewayName,port}", "Policy.target.gatewayRoute.{virtualGatewayName,gatewayRouteName}",
		"Policy.target.virtualService.virtualServiceName")
	s, d := twoRoutes(t)
	d.answers("/colour", 200)
	s.policy("gateway", `{"target":{"virtualGateway":{"virtualGatewayName":"edge"}},`+aborting(100, 501)+`}`)
	d.answers("/colour", 501)
	d.answers("/shape", 501)
	s.policy("route", `{"target":{"gatewayRoute":{"virtualGatewayName":"edge","gatewayRouteName":"colour"}},"match":{"prefix":"/colour/a"},`+aborting(100, 503)+`}`)
	d.answers("/colour/a", 503)
	d.answers("/colour/b", 501)
	s.policy("port", fmt.Sprintf(`{"target":{"virtualGateway":{"virtualGatewayName":"edge","port":%d}},%s}`, port, aborting(100, 502)))
	d.answers("/colour/b", 502)
	s.dropPolicy("port")
	s.dropPolicy("gateway")
	d.answers("/colour/b", 200)
	// The path as it goes on, which the gateway route has changed.
	s.policy("service", fmt.Sprintf(`{"target":{"virtualService":{"virtualServiceName":%q}},"from":[{"virtualGateway":"edge"}],"match":{"prefix":"/round"},%s}`, service, aborting(100, 418)))
	d.answers("/shape/round", 418)
	d.answers("/shape/other", 200)
	s.dropPolicy("service")
	s.dropPolicy("route")
	d.answers("/shape/round", 200)
	d.answers("/colour/a", 200)
}

// headerConditions are conditions on a header x, a value that meets each and one that does
// not; "" is none.
var headerConditions = []struct{ how, condition, yes, no string }{
	{"present", `{"name":"x"}`, "1", ""},
	{"exact", `{"name":"x","match":{"exact":"abc"}}`, "abc", "abcd"},
	{"prefix", `{"name":"x","match":{"prefix":"ab"}}`, "abc", "cab"},
	{"suffix", `{"name":"x","match":{"suffix":"bc"}}`, "abc", "bca"},
	{"regex", `{"name":"x","match":{"regex":"[a-c]+"}}`, "abc", "abd"},
	{"range", `{"name":"x","match":{"range":{"start":3,"end":5}}}`, "4", "5"},
	{"invert", `{"name":"x","invert":true,"match":{"exact":"abc"}}`, "x", "abc"},
}

// TestFaultConditions tries each condition that a policy can ask of requests and of clients.
func TestFaultConditions(t *testing.T) {
	t.Parallel()
	covers(t, "Policy.{from,match}.headers.{name,invert}", "Policy.{from,match}.headers.match.{exact,prefix,suffix,regex,range}",
		"Policy.match.path.regex", "Policy.from.{account,virtualGateway}", "Policy.action.fault.abort.grpcStatus")
	s := faulty(t)
	for i, c := range headerConditions {
		for list, spec := range map[string]string{
			"match": fmt.Sprintf(`"match":{"prefix":"/match-%s","headers":[%s]}`, c.how, c.condition),
			"from":  fmt.Sprintf(`"match":{"prefix":"/from-%s"},"from":[{"headers":[%s]}]`, c.how, c.condition),
		} {
			path, status := "/"+list+"-"+c.how, 510+i
			s.policy(list+"-"+c.how, fmt.Sprintf(`{%s,%s,%s}`, onRouter, spec, aborting(100, status)))
			s.eventually(status, path, "x", c.yes)
			no := []string{"x", c.no}
			if c.no == "" {
				no = nil
			}
			if got, _ := s.get(path, no...); got != 200 {
				t.Errorf("%s with %q was answered %d", path, no, got)
			}
		}
	}
	s.policy("others-account", fmt.Sprintf(`{%s,"match":{"prefix":"/other"},"from":[{"account":"000000000009"}],%s}`, onRouter, aborting(100, 500)))
	s.policy("others-gateway", fmt.Sprintf(`{%s,"match":{"prefix":"/gateway"},"from":[{"virtualGateway":"front"}],%s}`, onRouter, aborting(100, 500)))
	s.policy("own-account", fmt.Sprintf(`{%s,"match":{"path":{"regex":"/own/[0-9]+"}},"from":[{"account":%q}],"action":{"fault":{"abort":{"percentage":100,"grpcStatus":"resource-exhausted"}}}}`, onRoute, meshtest.Account))
	meshtest.Eventually(t, "a gRPC call is answered with the status resource-exhausted", func() error {
		resp, err := s.http.Do(s.request(http.MethodPost, "/own/1?x", "content-type", "application/grpc"))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if got := resp.Header.Get("grpc-status"); got != "8" {
			return fmt.Errorf("answered %d with the gRPC status %q", resp.StatusCode, got)
		}
		return nil
	})
	for _, path := range []string{"/other", "/gateway", "/own/a"} {
		if got, _ := s.get(path); got != 200 {
			t.Errorf("%s was answered %d", path, got)
		}
	}
}
