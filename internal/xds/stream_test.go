package xds

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
)

// rig is a feed with one stream, worked by hand.
type rig struct {
	t    *testing.T
	pool *pool
	feed *feed
	st   *stream
	now  time.Time
}

func newRig(t *testing.T, full bool) *rig {
	f := newFeed(feedKey{})
	st := &stream{feed: f, full: full, wake: make(chan struct{}, 1), log: slog.New(slog.DiscardHandler), met: newMetrics(nil)}
	f.join(st)
	return &rig{t: t, pool: newPool(), feed: f, st: st, now: time.Unix(1, 0)}
}

// publish makes a feed of resources written as "type/name=content"; content is what
// distinguishes versions. Endpoints come after their cluster.
func (r *rig) publish(resources ...string) {
	r.t.Helper()
	var encoded []*resource
	clusters := map[string]*resource{}
	for _, s := range resources {
		var res envoy.Resource
		var of *resource
		typ, rest, _ := cutTwice(s, "/")
		name, content, _ := cutTwice(rest, "=")
		switch typ {
		case "c":
			res = envoy.Resource{Type: envoy.TypeCluster, Name: name, Message: &clusterv3.Cluster{Name: name, AltStatName: content}}
		case "e":
			res = envoy.Resource{Type: envoy.TypeEndpoint, Name: name, Message: &endpointv3.ClusterLoadAssignment{
				ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{Locality: &corev3.Locality{Zone: content}}},
			}}
			of = clusters[name]
		case "l":
			res = envoy.Resource{Type: envoy.TypeListener, Name: name, Message: &listenerv3.Listener{Name: name, StatPrefix: content}}
		case "r":
			res = envoy.Resource{Type: envoy.TypeRoute, Name: name, Message: &routev3.RouteConfiguration{Name: name, InternalOnlyHeaders: []string{content}}}
		case "v":
			res = envoy.Resource{Type: envoy.TypeVirtualHost, Name: name, Message: &routev3.VirtualHost{Name: name, Domains: []string{content}}}
		}
		e, err := r.pool.encode(res, of, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		if typ == "c" {
			clusters[name] = e
		}
		encoded = append(encoded, e)
	}
	r.feed.publish(encoded)
}

func cutTwice(s, sep string) (a, b string, ok bool) {
	if i := slices.Index([]byte(s), sep[0]); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// sent is a response as a proxy reads it.
type sent struct {
	Type, Nonce, Version string
	Names, Removed       []string
}

// next returns the next response, or nil if there is none to send now.
func (r *rig) next() *sent {
	r.t.Helper()
	resp, _, err := r.st.next(r.now)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp == nil {
		return nil
	}
	b := resp.parts.Materialize()
	if r.st.full {
		return decodeFull(r.t, b)
	}
	m := new(discoveryv3.DeltaDiscoveryResponse)
	if err := proto.Unmarshal(b, m); err != nil {
		r.t.Fatal(err)
	}
	out := &sent{Type: m.GetTypeUrl(), Nonce: m.GetNonce(), Removed: m.GetRemovedResources()}
	for _, res := range m.GetResources() {
		if res.GetResource().GetTypeUrl() != m.GetTypeUrl() || res.GetVersion() == "" {
			r.t.Errorf("resource %q has type %q and version %q in a response of %q",
				res.GetName(), res.GetResource().GetTypeUrl(), res.GetVersion(), m.GetTypeUrl())
		}
		out.Names = append(out.Names, res.GetName())
	}
	return out
}

func decodeFull(t *testing.T, b []byte) *sent {
	t.Helper()
	m := new(discoveryv3.DiscoveryResponse)
	if err := proto.Unmarshal(b, m); err != nil {
		t.Fatal(err)
	}
	out := &sent{Type: m.GetTypeUrl(), Nonce: m.GetNonce(), Version: m.GetVersionInfo()}
	for _, a := range m.GetResources() {
		inner, err := a.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		if a, ok := inner.(*endpointv3.ClusterLoadAssignment); ok {
			out.Names = append(out.Names, a.GetClusterName())
			continue
		}
		out.Names = append(out.Names, inner.(interface{ GetName() string }).GetName())
	}
	return out
}

// ask sends a delta request.
func (r *rig) ask(t envoy.Type, req *discoveryv3.DeltaDiscoveryRequest) {
	r.t.Helper()
	req.TypeUrl = t.URL()
	if err := r.st.handleDelta(req); err != nil {
		r.t.Fatal(err)
	}
}

// ack acknowledges a delta response.
func (r *rig) ack(s *sent) {
	r.t.Helper()
	typ, _ := envoy.ParseType(s.Type)
	r.ask(typ, &discoveryv3.DeltaDiscoveryRequest{ResponseNonce: s.Nonce})
}

func (r *rig) nack(s *sent) {
	r.t.Helper()
	typ, _ := envoy.ParseType(s.Type)
	r.ask(typ, &discoveryv3.DeltaDiscoveryRequest{ResponseNonce: s.Nonce, ErrorDetail: &statuspb.Status{Message: "no"}})
}

// expect checks the next response's type, names and removals, and returns it.
func (r *rig) expect(t envoy.Type, names, removed []string) *sent {
	r.t.Helper()
	got := r.next()
	if got == nil {
		r.t.Fatalf("nothing was sent, want %s %v", t, names)
	}
	want := &sent{Type: t.URL(), Nonce: got.Nonce, Version: got.Version, Names: names, Removed: removed}
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Fatalf("response differs (-want +got):\n%s", diff)
	}
	return got
}

