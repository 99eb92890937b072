package xds_test

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/access/audit"
	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

const (
	guestARN   = "arn:aws:appmesh:us-east-1:000000000002:mesh/test@000000000001/virtualNode/guest"
	guestShort = "mesh/test@000000000001/virtualNode/guest"
)

func TestProxiesOfASharedMesh(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	unknown := p.refused(p.consumer, guestARN, codes.PermissionDenied)
	if other := p.refused(p.consumer, strings.ReplaceAll(guestARN, "mesh/test@", "mesh/none@"), codes.PermissionDenied); strings.ReplaceAll(other, "none", "test") != unknown {
		t.Errorf("a mesh that is there is told from one that is not: %q, %q", unknown, other)
	}
	p.share()
	p.node(consumer, "guest")
	p.connect(p.consumer, guestARN)
	p.connect(p.consumer, guestShort)
	p.connect(p.owner, meshtest.ARN("test", "front"))
	for _, s := range p.proxies(3) {
		if s.ARN != guestARN && s.ARN != meshtest.ARN("test", "front") {
			t.Errorf("there is a proxy of %s", s.ARN)
		}
	}

	// A node belongs to who made it. Asked for as one's own by another, it is not there.
	missing := p.refused(p.consumer, strings.ReplaceAll(guestARN, "guest", "none"), codes.InvalidArgument)
	foreign := p.refused(p.consumer, strings.ReplaceAll(guestARN, "guest", "front"), codes.InvalidArgument)
	if strings.ReplaceAll(missing, "none", "front") != foreign {
		t.Errorf("the owner's node: %q, none: %q", foreign, missing)
	}
	p.refused(p.owner, meshtest.ARN("test", "guest"), codes.InvalidArgument)
	p.refused(p.owner, guestARN, codes.PermissionDenied)
	p.refused(p.consumer, meshtest.ARN("test", "front"), codes.PermissionDenied)
}

func TestUnsharingTakesTheConfigurationAway(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	p.share()
	p.node(consumer, "guest")
	guest := p.connect(p.consumer, guestARN)
	front := p.connect(p.owner, meshtest.ARN("test", "front"))
	if len(guest.Resources(envoy.TypeCluster)) == 0 {
		t.Fatal("the guest has no clusters that could be taken away")
	}
	held := guest.Versions()
	p.unshare()
	if s := p.ends(guest); s.Code() != codes.PermissionDenied || !strings.Contains(s.Message(), "not shared") {
		t.Errorf("the guest's stream ended with %v", s)
	}
	for _, typ := range []envoy.Type{envoy.TypeCluster, envoy.TypeListener, envoy.TypeRoute} {
		if left := guest.Resources(typ); len(left) > 0 {
			t.Errorf("the guest still has %d of type %s", len(left), typ)
		}
	}
	if removed := removals(guest); removed != "Listener RouteConfiguration Cluster" {
		t.Errorf("taken away in the order %q, want what refers before what is referred to", removed)
	}

	// A proxy that was not connected then loses what it brings along.
	late := p.open(p.consumer, guestARN, held)
	if s := p.ends(late); s.Code() != codes.PermissionDenied {
		t.Errorf("the late guest's stream ended with %v", s)
	}
	for _, typ := range []envoy.Type{envoy.TypeCluster, envoy.TypeListener} {
		for name := range held[typ] {
			if !removes(late, typ, name) {
				t.Errorf("%s %s was not taken from a proxy that came back", typ, name)
			}
		}
	}
	p.refused(p.consumer, guestARN, codes.PermissionDenied)

	if err := front.Err(); err != nil || len(front.Resources(envoy.TypeListener)) == 0 {
		t.Errorf("the owner's proxy lost something: %v", err)
	}
	p.share()
	p.connect(p.consumer, guestARN)
	p.proxies(2)
}

