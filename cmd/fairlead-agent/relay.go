package main

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"syscall"

	"github.com/fairlead-mesh/fairlead/internal/agent"
)

func relayCommand(*flag.FlagSet) func(streams, []string) int {
	return func(s streams, _ []string) int { return relay(s) }
}

// relay serves the Envoys of a host until it is told to end.
func relay(s streams) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGINT)
	defer stop()
	logger := newLogger(s.err)
	set, warnings, err := agent.ReadRelaySettings(os.LookupEnv)
	if err != nil {
		return failed(s.err, err)
	}
	warn(logger, append(agent.Misspelt(os.Environ()), warnings...))
	if set, err = set.Resolve(); err != nil {
		return failed(s.err, err)
	}
	if err := agent.RunRelay(ctx, set, nil, logger); err != nil {
		return failed(s.err, err)
	}
	return exitDone
}
