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
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/test/bench/scale/load"
)

// loadVariable tells a process of this program that it is a load client.
const loadVariable = "FAIRLEAD_SOAK_LOAD"

func main() {
	if os.Getenv(loadVariable) != "" {
		if err := load.Serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		stop()
		os.Exit(1)
	}
}

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
	cfg.dir, cfg.client = dir, clientCommand
	cfg.say = func(format string, args ...any) { fmt.Printf(time.Now().Format("15:04:05 ")+format+"\n", args...) }
	if err := cfg.build(ctx); err != nil {
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

// clientCommand makes this program a load client.
func clientCommand() *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), loadVariable+"=1")
	return cmd
}

// build builds the programs that were not given.
func (c *config) build(ctx context.Context) error {
	root, err := meshtest.Root()
	if err != nil {
		return err
	}
	for what, path := range map[string]*string{"fairlead": &c.fairlead, "fairlead-agent": &c.agent} {
		if *path != "" || what == "fairlead-agent" && c.envoy == "" {
			continue
		}
		*path = filepath.Join(c.dir, what)
		cmd := exec.CommandContext(ctx, "go", "build", "-o", *path, "./cmd/"+what)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", what, err, out)
		}
	}
	return nil
}
