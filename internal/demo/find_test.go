package demo

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheVersionIsAsked(t *testing.T) {
	t.Parallel()
	envoy := filepath.Join(t.TempDir(), "envoy")
	if err := os.WriteFile(envoy, []byte("#!/bin/sh\necho 'envoy  version: 0a1b/1.40.0/Clean/RELEASE/BoringSSL'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if version, err := askVersion(t.Context(), envoy); err != nil || version != "1.40.0" {
		t.Errorf("its version is %q, %v; want 1.40.0", version, err)
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
