package xds_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/server"
	"github.com/fairlead-mesh/fairlead/internal/xds"
)

const mappedCluster = "cds_egress_test_mapped_http_8080"

// mapped makes a mesh with a front that calls two nodes, of which Cloud Map discovers one.
func mapped(t *testing.T) (*meshtest.Plane, *meshtest.Registry) {
	t.Helper()
	registry := &meshtest.Registry{}
	p := meshtest.StartWith(t, meshtest.Options{Change: func(c *server.Config) { c.Registry = registry }})
	p.Put(t, "/meshes", `{"meshName":"test"}`)
	p.Put(t, "/meshes/test/virtualNodes", `{"virtualNodeName":"mapped","spec":{"listeners":[{"portMapping":{"port":8080,"protocol":"http"}}],
		"serviceDiscovery":{"awsCloudMap":{"namespaceName":"n","serviceName":"s"}}}}`)
	p.Node(t, "test", "plain", "10.0.0.9", 8080)
	p.Routed(t, "test", "colour.local", "colour", 8080, meshtest.Weights("mapped", 1, "plain", 1))
	p.Node(t, "test", "front", "", 0, "colour.local")
	return p, registry
}

// fullStream is a state-of-the-world stream worked by hand.
type fullStream struct {
	t      *testing.T
	stream grpc.BidiStreamingClient[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]
}

func openFull(t *testing.T, p *meshtest.Plane) *fullStream {
	t.Helper()
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
	return &fullStream{t, stream}
}

func (f *fullStream) ask(req *discoveryv3.DiscoveryRequest) {
	f.t.Helper()
	if err := f.stream.Send(req); err != nil {
		f.t.Fatal(err)
	}
}

// next returns the next response, which must be of a type.
func (f *fullStream) next(typ envoy.Type) *discoveryv3.DiscoveryResponse {
	f.t.Helper()
	resp, err := f.stream.Recv()
	if err != nil {
		f.t.Fatal(err)
	}
	if resp.GetTypeUrl() != typ.URL() {
		f.t.Fatalf("a response of %s, want %s", resp.GetTypeUrl(), typ)
	}
	return resp
}

// App Mesh's own agent asks for the endpoints of its local_cluster before anything else,
// and for clusters only when that is answered.
func TestTheLocalClusterIsAnsweredBeforeClusters(t *testing.T) {
	t.Parallel()
	p, _ := mapped(t)
	t.Run("delta", func(t *testing.T) {
		t.Parallel()
		d, err := meshtest.OpenDelta(t.Context(), p.Addrs.XDS, p.Creds)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Close)
		begun := make(chan struct{})
		d.Answered = func(typ envoy.Type, _ *discoveryv3.DeltaDiscoveryResponse) {
			if typ == envoy.TypeEndpoint {
				close(begun)
			}
		}
		first := &discoveryv3.DeltaDiscoveryRequest{Node: front(), TypeUrl: envoy.TypeEndpoint.URL(), ResourceNamesSubscribe: []string{"local_cluster"}}
		if err := d.Follow(first); err != nil {
			t.Fatal(err)
		}
		<-begun
		if err := d.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: envoy.TypeCluster.URL()}); err != nil {
			t.Fatal(err)
		}
		d.Await(t, "the clusters", func() bool { return len(d.Resources(envoy.TypeCluster)) == 3 })
		if got := addresses(t, d, "local_cluster"); len(got) != 0 || d.Resources(envoy.TypeEndpoint)["local_cluster"] == nil {
			t.Errorf("local_cluster has the endpoints %v, want none of its own", got)
		}
	})
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		f := openFull(t, p)
		f.ask(&discoveryv3.DiscoveryRequest{Node: front(), TypeUrl: envoy.TypeEndpoint.URL(), ResourceNames: []string{"local_cluster"}})
		local := f.next(envoy.TypeEndpoint)
		a := new(endpointv3.ClusterLoadAssignment)
		if n := len(local.GetResources()); n != 1 {
			t.Fatalf("%d resources, want local_cluster", n)
		}
		if err := local.GetResources()[0].UnmarshalTo(a); err != nil || a.GetClusterName() != "local_cluster" || len(a.GetEndpoints()) != 0 {
			t.Errorf("answered with %v %v", a, err)
		}
		f.ask(&discoveryv3.DiscoveryRequest{
			TypeUrl: envoy.TypeEndpoint.URL(), ResourceNames: []string{"local_cluster"}, ResponseNonce: local.GetNonce(), VersionInfo: local.GetVersionInfo(),
		})
		f.ask(&discoveryv3.DiscoveryRequest{TypeUrl: envoy.TypeCluster.URL()})
		if n := len(f.next(envoy.TypeCluster).GetResources()); n != 3 {
			t.Errorf("%d clusters, want 3: two targets and what leaves the mesh for AWS", n)
		}
	})
}

