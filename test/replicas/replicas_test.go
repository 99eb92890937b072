package replicas

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/server"
)

const (
	meshes  = "/v20190125/meshes"
	colours = "colour.shop.test:8080"
	// callers are the Envoys whose clients call the service.
	callers = 3
)

// shop is a mesh whose one service is blue or green, as its route says.
type shop struct {
	*site
	fronts []*meshtest.Proxy
	// colour is what the route was last answered to be.
	colour string
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{site: newSite(t), colour: "blue"}
	app := map[string]string{}
	for _, colour := range []string{"blue", "green"} {
		app[colour] = meshtest.Serve(t, 8080, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, colour) }))
	}
	bind := map[string]string{"blue": meshtest.Address(t), "green": meshtest.Address(t)}
	service, _, _ := strings.Cut(colours, ":")
	at := 0
	put := func(path, body string) {
		t.Helper()
		at++ // each call through the next server
		if err := s.write(at, http.MethodPut, meshes+path, body); err != nil {
			t.Fatal(err)
		}
	}
	put("", `{"meshName":"shop"}`)
	for _, colour := range []string{"blue", "green"} {
		put("/shop/virtualNodes", fmt.Sprintf(`{"virtualNodeName":%q,"spec":%s}`, colour, meshtest.NodeSpec(bind[colour], 8080)))
	}
	put("/shop/virtualRouters", `{"virtualRouterName":"colour","spec":{"listeners":[{"portMapping":{"port":8080,"protocol":"http"}}]}}`)
	put("/shop/virtualRouter/colour/routes", fmt.Sprintf(`{"routeName":"all","spec":%s}`, meshtest.Weights("blue", 1)))
	put("/shop/virtualServices", fmt.Sprintf(`{"virtualServiceName":%q,"spec":{"provider":{"virtualRouter":{"virtualRouterName":"colour"}}}}`, service))
	put("/shop/virtualNodes", fmt.Sprintf(`{"virtualNodeName":"front","spec":%s}`, meshtest.NodeSpec("", 0, service)))
	for colour, ip := range bind {
		s.front.Proxy(t, meshtest.ProxyConfig{ARN: meshtest.ARN("shop", colour), Bind: ip, App: app[colour]}).Ready(t)
	}
	for range callers {
		ip := meshtest.Address(t)
		s.fronts = append(s.fronts, s.front.Proxy(t, meshtest.ProxyConfig{ARN: meshtest.ARN("shop", "front"), Bind: ip, App: "127.0.0.1"}).Ready(t))
	}
	s.wantObeyed()
	return s
}

// paint has the route lead to a colour, by a call through a server.
func (s *shop) paint(at int, colour string) error {
	err := s.write(at, http.MethodPut, meshes+"/shop/virtualRouter/colour/routes/all", fmt.Sprintf(`{"spec":%s}`, meshtest.Weights(colour, 1)))
	if err == nil {
		s.colour = colour
	}
	return err
}

// wantObeyed waits until every caller gets the colour of the route.
func (s *shop) wantObeyed() {
	s.t.Helper()
	for i, x := range s.fronts {
		client := x.Outbound()
		meshtest.Eventually(s.t, fmt.Sprintf("caller %d gets %s", i, s.colour), func() error {
			status, body, err := meshtest.Get(client, "http://"+colours)
			if err == nil && (status != http.StatusOK || body != s.colour) {
				err = fmt.Errorf("it gets %d %q", status, body)
			}
			return err
		})
		client.CloseIdleConnections()
	}
}

// proxies is an answer of ListProxies.
type proxies struct {
	Proxies []struct {
		ARN, ConnectionID string
		InSync            bool
	}
	MissingReplicas []string
	NextToken       string
}

// wantProxies waits until each server that is meant tells of all proxies, page by page.
// While there are edits, a proxy may not have acknowledged the last.
func (s *shop) wantProxies(of []*one, edits bool) {
	s.t.Helper()
	for _, x := range of {
		meshtest.Eventually(s.t, "a server tells of all proxies", func() error {
			seen, next := map[string]bool{}, ""
			for first := true; first || next != ""; first = false {
				var got proxies
				if err := get(x, "/v1/meshes/shop/proxies?limit=2&nextToken="+next, &got); err != nil {
					return err
				}
				if len(got.MissingReplicas) > 0 {
					return fmt.Errorf("it misses %v", got.MissingReplicas)
				}
				for _, p := range got.Proxies {
					if !p.InSync && !edits || seen[p.ConnectionID] {
						return fmt.Errorf("of %s: in sync: %t, told before: %t", p.ARN, p.InSync, seen[p.ConnectionID])
					}
					seen[p.ConnectionID] = true
				}
				next = got.NextToken
			}
			if len(seen) != callers+2 {
				return fmt.Errorf("it tells of %d, want %d", len(seen), callers+2)
			}
			return nil
		})
	}
}

