package envoybin

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// program makes a file that can be run, and returns its path.
func program(t *testing.T, parts ...string) string {
	t.Helper()
	path := filepath.Join(parts...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// Each place is stronger than those before it.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", filepath.Join(dir, "path"))
	other, root := filepath.Join(dir, "other"), filepath.Join(dir, "root")
	expect := func(given, want string) {
		t.Helper()
		if got, err := Find(given, root, other); err != nil || got != want {
			t.Errorf("found %q, %v; want %q", got, err, want)
		}
	}
	if _, err := Find("", root, other); !errors.Is(err, ErrNone) {
		t.Errorf("without an Envoy: %v, want ErrNone", err)
	}
	expect("", program(t, other, ".tools", "envoy", "envoy"))
	expect("", program(t, root, ".tools", "envoy", "envoy"))
	expect("", program(t, dir, "path", "envoy"))
	mine := program(t, dir, "mine")
	expect(mine, mine)
	if _, err := Find(filepath.Join(dir, "none"), root); err == nil || !strings.Contains(err.Error(), "ENVOY_PATH") {
		t.Errorf("with a wrong ENVOY_PATH: %v, want an error that names it", err)
	}
}

func TestRootsAreWhereProgramsStand(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	roots := Roots()
	if len(roots) != 2 || roots[0] != filepath.Join(filepath.Dir(self), "..") || roots[1] != "." {
		t.Errorf("roots are %q, the program is %q", roots, self)
	}
}
