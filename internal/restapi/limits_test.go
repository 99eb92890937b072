package restapi_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/api/client"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/clock"
	"github.com/fairlead-mesh/fairlead/internal/restapi"
)

// TestRateLimits holds the quotas of rates through the whole server: shared by both APIs,
// one account's not another's, changed while it runs, and in the audit log.
func TestRateLimits(t *testing.T) {
	t.Parallel()
	now := clock.New(time.Now())
	p := newPlane(t, func(cfg *restapi.Config) { cfg.Now = now.Now })
	second := p.account(t, "000000000002")
	set := func(name string, value int) {
		t.Helper()
		if _, err := p.client(t, p.admin).UpdateQuota(t.Context(), &client.UpdateQuotaInput{AccountID: "000000000002", QuotaName: name, Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	p.must(t, second, http.MethodGet, "/v1/caller", "")
	set("read-rate", 2)
	set("write-rate", 1)
	now.Advance(time.Minute)
	for range 2 {
		p.must(t, second, http.MethodGet, "/v1/caller", "")
		p.must(t, second, http.MethodGet, "/v20190125/meshes", "")
	}
	const says = "account 000000000002 makes more calls than its quota read-rate allows: 2 a second, and 4 at once"
	wantRefusal(t, p.do(t, second, http.MethodGet, "/v20190125/meshes", ""), 429, "TooManyRequestsException", says)
	wantRefusal(t, p.do(t, second, http.MethodGet, "/v1/caller", ""), 429, "TooManyRequestsException", says)
	p.must(t, second, http.MethodPut, "/v20190125/meshes", `{"meshName":"a"}`)
	p.must(t, second, http.MethodPut, "/v1/users", `{"userName":"a"}`)
	wantRefusal(t, p.do(t, second, http.MethodPut, "/v20190125/meshes", `{"meshName":"b"}`), 429, "TooManyRequestsException", "write-rate")
	p.must(t, p.admin, http.MethodGet, "/v1/caller", "")
	now.Advance(time.Second)
	p.must(t, second, http.MethodGet, "/v1/caller", "")
	p.must(t, second, http.MethodGet, "/v1/caller", "")
	wantRefusal(t, p.do(t, second, http.MethodGet, "/v1/caller", ""), 429, "TooManyRequestsException", "")
	set("read-rate", 1000)
	now.Advance(time.Second)
	p.must(t, second, http.MethodGet, "/v1/caller", "")
	now.Advance(time.Second)
	for range 20 {
		p.must(t, second, http.MethodGet, "/v1/caller", "")
	}
	if n := strings.Count(p.auditLog(t), `"errorCode":"TooManyRequestsException"`); n != 4 {
		t.Errorf("the audit log has %d calls too many, want 4", n)
	}
}

// TestGuessing holds that an address without good signatures is stopped, and one with
// them is not.
func TestGuessing(t *testing.T) {
	t.Parallel()
	now := clock.New(time.Now())
	p := newPlane(t, func(cfg *restapi.Config) { cfg.Now = now.Now })
	p.must(t, p.admin, http.MethodGet, "/v1/caller", "")
	stranger := func() answer {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, p.srv.URL+"/v1/caller", nil)
		if err != nil {
			t.Fatal(err)
		}
		return send(t, p.srv, req)
	}
	for i := 0; ; i++ {
		a := stranger()
		if a.Status == http.StatusTooManyRequests {
			wantRefusal(t, a, 429, "TooManyRequestsException", "could not be authenticated")
			break
		}
		if a.code() != "MissingAuthenticationTokenException" || i > 1000 {
			t.Fatalf("request %d: %d %s", i, a.Status, a.Body)
		}
	}
	p.must(t, p.admin, http.MethodGet, "/v1/caller", "")
	now.Advance(time.Minute)
	if a := stranger(); a.code() != "MissingAuthenticationTokenException" {
		t.Errorf("a minute later: %d %s", a.Status, a.Body)
	}
}