func get(x *one, path string, out any) error {
	path = strings.TrimSuffix(path, "&nextToken=")
	a, err := x.api.Do(context.Background(), http.MethodGet, path, "")
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK {
		return errors.New(a.String())
	}
	return json.Unmarshal([]byte(a.Body), out)
}

// load calls the service through every caller, one call after another.
func (s *shop) load() *meshtest.Load {
	var calls []func() error
	for _, x := range s.fronts {
		client := x.Outbound()
		s.t.Cleanup(client.CloseIdleConnections)
		calls = append(calls, func() error {
			status, body, err := meshtest.Get(client, "http://"+colours)
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("%d %q", status, body)
			}
			return err
		})
	}
	return meshtest.StartLoad(s.t, 0, calls...)
}

// edits makes steady edits through one server after the other until stop, which returns
// the nodes whose creation was answered.
func (s *shop) edits() (stop func() []string) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	var made []string
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond) // other tests share the processors
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			name := fmt.Sprintf("extra-%d", i)
			err := s.write(i, http.MethodPut, meshes+"/shop/virtualNodes", fmt.Sprintf(`{"virtualNodeName":%q,"spec":{}}`, name))
			if err == nil {
				made = append(made, name)
				err = s.paint(i, []string{"blue", "green"}[i%2])
			}
			if err != nil {
				s.t.Error(err)
				return
			}
		}
	})
	end := sync.OnceFunc(func() { close(done); wg.Wait() })
	s.t.Cleanup(end)
	return func() []string { end(); return made }
}

// TestReplicas has one site, whose servers are taken away one after another: each part
// begins with all of them there.
func TestReplicas(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, part := range []struct {
		name string
		run  func(*shop)
	}{
		{"an edit through any server", (*shop).editAnywhere},
		{"one server after another is started anew under load", (*shop).rollingRestart},
		{"a server is cut off from etcd", (*shop).cutOff},
		{"the leader is killed", (*shop).leaderKilled},
	} {
		if !t.Run(part.name, func(t *testing.T) { s.t = t; part.run(s) }) {
			return // the next begins with servers that are well
		}
	}
}

// editAnywhere: an edit through any server is obeyed by all proxies, whichever servers they
// are connected to; and each server tells what all know.
func (s *shop) editAnywhere() {
	for at := range s.all {
		for _, colour := range []string{"green", "blue"} {
			if err := s.paint(at, colour); err != nil {
				s.t.Fatal(err)
			}
			s.wantObeyed()
		}
	}
	s.wantProxies(s.all, false)
	for _, x := range s.all {
		if n := x.metric("fairlead_xds_streams"); n == "0" || n == "" {
			s.t.Errorf("%s has %q streams: the proxies are not spread", x.Addrs.XDS, n)
		}
		var events struct {
			Events          []json.RawMessage
			MissingReplicas []string
		}
		if err := get(x, "/v1/events?eventName=UpdateRoute", &events); err != nil || len(events.Events) != 2*len(s.all) || len(events.MissingReplicas) > 0 {
			s.t.Errorf("%s tells of %d edits and misses %v, %v; want all %d", x.Addrs.API, len(events.Events), events.MissingReplicas, err, 2*len(s.all))
		}
	}
	leads := s.leader()
	meshtest.Eventually(s.t, "the leader compacts etcd", func() error {
		if n := leads.metric("fairlead_store_compactions_total"); n == "0" || n == "" {
			return fmt.Errorf("%q times", n)
		}
		return nil
	})
	for _, x := range s.all {
		if n := x.metric("fairlead_store_compactions_total"); x != leads && n != "0" {
			s.t.Errorf("a server that does not lead has compacted etcd %s times", n)
		}
	}
}

