// Command fairlead-agent stands beside an Envoy: it writes Envoy's bootstrap from the
// variables of the container or host, runs Envoy and drains it before it ends. This
// package holds flags and wiring only; the work is done by internal/agent.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"github.com/fairlead-mesh/fairlead/internal/agent"
	"github.com/fairlead-mesh/fairlead/internal/intercept"
)

// version is set when a release is built (-ldflags "-X main.version=…").
var version = ""

// Exit codes of our own; run otherwise ends with that of Envoy or of the application.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

const usage = `fairlead-agent runs an Envoy as the proxy of a virtual node or virtual gateway.

Usage:
  fairlead-agent run [--user USER[:GROUP]] [-- COMMAND ARGUMENT…]
                                                  write the bootstrap, run Envoy, drain it on SIGTERM, exit as it exits;
                                                  with a command run that too, when Envoy serves, and exit as it exits
  fairlead-agent bootstrap [--format yaml|json]   print the bootstrap that run would use
  fairlead-agent relay                            serve the Envoys of a host at a Unix socket, and run none
  fairlead-agent intercept enable|disable|status|run
                                                  have the kernel hand this host's connections to Envoy
  fairlead-agent cni                              the same as a plugin of container runtimes
  fairlead-agent ready [--timeout TIME]           exit with 0 if Envoy is healthy, else 1; for health checks
  fairlead-agent wait [--timeout TIME]            wait until Envoy is healthy
  fairlead-agent status [--json]                  print how Envoy is and how it stands with the control plane
  fairlead-agent ecs FLAG… [--diff] [FILE]        turn an ECS task definition for App Mesh into one for Fairlead
  fairlead-agent version                          print the version
  fairlead-agent help                             print this text

Settings are variables. These are needed to run:
  APPMESH_RESOURCE_ARN    whose proxy this is, for example mesh/shop/virtualNode/cart, or the full ARN
  FAIRLEAD_XDS_ENDPOINT   host:port of the control plane (or APPMESH_XDS_ENDPOINT)
  AWS_REGION              region of the mesh; not needed with a full ARN
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN),
  or AWS_SHARED_CREDENTIALS_FILE (and AWS_PROFILE)
                          an access key that Fairlead issued
  or FAIRLEAD_ROLE_ARN, FAIRLEAD_API_ENDPOINT and what proves who this is, see docs/guide/identity.md
                          temporary credentials of a role

The page docs/reference/agent.md lists all of them.
`

func main() {
	agent.Frugal()
	if intercept.CalledAsCNI(os.Args) {
		os.Args = append(os.Args[:1], "cni")
	}
	os.Exit(command(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// streams are what a command reads and writes.
type streams struct {
	in, out, err *os.File
}

// subcommand is one command: it declares its flags and returns what runs it, which is given
// the arguments behind the flags.
type subcommand func(flags *flag.FlagSet) func(io streams, args []string) int

// subcommands are all commands but help.
func subcommands() map[string]subcommand {
	return map[string]subcommand{
		"run":       runCommand,
		"relay":     relayCommand,
		"bootstrap": bootstrapCommand,
		"ready":     readyCommand,
		"wait":      waitCommand,
		"status":    statusCommand,
		"version":   versionCommand,
	}
}

// command runs one subcommand and returns the exit code.
func command(argv []string, stdin, stdout, stderr *os.File) int {
	s := streams{stdin, stdout, stderr}
	args := ownSpelling(argv)
	if len(args) == 0 {
		return misused(stderr, "a command is missing")
	}
	name := args[0]
	switch name {
	case "ecs":
		return ecsCommand(args[1:], stdin, stdout, stderr)
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage)
		return exitDone
	case "intercept":
		return interceptCommand(args[1:], stdout, stderr)
	case "cni":
		return intercept.CNI{Lookup: os.LookupEnv, Stdin: stdin, Stdout: stdout}.Run()
	}
	declare, ok := subcommands()[name]
	if !ok {
		return misused(stderr, fmt.Sprintf("there is no command %q", name))
	}
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	run := declare(flags)
	if err := flags.Parse(args[1:]); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return exitDone
	} else if err != nil {
		return misused(stderr, err.Error())
	}
	if flags.NArg() > 0 && (name != "run" || !behindDashes(args, flags.NArg())) {
		return misused(stderr, fmt.Sprintf("%s takes no argument %q", name, flags.Arg(0)))
	}
	return run(s, flags.Args())
}

// ownSpelling turns the command line of App Mesh's agent into ours: -envoyReadiness, and for
// a program of that agent's name nothing at all.
func ownSpelling(argv []string) []string {
	args := argv[1:]
	switch {
	case len(args) == 1 && (args[0] == "-envoyReadiness" || args[0] == "--envoyReadiness"):
		return []string{"ready", "--poll"}
	case len(args) == 0 && filepath.Base(argv[0]) == "agent":
		return []string{"run"}
	}
	return args
}

// behindDashes reports whether the last n arguments are those behind "--".
func behindDashes(args []string, n int) bool {
	i := len(args) - n - 1
	return i > 0 && args[i] == "--"
}

func misused(stderr io.Writer, what string) int {
	fmt.Fprintf(stderr, "fairlead-agent: %s; see fairlead-agent help\n", what)
	return exitUsage
}

func failed(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "fairlead-agent: %v\n", err)
	return exitFailed
}

func versionCommand(*flag.FlagSet) func(streams, []string) int {
	return func(s streams, _ []string) int {
		fmt.Fprintf(s.out, "fairlead-agent %s %s %s/%s\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return exitDone
	}
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
