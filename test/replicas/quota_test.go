package replicas

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// "make quota" has more of them.
var (
	quotaProxies = flag.Int("quota.proxies", 4, "over how many proxies TestQuotaOfAll measures a quota")
	quotaMinutes = flag.Int("quota.minutes", 0, "for how many minutes it does so, with servers killed; 0 measures one day's quota for some seconds")
)

// quotaPort is where the nodes are asked, and freePort where no quota is for them.
const (
	quotaPort = 8080
	freePort  = 8081
)

// crowd is a virtual node with many proxies.
type crowd struct {
	*site
	proxies []*meshtest.Proxy
	client  *http.Client
	app     string // where the application listens
}

func newCrowd(t *testing.T, n int) *crowd {
	t.Helper()
	c := &crowd{site: newSite(t), client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 2}}}
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "in") })
	c.app = meshtest.Serve(t, quotaPort, answer)
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", c.app, freePort))
	if err != nil {
		t.Fatal(err)
	}
	other := &http.Server{Handler: answer, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = other.Serve(l) }()
	t.Cleanup(func() { _ = other.Close() })
	c.put(meshes, `{"meshName":"crowd"}`)
	for _, name := range []string{"many", "plain"} {
		c.put(meshes+"/crowd/virtualNodes", `{"virtualNodeName":"`+name+`","spec":{"serviceDiscovery":{"dns":{"hostname":"many.test"}},"listeners":[`+
			fmt.Sprintf(`{"portMapping":{"port":%d,"protocol":"http"}},{"portMapping":{"port":%d,"protocol":"http"}}]}}`, quotaPort, freePort))
	}
	for range n {
		c.proxies = append(c.proxies, c.front.Proxy(t, meshtest.ProxyConfig{ARN: meshtest.ARN("crowd", "many"), Bind: meshtest.Address(t), App: c.app}))
	}
	for _, x := range c.proxies {
		x.Ready(t)
	}
	return c
}

func (c *crowd) put(path, body string) {
	c.t.Helper()
	if err := c.write(0, http.MethodPut, path, body); err != nil {
		c.t.Fatal(err)
	}
}

// limit makes a quota for one of the node's ports.
func (c *crowd) limit(name string, port, requests int, per string) {
	c.t.Helper()
	c.put("/v1/meshes/crowd/policies", fmt.Sprintf(`{"policyName":%q,"spec":{"target":{"virtualNode":{"virtualNodeName":"many","port":%d}},"action":{"quota":{"requests":%d,"per":%q}}}}`,
		name, port, requests, per))
}

// ask asks a proxy, and returns the status.
func (c *crowd) ask(ctx context.Context, x *meshtest.Proxy, port int) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d/", x.Bind, port), nil)
	if err != nil {
		return 0, err
	}
	answer, err := c.client.Do(r)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}

// tally is what came of requests.
type tally struct {
	sync.Mutex
	passed, refused int
	failed          []string
}

func (t *tally) count(status int, err error) {
	t.Lock()
	defer t.Unlock()
	switch {
	case err != nil:
		t.failed = append(t.failed, err.Error())
	case status == http.StatusOK:
		t.passed++
	case status == http.StatusTooManyRequests:
		t.refused++
	default:
		t.failed = append(t.failed, fmt.Sprint("answered ", status))
	}
}

// load has each proxy asked every so often until ctx ends.
func (c *crowd) load(ctx context.Context, every time.Duration) *tally {
	out := &tally{}
	var wg sync.WaitGroup
	for i, x := range c.proxies {
		wg.Go(func() {
			select { // not all at once
			case <-ctx.Done():
			case <-time.After(every * time.Duration(i) / time.Duration(len(c.proxies))):
			}
			ticker := time.NewTicker(every)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				if status, err := c.ask(ctx, x, quotaPort); ctx.Err() == nil {
					out.count(status, err)
				}
			}
		})
	}
	wg.Wait()
	return out
}

// kept waits until all proxies have what was written last.
func (c *crowd) kept() {
	c.t.Helper()
	meshtest.Eventually(c.t, "the proxies have the policy", func() error {
		var out struct {
			Propagation struct{ Proxies, Current int }
		}
		a, err := c.running()[0].api.Do(c.t.Context(), http.MethodGet, "/v1/meshes/crowd/propagation?wait=10", "")
		if err == nil {
			err = json.Unmarshal([]byte(a.Body), &out)
		}
		if err == nil && (out.Propagation.Proxies < len(c.proxies) || out.Propagation.Current < out.Propagation.Proxies) {
			err = errors.New(a.Body)
		}
		return err
	})
}

// owner returns the server that counts the quota.
func (c *crowd) owner() *one {
	c.t.Helper()
	var owner *one
	meshtest.Eventually(c.t, "one server counts the quota", func() error {
		for _, x := range c.running() {
			if x.metric("fairlead_quota_policies") != "0" {
				owner = x
				return nil
			}
		}
		return errors.New("none does")
	})
	return owner
}

