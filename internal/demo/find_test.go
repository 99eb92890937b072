package demo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFindEnvoy(t *testing.T) {
	root := t.TempDir()
	pinned := filepath.Join(root, ".tools", "envoy", "envoy")
	t.Setenv("PATH", "")
	t.Setenv("ENVOY_PATH", "")
	t.Chdir(t.TempDir())

	if _, err := findEnvoy(filepath.Join(root, "bin")); err == nil || !strings.Contains(err.Error(), "make demo") {
		t.Errorf("without an Envoy: %v, want an error that says what to do", err)
	}
	if err := os.MkdirAll(filepath.Dir(pinned), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pinned, []byte("#!/bin/sh\necho 'envoy  version: 0a1b/1.40.0/Clean/RELEASE/BoringSSL'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	got, err := findEnvoy(filepath.Join(root, "bin"))
	if err != nil || got != pinned {
		t.Fatalf("found %q, %v; want %q", got, err, pinned)
	}
	if version, err := askVersion(t.Context(), got); err != nil || version != "1.40.0" {
		t.Errorf("its version is %q, %v; want 1.40.0", version, err)
	}

	t.Setenv("ENVOY_PATH", filepath.Join(root, "nothing"))
	if _, err := findEnvoy(filepath.Join(root, "bin")); err == nil || !strings.Contains(err.Error(), "ENVOY_PATH") {
		t.Errorf("with a wrong ENVOY_PATH: %v, want an error that names it", err)
	}
	t.Setenv("ENVOY_PATH", pinned)
	if got, err := findEnvoy(root); err != nil || got != pinned {
		t.Errorf("found %q, %v; want what ENVOY_PATH says", got, err)
	}
}

func TestForeignVariables(t *testing.T) {
	t.Parallel()
	for variable, want := range map[string]bool{
		"AWS_CA_BUNDLE=/x": true, "FAIRLEAD_CONFIG=/x": true, "APPMESH_VIRTUAL_NODE_NAME=x": true, "ENVOY_UID=0": true,
		"TMPDIR=/x": true, "PATH=/bin": false, "HOME=/root": false, "LANG=C": false,
	} {
		if foreign(variable) != want {
			t.Errorf("foreign(%q) is %v", variable, !want)
		}
	}
}
