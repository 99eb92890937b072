// Package spire holds the tests with a real SPIRE: servers and agents of two trust
// domains, as programs built from test/spire/servers, give real Envoys their
// certificates. SPIRE is larger than all of Fairlead, so that "make test-spire" builds
// it and runs them; without FAIRLEAD_TEST_SPIRE they are skipped.
package spire

import (
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

func TestMain(m *testing.M) {
	meshtest.Main(m, nil)
}
