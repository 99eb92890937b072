// Package tenants checks that accounts do not notice each other, and that every operation
// asks for its permission.
package tenants

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

const (
	tenantA, tenantB = "111111111111", "222222222222"
	// callsEach is how many calls each of the two tenants makes.
	callsEach = 5000
)

// TestTenantsDoNotNoticeEachOther lets two tenants make 10,000 random calls at the same
// time, with the same names and close to their quotas, and then each alone on a server of
// its own: every answer must be the same, in every name, count and error.
func TestTenantsDoNotNoticeEachOther(t *testing.T) {
	t.Parallel()
	var togetherA, togetherB []string
	both := newTenants(t)
	var wg sync.WaitGroup
	wg.Go(func() { togetherA = both.play(t, tenantA, tenantB) })
	wg.Go(func() { togetherB = both.play(t, tenantB, tenantA) })
	wg.Wait()
	aloneA := newTenants(t).play(t, tenantA, tenantB)
	aloneB := newTenants(t).play(t, tenantB, tenantA)
	same(t, tenantA, aloneA, togetherA)
	same(t, tenantB, aloneB, togetherB)
	wantVariety(t, append(togetherA, togetherB...))
}

// same reports the first call that was answered differently.
func same(t *testing.T, who string, alone, together []string) {
	t.Helper()
	for i := range min(len(alone), len(together)) {
		if alone[i] != together[i] {
			t.Errorf("tenant %s sees another: call %d (- alone, + together)\n%s", who, i, cmp.Diff(alone[i], together[i]))
			return
		}
	}
	if len(alone) != len(together) {
		t.Errorf("tenant %s: %d calls alone, %d together", who, len(alone), len(together))
	}
}

// wantVariety holds that the calls were answered in all the ways that could tell one
// tenant of the other.
func wantVariety(t *testing.T, answers []string) {
	t.Helper()
	counts := map[string]int{}
	for _, a := range answers {
		fields := strings.Fields(a[strings.Index(a, " -> ")+4:])
		name := fields[0]
		if name != "200" {
			name = fields[1]
		}
		counts[name]++
	}
	t.Logf("answers: %v", counts)
	for _, want := range []string{
		"200", "BadRequestException", "ConflictException", "ForbiddenException",
		"LimitExceededException", "NotFoundException", "ResourceInUseException",
	} {
		if counts[want] == 0 {
			t.Errorf("no call was answered with %s: the calls do not try what they should", want)
		}
	}
}

// tenants is a server with two accounts beside the first one.
type tenants struct {
	plane *meshtest.Plane
	creds map[string]aws.Credentials
}

func newTenants(t *testing.T) *tenants {
	t.Helper()
	out := &tenants{plane: meshtest.Start(t), creds: map[string]aws.Credentials{}}
	for _, id := range []string{tenantA, tenantB} {
		out.creds[id] = out.plane.Account(t, id)
		for quota, value := range map[string]int{"meshes": 3, "virtual-nodes": 4, "routes": 2, "read-rate": 1_000_000, "write-rate": 1_000_000} {
			out.plane.SetQuota(t, id, quota, value)
		}
	}
	return out
}

// play makes all calls of a tenant and returns what it was answered.
func (s *tenants) play(t *testing.T, self, other string) []string {
	t.Helper()
	client := meshtest.NewSigned("http://"+s.plane.Addrs.API, s.creds[self])
	defer client.Close()
	calls := newScript(7, self, other)
	var out []string
	for range callsEach {
		r := calls.call()
		a, err := client.Do(t.Context(), r.method, r.path, r.body)
		if err != nil {
			t.Error(err)
			return out
		}
		if a.Status >= http.StatusInternalServerError {
			t.Errorf("%s %s %s: %s", r.method, r.path, r.body, a)
		}
		out = append(out, fmt.Sprintf("%s %s %s -> %s", r.method, nextTokenIn(r.path), r.body, calls.take(r, a)))
	}
	return out
}

// nextTokenIn returns a path without its page token.
func nextTokenIn(path string) string {
	before, _, _ := strings.Cut(path, "&nextToken=")
	return before
}
