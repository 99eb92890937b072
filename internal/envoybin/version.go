package envoybin

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// versionTime is how long a program may take to say its version; machines are busy.
const versionTime = 20 * time.Second

var versionForm = regexp.MustCompile(`/(\d+\.\d+\.\d+[^/]*)/`)

// Version runs an Envoy program once and returns its version, for example "1.40.0"; ""
// if it does not say. The error says that it does not run on this machine.
func Version(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return "", fmt.Errorf("%s does not run on this machine: %w %s", path, err, first)
	}
	if m := versionForm.FindSubmatch(out); m != nil {
		return string(m[1]), nil
	}
	return "", nil
}

// Minor returns which Envoy 1.x a version is, for example 40 for "1.40.0".
func Minor(version string) (minor int, ok bool) {
	rest, ok := strings.CutPrefix(version, "1.")
	if !ok {
		return 0, false
	}
	text, _, _ := strings.Cut(rest, ".")
	minor, err := strconv.Atoi(text)
	return minor, err == nil && minor >= 0
}
