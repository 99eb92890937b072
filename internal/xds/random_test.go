package xds

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
)

// client is a model of a proxy: what it holds, and what it has not answered yet. In
// this test the content of route r is the name of the cluster that it uses. As Envoy does,
// it asks for the endpoints of clusters that it did not have, and of one that changed it
// waits for them without a word.
type client struct {
	clusters  map[string]string // name -> version
	endpoints map[string]string
	warming   map[string]bool // clusters that wait for endpoints
	route     string          // the cluster that route r names
	version   string          // of route r
	pending   []*discoveryv3.DeltaDiscoveryResponse
}

// take applies a response; a route to a cluster that is not there is an error.
func (c *client) take(t *testing.T, r *rig, m *discoveryv3.DeltaDiscoveryResponse) {
	t.Helper()
	switch typ, _ := envoy.ParseType(m.GetTypeUrl()); typ {
	case envoy.TypeCluster:
		follow := &discoveryv3.DeltaDiscoveryRequest{}
		for _, r := range m.GetResources() {
			if _, had := c.clusters[r.GetName()]; !had {
				follow.ResourceNamesSubscribe = append(follow.ResourceNamesSubscribe, r.GetName())
			}
			c.clusters[r.GetName()], c.warming[r.GetName()] = r.GetVersion(), true
		}
		for _, name := range m.GetRemovedResources() {
			if _, had := c.clusters[name]; had {
				follow.ResourceNamesUnsubscribe = append(follow.ResourceNamesUnsubscribe, name)
			}
			delete(c.clusters, name)
			delete(c.warming, name)
			delete(c.endpoints, name)
		}
		if len(follow.ResourceNamesSubscribe)+len(follow.ResourceNamesUnsubscribe) > 0 {
			r.ask(envoy.TypeEndpoint, follow)
		}
	case envoy.TypeEndpoint:
		for _, r := range m.GetResources() {
			if _, has := c.clusters[r.GetName()]; has {
				c.endpoints[r.GetName()] = r.GetVersion()
				delete(c.warming, r.GetName())
			}
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
// cluster that it does not have, and in the end it has what the feed has and no cluster
// waits for endpoints.
func TestAnyOrderOfEventsIsSafeAndConverges(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			converge(t, rand.New(rand.NewPCG(seed, 1)), seed%2 == 0)
		})
	}
}

// converge plays one course of events. With back, what clusters once were may come back.
func converge(t *testing.T, random *rand.Rand, back bool) {
	t.Helper()
	count := 0
	content := func() int {
		if count++; back {
			return random.IntN(3)
		}
		return count
	}
	r := newRig(t, false)
	c := &client{clusters: map[string]string{}, endpoints: map[string]string{}, warming: map[string]bool{}}
	publish := func(listener string) {
		n := 1 + random.IntN(4)
		resources := []string{listener}
		for i := range n {
			resources = append(resources, fmt.Sprintf("c/%c=%d", 'a'+(i+random.IntN(2)), content()))
		}
		names := dedupe(resources)
		target := names[len(names)-1][2:3]
		for _, name := range names[1:] {
			names = append(names, fmt.Sprintf("e/%s=%d", name[2:3], random.IntN(2)))
		}
		r.publish(append(names, "r/r="+target)...)
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
	for name, version := range want {
		e := r.feed.types[envoy.TypeEndpoint].get(name)
		// A cluster that changed and changed back, just when the stream was lost, may wait for
		// endpoints that the proxy says it has: versions cannot tell.
		if c.warming[name] && !back || c.endpoints[name] != e.version {
			t.Errorf("cluster %s at %s waits for endpoints: %t; it has those of %q, the feed %q", name, version, c.warming[name], c.endpoints[name], e.version)
		}
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
		c.take(t, r, m)
	}
	r.ask(typ, req)
}

// connect subscribes as a proxy does that holds what c holds.
func connect(r *rig, c *client) {
	r.t.Helper()
	r.ask(envoy.TypeCluster, &discoveryv3.DeltaDiscoveryRequest{InitialResourceVersions: maps.Clone(c.clusters)})
	if len(c.clusters) > 0 {
		r.ask(envoy.TypeEndpoint, &discoveryv3.DeltaDiscoveryRequest{
			ResourceNamesSubscribe: slices.Sorted(maps.Keys(c.clusters)), InitialResourceVersions: maps.Clone(c.endpoints),
		})
	}
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
