package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/agent/identity"
)

// firstCredentials is how long Envoy's start waits for its first credentials. Without them
// it starts too, and signs as soon as they are there.
const firstCredentials = 3 * time.Second

// startIdentity begins to keep credentials fresh, if they have to be exchanged, and has x say
// where they are. stop ends that and removes them.
func startIdentity(ctx context.Context, s identity.Settings, x *XDS, logger *slog.Logger) (source *identity.Source, stop func(), err error) {
	source, err = identity.New(identity.Config{Settings: s, Logger: logger})
	if err != nil {
		return nil, nil, fmt.Errorf("preparing the credentials: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Go(func() { source.Run(ctx) })
	stop = func() {
		cancel()
		background.Wait()
		if err := source.Close(); err != nil {
			logger.Warn("removing the credentials failed", "error", err)
		}
	}
	if path := source.Path(); path != "" {
		x.Credentials = Credentials{File: path, Profile: identity.Profile}
	}
	select {
	case <-source.First():
	case <-time.After(firstCredentials):
	case <-ctx.Done():
	}
	return source, stop, nil
}
