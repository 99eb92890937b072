package xds

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
)

// takeAll takes whatever there is to send.
func (r *rig) takeAll() {
	r.t.Helper()
	for s := r.next(); s != nil; s = r.next() {
		r.ack(s)
	}
}

// withHosts is a stream that has one route configuration, a, with virtual hosts of its own.
func withHosts(t *testing.T, resources ...string) *rig {
	r := newRig(t, false)
	r.publish(resources...)
	r.ask(envoy.TypeListener, &discoveryv3.DeltaDiscoveryRequest{})
	r.ask(envoy.TypeRoute, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"a"}})
	r.ack(r.expect(envoy.TypeListener, []string{"in"}, nil))
	routes := r.expect(envoy.TypeRoute, []string{"a"}, nil)
	// Envoy asks while it works on the route configuration, and answers that afterwards.
	r.ask(envoy.TypeVirtualHost, &discoveryv3.DeltaDiscoveryRequest{})
	r.expectNothing()
	r.ack(routes)
	return r
}

func TestHostsFollowTheirRoutes(t *testing.T) {
	t.Parallel()
	r := withHosts(t, "l/in=1", "r/a=1", "r/b=1", "v/a/x=1", "v/a/y=1", "v/b/x=1")
	r.ack(r.expect(envoy.TypeVirtualHost, []string{"a/x", "a/y"}, nil)) // b's would be passed over
	r.expectNothing()
	r.publish("l/in=1", "r/a=1", "r/b=1", "v/a/x=2", "v/a/y=1", "v/b/x=2")
	r.ack(r.expect(envoy.TypeVirtualHost, []string{"a/x"}, nil))
	r.expectNothing()

	r.ask(envoy.TypeRoute, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"b"}})
	routes := r.expect(envoy.TypeRoute, []string{"b"}, nil)
	r.expectNothing()
	r.ack(routes)
	r.ack(r.expect(envoy.TypeVirtualHost, []string{"b/x"}, nil))
	r.expectNothing()

	// A listener that goes takes its routes with it, and one that comes back asks for them.
	r.ask(envoy.TypeRoute, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: []string{"a"}})
	r.publish("l/in=1", "r/a=1", "r/b=1", "v/a/x=2", "v/a/y=2", "v/b/x=2")
	r.expectNothing()
	r.ask(envoy.TypeRoute, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"a"}})
	r.ack(r.expect(envoy.TypeRoute, []string{"a"}, nil))
	r.ack(r.expect(envoy.TypeVirtualHost, []string{"a/x", "a/y"}, nil))
	r.expectNothing()
}

// A virtual host that is gone is taken away, but not together with its route configuration:
// a listener that drains uses both.
func TestHostsGo(t *testing.T) {
	t.Parallel()
	r := withHosts(t, "l/in=1", "r/a=1", "v/a/x=1", "v/a/y=1")
	r.takeAll()
	r.publish("l/in=1", "r/a=1", "v/a/y=1")
	r.ack(r.expect(envoy.TypeVirtualHost, nil, []string{"a/x"}))
	r.expectNothing()
	r.publish("l/in=2", "r/c=1")
	r.ack(r.expect(envoy.TypeListener, []string{"in"}, nil))
	r.ack(r.expect(envoy.TypeRoute, nil, []string{"a"})) // which Envoy passes over
	r.expectNothing()
	r.ask(envoy.TypeRoute, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"c"}, ResourceNamesUnsubscribe: []string{"a"}})
	r.ack(r.expect(envoy.TypeRoute, []string{"c"}, nil))
	r.expectNothing()
	r.publish("l/in=1", "r/a=1", "v/a/y=1")
	r.ack(r.expect(envoy.TypeListener, []string{"in"}, nil))
	r.ask(envoy.TypeRoute, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"a"}})
	r.ack(r.expect(envoy.TypeRoute, []string{"a"}, []string{"c"}))
	r.ack(r.expect(envoy.TypeVirtualHost, []string{"a/y"}, nil)) // Envoy had forgotten it
	r.expectNothing()
}

// A virtual host waits for the clusters that are new, and they stay until it is taken.
func TestHostsMakeBeforeTheyBreak(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("c/old=1", "l/in=1", "r/a=1", "v/a/x=1")
	r.ask(envoy.TypeCluster, &discoveryv3.DeltaDiscoveryRequest{})
	r.ask(envoy.TypeListener, &discoveryv3.DeltaDiscoveryRequest{})
	r.ask(envoy.TypeRoute, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"a"}})
	r.ask(envoy.TypeVirtualHost, &discoveryv3.DeltaDiscoveryRequest{})
	r.takeAll()
	r.publish("c/new=1", "l/in=1", "r/a=1", "v/a/x=2")
	clusters := r.expect(envoy.TypeCluster, []string{"new"}, nil)
	r.expectNothing()
	r.ack(clusters)
	hosts := r.expect(envoy.TypeVirtualHost, []string{"a/x"}, nil)
	r.expectNothing()
	r.ack(hosts)
	r.ack(r.expect(envoy.TypeCluster, nil, []string{"old"}))
	r.expectNothing()
}

// A proxy that comes back says which it has.
func TestHostsOfAProxyThatComesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("l/in=1", "r/a=1", "v/a/x=1", "v/a/y=2")
	version := func(typ envoy.Type, name string) string { return r.feed.types[typ].get(name).version }
	r.ask(envoy.TypeListener, &discoveryv3.DeltaDiscoveryRequest{InitialResourceVersions: map[string]string{"in": version(envoy.TypeListener, "in")}})
	r.ask(envoy.TypeRoute, &discoveryv3.DeltaDiscoveryRequest{
		ResourceNamesSubscribe: []string{"a"}, InitialResourceVersions: map[string]string{"a": version(envoy.TypeRoute, "a")},
	})
	r.ask(envoy.TypeVirtualHost, &discoveryv3.DeltaDiscoveryRequest{InitialResourceVersions: map[string]string{
		"a/x": version(envoy.TypeVirtualHost, "a/x"), "a/y": "of yesterday", "a/z": "gone", "b/x": "of routes that are gone",
	}})
	r.ack(r.expect(envoy.TypeVirtualHost, []string{"a/y"}, []string{"a/z"}))
	r.expectNothing()
}
