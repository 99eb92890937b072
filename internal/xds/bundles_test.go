package xds_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/access/audit"
	"github.com/fairlead-mesh/fairlead/internal/ca"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/store"
	"github.com/fairlead-mesh/fairlead/internal/xds"
)

const trustName = "trust:000000000001/test"

// bundles opens a stream for secrets.
func (p *plane) bundles(c aws.Credentials, node string, names ...string) *meshtest.Bundles {
	p.t.Helper()
	b, err := meshtest.OpenBundles(p.t.Context(), p.addr, c)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(b.Close)
	b.Begin(node, names...)
	return b
}

// bundlesEnd waits until a stream ends, and returns why.
func (p *plane) bundlesEnd(b *meshtest.Bundles) *status.Status {
	p.t.Helper()
	meshtest.Eventually(p.t, "the stream ends", func() error {
		if _, _, err := b.Last(); err == nil {
			return errNotYet
		}
		return nil
	})
	_, _, err := b.Last()
	return status.Convert(err)
}

func trusts(certificates string) func(*tlsv3.Secret) bool {
	return func(s *tlsv3.Secret) bool {
		return s.GetValidationContext().GetTrustedCa().GetInlineString() == certificates
	}
}

// An agent is given the bundle of its mesh, made at first use, and each change at once.
func TestBundleIsPushed(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	b := p.bundles(p.owner, meshtest.ARN("test", "front"), trustName, "trust:000000000001/other", "workload")
	first := b.Await(t, "a first bundle", trustName, func(*tlsv3.Secret) bool { return true })
	now, err := p.ca.Trusted(t.Context(), testMesh)
	if err != nil {
		t.Fatal(err)
	}
	if secrets, version, _ := b.Last(); len(secrets) != 1 || version != now.Version || !trusts(now.Anchors)(first) || first.GetValidationContext().GetCrl() != nil {
		t.Errorf("it is given %v of version %s", secrets, version)
	}
	p.proxies(0) // agents are none
	added, err := p.ca.AddRoot(t.Context(), as(owner), testMesh, ca.Root{})
	if err != nil {
		t.Fatal(err)
	}
	b.Await(t, "the new root", trustName, trusts(added.Bundle.Anchors))
	meshtest.Eventually(t, "the agent has accepted it", func() error {
		if all, current := p.xds.BundleStreams(testMesh); all != 1 || current != 1 {
			return fmt.Errorf("%d of %d have it", current, all)
		}
		return nil
	})
	cert, err := p.ca.Issue(t.Context(), as(owner), testMesh, meshtest.ARN("test", "front"), meshtest.CertificateRequest(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.ca.RevokeCertificate(t.Context(), as(owner), testMesh, cert.Serial, ""); err != nil {
		t.Fatal(err)
	}
	listed := b.Await(t, "a list of revoked certificates", trustName, func(s *tlsv3.Secret) bool { return s.GetValidationContext().GetCrl() != nil })
	if !listed.GetValidationContext().GetOnlyVerifyLeafCertCrl() {
		t.Error("roots, which have no list, are asked for one")
	}
	refusing, err := meshtest.OpenBundles(t.Context(), p.addr, p.owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(refusing.Close)
	refusing.Refuse = "I do not like it"
	refusing.Begin(meshtest.ARN("test", "front"), trustName)
	refusing.Await(t, "a bundle to refuse", trustName, func(*tlsv3.Secret) bool { return true })
	meshtest.Eventually(t, "one of two has accepted", func() error {
		if all, current := p.xds.BundleStreams(testMesh); all != 2 || current != 1 {
			return fmt.Errorf("%d of %d have it", current, all)
		}
		return nil
	})
	b.Close()
	refusing.Close()
	meshtest.Eventually(t, "none is connected", func() error {
		if all, _ := p.xds.BundleStreams(testMesh); all != 0 {
			return fmt.Errorf("%d are", all)
		}
		return nil
	})
}

// Who may not have a configuration may not have the bundle either.
func TestBundleRefusals(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	if _, err := p.access.CreateUser(t.Context(), as(owner), access.User{Account: owner, Name: "nobody"}); err != nil {
		t.Fatal(err)
	}
	_, key, err := p.access.CreateKey(t.Context(), as(owner), owner, "nobody")
	if err != nil {
		t.Fatal(err)
	}
	nobody := signer(key)
	wrong := p.owner
	wrong.SecretAccessKey = strings.Repeat("x", 40)
	front := meshtest.ARN("test", "front")
	for _, c := range []struct {
		creds aws.Credentials
		node  string
		code  codes.Code
		words string
	}{
		{wrong, front, codes.Unauthenticated, "signature"},
		{nobody, front, codes.PermissionDenied, "not authorized to perform: appmesh:StreamAggregatedResources"},
		{p.consumer, front, codes.PermissionDenied, "may not have the resources"},
		{p.consumer, guestARN, codes.PermissionDenied, "is not shared with account"},
		{p.owner, meshtest.ARN("test", "none"), codes.InvalidArgument, "virtualNode/none is not present"},
		{p.owner, "nonsense", codes.InvalidArgument, "node.id"},
		{p.owner, "", codes.InvalidArgument, "node.id"},
	} {
		if s := p.bundlesEnd(p.bundles(c.creds, c.node, trustName)); s.Code() != c.code || !strings.Contains(s.Message(), c.words) {
			t.Errorf("%s: %v %q, want %v %q", c.node, s.Code(), s.Message(), c.code, c.words)
		}
	}
	events := p.awaitEvents(audit.Query{Account: owner}, 4)
	for _, e := range events {
		if e.ServiceEventDetails.EventStatus != audit.Terminated || e.ErrorCode == "" {
			t.Errorf("%+v", e)
		}
	}
}

// A stream ends with what allows it: the key, the sharing of the mesh, its age.
func TestBundleStreamsEnd(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	p.share()
	p.node(consumer, "guest")
	await := func(c aws.Credentials, node string) *meshtest.Bundles {
		t.Helper()
		var b *meshtest.Bundles
		meshtest.Eventually(t, "a bundle for "+node, func() error { // the node may not be known yet
			b = p.bundles(c, node, trustName)
			<-b.Changed()
			_, _, err := b.Last()
			return err
		})
		return b
	}
	guest, own := await(p.consumer, guestARN), await(p.owner, meshtest.ARN("test", "front"))
	p.unshare()
	if s := p.bundlesEnd(guest); s.Code() != codes.PermissionDenied || !strings.Contains(s.Message(), "not shared") {
		t.Errorf("%v", s)
	}
	if _, _, err := own.Last(); err != nil {
		t.Errorf("the owner's stream has ended: %v", err)
	}
	if _, err := p.access.UpdateKey(t.Context(), store.System("test"), owner, "administrator", p.owner.AccessKeyID, false); err != nil {
		t.Fatal(err)
	}
	if s := p.bundlesEnd(own); s.Code() != codes.PermissionDenied || !strings.Contains(s.Message(), "no longer valid") {
		t.Errorf("%v", s)
	}
}

// No more agents than proxies, and none for ever.
// A stream whose time is over while its bundle is being got ends like any other.
func TestABundleStreamEndsBeforeItsBundleIsThere(t *testing.T) {
	t.Parallel()
	for ms := range 8 {
		p := newPlane(t, func(cfg *xds.Config) { cfg.MaxStreamAge = time.Duration(ms+1) * time.Millisecond })
		s := p.bundlesEnd(p.bundles(p.owner, meshtest.ARN("test", "front"), trustName))
		if s.Code() != codes.Unknown && s.Code() != codes.OK || !strings.Contains(s.Message(), "EOF") {
			t.Errorf("after %d ms it ends with %v", ms+1, s)
		}
	}
}

func TestBundleBounds(t *testing.T) {
	t.Parallel()
	p := newPlane(t, func(cfg *xds.Config) {
		q := mesh.DefaultQuotas()
		q[mesh.QuotaNodeProxies] = 1
		cfg.Quotas = func(string) mesh.Quotas { return q }
		cfg.MaxStreamAge = 50 * time.Millisecond
	})
	front := meshtest.ARN("test", "front")
	first := p.bundles(p.owner, front, trustName)
	if s := p.bundlesEnd(first); s.Code() != codes.Unknown && s.Code() != codes.OK || !strings.Contains(s.Message(), "EOF") {
		t.Errorf("an aged stream ends with %v", s)
	}
	var full *status.Status
	meshtest.Eventually(t, "a second stream is refused while there is a first", func() error {
		_ = p.bundles(p.owner, front, trustName)
		if full = p.bundlesEnd(p.bundles(p.owner, front, trustName)); full.Code() != codes.ResourceExhausted {
			return fmt.Errorf("it ends with %v", full)
		}
		return nil
	})
	if !strings.Contains(full.Message(), "as many agents connected as it may have proxies") {
		t.Error(full.Message())
	}
}