// removals lists the types of which resources were removed, in order.
func removals(d *meshtest.Delta) string {
	var types []string
	for _, r := range d.Responses() {
		if typ, _ := envoy.ParseType(r.GetTypeUrl()); len(r.GetRemovedResources()) > 0 {
			types = append(types, typ.String())
		}
	}
	return strings.Join(types, " ")
}

func removes(d *meshtest.Delta, typ envoy.Type, name string) bool {
	for _, r := range d.Responses() {
		if r.GetTypeUrl() != typ.URL() {
			continue
		}
		for _, n := range r.GetRemovedResources() {
			if n == name {
				return true
			}
		}
	}
	return false
}

func TestSharingAgainWhileBeingTakenAway(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	p.share()
	p.node(consumer, "guest")
	for range 20 {
		guest := p.connect(p.consumer, guestARN)
		p.unshare()
		p.share()
		// Whether it was taken away in between or not: it has all in the end, or may come back.
		meshtest.Eventually(t, "the guest is served", func() error {
			if guest.Err() != nil {
				guest = p.open(p.consumer, guestARN, nil)
			}
			if len(guest.Resources(envoy.TypeListener)) == 0 || !guestInSync(p) {
				return errNotYet
			}
			return nil
		})
		guest.Close()
		p.proxies(0)
	}
}

func guestInSync(p *plane) bool {
	for _, s := range p.xds.Proxies(owner, meshtest.Region, "test") {
		if s.ARN == guestARN && s.InSync {
			return true
		}
	}
	return false
}

func TestUnsharingStateOfTheWorld(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	p.share()
	p.node(consumer, "guest")
	conn, err := grpc.NewClient(p.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, err := meshtest.SignStream(t.Context(), p.consumer, p.addr, "StreamAggregatedResources")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	send := func(req *discoveryv3.DiscoveryRequest) {
		t.Helper()
		if err := stream.Send(req); err != nil {
			t.Fatal(err)
		}
	}
	held := map[string]int{}
	take := func() error {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		held[resp.GetTypeUrl()] = len(resp.GetResources())
		// An error is what Recv tells better.
		_ = stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: resp.GetTypeUrl(), VersionInfo: resp.GetVersionInfo(), ResponseNonce: resp.GetNonce()})
		return nil
	}
	send(&discoveryv3.DiscoveryRequest{Node: &corev3.Node{Id: guestShort}, TypeUrl: envoy.TypeCluster.URL()})
	send(&discoveryv3.DiscoveryRequest{TypeUrl: envoy.TypeListener.URL()})
	for held[envoy.TypeListener.URL()] == 0 || held[envoy.TypeCluster.URL()] == 0 {
		if err := take(); err != nil {
			t.Fatal(err)
		}
	}
	p.unshare()
	for err == nil {
		err = take()
	}
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("the stream ended with %v", err)
	}
	for typ, n := range held {
		if n > 0 {
			t.Errorf("%d of %s are left", n, typ)
		}
	}
}

// Who claims to hold something of a mesh that is not shared learns nothing of it, is not
// seen in it, and leaves no trace in its owner's audit.
func TestAStrangerLeavesNoTrace(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	front := "mesh/test@000000000001/virtualNode/front"
	have := map[envoy.Type]map[string]string{envoy.TypeCluster: {"a": "1"}, envoy.TypeListener: {"b": "1"}}
	d := p.open(p.consumer, front, have)
	if s := p.ends(d); s.Code() != codes.PermissionDenied {
		t.Errorf("the stream ended with %v", s)
	}
	for _, r := range d.Responses() {
		if len(r.GetResources()) > 0 {
			t.Errorf("a stranger was given %v", r)
		}
	}
	p.proxies(0)
	if seen := p.events(audit.Query{Account: owner}); len(seen) > 0 {
		t.Errorf("the owner sees %+v", seen)
	}
	if seen := p.awaitEvents(audit.Query{Account: consumer}, 2); seen[0].ServiceEventDetails.EventStatus != audit.Established {
		t.Errorf("the stranger sees %+v", seen)
	}
}
