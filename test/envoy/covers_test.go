package envoy

import (
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// covers says which fields a test shows to work: see meshtest.Covers. In
//
//	go test ./test/envoy -run TestTimeout -without Route.httpRoute.timeout.perRequest
//
// the control plane does not see the field, and the test must fail.
func covers(t *testing.T, patterns ...string) {
	t.Helper()
	meshtest.Covers(t, patterns...)
}
