package agent

import (
	"context"
	"log/slog"

	"github.com/fairlead-mesh/fairlead/internal/agent/platform"
)

// Locate finds out where this Envoy runs, for its node's metadata and locality, by variables,
// the host's interfaces and the container platform's metadata service, which is waited for
// half a second at most. What cannot be found is left out. A bootstrap of the user's own is
// left alone.
func (s Settings) Locate(ctx context.Context, lookup func(string) (string, bool), logger *slog.Logger) Settings {
	if s.ConfigFile != "" {
		return s
	}
	found, problems := platform.Find(ctx, lookup)
	for _, err := range problems {
		logger.Warn("it is not known where this Envoy runs; it goes on without", "error", err)
	}
	s.Platform = found
	return s
}
