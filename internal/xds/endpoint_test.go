package xds

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
)

// subscribeEndpoints asks for all that Envoy would of clusters a and b, and takes it.
func (r *rig) subscribeEndpoints() {
	r.t.Helper()
	r.ask(envoy.TypeEndpoint, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"a", "b"}})
	r.subscribe()
}

func TestEndpointsFollowTheirCluster(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("c/a=1", "c/b=1", "e/a=1", "e/b=1", "l/in=1", "r/r=1")
	r.subscribeEndpoints()
	r.publish("c/a=2", "c/b=1", "e/a=1", "e/b=1", "l/in=1", "r/r=1")
	r.ack(r.expect(envoy.TypeCluster, []string{"a"}, nil))
	r.ack(r.expect(envoy.TypeEndpoint, []string{"a"}, nil))
	r.expectNothing()
	r.publish("c/a=2", "c/b=1", "e/a=1", "e/b=2", "l/in=1", "r/r=1")
	r.ack(r.expect(envoy.TypeEndpoint, []string{"b"}, nil))
	r.expectNothing()
}

// While one cluster warms, which holds back the acknowledgement, another changes: its
// endpoints may overtake it, and must come once more after it.
func TestEndpointsThatOvertookTheirClusterComeAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("c/a=1", "c/b=1", "e/a=1", "e/b=1", "l/in=1", "r/r=1")
	r.subscribeEndpoints()
	r.publish("c/a=1", "c/b=1", "c/slow=1", "e/a=1", "e/b=1", "l/in=1", "r/r=1")
	clusters := r.expect(envoy.TypeCluster, []string{"slow"}, nil)
	r.publish("c/a=2", "c/b=1", "c/slow=1", "e/a=1", "e/b=1", "l/in=1", "r/r=1")
	r.ack(r.expect(envoy.TypeEndpoint, []string{"a"}, nil))
	r.expectNothing()
	r.ack(clusters)
	r.ack(r.expect(envoy.TypeCluster, []string{"a"}, nil))
	r.ack(r.expect(envoy.TypeEndpoint, []string{"a"}, nil))
	r.expectNothing()
}

// A proxy that loses its stream between a changed cluster and the endpoints that should
// have followed it gets them on the next stream: their version is another.
func TestEndpointsOfAChangedClusterComeOnTheNextStream(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("c/a=1", "e/a=1")
	have := r.feed.types[envoy.TypeEndpoint].get("a").version
	r.publish("c/a=2", "e/a=1")
	r.ask(envoy.TypeCluster, &discoveryv3.DeltaDiscoveryRequest{
		InitialResourceVersions: map[string]string{"a": r.feed.types[envoy.TypeCluster].get("a").version},
	})
	r.ask(envoy.TypeEndpoint, &discoveryv3.DeltaDiscoveryRequest{
		ResourceNamesSubscribe: []string{"a"}, InitialResourceVersions: map[string]string{"a": have},
	})
	r.ack(r.expect(envoy.TypeEndpoint, []string{"a"}, nil))
	r.expectNothing()
}

// Endpoints that are asked for while their cluster waits for them are not held up by it,
// and routes wait for both.
func TestEndpointsAreSentWhileTheirClusterWarms(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("c/a=1", "e/a=1", "l/in=1", "r/r=1")
	r.subscribeEndpoints()
	r.publish("c/a=1", "c/new=1", "e/a=1", "e/new=1", "l/in=1", "r/r=2")
	clusters := r.expect(envoy.TypeCluster, []string{"new"}, nil)
	r.ask(envoy.TypeEndpoint, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"new"}})
	r.ack(r.expect(envoy.TypeEndpoint, []string{"new"}, nil))
	r.expectNothing() // the route waits for the cluster
	r.ack(clusters)
	routes := r.expect(envoy.TypeRoute, []string{"r"}, nil)
	r.publish("c/new=1", "e/new=1", "l/in=1", "r/r=2")
	r.expectNothing() // a removal waits for the routes
	r.ack(routes)
	r.ack(r.expect(envoy.TypeCluster, nil, []string{"a"}))
	r.ack(r.expect(envoy.TypeEndpoint, nil, []string{"a"}))
	r.expectNothing()
}

