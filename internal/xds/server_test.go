package xds_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// colours makes a mesh with a front that calls a service split over two versions.
func colours(t *testing.T) *meshtest.Plane {
	t.Helper()
	p := meshtest.Start(t)
	p.Put(t, "/meshes", `{"meshName":"test"}`)
	p.Node(t, "test", "blue", "10.0.0.1", 8080)
	p.Node(t, "test", "green", "10.0.0.2", 8080)
	p.Routed(t, "test", "colour.local", "colour", 8080, meshtest.Weights("blue", 1))
	p.Node(t, "test", "front", "", 0, "colour.local")
	return p
}

var errNotYet = errors.New("not yet")

func front() *corev3.Node { return &corev3.Node{Id: meshtest.ARN("test", "front")} }

func TestDeltaCarriesAChangeToTheProxy(t *testing.T) {
	t.Parallel()
	p := colours(t)
	d := p.Delta(t, front())
	has := func(typ envoy.Type, name string) bool { return d.Resources(typ)[name] != nil }
	d.Await(t, "the first configuration", func() bool {
		return has(envoy.TypeCluster, "cds_egress_test_blue_http_8080") && has(envoy.TypeRoute, "rds_egress_http_8080")
	})
	p.Put(t, "/meshes/test/virtualRouter/colour/routes/all", `{"spec":`+meshtest.Weights("green", 1)+`}`)
	d.Await(t, "the new cluster, and the end of the old", func() bool {
		return has(envoy.TypeCluster, "cds_egress_test_green_http_8080") && !has(envoy.TypeCluster, "cds_egress_test_blue_http_8080")
	})
	var order []string
	for _, r := range d.Responses() {
		typ, _ := envoy.ParseType(r.GetTypeUrl())
		what := typ.String()
		if len(r.GetRemovedResources()) > 0 {
			what += " removed"
		}
		order = append(order, what)
	}
	got := strings.Join(order[len(order)-3:], ", ")
	if want := "Cluster, RouteConfiguration, Cluster removed"; got != want {
		t.Errorf("the change came as %q, want %q", got, want)
	}
}

func TestAnUnrelatedChangeIsNotSent(t *testing.T) {
	t.Parallel()
	p := colours(t)
	d := p.Delta(t, front())
	d.Await(t, "the routes", func() bool { return len(d.Resources(envoy.TypeRoute)) == 1 })
	before := len(d.Responses())
	p.Node(t, "test", "stranger", "10.0.0.9", 8080)
	p.Put(t, "/meshes/test/virtualRouter/colour/routes/all", `{"spec":`+meshtest.Weights("blue", 1)+`}`) // the same as it is
	p.Put(t, "/meshes/test/virtualRouter/colour/routes/all", `{"spec":`+meshtest.Weights("blue", 1, "green", 1)+`}`)
	d.Await(t, "the change that matters", func() bool { return len(d.Resources(envoy.TypeCluster)) == 3 })
	d.Await(t, "its route", func() bool { return len(d.Responses()) >= before+2 })
	if got := len(d.Responses()) - before; got != 2 {
		t.Errorf("%d responses, want a cluster's and a route's", got)
	}
}

func TestAReconnectIsSentNothing(t *testing.T) {
	t.Parallel()
	p := colours(t)
	d := p.Delta(t, front())
	d.Await(t, "the routes", func() bool { return len(d.Resources(envoy.TypeRoute)) == 1 })
	have := d.Versions()
	d.Close()
	p.Stop(t)
	p.Run(t)

	again, err := meshtest.OpenDelta(t.Context(), p.Addrs.XDS, p.Creds)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Close)
	if err := again.Begin(front(), have); err != nil {
		t.Fatal(err)
	}
	p.Put(t, "/meshes/test/virtualRouter/colour/routes/all", `{"spec":`+meshtest.Weights("blue", 1, "green", 1)+`}`)
	again.Await(t, "a change", func() bool { return len(again.Responses()) > 0 })
	first := again.Responses()[0]
	if n := len(first.GetResources()); n != 1 || first.GetResources()[0].GetName() != "cds_egress_test_green_http_8080" {
		t.Errorf("the first response after a reconnect holds %d resources, want the new cluster alone", n)
	}
}

