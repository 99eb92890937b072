// Command fairlead-agent stands beside an Envoy: it writes Envoy's bootstrap from the
// variables of the container or host, runs Envoy and drains it before it ends. This
// package holds flags and wiring only; the work is done by internal/agent.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/fairlead-mesh/fairlead/internal/agent"
	"github.com/fairlead-mesh/fairlead/internal/envoybin"
)

// version is set when a release is built (-ldflags "-X main.version=…").
var version = ""

// Exit codes of our own; run otherwise ends with Envoy's.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

const usage = `fairlead-agent runs an Envoy as the proxy of a virtual node or virtual gateway.

Usage:
  fairlead-agent run                              write the bootstrap, run Envoy, drain it on SIGTERM, exit as it exits
  fairlead-agent bootstrap [--format yaml|json]   print the bootstrap that run would use
  fairlead-agent relay                            serve the Envoys of a host at a Unix socket, and run none
  fairlead-agent ecs FLAG… [--diff] [FILE]        turn an ECS task definition for App Mesh into one for Fairlead
  fairlead-agent version                          print the version
  fairlead-agent help                             print this text

Settings are variables. These are needed:
  APPMESH_RESOURCE_ARN    whose proxy this is, for example mesh/shop/virtualNode/cart, or the full ARN
  FAIRLEAD_XDS_ENDPOINT   host:port of the control plane (or APPMESH_XDS_ENDPOINT)
  AWS_REGION              region of the mesh; not needed with a full ARN
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN),
  or AWS_SHARED_CREDENTIALS_FILE (and AWS_PROFILE)
                          an access key that Fairlead issued

The page docs/reference/agent.md lists all of them.
`

func main() {
	os.Exit(command(os.Args[1:], os.Stdout, os.Stderr))
}

// command runs one subcommand and returns the exit code.
func command(args []string, stdout, stderr *os.File) int {
	if len(args) == 0 {
		return misused(stderr, "a command is missing")
	}
	name, rest := args[0], args[1:]
	if name == "ecs" {
		return ecsCommand(rest, os.Stdin, stdout, stderr)
	}
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	format := "yaml"
	switch name {
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage)
		return exitDone
	case "bootstrap":
		flags.StringVar(&format, "format", format, "yaml or json")
	case "run", "relay", "version":
	default:
		return misused(stderr, fmt.Sprintf("there is no command %q", name))
	}
	if err := flags.Parse(rest); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return exitDone
	} else if err != nil {
		return misused(stderr, err.Error())
	}
	if flags.NArg() > 0 {
		return misused(stderr, fmt.Sprintf("%s takes no argument %q", name, flags.Arg(0)))
	}
	switch name {
	case "bootstrap":
		return bootstrap(format, stdout, stderr)
	case "run":
		return run(stdout, stderr)
	case "relay":
		return relay(stderr)
	}
	fmt.Fprintf(stdout, "fairlead-agent %s %s %s/%s\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return exitDone
}

func misused(stderr io.Writer, what string) int {
	fmt.Fprintf(stderr, "fairlead-agent: %s; see fairlead-agent help\n", what)
	return exitUsage
}

func failed(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "fairlead-agent: %v\n", err)
	return exitFailed
}

// settings reads the variables and the files that they name.
func settings(logger *slog.Logger) (agent.Settings, error) {
	s, warnings, err := agent.ReadSettings(os.LookupEnv)
	if err != nil {
		return s, err
	}
	warn(logger, warnings)
	return s.Resolve()
}

func warn(logger *slog.Logger, warnings []agent.Warning) {
	for _, w := range warnings {
		logger.Warn("a variable is not obeyed yet", "variable", w.Variable, "effect", w.Effect)
	}
}

func bootstrap(format string, stdout, stderr *os.File) int {
	if format != "yaml" && format != "json" {
		return misused(stderr, fmt.Sprintf("--format is %q, allowed are yaml and json", format))
	}
	s, err := settings(slog.New(slog.NewTextHandler(stderr, nil)))
	if err != nil {
		return failed(stderr, err)
	}
	text, err := bootstrapText(s, format)
	if err == nil {
		_, err = stdout.Write(text)
	}
	if err != nil {
		return failed(stderr, err)
	}
	return exitDone
}

// bootstrapText is the user's own file as it is, or ours.
func bootstrapText(s agent.Settings, format string) ([]byte, error) {
	if s.ConfigFile != "" {
		return os.ReadFile(s.ConfigFile)
	}
	text, err := agent.BootstrapText(s)
	if err != nil || format == "json" {
		return text, err
	}
	return agent.YAML(text)
}

func run(stdout, stderr *os.File) int {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, agent.Signals...)
	signal.Ignore(syscall.SIGPIPE) // a log that nobody reads ends nothing
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	if wanted, err := agent.RelayWanted(os.LookupEnv); err != nil {
		return failed(stderr, err)
	} else if wanted {
		return relay(stderr)
	}
	s, err := settings(logger)
	if err != nil {
		return failed(stderr, err)
	}
	envoy, err := envoybin.Find(s.EnvoyPath, envoybin.Roots()...)
	if err != nil {
		return failed(stderr, err)
	}
	code, err := agent.Run(context.Background(), agent.RunConfig{
		Settings: s, Envoy: envoy, Stdout: stdout, Stderr: stderr, Signals: signals, Logger: logger,
	})
	if err != nil {
		return failed(stderr, err)
	}
	return code
}

// relay serves the Envoys of a host until it is told to end.
func relay(stderr *os.File) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGINT)
	defer stop()
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	s, warnings, err := agent.ReadRelaySettings(os.LookupEnv)
	if err != nil {
		return failed(stderr, err)
	}
	warn(logger, warnings)
	if s, err = s.Resolve(); err != nil {
		return failed(stderr, err)
	}
	if err := agent.RunRelay(ctx, s, nil, logger); err != nil {
		return failed(stderr, err)
	}
	return exitDone
}

// versionText is the release's version, or what the Go tool knows of the source.
func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
