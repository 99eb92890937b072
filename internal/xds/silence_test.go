package xds_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/access/audit"
	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/xds"
)

// wideNode makes a virtual node whose clusters are so much that gRPC, which takes 64 KB beyond
// the 64 KB that HTTP/2 lets through to a client that does not read, takes nothing more.
func (p *plane) wideNode(name string) {
	p.t.Helper()
	var backends []string
	for i := range 600 {
		node, service := fmt.Sprint(name, "-", i), fmt.Sprintf("%s-%d.test.local", name, i)
		p.node(owner, node)
		p.create(owner, testMesh.Object(mesh.KindVirtualService, "", service),
			fmt.Sprintf(`{"provider":{"virtualNode":{"virtualNodeName":%q}}}`, node))
		backends = append(backends, service)
	}
	p.create(owner, testMesh.Object(mesh.KindVirtualNode, "", name), meshtest.NodeSpec("127.0.0.9", 8080, backends...))
}

// deaf opens a stream that asks for clusters and listeners and reads nothing.
func (p *plane) deaf(node string) grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse] {
	p.t.Helper()
	conn, err := grpc.NewClient(p.addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = conn.Close() })
	ctx, err := meshtest.SignStream(p.t.Context(), p.owner, p.addr, "DeltaAggregatedResources")
	if err != nil {
		p.t.Fatal(err)
	}
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, t := range []envoy.Type{envoy.TypeCluster, envoy.TypeListener} {
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: node}, TypeUrl: t.URL()}); err != nil {
			p.t.Fatal(err)
		}
	}
	return stream
}

// A proxy that does not read holds nobody up, is a problem, and is dropped with a reason.
func TestAProxyThatDoesNotReadIsDropped(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	p := newPlane(t, func(c *xds.Config) { c.MaxSilence, c.Metrics = 5*time.Second, registry })
	p.wideNode("wide")
	wide := meshtest.ARN("test", "wide")
	stalled := p.deaf(wide)
	p.proxies(1)
	others := []*meshtest.Delta{p.connect(p.owner, wide), p.connect(p.owner, wide)}
	for i := range 20 {
		host := fmt.Sprintf("10.0.0.%d", i+1)
		p.move("wide-0", host)
		for _, d := range others {
			d.Await(t, "each change", func() bool {
				c := d.Resources(envoy.TypeCluster)["cds_egress_test_wide-0_http_8080"]
				return c != nil && strings.Contains(string(c.GetResource().GetValue()), host)
			})
		}
	}
	meshtest.Eventually(t, "the problem is told", func() error {
		for _, problem := range p.xds.Problems(owner, meshtest.Region, "test") {
			if problem.ARN == wide && strings.Contains(problem.Message, "does not answer") {
				return nil
			}
		}
		return errNotYet
	})
	p.proxies(2) // the one that does not read is dropped
	if n := metric(t, registry, "fairlead_xds_dropped_streams_total"); n != 1 {
		t.Errorf("%v streams are said to be dropped, want 1", n)
	}
	events := p.awaitEvents(audit.Query{Account: owner}, 4)
	if last := events[3].ServiceEventDetails; last.EventStatus != audit.Terminated || !strings.Contains(last.FailureReason, "neither taken nor answered") {
		t.Errorf("the audit has %+v", last)
	}
	for _, d := range others {
		if err := d.Err(); err != nil {
			t.Errorf("a proxy that reads was ended too: %v", err)
		}
	}
	var err error
	for err == nil { // what was under way comes first
		_, err = stalled.Recv()
	}
	if s := status.Convert(err); s.Code() != codes.DeadlineExceeded || !strings.Contains(s.Message(), "neither taken nor answered") {
		t.Errorf("the proxy that reads again is told %v", err)
	}
}

// A stream whose proxy does not read ends at once when it is not allowed any more.
func TestAProxyThatDoesNotReadIsEndedAsOthersAre(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	p := newPlane(t, func(c *xds.Config) { c.Metrics = registry })
	p.wideNode("wide")
	p.deaf(meshtest.ARN("test", "wide"))
	p.proxies(1)
	meshtest.Eventually(t, "a second response is sent, which gRPC does not take", func() error {
		if n := metric(t, registry, "fairlead_xds_responses_total"); n < 2 {
			return fmt.Errorf("there are %v", n)
		}
		return nil
	})
	if _, err := p.access.UpdateKey(t.Context(), as(owner), owner, access.Administrator, p.owner.AccessKeyID, false); err != nil {
		t.Fatal(err)
	}
	p.proxies(0)
}

// metric returns the sum of a counter over its labels.
func metric(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
