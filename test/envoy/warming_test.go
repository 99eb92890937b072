package envoy

import (
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// slowName is resolved by the test's own name server, late.
const slowName = "slow.name.test"

// callerAsking is caller with an Envoy that asks a test's name server.
func (s *stage) callerAsking(names *meshtest.Names) {
	s.t.Helper()
	at := names.Listen(s.t)
	s.callerWith(func(bootstrap map[string]any) {
		bootstrap["typed_dns_resolver_config"] = map[string]any{
			"name": "envoy.network.dns_resolver.cares",
			"typed_config": map[string]any{
				"@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
				"resolvers": []any{map[string]any{"socket_address": map[string]any{
					"protocol": "UDP", "address": at.Addr().String(), "port_value": at.Port(),
				}}},
			},
		}
	})
}

// A route to a node that is found by name, whose name takes a while to be
// resolved: the route must wait for the cluster, or requests fail in between.
func TestARouteWaitsForASlowName(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.app("blue", named("blue")).Ready(t)
	s.app("green", named("green")).Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1))
	names := meshtest.NewNames()
	names.SetLate(400*time.Millisecond, slowName, netip.MustParseAddr(hostOf(t, s, "green")))
	s.callerAsking(names)
	s.awaitAnswer("/", http.StatusOK)
	l := s.startLoad()
	l.awaitShift(t, "blue", "green")
	s.plane.Node(t, "test", "slow", slowName, port)
	s.route(meshtest.Weights("slow", 1))
	l.awaitShift(t, "green", "blue")
	l.end(t)
	s.noMeshFailures()
}