// TestQuotaOfAll measures what passes through many proxies of three servers, of which one is
// killed meanwhile: the one that counts, and then another one.
func TestQuotaOfAll(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, *quotaProxies)
	if *quotaMinutes == 0 {
		c.measureDay()
		return
	}
	c.measureMinutes(*quotaMinutes)
	if err := c.write(0, http.MethodDelete, "/v1/meshes/crowd/policies/all", ""); err != nil {
		t.Fatal(err)
	}
	c.compareLatency()
}

// measureDay uses up a day's quota, with the server killed that counts it.
func (c *crowd) measureDay() {
	const requests = 400
	c.limit("all", quotaPort, requests, "day")
	c.kept()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		select {
		case <-ctx.Done():
		case <-time.After(4 * time.Second):
			c.owner().end(syscall.SIGKILL)
		}
	}()
	got := c.load(ctx, 100*time.Millisecond)
	<-killed
	c.judge("the quota of a day", got, requests)
}

// judge holds what passed against a quota.
func (c *crowd) judge(what string, got *tally, requests int) {
	c.t.Helper()
	c.t.Logf("%s: %d of %d requests passed, the quota is %d: %+.1f %%; %d failed", what, got.passed, got.passed+got.refused, requests,
		100*float64(got.passed-requests)/float64(requests), len(got.failed))
	if got.passed < requests*95/100 || got.passed > requests*105/100 {
		c.t.Errorf("%s: %d requests passed, the quota is %d", what, got.passed, requests)
	}
	if len(got.failed) > 0 {
		c.t.Errorf("%s: %d requests failed, the first: %s", what, len(got.failed), got.failed[0])
	}
}

// measureMinutes measures a quota for whole minutes: the first with all servers, the second with
// the one killed that counts, the third with another one killed, and so on.
func (c *crowd) measureMinutes(n int) {
	const requests = 1200
	c.limit("all", quotaPort, requests, "minute")
	c.kept()
	for i := range n {
		var gone *one
		name := fmt.Sprintf("minute %d, with all servers", i+1)
		next := time.Now().Truncate(time.Minute).Add(time.Minute)
		select {
		case <-c.t.Context().Done():
			return
		case <-time.After(time.Until(next)):
		}
		ctx, cancel := context.WithDeadline(c.t.Context(), next.Add(time.Minute-100*time.Millisecond))
		var killing sync.WaitGroup
		switch i % 3 {
		case 1, 2:
			name = fmt.Sprintf("minute %d, with the server killed that counts", i+1)
			if i%3 == 2 {
				name = fmt.Sprintf("minute %d, with another server killed", i+1)
			}
			killing.Go(func() {
				select {
				case <-ctx.Done():
					return
				case <-time.After(12 * time.Second):
				}
				gone = c.owner()
				if i%3 == 2 {
					owner := gone
					gone = c.all[slices.IndexFunc(c.all, func(x *one) bool { return x != owner })]
				}
				gone.end(syscall.SIGKILL)
			})
		}
		got := c.load(ctx, 250*time.Millisecond)
		cancel()
		killing.Wait()
		c.judge(name, got, requests)
		if gone != nil {
			c.start(gone)
			c.wantTogether()
		}
	}
}

// compareLatency asks in turn where a quota is kept, where the proxy keeps it on another port
// only, and where the proxy keeps none.
func (c *crowd) compareLatency() {
	c.limit("free", quotaPort, 1_000_000_000, "second")
	plain := c.front.Proxy(c.t, meshtest.ProxyConfig{ARN: meshtest.ARN("crowd", "plain"), Bind: meshtest.Address(c.t), App: c.app}).Ready(c.t)
	c.kept()
	places := []struct {
		name  string
		proxy *meshtest.Proxy
		port  int
	}{{"without", plain, quotaPort}, {"on another port", c.proxies[0], freePort}, {"with the quota", c.proxies[0], quotaPort}}
	took := make([][]time.Duration, len(places))
	const n, warm = 5000, 200
	for i := range n + warm {
		for k, p := range places {
			began := time.Now()
			status, err := c.ask(c.t.Context(), p.proxy, p.port)
			if err != nil || status != http.StatusOK {
				c.t.Fatalf("%s: %d %v", p.name, status, err)
			}
			if i >= warm {
				took[k] = append(took[k], time.Since(began))
			}
		}
	}
	for k, p := range places {
		slices.Sort(took[k])
		at := func(of [][]time.Duration, k int, share float64) time.Duration { return of[k][int(share*float64(n-1))] }
		c.t.Logf("latency %-16s p50 %s (%.2f of without), p99 %s (%.2f)", p.name+":", at(took, k, 0.5), float64(at(took, k, 0.5))/float64(at(took, 0, 0.5)),
			at(took, k, 0.99), float64(at(took, k, 0.99))/float64(at(took, 0, 0.99)))
	}
}
