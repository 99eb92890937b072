package xds

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
)

// client is a model of a proxy: what it holds, and what it has not answered yet. In
// this test the content of route r is the name of the cluster that it uses.
type client struct {
	clusters map[string]string // name -> version
	route    string            // the cluster that route r names
	version  string            // of route r
	pending  []*discoveryv3.DeltaDiscoveryResponse
}

// take applies a response; a route to a cluster that is not there is an error.
func (c *client) take(t *testing.T, m *discoveryv3.DeltaDiscoveryResponse) {
	t.Helper()
	switch typ, _ := envoy.ParseType(m.GetTypeUrl()); typ {
	case envoy.TypeCluster:
		for _, r := range m.GetResources() {
			c.clusters[r.GetName()] = r.GetVersion()
		}
		for _, name := range m.GetRemovedResources() {
			delete(c.clusters, name)
		}
	case envoy.TypeRoute:
		for _, r := range m.GetResources() {
			var route routev3.RouteConfiguration
			if err := r.GetResource().UnmarshalTo(&route); err != nil {
				t.Fatal(err)
			}
			c.route, c.version = route.GetInternalOnlyHeaders()[0], r.GetVersion()
		}
	}
	if _, ok := c.clusters[c.route]; c.route != "" && !ok {
		t.Fatalf("the route leads to cluster %q, which the proxy does not have", c.route)
	}
}

// Whatever the order of changes, answers and reconnects: a proxy never has a route to a
// cluster that it does not have, and in the end it has what the feed has.
func TestAnyOrderOfEventsIsSafeAndConverges(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			converge(t, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

func converge(t *testing.T, random *rand.Rand) {
	t.Helper()
	r := newRig(t, false)
	c := &client{clusters: map[string]string{}}
	publish := func(listener string) {
		n := 1 + random.IntN(4)
		resources := []string{listener}
		for i := range n {
			resources = append(resources, fmt.Sprintf("c/%c=%d", 'a'+(i+random.IntN(2)), random.IntN(3)))
		}
		names := dedupe(resources)
		r.publish(append(names, "r/r="+names[len(names)-1][2:3])...)
	}
	publish("l/in=1")
	connect(r, c)
	for range 60 {
		switch random.IntN(10) {
		case 0, 1, 2:
			publish("l/in=1")
		case 3:
			reconnect(r)
			c.pending = nil
			connect(r, c)
		case 4, 5, 6:
			if m := r.nextDelta(); m != nil {
				c.pending = append(c.pending, m)
			}
		default:
			c.answer(t, r, random.IntN(8) == 0)
		}
	}
	publish("l/in=2") // a refused listener keeps old clusters until it changes
	for range 200 {
		if m := r.nextDelta(); m != nil {
			c.pending = append(c.pending, m)
		}
		c.answer(t, r, false)
	}
	want := map[string]string{}
	for name, e := range r.feed.types[envoy.TypeCluster].current {
		want[name] = e.res.version
	}
	if diff := cmp.Diff(want, c.clusters); diff != "" {
		t.Errorf("clusters in the end (-feed +proxy):\n%s", diff)
	}
	if e := r.feed.types[envoy.TypeRoute].current["r"]; e.res.version != c.version {
		t.Errorf("the route in the end is %q, the feed has %q", c.version, e.res.version)
	}
}

// answer handles the oldest response: it is applied and acknowledged, or refused.
func (c *client) answer(t *testing.T, r *rig, refuse bool) {
	t.Helper()
	if len(c.pending) == 0 {
		return
	}
	m := c.pending[0]
	c.pending = c.pending[1:]
	req := &discoveryv3.DeltaDiscoveryRequest{ResponseNonce: m.GetNonce()}
	typ, _ := envoy.ParseType(m.GetTypeUrl())
	// Refusing clusters would break the model's rule by the proxy's own doing.
	if refuse && typ == envoy.TypeListener {
		req.ErrorDetail = &statuspb.Status{Message: "no"}
	} else {
		c.take(t, m)
	}
	r.ask(typ, req)
}

// connect subscribes as a proxy does that holds what c holds.
func connect(r *rig, c *client) {
	r.t.Helper()
	r.ask(envoy.TypeCluster, &discoveryv3.DeltaDiscoveryRequest{InitialResourceVersions: maps.Clone(c.clusters)})
	r.ask(envoy.TypeListener, &discoveryv3.DeltaDiscoveryRequest{})
	route := &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"r"}}
	if c.version != "" {
		route.InitialResourceVersions = map[string]string{"r": c.version}
	}
	r.ask(envoy.TypeRoute, route)
}

// reconnect replaces the rig's stream by a new one.
func reconnect(r *rig) {
	r.feed.leave(r.st)
	r.st = &stream{feed: r.feed, wake: make(chan struct{}, 1), log: r.st.log, met: r.st.met}
	r.feed.join(r.st)
}

// nextDelta returns the next response as a proxy reads it, or nil.
func (r *rig) nextDelta() *discoveryv3.DeltaDiscoveryResponse {
	r.t.Helper()
	resp, _, err := r.st.next(r.now)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp == nil {
		return nil
	}
	m := new(discoveryv3.DeltaDiscoveryResponse)
	if err := proto.Unmarshal(resp.parts.Materialize(), m); err != nil {
		r.t.Fatal(err)
	}
	return m
}

// dedupe keeps the last of the resources with the same name.
func dedupe(resources []string) []string {
	last := map[string]int{}
	for i, s := range resources {
		last[s[:3]] = i
	}
	var out []string
	for i, s := range resources {
		if last[s[:3]] == i {
			out = append(out, s)
		}
	}
	return out
}
