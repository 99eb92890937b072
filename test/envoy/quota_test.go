package envoy

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

func quotaOf(rest string) string { return `"action":{"quota":{` + rest + `}}` }

// quotaCase is a kind of requests that a quota is for; call sends one and returns the status.
type quotaCase struct {
	name string
	call func() (int, error)
}

// spend sends requests of all kinds for a time, and returns how many of each passed.
func spend(t *testing.T, during time.Duration, all ...quotaCase) map[string]int {
	t.Helper()
	out := map[string]int{}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); time.Since(began) < during; <-ticker.C {
		for _, p := range all {
			switch code, err := p.call(); {
			case err != nil:
				t.Fatalf("%s: %v", p.name, err)
			case code == http.StatusOK:
				out[p.name]++
			case code != http.StatusTooManyRequests:
				t.Fatalf("%s was answered %d", p.name, code)
			}
		}
	}
	return out
}

// spendAll sends requests of all kinds until so many of each have passed, and for a while after
// that, and returns how many did. The last ones of a quota take some reports.
func spendAll(t *testing.T, least int, all ...quotaCase) map[string]int {
	t.Helper()
	out := map[string]int{}
	enough := func() bool {
		return !slices.ContainsFunc(all, func(p quotaCase) bool { return out[p.name] < least })
	}
	add := func(during time.Duration) {
		for name, n := range spend(t, during, all...) {
			out[name] += n
		}
	}
	for until := time.Now().Add(time.Minute); !enough() && time.Now().Before(until); {
		add(500 * time.Millisecond)
	}
	add(3 * time.Second)
	return out
}

// wantTenOfEach sends requests until the quotas of all kinds are used up, which are 10 each.
func wantTenOfEach(t *testing.T, all []quotaCase) {
	t.Helper()
	got := spendAll(t, 9, all...)
	for _, p := range all {
		if n := got[p.name]; n < 9 || n > 13 {
			t.Errorf("%d requests passed of %s, want 10", n, p.name)
		}
	}
}

// asking is a kind of requests to the node.
func (s *inboundStage) asking(path string, headers ...string) quotaCase {
	return quotaCase{fmt.Sprint(path, headers), func() (int, error) {
		code, _ := s.ask(limitedPort, path, headers...)
		return code, nil
	}}
}

// awaitKept waits until requests are answered by a quota that allows nothing more.
func (s *inboundStage) awaitKept(p quotaCase) {
	s.t.Helper()
	refused := time.Time{}
	meshtest.Eventually(s.t, p.name+" is refused", func() error {
		code, err := p.call()
		switch {
		case err != nil:
			return err
		case code != http.StatusTooManyRequests:
			refused = time.Time{}
			return fmt.Errorf("answered %d", code)
		case refused.IsZero():
			refused = time.Now()
		}
		if time.Since(refused) < time.Second {
			return errors.New("refused for less than a second")
		}
		return nil
	})
}

// TestQuota measures a quota: what passes in each second, and of what lasts for longer; that a
// larger one lets through the difference, and that it is gone with its policy.
func TestQuota(t *testing.T) {
	t.Parallel()
	covers(t, "Policy.action.quota.{requests,per}")
	s := limitedNode(t)
	every := s.asking("/")
	s.policy("second", `{`+onTarget+`,`+quotaOf(`"requests":20,"per":"second"`)+`}`)
	meshtest.Eventually(t, "something is refused", func() error {
		if code, _ := s.ask(limitedPort, "/"); code != http.StatusTooManyRequests {
			return fmt.Errorf("answered %d", code)
		}
		return nil
	})
	if n := spend(t, 4*time.Second, every)[every.name]; n < 40 || n > 105 {
		t.Errorf("%d requests passed in 4 s at 20 a second", n)
	}
	s.dropPolicy("second")
	s.awaitFree("/")
	s.policy("day", `{`+onTarget+`,`+quotaOf(`"requests":40,"per":"day"`)+`}`)
	s.everywhere()
	if n := spendAll(t, 38, every)[every.name]; n < 38 || n > 43 {
		t.Errorf("%d requests passed, the quota is 40", n)
	}
	s.awaitKept(every)
	if u := s.usage("day"); u["left"] != 0.0 || u["key"] != "" || u["used"].(float64) < 38 {
		t.Errorf("the usage is %v", u)
	}
	s.setPolicy("day", `{`+onTarget+`,`+quotaOf(`"requests":60,"per":"day"`)+`}`)
	if n := spendAll(t, 17, every)[every.name]; n < 17 || n > 22 {
		t.Errorf("%d requests passed of 20 more", n)
	}
	s.dropPolicy("day")
	s.awaitFree("/")
	if n := s.passes(100, "/"); n != 100 {
		t.Errorf("%d of 100 requests passed without a quota", n)
	}
}

