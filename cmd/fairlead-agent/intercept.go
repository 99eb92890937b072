package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/fairlead-mesh/fairlead/internal/intercept"
	"github.com/fairlead-mesh/fairlead/internal/intercept/rules"
)

const interceptUsage = `fairlead-agent intercept has the kernel hand this host's connections to the Envoy beside it.

Usage:
  fairlead-agent intercept enable                        set the rules, and end
  fairlead-agent intercept disable                       remove them, and end
  fairlead-agent intercept status [--format text|json]   say what is set and what is missing; exit code 1 unless all is as it should be
  fairlead-agent intercept run                           set the rules and watch over them until SIGTERM

All need the capability NET_ADMIN. Settings are the variables of App Mesh's route manager, and some more:
  APPMESH_APP_PORTS                         ports of the application, for example 8080,9090
  APPMESH_IGNORE_UID, APPMESH_IGNORE_GID    user and group of Envoy, 1337 unless one is set
  APPMESH_EGRESS_IGNORED_IP, APPMESH_EGRESS_IGNORED_PORTS, APPMESH_ENABLE_IPV6, …

The page docs/reference/agent.md lists all of them.
`

// interceptCommand runs one of the commands of intercept and returns the exit code.
func interceptCommand(args []string, stdout, stderr *os.File) int {
	if len(args) == 0 {
		return misused(stderr, "intercept needs one of enable, disable, status and run")
	}
	name := args[0]
	flags := flag.NewFlagSet("intercept "+name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	format := "text"
	switch name {
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, interceptUsage)
		return exitDone
	case "status":
		flags.StringVar(&format, "format", format, "text or json")
	case "enable", "disable", "run":
	default:
		return misused(stderr, fmt.Sprintf("intercept has no command %q, allowed are enable, disable, status and run", name))
	}
	if err := flags.Parse(args[1:]); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, interceptUsage)
		return exitDone
	} else if err != nil {
		return misused(stderr, err.Error())
	}
	if flags.NArg() > 0 {
		return misused(stderr, fmt.Sprintf("intercept %s takes no argument %q", name, flags.Arg(0)))
	}
	if format != "text" && format != "json" {
		return misused(stderr, fmt.Sprintf("--format is %q, allowed are text and json", format))
	}
	var settings rules.Settings
	if name != "disable" { // which has to work whatever the variables say
		var err error
		if settings, err = rules.ReadSettings(os.LookupEnv); err != nil {
			return failed(stderr, err)
		}
	}
	switch name {
	case "status":
		return interceptStatus(settings, format, stdout, stderr)
	case "run":
		return interceptRun(settings, stderr)
	}
	return interceptSwitch(settings, name == "enable", stdout, stderr)
}

func interceptSwitch(s rules.Settings, on bool, stdout, stderr io.Writer) int {
	result, err := intercept.Switch(s, on)
	if err != nil {
		return failed(stderr, err)
	}
	if result.Warning != "" {
		fmt.Fprintf(stderr, "fairlead-agent: %s\n", result.Warning)
	}
	fmt.Fprintln(stdout, result.Text(on))
	return exitDone
}

// interceptStatus prints what is set. Only rules that are all there end with 0.
func interceptStatus(s rules.Settings, format string, stdout, stderr io.Writer) int {
	status, err := intercept.Look(s)
	if err != nil {
		return failed(stderr, err)
	}
	text := status.Text()
	if format == "json" {
		b, err := json.MarshalIndent(status, "", "  ")
		if err != nil {
			return failed(stderr, err)
		}
		text = string(b) + "\n"
	}
	if _, err := io.WriteString(stdout, text); err != nil {
		return failed(stderr, err)
	}
	if !status.Enabled {
		return exitFailed
	}
	return exitDone
}

func interceptRun(s rules.Settings, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
	defer stop()
	if err := intercept.Run(ctx, s, slog.New(slog.NewTextHandler(stderr, nil))); err != nil {
		return failed(stderr, err)
	}
	return exitDone
}
