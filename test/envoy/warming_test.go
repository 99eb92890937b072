package envoy

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// slowName is resolved by the test's own name server, late.
const slowName = "slow.name.test."

// nameServer answers questions for slowName with an address after a while, until the
// test ends, and returns its port.
func nameServer(t *testing.T, addr net.IP, late time.Duration) int {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response = true
			if q := m.Questions[0]; q.Name.String() == slowName && q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60},
					Body:   &dnsmessage.AResource{A: [4]byte(addr.To4())},
				}}
			}
			answer, err := m.Pack()
			if err != nil {
				continue
			}
			time.AfterFunc(late, func() { _, _ = conn.WriteTo(answer, from) })
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).Port
}

// A route to a node that is found by name, whose name takes a while to be
// resolved: the route must wait for the cluster, or requests fail in between.
func TestARouteWaitsForASlowName(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.app("blue", named("blue")).Ready(t)
	s.app("green", named("green")).Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1))
	dns := nameServer(t, net.ParseIP(hostOf(t, s, "green")), 400*time.Millisecond)
	s.callerWith(func(bootstrap map[string]any) {
		bootstrap["typed_dns_resolver_config"] = map[string]any{
			"name": "envoy.network.dns_resolver.cares",
			"typed_config": map[string]any{
				"@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
				"resolvers": []any{map[string]any{"socket_address": map[string]any{
					"protocol": "UDP", "address": "127.0.0.1", "port_value": dns,
				}}},
			},
		}
	})
	s.awaitAnswer("/", http.StatusOK)
	l := s.startLoad()
	l.awaitShift(t, "blue", "green")
	s.plane.Node(t, "test", "slow", strings.TrimSuffix(slowName, "."), port)
	s.route(meshtest.Weights("slow", 1))
	l.awaitShift(t, "green", "blue")
	l.end(t)
	s.noMeshFailures()
}