// everywhere waits until all proxies have what was written last.
func (s *stage) everywhere() {
	s.t.Helper()
	meshtest.Eventually(s.t, "the proxies have what was written", func() error {
		var out struct {
			Propagation struct{ Proxies, Current int }
		}
		s.plane.Signed(s.t).Want(s.t, http.MethodGet, "/v1/meshes/test/propagation?wait=5", "", &out)
		if p := out.Propagation; p.Proxies == 0 || p.Current < p.Proxies {
			return fmt.Errorf("%d of %d proxies have it", p.Current, p.Proxies)
		}
		return nil
	})
}

// usage returns what the API says of the only key of a quota.
func (s *stage) usage(policy string) map[string]any {
	s.t.Helper()
	var out struct{ Keys []map[string]any }
	s.plane.Signed(s.t).Want(s.t, http.MethodGet, policies+"/"+policy+"/usage", "", &out)
	if len(out.Keys) != 1 {
		s.t.Fatalf("%v were used, want one key", out.Keys)
	}
	return out.Keys[0]
}

// awaitFree waits until the node answers.
func (s *inboundStage) awaitFree(path string) {
	s.t.Helper()
	meshtest.Eventually(s.t, path+" is answered", func() error {
		if code, _ := s.ask(limitedPort, path); code != http.StatusOK {
			return fmt.Errorf("answered %d", code)
		}
		return nil
	})
}

// TestQuotaBy shows that each value has a quota of its own, which nobody gets round by leaving
// it out, or by making up headers of ours; and that the most specific quota holds.
func TestQuotaBy(t *testing.T) {
	t.Parallel()
	covers(t, "Policy.action.quota.by.{header,address,path}")
	s := limitedNode(t)
	s.policy("none", `{`+onTarget+`,`+quotaOf(`"requests":1,"per":"day","withoutAnswer":"deny"`)+`}`)
	s.awaitKept(s.asking("/"))
	s.policy("key", `{`+onTarget+`,"match":{"prefix":"/key"},`+quotaOf(`"requests":10,"per":"day","by":{"header":"x-key"}`)+`}`)
	s.policy("path", `{`+onTarget+`,"match":{"prefix":"/path"},`+quotaOf(`"requests":10,"per":"day","by":{"path":true}`)+`}`)
	s.policy("address", `{`+onTarget+`,"match":{"prefix":"/address"},`+quotaOf(`"requests":10,"per":"day","by":{"address":true}`)+`}`)
	s.awaitFree("/address")
	n := 0
	all := []quotaCase{
		s.asking("/key", "x-key", "a"), s.asking("/key", "x-key", "b"), s.asking("/key"),
		s.asking("/path/a"), s.asking("/path/b"), s.asking("/address"),
		{"made up", func() (int, error) {
			n++
			code, _ := s.ask(limitedPort, "/key", "x-key", "c", "x-fairlead-quota-key", fmt.Sprint(n), "x-fairlead-quota-policy", "path", "x-fairlead-quota-mode", "never")
			return code, nil
		}},
		{"another address", func() (int, error) { return s.from("127.0.0.77", "/address"), nil }},
	}
	wantTenOfEach(t, all)
}

// TestQuotaByClient shows that each client has a quota of its own, by its certificate, and those
// without one have one together.
func TestQuotaByClient(t *testing.T) {
	t.Parallel()
	covers(t, "Policy.action.quota.by.client")
	s := guarded(t)
	s.policy("clients", `{`+onTarget+`,`+quotaOf(`"requests":10,"per":"day","by":{"client":true}`)+`}`)
	s.awaitKept(quotaCase{"plain", func() (int, error) { return s.call("plain", "GET", "/") }})
	var all []quotaCase
	for _, caller := range []string{"front", "other"} {
		all = append(all, quotaCase{caller, func() (int, error) { return s.call(caller, "GET", "/") }})
	}
	wantTenOfEach(t, all)
}