func (r *rig) expectNothing() {
	r.t.Helper()
	if got := r.next(); got != nil {
		r.t.Fatalf("sent %+v, want nothing", got)
	}
}

// subscribe asks for clusters, listeners and one route configuration, and takes all.
func (r *rig) subscribe() {
	r.t.Helper()
	r.ask(envoy.TypeCluster, &discoveryv3.DeltaDiscoveryRequest{})
	r.ask(envoy.TypeListener, &discoveryv3.DeltaDiscoveryRequest{})
	r.ask(envoy.TypeRoute, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"r"}})
	for s := r.next(); s != nil; s = r.next() {
		r.ack(s)
	}
}

func TestDeltaSendsOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("c/a=1", "c/b=1", "l/in=1", "r/r=1")
	r.subscribe()
	r.publish("c/a=1", "c/b=2", "l/in=1", "r/r=1")
	r.ack(r.expect(envoy.TypeCluster, []string{"b"}, nil))
	r.expectNothing()
	r.publish("c/a=1", "c/b=2", "l/in=1", "r/r=1")
	r.expectNothing()
}

func TestDeltaMakesBeforeItBreaks(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("c/old=1", "l/in=1", "r/r=1")
	r.subscribe()
	r.publish("c/new=1", "l/in=1", "r/r=2")
	clusters := r.expect(envoy.TypeCluster, []string{"new"}, nil)
	r.expectNothing() // the route waits for the new cluster
	r.ack(clusters)
	routes := r.expect(envoy.TypeRoute, []string{"r"}, nil)
	r.expectNothing() // the old cluster stays while the route is not acknowledged
	r.ack(routes)
	r.ack(r.expect(envoy.TypeCluster, nil, []string{"old"}))
	r.expectNothing()
}

func TestRoutesWaitForNewClustersOnlySoLong(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("c/old=1", "l/in=1", "r/r=1")
	r.subscribe()
	r.publish("c/old=1", "c/slow=1", "l/in=1", "r/r=2")
	r.expect(envoy.TypeCluster, []string{"slow"}, nil)
	r.expectNothing()
	r.now = r.now.Add(warmWait)
	r.ack(r.expect(envoy.TypeRoute, []string{"r"}, nil))
	r.publish("c/old=1", "c/slow=1", "l/in=1", "r/r=3")
	r.ack(r.expect(envoy.TypeRoute, []string{"r"}, nil)) // no second wait for the same cluster
}

func TestRoutesDoNotWaitForChangedClusters(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("c/a=1", "l/in=1", "r/r=1")
	r.subscribe()
	r.publish("c/a=2", "l/in=1", "r/r=2")
	r.expect(envoy.TypeCluster, []string{"a"}, nil)
	r.expect(envoy.TypeRoute, []string{"r"}, nil)
}