func TestFullEndpointsFollowTheirCluster(t *testing.T) {
	t.Parallel()
	r := newRig(t, true)
	ask := func(typ envoy.Type, s *sent, names ...string) {
		t.Helper()
		req := &discoveryv3.DiscoveryRequest{TypeUrl: typ.URL(), ResourceNames: names}
		if s != nil {
			req.ResponseNonce, req.VersionInfo = s.Nonce, s.Version
		}
		if err := r.st.handleFull(req); err != nil {
			t.Fatal(err)
		}
	}
	r.publish("c/a=1", "c/b=1", "e/a=1", "e/b=1")
	ask(envoy.TypeCluster, nil)
	ask(envoy.TypeCluster, r.expect(envoy.TypeCluster, []string{"a", "b"}, nil))
	ask(envoy.TypeEndpoint, nil, "a", "b")
	ask(envoy.TypeEndpoint, r.expect(envoy.TypeEndpoint, []string{"a", "b"}, nil), "a", "b")
	r.expectNothing()
	r.publish("c/a=1", "c/b=1", "c/slow=1", "e/a=1", "e/b=1")
	clusters := r.expect(envoy.TypeCluster, []string{"a", "b", "slow"}, nil)
	r.expectNothing() // of a and b nothing has changed
	r.publish("c/a=2", "c/b=1", "c/slow=1", "e/a=1", "e/b=1")
	ask(envoy.TypeEndpoint, r.expect(envoy.TypeEndpoint, []string{"a", "b"}, nil), "a", "b")
	r.expectNothing()
	ask(envoy.TypeCluster, clusters)
	ask(envoy.TypeCluster, r.expect(envoy.TypeCluster, []string{"a", "b", "slow"}, nil))
	ask(envoy.TypeEndpoint, r.expect(envoy.TypeEndpoint, []string{"a", "b"}, nil), "a", "b")
	r.expectNothing()
}

func TestAnUpdateReplacesNothingElse(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("c/a=1", "e/a=1", "l/in=1", "r/r=1")
	r.subscribeEndpoints()
	before := r.feed.generation
	cluster, have := r.feed.types[envoy.TypeCluster].get("a"), r.feed.types[envoy.TypeEndpoint].get("a")
	if r.feed.update([]*resource{have}) || r.feed.generation != before {
		t.Error("an update with what is there changed something")
	}
	other := newRig(t, false)
	other.publish("c/a=1", "e/a=2")
	if !r.feed.update([]*resource{other.feed.types[envoy.TypeEndpoint].get("a")}) {
		t.Error("an update changed nothing")
	}
	r.ack(r.expect(envoy.TypeEndpoint, []string{"a"}, nil))
	r.expectNothing()
	if r.feed.types[envoy.TypeCluster].get("a") != cluster {
		t.Error("an update of endpoints replaced a cluster")
	}
}

// Endpoints that overtook their cluster have a version of their own: a proxy that gets the
// cluster, and loses the stream before they follow, is sent them on the next.
func TestEndpointsThatOvertookTheirClusterDoNotCount(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("c/a=1", "c/b=1", "e/a=1", "e/b=1", "l/in=1", "r/r=1")
	r.subscribeEndpoints()
	r.publish("c/a=1", "c/b=1", "c/slow=1", "e/a=1", "e/b=1", "l/in=1", "r/r=1")
	r.expect(envoy.TypeCluster, []string{"slow"}, nil)
	r.publish("c/a=2", "c/b=1", "c/slow=1", "e/a=1", "e/b=1", "l/in=1", "r/r=1")
	early := r.nextDelta()
	if len(early.GetResources()) != 1 || early.GetResources()[0].GetName() != "a" {
		t.Fatalf("sent %v, want the endpoints of a", early)
	}
	have := early.GetResources()[0].GetVersion()
	reconnect(r) // with the cluster that came in the meantime
	r.ask(envoy.TypeCluster, &discoveryv3.DeltaDiscoveryRequest{InitialResourceVersions: r.versions(envoy.TypeCluster)})
	r.ask(envoy.TypeEndpoint, &discoveryv3.DeltaDiscoveryRequest{
		ResourceNamesSubscribe: []string{"a"}, InitialResourceVersions: map[string]string{"a": have},
	})
	r.ack(r.expect(envoy.TypeEndpoint, []string{"a"}, nil))
	r.expectNothing()
}

// versions returns the versions of what the feed has of a type.
func (r *rig) versions(t envoy.Type) map[string]string {
	out := map[string]string{}
	for name, e := range r.feed.types[t].current {
		out[name] = e.res.version
	}
	return out
}

// A proxy that comes back without the cluster that its endpoints were for, for it refused
// it, waits for them once it has it.
func TestEndpointsFollowAClusterThatWasSentBeforeTheyWereAskedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("c/a=1", "c/b=1", "e/a=1", "e/b=1")
	clusters := r.versions(envoy.TypeCluster)
	clusters["a"] = "another"
	r.ask(envoy.TypeCluster, &discoveryv3.DeltaDiscoveryRequest{InitialResourceVersions: clusters})
	r.ack(r.expect(envoy.TypeCluster, []string{"a"}, nil))
	r.ask(envoy.TypeEndpoint, &discoveryv3.DeltaDiscoveryRequest{
		ResourceNamesSubscribe: []string{"a", "b"}, InitialResourceVersions: r.versions(envoy.TypeEndpoint),
	})
	r.ack(r.expect(envoy.TypeEndpoint, []string{"a"}, nil))
	r.expectNothing()
}