// TestQuotaWithoutAnswer shows what a proxy does while no control plane answers, and that what
// was counted is still there when one does again.
func TestQuotaWithoutAnswer(t *testing.T) {
	t.Parallel()
	covers(t, "Policy.action.quota.withoutAnswer")
	s := limitedNode(t)
	var all []quotaCase
	for _, mode := range []string{"last", "allow", "deny"} {
		s.policy(mode, `{`+onTarget+`,"match":{"prefix":"/`+mode+`"},`+quotaOf(`"requests":2,"per":"day","withoutAnswer":"`+mode+`"`)+`}`)
		all = append(all, s.asking("/"+mode))
	}
	for _, p := range all {
		s.awaitKept(p)
	}
	s.plane.Stop(t)
	// Until the last answer does not count any more.
	for until := time.Now().Add(40 * time.Second); spend(t, 500*time.Millisecond, all[1])[all[1].name] < 10; {
		if time.Now().After(until) {
			t.Fatal("nothing is let through without an answer")
		}
	}
	got := spend(t, 2*time.Second, all...)
	if last, allow, deny := got[all[0].name], got[all[1].name], got[all[2].name]; last > 1 || allow < 10 || deny > 1 {
		t.Errorf("%v passed without an answer, want allow alone", got)
	}
	s.plane.Run(t)
	s.awaitKept(all[1])
	if got := spend(t, 2*time.Second, all[1]); len(got) != 0 {
		t.Errorf("%v passed of a quota that is used up", got)
	}
}

// TestQuotaOut shows quotas where requests go out: of one route, counted by who asks, and of
// the service.
func TestQuotaOut(t *testing.T) {
	t.Parallel()
	s := faulty(t)
	s.addRoute("second", "httpRoute", `{"prefix":"/second"}`, "", "blue", 1)
	s.policy("split", `{`+onRouter+`,"match":{"method":"POST"},`+aborting(100, 501)+`}`)
	s.policy("route", `{`+onRoute+`,"from":[{"virtualNode":"front"}],`+quotaOf(`"requests":5,"per":"day","by":{"client":true}`)+`}`)
	s.eventually(429, "/")
	if got := s.tally(12, "/second"); got[200] != 12 {
		t.Errorf("of 12 requests by another route there were %v", got)
	}
	s.policy("service", `{"target":{"virtualService":{"virtualServiceName":"`+service+`"}},`+quotaOf(`"requests":3,"per":"day"`)+`}`)
	s.eventually(429, "/second")
	s.dropPolicy("service")
	s.eventually(200, "/second")
}

// TestQuotaOfGateway shows quotas of a gateway's route and of a service that it leads to.
func TestQuotaOfGateway(t *testing.T) {
	t.Parallel()
	s, d := twoRoutes(t)
	d.answers("/colour", 200)
	s.policy("few", `{"target":{"gatewayRoute":{"virtualGatewayName":"edge","gatewayRouteName":"colour"}},`+quotaOf(`"requests":2,"per":"day"`)+`}`)
	d.answers("/colour", 429)
	d.answers("/shape", 200)
	s.policy("service", `{"target":{"virtualService":{"virtualServiceName":"`+service+`"}},"match":{"prefix":"/round"},`+quotaOf(`"requests":2,"per":"day"`)+`}`)
	d.answers("/shape/round", 429)
	d.answers("/shape", 200)
	s.dropPolicy("few")
	s.dropPolicy("service")
	d.answers("/colour", 200)
	d.answers("/shape/round", 200)
}

// TestQuotaThroughARelay shows that an Envoy that is behind a relay keeps a quota.
func TestQuotaThroughARelay(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	socket := filepath.Join(shortDir(t), "xds.sock")
	s.plane.Relay(t, socket)
	bind := meshtest.Address(t)
	s.plane.Node(t, "test", "blue", bind, port)
	s.plane.Proxy(t, meshtest.ProxyConfig{
		ARN: meshtest.ARN("test", "blue"), Bind: bind, App: meshtest.Serve(t, port, named("blue")),
		Env: []string{"FAIRLEAD_XDS_ENDPOINT=unix://" + socket, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY="},
	}).Ready(t)
	s.policy("one", `{"target":{"virtualNode":{"virtualNodeName":"blue"}},`+quotaOf(`"requests":1,"per":"day"`)+`}`)
	meshtest.Eventually(t, "the quota is kept", func() error {
		status, _, err := meshtest.Get(client(false), fmt.Sprintf("http://%s:%d/", bind, port))
		if err == nil && status != http.StatusTooManyRequests {
			err = fmt.Errorf("answered %d", status)
		}
		return err
	})
	if u := s.usage("one"); u["left"] != 0.0 {
		t.Errorf("the usage is %v", u)
	}
}
