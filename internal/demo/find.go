package demo

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/fairlead-mesh/fairlead/internal/envoybin"
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
	p.envoy, envoyErr = envoybin.Find(os.Getenv("ENVOY_PATH"), envoybin.Roots()...)
	if envoyErr != nil {
		envoyErr = fmt.Errorf("%w; run 'make demo', which gets one", envoyErr)
	} else {
		p.envoyVersion, envoyErr = askVersion(ctx, p.envoy)
	}
	if agentErr != nil && envoyErr != nil {
		return p, fmt.Errorf("%w; %w", agentErr, envoyErr)
	}
	return p, cmp.Or(agentErr, envoyErr)
}

// askVersion runs Envoy once, which shows that this machine can.
func askVersion(ctx context.Context, envoy string) (string, error) {
	version, err := envoybin.Version(ctx, envoy)
	if err != nil {
		return "", err
	}
	return cmp.Or(version, "of an unknown version"), nil
}
