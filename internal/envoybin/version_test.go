package envoybin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{
		"echo; echo 'envoy  version: 0a1b/1.40.0/Clean/RELEASE/BoringSSL'": "1.40.0",
		"echo 'envoy  version: 0a1b/1.41.0-dev/Modified/RELEASE/x'":        "1.41.0-dev",
		"echo 'a wrapper'": "",
	} {
		path := filepath.Join(t.TempDir(), "envoy")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if got, err := Version(t.Context(), path); err != nil || got != want {
			t.Errorf("%s: version %q, %v; want %q", script, got, err, want)
		}
	}
	path := filepath.Join(t.TempDir(), "envoy")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho 'no such library'\nexit 127\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Version(t.Context(), path); err == nil || !strings.Contains(err.Error(), "no such library") {
		t.Errorf("a program that does not run: %v, want what it said", err)
	}
}

func TestMinor(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]int{"1.40.0": 40, "1.37.0-dev": 37, "1.9": 9, "2.0.0": -1, "": -1, "1.x": -1, "11.2": -1, "1.-1": -1} {
		if got, ok := Minor(version); ok != (want >= 0) || ok && got != want {
			t.Errorf("the minor version of %q is %d, %v; want %d", version, got, ok, want)
		}
	}
}
