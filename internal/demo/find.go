package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"
)

// programs are the paths of what the demo starts.
type programs struct {
	fairlead, agent, envoy string
	envoyVersion           string
}

// findPrograms looks for all of them and says of each that is missing how to get it.
func findPrograms(ctx context.Context) (programs, error) {
	self, err := os.Executable()
	if err != nil {
		return programs{}, fmt.Errorf("finding the program's own path: %w", err)
	}
	if target, err := filepath.EvalSymlinks(self); err == nil {
		self = target
	}
	p := programs{fairlead: self}
	var agentErr, envoyErr error
	p.agent, agentErr = exec.LookPath(filepath.Join(filepath.Dir(self), "fairlead-agent"))
	if agentErr != nil {
		agentErr = fmt.Errorf("fairlead-agent is not beside %s: run 'make build'", self)
	}
	p.envoy, envoyErr = findEnvoy(filepath.Dir(self))
	if envoyErr == nil {
		p.envoyVersion, envoyErr = askVersion(ctx, p.envoy)
	}
	if agentErr != nil && envoyErr != nil {
		return p, fmt.Errorf("%w; %w", agentErr, envoyErr)
	}
	return p, cmp.Or(agentErr, envoyErr)
}

// findEnvoy returns $ENVOY_PATH, else envoy on PATH, else the one that make put under
// .tools, in the folder above the program's or in the working directory.
func findEnvoy(beside string) (string, error) {
	if given := os.Getenv("ENVOY_PATH"); given != "" {
		path, err := exec.LookPath(given)
		if err != nil {
			return "", fmt.Errorf("no Envoy at ENVOY_PATH (%s): set it to an Envoy program, or unset it and run 'make demo', which gets one", given)
		}
		return filepath.Abs(path)
	}
	pinned := filepath.Join(".tools", "envoy", "envoy")
	for _, place := range []string{"envoy", filepath.Join(beside, "..", pinned), "." + string(filepath.Separator) + pinned} {
		if path, err := exec.LookPath(place); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", errors.New("no Envoy: ENVOY_PATH is not set, envoy is not on PATH, and there is no .tools/envoy/envoy; run 'make demo', which gets one, or set ENVOY_PATH")
}

var versionForm = regexp.MustCompile(`/(\d+\.\d+\.\d+[^/]*)/`)

// askVersion runs Envoy once, which shows that this machine can.
func askVersion(ctx context.Context, envoy string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, envoy, "--version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s does not run on this machine: %w %s", envoy, err, firstLine(out))
	}
	if m := versionForm.FindSubmatch(out); m != nil {
		return string(m[1]), nil
	}
	return "of an unknown version", nil
}
