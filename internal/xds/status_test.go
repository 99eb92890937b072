package xds_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc/codes"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/store"
	"github.com/fairlead-mesh/fairlead/internal/xds"
)

// signed returns a request that is signed as an API call without a body.
func signed(t *testing.T, c aws.Credentials) access.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	if err := v4.NewSigner().SignHTTP(t.Context(), c, req, empty, "appmesh", meshtest.Region, time.Now()); err != nil {
		t.Fatal(err)
	}
	return access.HTTPRequest(req, nil)
}

func TestTheQuotaOfProxies(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	set := func(n int) {
		t.Helper()
		if err := p.store.SetQuotas(t.Context(), store.System("test"), owner, map[mesh.Quota]int{mesh.QuotaNodeProxies: n}); err != nil {
			t.Fatal(err)
		}
	}
	p.share()
	p.node(consumer, "guest")
	p.node(owner, "other")
	front := meshtest.ARN("test", "front")
	set(2)
	first, second := p.connect(p.owner, front), p.connect(p.owner, front)
	why := p.refused(p.owner, front, codes.ResourceExhausted)
	if !strings.Contains(why, "node-proxies") || !strings.Contains(why, "is 2") || !strings.Contains(why, owner) {
		t.Errorf("refused with %q", why)
	}
	p.connect(p.owner, meshtest.ARN("test", "other")) // has a quota of its own
	p.connect(p.consumer, guestARN)
	set(1) // the mesh owner's, for guests too
	p.refused(p.consumer, guestARN, codes.ResourceExhausted)
	second.Close()
	p.proxies(3)
	p.refused(p.owner, front, codes.ResourceExhausted)
	if err := first.Err(); err != nil {
		t.Errorf("a running proxy lost its stream: %v", err)
	}
	first.Close()
	p.proxies(2)
	p.connect(p.owner, front)
}

// Streams that come to nothing do not count.
func TestRefusedStreamsDoNotCount(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	if err := p.store.SetQuotas(t.Context(), store.System("test"), owner, map[mesh.Quota]int{mesh.QuotaNodeProxies: 1}); err != nil {
		t.Fatal(err)
	}
	have := map[envoy.Type]map[string]string{envoy.TypeCluster: {"a": "1"}}
	for range 5 { // of a mesh that is not shared, with something to lose
		p.open(p.consumer, "mesh/test@000000000001/virtualNode/front", have)
	}
	p.connect(p.owner, meshtest.ARN("test", "front"))
}

func TestWhatIsKnownOfProxies(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	front, before := meshtest.ARN("test", "front"), time.Now()
	d, err := meshtest.OpenDelta(t.Context(), p.addr, p.owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	d.Refuse = func(typ envoy.Type, _ *discoveryv3.DeltaDiscoveryResponse) string {
		if typ == envoy.TypeListener {
			return "no such luck"
		}
		return ""
	}
	node := &corev3.Node{Id: front, UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{
		Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40, Patch: 2},
	}}}
	if err := d.Begin(node, nil); err != nil {
		t.Fatal(err)
	}
	var got xds.ProxyStatus
	meshtest.Eventually(t, "the rejection is known", func() error {
		if got = p.proxies(1)[0]; got.Rejected == "" {
			return errNotYet
		}
		return nil
	})
	if got.ARN != front || got.Version != "1.40.2" || got.Protocol != "delta" || got.ConnectedAt.Before(before) || got.Connection == "" ||
		!strings.HasPrefix(got.Peer, "127.0.0.1:") || got.Caller != "arn:aws:iam::"+owner+":user/"+access.Administrator {
		t.Errorf("known is %+v", got)
	}
	if got.InSync || !strings.HasPrefix(got.Rejected, "Listener lds_") || !strings.HasSuffix(got.Rejected, ": no such luck") {
		t.Errorf("in sync: %t, rejected: %q", got.InSync, got.Rejected)
	}
	d.Close()
	p.connect(p.owner, front)
	meshtest.Eventually(t, "a proxy that accepts everything is in sync", func() error {
		for _, s := range p.proxies(1) {
			if s.InSync && s.Rejected == "" {
				return nil
			}
		}
		return errNotYet
	})
	if all := p.xds.Proxies(consumer, meshtest.Region, "test"); len(all) > 0 {
		t.Errorf("a mesh of another account has %+v", all)
	}
	if all := p.xds.Proxies(owner, "eu-west-1", "test"); len(all) > 0 {
		t.Errorf("a mesh of another region has %+v", all)
	}
}

func TestWhatIsNotServed(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	p.create(owner, testMesh.Object(mesh.KindVirtualNode, "", "caller"), `{"backends":[{"virtualService":{"virtualServiceName":"none.local"}}]}`)
	arn := meshtest.ARN("test", "caller")
	for _, placed := range []string{"127.0.0.2", "127.0.0.3"} { // one problem, whatever the number of feeds
		d, err := meshtest.OpenDelta(t.Context(), p.addr, p.owner)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Close)
		if err := d.Begin(boundAt(arn, placed), nil); err != nil {
			t.Fatal(err)
		}
	}
	p.proxies(2)
	var all []xds.Problem
	meshtest.Eventually(t, "the problem is known", func() error {
		if all = p.xds.Problems(owner, meshtest.Region, "test"); len(all) == 0 {
			return errNotYet
		}
		return nil
	})
	if len(all) != 1 || all[0].ARN != arn || all[0].Object == "" || all[0].Message == "" {
		t.Errorf("known are %+v", all)
	}
	if all := p.xds.Problems(consumer, meshtest.Region, "test"); len(all) > 0 {
		t.Errorf("a mesh of another account has %+v", all)
	}
}

// A policy may depend on a node's tags; when they change, so may whose streams are open.
func TestPoliciesWithTags(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	_, err := p.access.CreateUser(t.Context(), as(owner), access.User{Account: owner, Name: "proxies", Policies: map[string]json.RawMessage{
		"mine": []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"appmesh:StreamAggregatedResources","Resource":"*",
			"Condition":{"StringEquals":{"aws:ResourceTag/team":"red"}}}]}`),
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, creds, err := p.access.CreateKey(t.Context(), as(owner), owner, "proxies")
	if err != nil {
		t.Fatal(err)
	}
	front := meshtest.ARN("test", "front")
	p.refused(signer(creds), front, codes.PermissionDenied)
	p.tag("red")
	meshtest.Eventually(t, "the tag counts", func() error {
		d := p.open(signer(creds), front, nil)
		for len(d.Responses()) == 0 {
			if d.Err() != nil {
				return d.Err()
			}
		}
		return nil
	})
	d := p.connect(signer(creds), front)
	p.tag("blue")
	if s := p.ends(d); s.Code() != codes.PermissionDenied {
		t.Errorf("the stream ended with %v", s)
	}
}

func (p *plane) tag(team string) {
	p.t.Helper()
	if err := p.store.Tag(p.t.Context(), as(owner), testMesh.Object(mesh.KindVirtualNode, "", "front"), []mesh.TagRef{{Key: "team", Value: team}}); err != nil {
		p.t.Fatal(err)
	}
}