// problems returns what the API says is not served as written.
func problems(t *testing.T, p *meshtest.Plane) []xds.Problem {
	t.Helper()
	var answer struct{ Problems []xds.Problem }
	p.Signed(t).Want(t, http.MethodGet, "/v1/meshes/test/problems", "", &answer)
	return answer.Problems
}

// addresses returns the endpoints that a client holds of a cluster.
func addresses(t *testing.T, d *meshtest.Delta, cluster string) []string {
	t.Helper()
	r := d.Resources(envoy.TypeEndpoint)[cluster]
	if r == nil {
		return nil
	}
	a := new(endpointv3.ClusterLoadAssignment)
	if err := r.GetResource().UnmarshalTo(a); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range a.GetEndpoints() {
		for _, e := range l.GetLbEndpoints() {
			out = append(out, e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress())
		}
	}
	return out
}

// A change of instances reaches the proxy as that one resource, and brings or takes the
// problems of the node.
func TestInstancesReachTheProxy(t *testing.T) {
	t.Parallel()
	p, registry := mapped(t)
	d := p.Delta(t, front())
	if err := d.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: envoy.TypeEndpoint.URL(), ResourceNamesSubscribe: []string{mappedCluster}}); err != nil {
		t.Fatal(err)
	}
	d.Await(t, "the routes and endpoints", func() bool {
		return len(d.Resources(envoy.TypeRoute)) == 1 && d.Resources(envoy.TypeEndpoint)[mappedCluster] != nil
	})
	expectProblem := func(says string) {
		t.Helper()
		meshtest.Eventually(t, "the problem is "+says, func() error {
			all := problems(t, p)
			if says == "" && len(all) > 0 || says != "" && (len(all) != 1 || all[0].Object != "virtualNode/mapped" || !strings.Contains(all[0].Message, says)) {
				return fmt.Errorf("there are %+v", all)
			}
			return nil
		})
	}
	expectProblem("no service")
	before := len(d.Responses())
	k := meshtest.Key("n", "s")
	registry.Create(k)
	expectProblem("")
	registry.Register(k, mesh.Instance{ID: "a", IPv4: "10.0.0.1"}, mesh.Instance{ID: "b", IPv4: "10.0.0.2"})
	d.Await(t, "the endpoints", func() bool { return slices.Equal(addresses(t, d, mappedCluster), []string{"10.0.0.1", "10.0.0.2"}) })
	registry.Register(meshtest.Key("n", "another"), mesh.Instance{ID: "a", IPv4: "10.0.0.1"})
	registry.Register(k, mesh.Instance{ID: "c"})
	expectProblem("no AWS_INSTANCE_IPV4 or AWS_INSTANCE_IPV6: c")
	registry.Deregister(k, "a")
	d.Await(t, "the endpoint to go", func() bool { return slices.Equal(addresses(t, d, mappedCluster), []string{"10.0.0.2"}) })
	for _, r := range d.Responses()[before:] {
		if r.GetTypeUrl() != envoy.TypeEndpoint.URL() || len(r.GetResources()) != 1 {
			t.Errorf("changes of instances sent %d resources of %s", len(r.GetResources()), r.GetTypeUrl())
		}
	}
	registry.Deregister(k, "c")
	expectProblem("")
}

// refusing connects a proxy that refuses some resources.
func refusing(t *testing.T, p *meshtest.Plane, which func(*discoveryv3.Resource) bool, why string) *meshtest.Delta {
	t.Helper()
	d, err := meshtest.OpenDelta(t.Context(), p.Addrs.XDS, p.Creds)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	d.Refuse = func(_ envoy.Type, r *discoveryv3.DeltaDiscoveryResponse) string {
		if slices.ContainsFunc(r.GetResources(), which) {
			return why
		}
		return ""
	}
	if err := d.Begin(front(), nil); err != nil {
		t.Fatal(err)
	}
	return d
}

