package xds_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	rlqsv3 "github.com/envoyproxy/go-control-plane/envoy/service/rate_limit_quota/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/quota"
	"github.com/fairlead-mesh/fairlead/internal/store"
	"github.com/fairlead-mesh/fairlead/internal/xds"
)

// quotaPlane serves quotas that are counted in a store of their own.
func quotaPlane(t *testing.T) (*plane, *quota.Service) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	counts, err := store.Open(t.Context(), store.Config{DataDir: t.TempDir(), Logger: log, Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := counts.Close(); err != nil {
			t.Error(err)
		}
	})
	var service *quota.Service
	p := newPlane(t, func(c *xds.Config) {
		service = quota.New(quota.Config{
			Store: counts, Log: log, Self: func() string { return "self" }, Others: func() []string { return nil },
			Limit: func(p quota.Policy) (quota.Limit, bool) {
				found := c.Live.Snapshot(p.Mesh).Get(mesh.Key{Kind: mesh.KindPolicy, Name: p.Name}).Content()
				if found == nil {
					return quota.Limit{}, false
				}
				q := found.Spec.(*mesh.PolicySpec).Action.Quota
				return quota.Limit{Requests: q.Requests, Per: mesh.Pers[q.Per], Version: found.Version}, true
			},
		})
		c.Quota = service
	})
	for name, target := range map[string]string{"own": `{"virtualNode":{"virtualNodeName":"front"}}`, "others": `{"virtualNode":{"virtualNodeName":"back"}}`} {
		if name == "others" {
			p.node(owner, "back")
		}
		p.create(owner, testMesh.Object(mesh.KindPolicy, "", name), `{"target":`+target+`,"action":{"quota":{"requests":1000,"per":"day","withoutAnswer":"deny"}}}`)
	}
	return p, service
}

func (p *plane) quotas(c aws.Credentials, domain string) *meshtest.Quotas {
	p.t.Helper()
	q, err := meshtest.OpenQuotas(p.t.Context(), p.addr, c, domain)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(q.Close)
	return q
}

// told reports until a proxy is told something of a policy's bucket that is looked for: the
// server learns of policies by and by.
func (p *plane) told(q *meshtest.Quotas, policy string, good func(*rlqsv3.RateLimitQuotaResponse_BucketAction) bool) *rlqsv3.RateLimitQuotaResponse_BucketAction {
	p.t.Helper()
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); {
		q.Report(policy, "by=a", 1, 0)
		got, err := q.Next()
		if err != nil {
			p.t.Fatal(err)
		}
		if good(got) {
			return got
		}
	}
	p.t.Fatal("the proxy was not told")
	return nil
}

func assigned(b *rlqsv3.RateLimitQuotaResponse_BucketAction) bool {
	return b.GetQuotaAssignmentAction() != nil
}

func abandoned(b *rlqsv3.RateLimitQuotaResponse_BucketAction) bool {
	return b.GetAbandonAction() != nil
}

// A proxy that reports is told its share, of the quotas that its node keeps and of no others;
// once a quota is gone it is told to forget it.
func TestQuotasAreCounted(t *testing.T) {
	t.Parallel()
	p, service := quotaPlane(t)
	q := p.quotas(p.owner, meshtest.ARN("test", "front"))
	got := p.told(q, "own", assigned)
	if a := got.GetQuotaAssignmentAction(); a.GetRateLimitStrategy().GetTokenBucket() == nil || a.GetAssignmentTimeToLive().AsDuration() > time.Minute {
		t.Errorf("told %v", got)
	}
	p.told(q, "others", abandoned)
	p.told(q, "none", abandoned)
	spent, err := service.Spent(t.Context(), quota.Policy{Mesh: testMesh, Name: "own"})
	if err != nil || spent.Keys["by=a"] == 0 {
		t.Errorf("%v %v", spent, err)
	}
	if spent, _ := service.Spent(t.Context(), quota.Policy{Mesh: testMesh, Name: "others"}); len(spent.Keys) != 0 {
		t.Errorf("of another node's quota %v were used", spent.Keys)
	}
	if _, err := p.store.Delete(t.Context(), as(owner), testMesh.Object(mesh.KindPolicy, "", "own")); err != nil {
		t.Fatal(err)
	}
	p.told(q, "own", abandoned)
}

// Who may not have a node's configuration may not report for it either.
func TestQuotasAreRefused(t *testing.T) {
	t.Parallel()
	p, _ := quotaPlane(t)
	for name, c := range map[string]struct {
		as     aws.Credentials
		domain string
		code   codes.Code
		says   string
	}{
		"unsigned":        {aws.Credentials{}, meshtest.ARN("test", "front"), codes.Unauthenticated, "not signed"},
		"wrong key":       {aws.Credentials{AccessKeyID: p.owner.AccessKeyID, SecretAccessKey: "wrong"}, meshtest.ARN("test", "front"), codes.Unauthenticated, "signature"},
		"another account": {p.consumer, meshtest.ARN("test", "front"), codes.PermissionDenied, "may not report"},
		"no domain":       {p.owner, "", codes.InvalidArgument, "domain"},
		"no node":         {p.owner, "mesh/test/virtualRouter/r", codes.InvalidArgument, "virtualRouter"},
		"too long":        {p.owner, "mesh/" + strings.Repeat("x", 3000), codes.InvalidArgument, "longer than"},
	} {
		q := p.quotas(c.as, c.domain)
		q.Report("own", "by=a", 1, 0)
		_, err := q.Next()
		if s := status.Convert(err); s.Code() != c.code || !strings.Contains(s.Message(), c.says) {
			t.Errorf("%s: %v, want %s with %q", name, err, c.code, c.says)
		}
	}
}

// A stream for quotas ends with the permission that it was opened with.
func TestQuotasEndWithTheKey(t *testing.T) {
	t.Parallel()
	p, _ := quotaPlane(t)
	q := p.quotas(p.owner, meshtest.ARN("test", "front"))
	p.told(q, "own", assigned)
	if _, err := p.access.UpdateKey(t.Context(), store.System("test"), owner, "administrator", p.owner.AccessKeyID, false); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := q.Next(); err != nil {
			if status.Code(err) != codes.PermissionDenied {
				t.Errorf("it ended with %v", err)
			}
			return
		}
	}
}

// A proxy that makes up ever new keys is told to forget what is beyond a bound.
func TestQuotaKeysAreBounded(t *testing.T) {
	t.Parallel()
	p, _ := quotaPlane(t)
	q := p.quotas(p.owner, meshtest.ARN("test", "front"))
	p.told(q, "own", assigned)
	q.ReportKeys("own", 2*quota.MaxKeys+100)
	gone := 0
	for gone < 101 { // by=a is one that stays
		r, err := q.NextAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range r {
			if abandoned(b) {
				gone++
			}
		}
	}
}