func TestChangesUnderWayAreTakenTogether(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("l/in=1", "r/r=1")
	r.subscribe()
	r.publish("l/in=1", "r/r=2")
	first := r.expect(envoy.TypeRoute, []string{"r"}, nil)
	r.publish("l/in=1", "r/r=3")
	r.publish("l/in=1", "r/r=4")
	r.expectNothing() // one response at a time
	r.ack(first)
	r.ack(r.expect(envoy.TypeRoute, []string{"r"}, nil))
	r.expectNothing()
}

func TestReconnectWithTheSameVersionsIsSentNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("c/a=1", "c/b=1")
	have := map[string]string{}
	for name, e := range r.feed.types[envoy.TypeCluster].current {
		have[name] = e.res.version
	}
	r.ask(envoy.TypeCluster, &discoveryv3.DeltaDiscoveryRequest{InitialResourceVersions: have})
	r.expectNothing()
	r.publish("c/a=2", "c/b=1")
	r.expect(envoy.TypeCluster, []string{"a"}, nil)
}

func TestReconnectLosesWhatIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("c/a=1", "r/r=1")
	r.ask(envoy.TypeCluster, &discoveryv3.DeltaDiscoveryRequest{InitialResourceVersions: map[string]string{"a": "stale", "x": "1"}})
	r.ask(envoy.TypeRoute, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"r"}})
	r.ack(r.expect(envoy.TypeCluster, []string{"a"}, nil))
	routes := r.expect(envoy.TypeRoute, []string{"r"}, nil)
	r.expectNothing()
	r.ack(routes)
	r.ack(r.expect(envoy.TypeCluster, nil, []string{"x"}))
	r.expectNothing()
}

func TestAnEmptyFeedIsAnswered(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.ask(envoy.TypeCluster, &discoveryv3.DeltaDiscoveryRequest{})
	r.expectNothing() // nothing has been published yet
	r.publish()
	r.ack(r.expect(envoy.TypeCluster, nil, nil))
	r.expectNothing()
}

func TestANameThatDoesNotExistIsAnswered(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("l/in=1")
	r.ask(envoy.TypeEndpoint, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"local_cluster"}})
	r.ack(r.expect(envoy.TypeEndpoint, nil, []string{"local_cluster"}))
	r.expectNothing()
}

func TestARefusedResponseIsSentSingly(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("c/a=1", "c/bad=1", "l/in=1", "r/r=1")
	r.subscribe()
	r.publish("c/a=2", "c/bad=2", "l/in=1", "r/r=1")
	r.nack(r.expect(envoy.TypeCluster, []string{"a", "bad"}, nil))
	r.ack(r.expect(envoy.TypeCluster, []string{"a"}, nil))
	r.nack(r.expect(envoy.TypeCluster, []string{"bad"}, nil))
	r.expectNothing() // held back while it is the same
	r.publish("c/a=2", "c/bad=3", "l/in=1", "r/r=1")
	r.ack(r.expect(envoy.TypeCluster, []string{"bad"}, nil))
	r.expectNothing()
}

func TestARefusedRouteKeepsItsClusters(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("c/old=1", "l/in=1", "r/r=1")
	r.subscribe()
	r.publish("l/in=1", "r/r=bad")
	r.nack(r.expect(envoy.TypeRoute, []string{"r"}, nil))
	r.expectNothing()
	r.publish("l/in=1", "r/r=2")
	r.ack(r.expect(envoy.TypeRoute, []string{"r"}, nil))
	r.ack(r.expect(envoy.TypeCluster, nil, []string{"old"}))
	r.expectNothing()
}

func TestARefusedRouteThatIsGivenUpFreesItsClusters(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("c/old=1", "l/in=1", "r/r=1")
	r.subscribe()
	r.publish("l/in=1", "r/r=bad")
	r.nack(r.expect(envoy.TypeRoute, []string{"r"}, nil))
	r.expectNothing()
	r.ask(envoy.TypeRoute, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: []string{"r"}})
	r.ack(r.expect(envoy.TypeCluster, nil, []string{"old"}))
	r.expectNothing()
}

