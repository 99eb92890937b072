// Command fairlead is for the people who run a mesh: the control plane, the demo, and
// the commands that talk to a control plane. It holds flags and wiring only.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fairlead-mesh/fairlead/internal/cli"
)

// Exit codes, a contract with scripts.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// usageError is an error in how the command was called.
type usageError struct{ error }

// run runs the command and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, cli.ErrDifferent):
		return exitFailed // what differs is the output
	}
	fmt.Fprintln(stderr, "fairlead:", strings.ReplaceAll(err.Error(), "\n", "; "))
	if errors.As(err, &usageError{}) || errors.As(err, &cli.UsageError{}) {
		return exitUsage
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "fairlead",
		Short:         "A self-hosted service-mesh control plane that speaks the AWS App Mesh API",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version(),
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return settle(cmd.Flags(), commandFlags(cmd.Root()), os.LookupEnv)
		},
	}
	root.PersistentFlags().String("config", "", "YAML file with settings: the flags' names without the dashes in front")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	addGroups(root)
	for _, cmd := range []*cobra.Command{newServer(), newBackup(), newRestore(), newCompact(), newRecover(), newDemo()} {
		cmd.GroupID = groupServer
		root.AddCommand(cmd)
	}
	root.AddCommand(newClients()...)
	return root
}

// noArgs refuses arguments as wrong usage.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unknown argument %q for %q; see %q", args[0], cmd.CommandPath(), cmd.CommandPath()+" --help")}
	}
	return nil
}

// release is set when a release is built (-ldflags "-X main.release=…").
var release = ""

// version returns the release's version, else the module's, or the commit that was built.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return info.Main.Version + " " + s.Value
		}
	}
	return info.Main.Version
}
