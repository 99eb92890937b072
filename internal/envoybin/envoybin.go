// Package envoybin finds the Envoy program, in one way for the agent, the demo and the
// tests. It imports the standard library only.
package envoybin

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// pinned is where "make" puts Envoy, below the root of a checkout.
var pinned = filepath.Join(".tools", "envoy", "envoy")

// ErrNone says that there is no Envoy in any of the places.
var ErrNone = errors.New("no Envoy found: ENVOY_PATH is not set, envoy is not on PATH, and there is no .tools/envoy/envoy")

// Find returns the absolute path of Envoy's program: given (the value of ENVOY_PATH),
// else envoy on PATH, else .tools/envoy/envoy below one of the roots, the first that
// has it. The error is ErrNone, or says why given cannot be used.
func Find(given string, roots ...string) (string, error) {
	if given != "" {
		path, err := exec.LookPath(given)
		if err != nil {
			return "", fmt.Errorf("ENVOY_PATH is %q, allowed is the path of an Envoy program: %w", given, err)
		}
		return filepath.Abs(path)
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		return filepath.Abs(path)
	}
	for _, root := range roots {
		// An absolute path, so that LookPath does not search PATH for it.
		place, err := filepath.Abs(filepath.Join(root, pinned))
		if err != nil {
			continue
		}
		if path, err := exec.LookPath(place); err == nil {
			return path, nil
		}
	}
	return "", ErrNone
}

// Roots returns where an installed or built program looks: the folder above the
// program's own, and the working directory.
func Roots() []string {
	self, err := os.Executable()
	if err != nil {
		return []string{"."}
	}
	if target, err := filepath.EvalSymlinks(self); err == nil {
		self = target
	}
	return []string{filepath.Join(filepath.Dir(self), ".."), "."}
}
