package xds_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"google.golang.org/grpc/codes"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/access/audit"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/store"
	"github.com/fairlead-mesh/fairlead/internal/xds"
)

func TestStreamsAreAudited(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	p.share()
	p.node(consumer, "guest")
	d := p.connect(p.consumer, guestShort)
	p.unshare()
	p.ends(d)
	for account, identity := range map[string]string{
		consumer: "IAMUser arn:aws:iam::000000000002:user/" + access.Administrator + " " + consumer + " " + access.Administrator,
		owner:    "AWSAccount  " + consumer + " ",
	} {
		events := p.awaitEvents(audit.Query{Account: account}, 2)
		for i, want := range []string{audit.Established, audit.Terminated} {
			e := events[i]
			who := strings.Join([]string{e.UserIdentity.Type, e.UserIdentity.ARN, e.UserIdentity.AccountID, e.UserIdentity.UserName}, " ")
			if who != identity || e.EventName != audit.StreamName || e.EventType != "AwsServiceEvent" || !e.ReadOnly || e.RecipientAccountID != account {
				t.Errorf("%s sees %+v, by %q, want %q", account, e, who, identity)
			}
			if s := e.ServiceEventDetails; s.EventStatus != want || s.NodeArn != guestARN || s.ConnectionID == "" || s.ConnectionID != events[0].ServiceEventDetails.ConnectionID {
				t.Errorf("%s sees the details %+v, want %s", account, s, want)
			}
			if e.SourceIPAddress != "127.0.0.1" || !strings.HasPrefix(e.UserAgent, "grpc-go/") {
				t.Errorf("%s sees a stream from %q of %q", account, e.SourceIPAddress, e.UserAgent)
			}
			if len(e.Resources) != 1 || e.Resources[0].ARN != guestARN || e.Resources[0].AccountID != consumer || e.Resources[0].Type != "AWS::AppMesh::VirtualNode" {
				t.Errorf("%s sees the resources %+v", account, e.Resources)
			}
		}
		if why := events[1].ServiceEventDetails.FailureReason; !strings.Contains(why, "not shared") {
			t.Errorf("the stream ended because of %q", why)
		}
	}
}

func TestHowStreamsEnd(t *testing.T) {
	t.Parallel()
	p := newPlane(t, func(c *xds.Config) { c.MaxStreamAge = time.Second })
	front := meshtest.ARN("test", "front")
	p.ends(p.connect(p.owner, front)) // of age
	lost := p.connect(p.owner, front)
	lost.Close()
	events := p.awaitEvents(audit.Query{Account: owner}, 4)
	for i, want := range []string{audit.Established, audit.Graceful, audit.Established, audit.Terminated} {
		if got := events[i].ServiceEventDetails; got.EventStatus != want || (got.FailureReason != "") != (want == audit.Terminated) {
			t.Errorf("event %d is %+v, want %s", i, got, want)
		}
	}
}

// Refusals are in the audit too; those that are repeated, once a minute.
func TestRefusedStreamsAreAudited(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	wrong := p.owner
	wrong.SecretAccessKey = "wrong"
	for range 3 {
		p.refused(wrong, meshtest.ARN("test", "front"), codes.Unauthenticated)
		p.refused(p.owner, meshtest.ARN("test", "none"), codes.InvalidArgument)
		p.refused(p.owner, "front", codes.InvalidArgument)
	}
	p.refused(p.owner, meshtest.ARN("test", "another"), codes.InvalidArgument)
	unknown := p.awaitEvents(audit.Query{All: true, ErrorCode: "InvalidSignatureException"}, 1)[0]
	if unknown.UserIdentity.Type != "Unknown" || unknown.RecipientAccountID != "" || unknown.ServiceEventDetails.EventStatus != audit.Terminated {
		t.Errorf("a wrong signature is %+v", unknown)
	}
	events := p.awaitEvents(audit.Query{Account: owner}, 3)
	for i, want := range []struct{ code, node string }{
		{"NotFoundException", meshtest.ARN("test", "none")},
		{"BadRequestException", "front"},
		{"NotFoundException", meshtest.ARN("test", "another")},
	} {
		if e := events[i]; e.ErrorCode != want.code || e.ServiceEventDetails.NodeArn != want.node || e.ServiceEventDetails.FailureReason == "" {
			t.Errorf("event %d is %+v, want %+v", i, e, want)
		}
	}
}

func TestSuspendedAccountsAndRevokedSessionsEndStreams(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	p.share()
	p.node(consumer, "guest")
	guest := p.connect(p.consumer, guestARN)
	session := p.connect(p.assume(), meshtest.ARN("test", "front"))
	key := p.connect(p.owner, meshtest.ARN("test", "front"))
	yes := true
	if _, err := p.access.UpdateAccount(t.Context(), store.System("test"), consumer, access.AccountChange{Suspended: &yes}); err != nil {
		t.Fatal(err)
	}
	if s := p.ends(guest); s.Code() != codes.PermissionDenied {
		t.Errorf("the suspended account's stream ended with %v", s)
	}
	if _, err := p.access.RevokeSessions(t.Context(), as(owner), owner, "proxies"); err != nil {
		t.Fatal(err)
	}
	if s := p.ends(session); s.Code() != codes.PermissionDenied {
		t.Errorf("the revoked session's stream ended with %v", s)
	}
	if err := key.Err(); err != nil {
		t.Errorf("another stream ended with %v", err)
	}
}

// assume returns temporary credentials of a role of the owner's, which it makes.
func (p *plane) assume() aws.Credentials {
	p.t.Helper()
	_, err := p.access.CreateRole(p.t.Context(), as(owner), access.Role{
		Account: owner, Name: "proxies",
		TrustPolicy: []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + owner + `"},"Action":"sts:AssumeRole"}]}`),
		Policies: map[string]json.RawMessage{
			"stream": []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"appmesh:StreamAggregatedResources","Resource":"*"}]}`),
		},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	caller, err := p.access.Verify(signed(p.t, p.owner))
	if err != nil {
		p.t.Fatal(err)
	}
	creds, _, err := p.access.AssumeRole(p.t.Context(), caller, access.AssumeRole{RoleARN: "arn:aws:iam::" + owner + ":role/proxies", Session: "test"})
	if err != nil {
		p.t.Fatal(err)
	}
	return signer(creds)
}
