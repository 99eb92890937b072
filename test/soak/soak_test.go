package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/test/bench/scale/load"
)

// A load client is a process of this test's program.
func TestMain(m *testing.M) {
	if os.Getenv(loadVariable) != "" {
		if err := load.Serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// Everything comes and goes for some seconds. What is tried is in the soak itself: that no
// call fails that should not, and that proxies hold in the end what new ones are given. So
// short a run says little of memory; streams and goroutines do not grow in it either.
func TestSoak(t *testing.T) {
	t.Parallel()
	cfg := quick
	cfg.dir, cfg.out, cfg.client, cfg.say = t.TempDir(), t.TempDir(), clientCommand, t.Logf
	cfg.envoy = meshtest.EnvoyPath(t)
	if err := cfg.build(t.Context()); err != nil {
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
