package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/test/bench/scale/load"
)

func TestMain(m *testing.M) {
	meshtest.Main(m, map[string]func(string) error{load.Variable: load.Role})
}

// runQuick runs scenarios at small sizes. What it checks is in the scenarios: that every
// change reaches every proxy that it concerns, that none is dropped, and that each holds in
// the end what a new one is given. What it measures does not matter.
func runQuick(t *testing.T, pattern string, sotw bool) *table {
	t.Helper()
	b := &bench{sizes: quickSizes, scenarios: regexp.MustCompile(pattern), sotw: sotw, dir: t.TempDir(), say: t.Logf}
	if err := b.build(); err != nil {
		t.Fatal(err)
	}
	b.rounds, b.peerRounds = 1, 1
	b.table.told = func(s string) { t.Log(s) }
	if err := b.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &b.table
}

// Proxies that see everything, of Fairlead and of both peers, with both protocols.
func TestWide(t *testing.T) {
	t.Parallel()
	for name, sotw := range map[string]bool{"delta": false, "state of the world": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runQuick(t, "wide|spread", sotw)
			for _, f := range got.figures {
				if strings.Contains(f.what, "each proxy") || f.unit == pieces {
					continue // Fairlead's alone
				}
				if strings.HasSuffix(f.what, "last proxy, p50") && (len(f.rounds[ours]) == 0 || len(f.rounds[snapshot]) == 0 || len(f.rounds[linear]) == 0) {
					t.Errorf("%s was not measured of all: %v", f.what, f.rounds)
				}
			}
		})
	}
}

// Proxies that see ten services each, idle, with changes one by one and at a rate, and
// all coming back at once.
func TestNarrow(t *testing.T) {
	t.Parallel()
	got := runQuick(t, "narrow|fleet|start", false)
	if want := 20; len(got.figures) < want {
		t.Errorf("%d figures were measured, want at least %d", len(got.figures), want)
	}
}

// Each scenario has a name that picks it.
func TestScenariosHaveNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, s := range scenarios {
		for _, name := range s.names {
			if seen[name] {
				t.Errorf("two scenarios are called %s", name)
			}
			seen[name] = true
		}
	}
}