// rollingRestart: nobody notices.
func (s *shop) rollingRestart() {
	load, made := s.load(), s.edits()
	for _, x := range s.all {
		x.end(syscall.SIGTERM)
		s.wantProxies(s.running(), true) // they have gone elsewhere
		s.start(x)
		s.wantTogether()
		s.wantProxies(s.all, true)
	}
	names := made()
	s.wantObeyed()
	if f := load.Stop(); len(f) > 0 {
		s.t.Errorf("%d of %d requests failed, the first: %s", len(f), load.Calls(), f[0])
	}
	if len(names) < len(s.all) {
		s.t.Errorf("only %d edits were made", len(names))
	}
	for _, x := range s.all {
		for _, name := range names {
			if a, err := x.api.Do(s.t.Context(), http.MethodGet, meshes+"/shop/virtualNodes/"+name, ""); err != nil || a.Status != http.StatusOK {
				s.t.Fatalf("%s was created, and %s answers %v, %v", name, x.Addrs.API, a, err)
			}
		}
	}
	s.t.Logf("%d requests, %d edits twice", load.Calls(), len(names))
}

// cutOff: a server that cannot reach etcd serves proxies from what it has, refuses writes
// in clear words, and is one of them again when it can.
func (s *shop) cutOff() {
	x := s.all[1]
	load := s.load()
	x.etcd.Cut()
	a, err := x.api.Do(s.t.Context(), http.MethodPut, meshes+"/shop/virtualRouter/colour/routes/all", fmt.Sprintf(`{"spec":%s}`, meshtest.Weights("blue", 1)))
	if err != nil || a.Status != http.StatusServiceUnavailable || a.Code != "ServiceUnavailableException" || !strings.Contains(a.Body, "store") {
		s.t.Errorf("a write is answered with %v, %v; want 503 and why", a, err)
	}
	if err := x.ready(); err == nil {
		s.t.Error("it says that it is ready")
	}
	// Even a proxy that is new gets its configuration.
	ip := meshtest.Address(s.t)
	there := meshtest.Remote(server.Addrs{XDS: x.Addrs.XDS}, s.front.Creds).
		Proxy(s.t, meshtest.ProxyConfig{ARN: meshtest.ARN("shop", "front"), Bind: ip, App: "127.0.0.1"}).Ready(s.t)
	if status, body, err := meshtest.Get(there.Outbound(), "http://"+colours); err != nil || status != http.StatusOK {
		s.t.Errorf("through a proxy of a server without etcd: %d %q %v", status, body, err)
	}
	there.Kill()
	if err := s.paint(0, map[string]string{"blue": "green", "green": "blue"}[s.colour]); err != nil {
		s.t.Error(err)
	}
	x.etcd.Mend()
	s.wantObeyed()
	meshtest.Eventually(s.t, "the server is ready again", x.ready)
	s.wantTogether()
	s.wantProxies(s.all, false)
	if f := load.Stop(); len(f) > 0 {
		s.t.Errorf("%d requests failed, the first: %s", len(f), f[0])
	}
}

// leaderKilled: another goes on with the leader's work once the lease is over.
func (s *shop) leaderKilled() {
	leader := s.leader()
	load := s.load()
	leader.end(syscall.SIGKILL)
	next := s.leader()
	if next == leader {
		s.t.Fatal("the leader that was killed leads")
	}
	// What only the leader does goes on: an instance that falls silent is taken out.
	service := meshtest.Remote(server.Addrs{API: next.Addrs.API}, s.front.Creds).CloudMapService(s.t, "shop.local", "silent")
	service.Register(s.t, "one", map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.1", "FAIRLEAD_LEASE_SECONDS": "10"})
	meshtest.Eventually(s.t, "the instance is taken out", func() error {
		if n := next.metric("fairlead_registry_expired_instances_total"); n != "1" {
			return fmt.Errorf("the leader has taken out %q", n)
		}
		return nil
	})
	s.wantObeyed()
	s.wantProxies(s.running(), false)
	s.start(leader)
	s.wantTogether()
	s.wantProxies(s.all, false)
	if s.leader() != next {
		s.t.Error("the lead went back, though nobody was away")
	}
	if f := load.Stop(); len(f) > 0 {
		s.t.Errorf("%d requests failed, the first: %s", len(f), f[0])
	}
}
