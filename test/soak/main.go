// Command soak runs a server for half an hour while proxies, objects, credentials,
// certificates and instances come and go all the time, and fails if what the server holds
// grows: memory, goroutines, file descriptors, what is stored, and the data directory.
// "make soak" runs it; README.md says what it does and how it judges.
//
// The server is cmd/fairlead as users start it, in a process of its own; the proxies are
// those of test/bench/scale/load and some real Envoys with their agents.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/test/bench/scale/load"
)

func main() { load.Main(command) }

func command(ctx context.Context) error {
	cfg := full
	flag.DurationVar(&cfg.time, "time", cfg.time, "how long it runs, at least a minute; a quarter of it is the warm-up")
	flag.DurationVar(&cfg.round, "round", cfg.round, "how long things come and go before a sample is taken")
	flag.StringVar(&cfg.fairlead, "fairlead", "", "the server's program; built if not given")
	flag.StringVar(&cfg.agent, "agent", "", "the agent's program; built if not given")
	flag.StringVar(&cfg.envoy, "envoy", os.Getenv("ENVOY_PATH"), "the Envoys' program (ENVOY_PATH); without it none runs")
	flag.StringVar(&cfg.out, "out", filepath.Join("bin", "soak"), "directory that the samples, the table and profiles of the heap and of goroutines are written to")
	flag.Parse()
	if cfg.time < time.Minute {
		return fmt.Errorf("-time %s is not allowed: at least 1m", cfg.time)
	}
	if cfg.round <= 0 || cfg.round > cfg.time/10 {
		return fmt.Errorf("-round %s is not allowed: more than 0 and at most a tenth of -time", cfg.round)
	}
	dir, err := os.MkdirTemp("", "fairlead-soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cfg.dir = dir
	cfg.say = func(format string, args ...any) { fmt.Printf(time.Now().Format("15:04:05 ")+format+"\n", args...) }
	defer meshtest.RemovePrograms()
	if err := cfg.build(); err != nil {
		return err
	}
	findings, err := run(ctx, cfg)
	return errors.Join(err, refuse(findings))
}

// refuse returns an error that names what grows.
func refuse(findings []finding) error {
	var errs []error
	for _, f := range findings {
		if f.grew() {
			errs = append(errs, fmt.Errorf("%s: grew by %s after the warm-up, allowed are %s", f.name, f.unit.show(f.growth), f.unit.show(f.allowed)))
		}
	}
	return errors.Join(errs...)
}

// build builds the programs that were not given.
func (c *config) build() error {
	programs := map[string]*string{"cmd/fairlead": &c.fairlead}
	if c.envoy != "" {
		programs["cmd/fairlead-agent"] = &c.agent
	}
	return meshtest.Programs(programs)
}