func TestStateOfTheWorld(t *testing.T) {
	t.Parallel()
	p := colours(t)
	conn, err := grpc.NewClient(p.Addrs.XDS, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, err := meshtest.SignStream(t.Context(), p.Creds, p.Addrs.XDS, "StreamAggregatedResources")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	next := func(req *discoveryv3.DiscoveryRequest) *discoveryv3.DiscoveryResponse {
		t.Helper()
		if err := stream.Send(req); err != nil {
			t.Fatal(err)
		}
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	clusters := next(&discoveryv3.DiscoveryRequest{Node: front(), TypeUrl: envoy.TypeCluster.URL()})
	if n := len(clusters.GetResources()); n != 2 {
		t.Fatalf("%d clusters, want blue's and the one for AWS", n)
	}
	p.Put(t, "/meshes/test/virtualRouter/colour/routes/all", `{"spec":`+meshtest.Weights("blue", 1, "green", 1)+`}`)
	clusters = next(&discoveryv3.DiscoveryRequest{
		TypeUrl: envoy.TypeCluster.URL(), VersionInfo: clusters.GetVersionInfo(), ResponseNonce: clusters.GetNonce(),
	})
	if n := len(clusters.GetResources()); n != 3 {
		t.Errorf("after the change %d clusters, want all 3", n)
	}
}

func TestStreamsThatAreRefused(t *testing.T) {
	t.Parallel()
	p := colours(t)
	wrong := p.Creds
	wrong.SecretAccessKey = "wrong"
	for _, c := range []struct {
		name  string
		creds *aws.Credentials
		node  string
		code  codes.Code
		says  string
	}{
		{"unsigned", nil, meshtest.ARN("test", "front"), codes.Unauthenticated, "not signed"},
		{"wrong secret", &wrong, meshtest.ARN("test", "front"), codes.Unauthenticated, "InvalidSignatureException"},
		{"no such node", &p.Creds, meshtest.ARN("test", "nobody"), codes.InvalidArgument, "virtualNode/nobody is not present"},
		{"no such mesh", &p.Creds, meshtest.ARN("nowhere", "front"), codes.InvalidArgument, "mesh nowhere"},
		{"not a node", &p.Creds, "mesh/test/virtualRouter/colour", codes.InvalidArgument, "virtualRouter"},
		{"no ARN", &p.Creds, "front", codes.InvalidArgument, "node.id"},
		{
			"another account's", &p.Creds, strings.Replace(meshtest.ARN("test", "front"), meshtest.Account, "000000000002", 1),
			codes.PermissionDenied, "may not",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn, err := grpc.NewClient(p.Addrs.XDS, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ctx := t.Context()
			if c.creds != nil {
				if ctx, err = meshtest.SignStream(ctx, *c.creds, p.Addrs.XDS, "DeltaAggregatedResources"); err != nil {
					t.Fatal(err)
				}
			}
			stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
			if err != nil {
				t.Fatal(err)
			}
			// An error here is what Recv tells better.
			_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: c.node}, TypeUrl: envoy.TypeCluster.URL()})
			_, err = stream.Recv()
			if status.Code(err) != c.code || !strings.Contains(status.Convert(err).Message(), c.says) {
				t.Errorf("refused with %v, want %v and %q", err, c.code, c.says)
			}
		})
	}
}

func TestADeletedNodesStreamEnds(t *testing.T) {
	t.Parallel()
	p := colours(t)
	d := p.Delta(t, front())
	d.Await(t, "the routes", func() bool { return len(d.Resources(envoy.TypeRoute)) == 1 })
	p.Delete(t, "/meshes/test/virtualNodes/front")
	meshtest.Eventually(t, "the stream ends", func() error {
		if code := status.Code(d.Err()); code != codes.InvalidArgument {
			return fmt.Errorf("it stands with: %w", errors.Join(errNotYet, d.Err()))
		}
		return nil
	})
}

// Revoking a key ends its streams at once.
func TestARevokedKeyEndsItsStreams(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	d := p.connect(p.owner, meshtest.ARN("test", "front"))
	if _, err := p.access.DeleteKey(t.Context(), as(owner), owner, access.Administrator, p.owner.AccessKeyID); err != nil {
		t.Fatal(err)
	}
	if s := p.ends(d); s.Code() != codes.PermissionDenied {
		t.Errorf("the stream ended with %v", s)
	}
}
