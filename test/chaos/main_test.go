//go:build linux

// Package chaos runs three servers over three members of etcd, each on a host of its own
// (a network namespace behind a wire that can be cut, slowed and made to lose), with real
// Envoys, steady writes and steady traffic, and breaks one thing after another. A client of
// its own remembers every answered write and holds the servers to it.
//
// README.md says what is broken, what must hold, and how to run it for longer.
package chaos

import (
	"flag"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// howLong is how long each fault lasts at least. 0 is the short form, which "make test"
// runs: only the faults that no other room has, for as long as they need to be felt.
var howLong = flag.Duration("chaos.time", 0, "how long each fault lasts, of all; 0 for a short form of some")

const (
	// behind is how long after a fault's end a proxy may lack the newest change.
	behind = 5 * time.Second
	// noisy is what the short form multiplies it by: there the two cores are shared with
	// other packages' tests, and a start of a server alone can take seconds. "make chaos"
	// has the machine for itself and allows the bound as it is.
	noisy = 4
	// felt is how long a fault lasts in the short form.
	felt = 1500 * time.Millisecond
)

func lasts() time.Duration { return max(felt, *howLong) }

func long() bool { return *howLong > 0 }

// bound is the one on how long proxies may be behind.
func bound() time.Duration {
	if long() {
		return behind
	}
	return noisy * behind
}

func TestMain(m *testing.M) {
	meshtest.Main(m, map[string]func(string) error{memberVariable: runMember})
}

// program returns the program fairlead.
func program(t *testing.T) string {
	t.Helper()
	path, err := meshtest.Program("cmd/fairlead")
	if err != nil {
		t.Fatal(err)
	}
	return path
}
