package envoy

import (
	"fmt"
	"net/http"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// policies is where the mesh's policies are.
const policies = "/v1/meshes/test/policies"

// policy makes a policy.
func (s *stage) policy(name, spec string) {
	s.t.Helper()
	s.plane.Signed(s.t).Want(s.t, http.MethodPut, policies, fmt.Sprintf(`{"policyName":%q,"spec":%s}`, name, spec), nil)
}

// setPolicy replaces what a policy says.
func (s *stage) setPolicy(name, spec string) {
	s.t.Helper()
	s.plane.Signed(s.t).Want(s.t, http.MethodPut, policies+"/"+name, `{"spec":`+spec+`}`, nil)
}

// dropPolicy deletes a policy.
func (s *stage) dropPolicy(name string) {
	s.t.Helper()
	s.plane.Signed(s.t).Want(s.t, http.MethodDelete, policies+"/"+name, "", nil)
}

// tally calls the service so often, and counts the statuses.
func (s *stage) tally(n int, path string, headers ...string) map[int]int {
	s.t.Helper()
	out := map[int]int{}
	for range n {
		status, _ := s.get(path, headers...)
		out[status]++
	}
	return out
}

// took calls the service and returns how long it took.
func (s *stage) took(path string, headers ...string) time.Duration {
	s.t.Helper()
	began := time.Now()
	if status, body := s.get(path, headers...); status != http.StatusOK {
		s.t.Errorf("%s was answered %d %q", path, status, body)
	}
	return time.Since(began)
}

// eventually waits until a call of the service has a status.
func (s *stage) eventually(want int, path string, headers ...string) {
	s.t.Helper()
	meshtest.Eventually(s.t, fmt.Sprintf("%s %v answers %d", path, headers, want), func() error {
		status, body, err := meshtest.Get(s.http, url(path), headers...)
		if err == nil && status != want {
			return fmt.Errorf("answered %d %q", status, body)
		}
		return err
	})
}
