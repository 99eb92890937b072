package bench

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// bareServer sends a prepared response to every stream when it is told to: what gRPC
// and the machine cost without a control plane.
type bareServer struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	mu    sync.Mutex
	pushs []chan *discoveryv3.DeltaDiscoveryResponse
}

// DeltaAggregatedResources sends what push hands it, and reads and forgets requests.
func (s *bareServer) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	push := make(chan *discoveryv3.DeltaDiscoveryResponse, 1)
	s.mu.Lock()
	s.pushs = append(s.pushs, push)
	s.mu.Unlock()
	gone := make(chan error, 1)
	go func() {
		for {
			if _, err := g.Recv(); err != nil {
				gone <- err
				return
			}
		}
	}()
	for {
		select {
		case err := <-gone:
			return err
		case r := <-push:
			if err := g.Send(r); err != nil {
				return err
			}
		}
	}
}

func (s *bareServer) push(r *discoveryv3.DeltaDiscoveryResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pushs {
		p <- r
	}
}

func (s *bareServer) streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pushs)
}

// BenchmarkBareStreams is what BenchmarkPropagation is to be compared with: the same
// clients, a response of the same kind, and a server that does nothing but send it.
// From the order to send until the last client has acknowledged.
func BenchmarkBareStreams(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("clients=%d", n), func(b *testing.B) { bare(b, n) })
	}
}

func bare(b *testing.B, n int) {
	b.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &bareServer{}
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
	go func() { _ = g.Serve(lis) }()
	b.Cleanup(g.Stop)
	acks := make(chan time.Time, n)
	for range n {
		d, err := meshtest.OpenDelta(b.Context(), lis.Addr().String(), aws.Credentials{AccessKeyID: "none", SecretAccessKey: "none"})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(d.Close)
		d.Answered = func(envoy.Type, *discoveryv3.DeltaDiscoveryResponse) { acks <- time.Now() }
		if err := d.Begin(&corev3.Node{Id: "bare"}, nil); err != nil {
			b.Fatal(err)
		}
	}
	meshtest.Eventually(b, "all streams are open", func() error {
		if have := s.streams(); have != n {
			return fmt.Errorf("%d of %d", have, n)
		}
		return nil
	})
	response := routeResponse(b)
	var took []time.Duration
	for b.Loop() {
		from := time.Now()
		s.push(response)
		var last time.Time
		for range n {
			if at := <-acks; at.After(last) {
				last = at
			}
		}
		took = append(took, last.Sub(from))
	}
	report(b, took, "p50-ms", 50)
	report(b, took, "p99-ms", 99)
}

// routeResponse holds one route configuration of the size that BenchmarkPropagation's has.
func routeResponse(b *testing.B) *discoveryv3.DeltaDiscoveryResponse {
	b.Helper()
	body, err := anypb.New(&routev3.RouteConfiguration{
		Name: "rds_egress_http_8080", InternalOnlyHeaders: []string{fmt.Sprintf("%0700d", 0)},
	})
	if err != nil {
		b.Fatal(err)
	}
	return &discoveryv3.DeltaDiscoveryResponse{
		TypeUrl: envoy.TypeRoute.URL(), Nonce: "1",
		Resources: []*discoveryv3.Resource{{Name: "rds_egress_http_8080", Version: "1", Resource: body}},
	}
}
