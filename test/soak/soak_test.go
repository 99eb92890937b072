package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/test/bench/scale/load"
)

func TestMain(m *testing.M) {
	meshtest.Main(m, map[string]func(string) error{load.Variable: load.Role})
}

// Everything comes and goes for some seconds. What is tried is in the soak itself: that no
// call fails that should not, and that proxies hold in the end what new ones are given. So
// short a run says little of memory; streams and goroutines do not grow in it either.
func TestSoak(t *testing.T) {
	t.Parallel()
	cfg := quick
	cfg.dir, cfg.out, cfg.say = t.TempDir(), t.TempDir(), t.Logf
	cfg.envoy = meshtest.EnvoyPath(t)
	if err := cfg.build(); err != nil {
		t.Fatal(err)
	}
	found, err := run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.name == "streams" && f.last != f.first {
			t.Errorf("%s: %.0f in the end, %.0f before", f.name, f.last, f.first)
		}
	}
	for name, want := range map[string]string{"samples.csv": "seconds,streams opened,streams,goroutines", "table.md": "| resident |", "goroutines.txt": "goroutine profile"} {
		raw, err := os.ReadFile(filepath.Join(cfg.out, name))
		if err != nil || !strings.Contains(string(raw), want) {
			t.Errorf("%s does not hold %q: %v", name, want, err)
		}
	}
}