func awaitProblem(t *testing.T, p *meshtest.Plane, object, says string) {
	t.Helper()
	meshtest.Eventually(t, "there is a problem of "+object, func() error {
		var all []xds.Problem
		for _, p := range problems(t, p) {
			if strings.Contains(p.Message, "refuses") {
				all = append(all, p)
			}
		}
		if object == "" && len(all) == 0 || len(all) == 1 && all[0].Object == object && strings.HasSuffix(all[0].Message, says) && all[0].ARN == front().GetId() {
			return nil
		}
		return fmt.Errorf("there are %+v", all)
	})
}

// What a proxy refuses is a problem of what caused it, once for all proxies, until it
// changes or the proxy is gone.
func TestRefusalsAreProblems(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ refuse, why, object string }{
		"a cluster":          {`cds_egress_test_plain_http_8080`, "no such luck", "virtualNode/plain"},
		"a listener":         {`lds_egress`, "no such luck", "virtualNode/front"},
		"a route":            {`rds_egress`, "RouteConfigurationValidationError.VirtualHosts[1]: caused by VirtualHostValidationError.Routes[0]: no", "virtualRouter/colour/route/all"},
		"a virtual host":     {`rds_egress`, "Duplicate entry of domain colour.local in route rds_egress_http_8080", "virtualService/colour.local"},
		"any of its routes":  {`rds_egress`, "no such luck", "virtualNode/front"},
		"a host without one": {`rds_egress`, "VirtualHosts[0] has no such luck", "virtualNode/front"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _ := mapped(t)
			named := func(r *discoveryv3.Resource) bool { return strings.HasPrefix(r.GetName(), c.refuse) }
			first, second := refusing(t, p, named, c.why), refusing(t, p, named, c.why)
			awaitProblem(t, p, c.object, "and keeps what it accepted last: "+c.why)
			first.Close()
			second.Close()
			awaitProblem(t, p, "", "")
		})
	}
}

func TestARefusalEndsWithWhatWasRefused(t *testing.T) {
	t.Parallel()
	p, _ := mapped(t)
	d := refusing(t, p, func(r *discoveryv3.Resource) bool {
		return strings.Contains(string(r.GetResource().GetValue()), "10.0.0.9")
	}, "no such luck")
	awaitProblem(t, p, "virtualNode/plain", "no such luck")
	if d.Resources(envoy.TypeCluster)[mappedCluster] == nil {
		t.Error("one bad cluster cost the other")
	}
	p.Put(t, "/meshes/test/virtualNodes/plain", `{"spec":`+meshtest.NodeSpec("10.0.0.8", 8080)+`}`)
	awaitProblem(t, p, "", "")
	d.Await(t, "the cluster that is accepted", func() bool { return d.Resources(envoy.TypeCluster)["cds_egress_test_plain_http_8080"] != nil })
}

// In state-of-the-world a refusal is of all there is of a type: Envoy's words tell which
// resource was meant.
func TestRefusalsOfTheWholeWorld(t *testing.T) {
	t.Parallel()
	p, _ := mapped(t)
	f := openFull(t, p)
	f.ask(&discoveryv3.DiscoveryRequest{Node: front(), TypeUrl: envoy.TypeCluster.URL()})
	answer := func(words string) {
		t.Helper()
		resp := f.next(envoy.TypeCluster)
		req := &discoveryv3.DiscoveryRequest{TypeUrl: envoy.TypeCluster.URL(), ResponseNonce: resp.GetNonce()}
		if words == "" {
			req.VersionInfo = resp.GetVersionInfo()
		} else {
			req.ErrorDetail = &statuspb.Status{Message: words}
		}
		f.ask(req)
	}
	words := "Error adding/updating cluster(s) " + mappedCluster + ": no such luck"
	answer(words)
	awaitProblem(t, p, "virtualNode/mapped", "Cluster "+mappedCluster+" and keeps what it accepted last: "+words)
	p.Put(t, "/meshes/test/virtualNodes/plain", `{"spec":`+meshtest.NodeSpec("10.0.0.8", 8080)+`}`)
	answer("no such luck")
	awaitProblem(t, p, "virtualNode/front", "Cluster cds_egress_test_amazonaws, "+mappedCluster+", cds_egress_test_plain_http_8080 and keeps what it accepted last: no such luck")
	p.Put(t, "/meshes/test/virtualNodes/plain", `{"spec":`+meshtest.NodeSpec("10.0.0.7", 8080)+`}`)
	answer("")
	awaitProblem(t, p, "", "")
}