func TestFullARefusedRouteThatIsGoneFreesItsClusters(t *testing.T) {
	t.Parallel()
	r := newRig(t, true)
	ask := func(typ envoy.Type, s *sent, detail string, names ...string) {
		t.Helper()
		req := &discoveryv3.DiscoveryRequest{TypeUrl: typ.URL(), ResourceNames: names}
		if s != nil {
			req.ResponseNonce, req.VersionInfo = s.Nonce, s.Version
		}
		if detail != "" {
			req.ErrorDetail = &statuspb.Status{Message: detail}
		}
		if err := r.st.handleFull(req); err != nil {
			t.Fatal(err)
		}
	}
	r.publish("c/old=1", "r/bad=1", "r/r=1")
	ask(envoy.TypeCluster, nil, "")
	ask(envoy.TypeCluster, r.expect(envoy.TypeCluster, []string{"old"}, nil), "")
	ask(envoy.TypeRoute, nil, "", "bad", "r")
	ask(envoy.TypeRoute, r.expect(envoy.TypeRoute, []string{"bad", "r"}, nil), "no", "bad", "r")
	r.publish("r/r=2") // the bad one goes, and the cluster
	ask(envoy.TypeRoute, r.expect(envoy.TypeRoute, []string{"r"}, nil), "", "bad", "r")
	ask(envoy.TypeCluster, r.expect(envoy.TypeCluster, nil, nil), "")
	r.expectNothing()
}

func TestFullListsOldClustersUntilRoutesHaveMoved(t *testing.T) {
	t.Parallel()
	r := newRig(t, true)
	ask := func(typ envoy.Type, s *sent, names ...string) {
		req := &discoveryv3.DiscoveryRequest{TypeUrl: typ.URL(), ResourceNames: names}
		if s != nil {
			req.ResponseNonce, req.VersionInfo = s.Nonce, s.Version
		}
		if err := r.st.handleFull(req); err != nil {
			t.Fatal(err)
		}
	}
	r.publish("c/old=1", "l/in=1", "r/r=1")
	ask(envoy.TypeCluster, nil)
	clusters := r.expect(envoy.TypeCluster, []string{"old"}, nil)
	ask(envoy.TypeCluster, clusters)
	ask(envoy.TypeListener, nil)
	ask(envoy.TypeListener, r.expect(envoy.TypeListener, []string{"in"}, nil))
	ask(envoy.TypeRoute, nil, "r")
	ask(envoy.TypeRoute, r.expect(envoy.TypeRoute, []string{"r"}, nil), "r")
	r.expectNothing()

	r.publish("c/new=1", "l/in=1", "r/r=2")
	clusters = r.expect(envoy.TypeCluster, []string{"new", "old"}, nil)
	r.expectNothing()
	ask(envoy.TypeCluster, clusters)
	routes := r.expect(envoy.TypeRoute, []string{"r"}, nil)
	r.expectNothing()
	ask(envoy.TypeRoute, routes, "r")
	ask(envoy.TypeCluster, r.expect(envoy.TypeCluster, []string{"new"}, nil))
	r.expectNothing()
}

func TestFullReconnectWithTheSameVersionIsSentNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, true)
	r.publish("c/a=1")
	version := fullVersion([]*resource{r.feed.types[envoy.TypeCluster].get("a")})
	if err := r.st.handleFull(&discoveryv3.DiscoveryRequest{TypeUrl: envoy.TypeCluster.URL(), VersionInfo: version}); err != nil {
		t.Fatal(err)
	}
	r.expectNothing()
	r.publish("c/a=2")
	r.expect(envoy.TypeCluster, []string{"a"}, nil)
}

func TestEqualResourcesAreOne(t *testing.T) {
	t.Parallel()
	p := newPool()
	encode := func(stat string) *resource {
		r, err := p.encode(envoy.Resource{Type: envoy.TypeCluster, Name: "a", Message: &clusterv3.Cluster{Name: "a", AltStatName: stat}}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	a := encode("1")
	if b := encode("1"); a != b {
		t.Error("two equal resources are two objects")
	}
	if b := encode("2"); a == b {
		t.Error("two different resources are one object")
	}
}

func TestTheLogOfAFeedStaysShort(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("c/a=1")
	r.subscribe()
	for i := range 1000 {
		r.publish("c/a="+string(rune('0'+i%10)), "c/x"+string(rune('0'+i%7))+"=1")
		for s := r.next(); s != nil; s = r.next() {
			r.ack(s)
		}
	}
	c := &r.feed.types[envoy.TypeCluster]
	if len(c.log) > 200 || len(c.gone) > 10 {
		t.Errorf("after 1000 changes of 8 names the log has %d entries and %d removals", len(c.log), len(c.gone))
	}
}
