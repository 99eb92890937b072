package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-mesh/fairlead/internal/cli"
)

// Groups of commands, as help shows them.
const (
	groupServer = "server"
	groupMesh   = "mesh"
	groupAdmin  = "admin"
)

func addGroups(root *cobra.Command) {
	root.AddGroup(
		&cobra.Group{ID: groupServer, Title: "Run a control plane:"},
		&cobra.Group{ID: groupMesh, Title: "Define and watch meshes:"},
		&cobra.Group{ID: groupAdmin, Title: "Administer accounts and access:"},
	)
	root.SetHelpCommandGroupID(groupServer)
	root.SetCompletionCommandGroupID(groupServer)
}

// newClients returns the commands that talk to a control plane.
func newClients() []*cobra.Command {
	return []*cobra.Command{
		newApply(), newDiff(), newValidate(), newGet(), newDescribe(), newDelete(), newShift(), newStatus(), newProxies(), newProblems(), newXDS(), newExplain(),
		newWhoAmI(), newCredentials(), newAssumeRole(), newAccount(), newUser(), newKey(), newRole(), newIdentityProvider(), newQuota(), newShare(), newCA(), newEvents(),
	}
}

// connection is the flags that say which server to talk to, and as whom.
type connection struct {
	cli.Options
}

// flags adds the flags to a command and those below it.
func (c *connection) flags(cmd *cobra.Command) {
	fl := cmd.PersistentFlags()
	fl.StringVar(&c.Endpoint, "endpoint", "", "URL of the server (else AWS_ENDPOINT_URL_APP_MESH, AWS_ENDPOINT_URL, "+cli.DefaultEndpoint+")")
	fl.StringVar(&c.Region, "region", "", "region to sign for (else AWS_REGION, the profile's, "+cli.DefaultRegion+")")
	fl.StringVar(&c.Profile, "profile", "", "profile of the AWS config and credentials files (else AWS_PROFILE)")
	fl.StringVar(&c.CredentialsFile, "credentials-file", "", "file with the access key, in the form of AWS's credentials files")
	fl.StringVar(&c.CAFile, "ca-file", "", "certificates in PEM form to check the server's against (else AWS_CA_BUNDLE)")
	hint(cmd, "credentials-file", "ca-file")
}

// hint lets a shell complete flags by the names of files.
func hint(cmd *cobra.Command, flags ...string) {
	for _, f := range flags {
		if err := cmd.MarkPersistentFlagFilename(f); err != nil {
			panic(err) // there is no such flag
		}
	}
}

// run connects and calls f.
func (c *connection) run(cmd *cobra.Command, f func(*cli.Session, cli.Terminal) error) error {
	s, err := cli.Connect(cmd.Context(), c.Options)
	if err != nil {
		return err
	}
	return f(s, terminal(cmd))
}

func terminal(cmd *cobra.Command) cli.Terminal {
	return cli.NewTerminal(cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
}

// group returns a command that is only there for those below it.
func group(use, short string, below ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, GroupID: groupAdmin, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(below...)
	return cmd
}

// takes checks that a command has the arguments that its use line names.
func takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usageError{fmt.Errorf("%s is required: %s", names[len(args)], cmd.UseLine())}
		}
		if len(args) > len(names) {
			return usageError{fmt.Errorf("unknown argument %q for %q; see %q", args[len(names)], cmd.CommandPath(), cmd.CommandPath()+" --help")}
		}
		return nil
	}
}

// atLeast checks that a command has as many arguments as are named, or more.
func atLeast(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		return takes(names...)(cmd, args[:min(len(args), len(names))])
	}
}

// output adds the flag --output with its allowed values, the first of which is the default.
func output(cmd *cobra.Command, form *string, allowed ...string) {
	cmd.Flags().StringVarP(form, "output", "o", allowed[0], "form of the output: "+strings.Join(allowed, ", "))
	if err := cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // there is no such flag
	}
}

// waits adds the flag --wait, with or without a duration.
func waits(cmd *cobra.Command, wait *time.Duration) {
	cmd.Flags().DurationVar(wait, "wait", 0, "wait so long at most until all connected proxies have it, and tell how many do; alone, --wait is --wait="+cli.DefaultWait.String())
	cmd.Flags().Lookup("wait").NoOptDefVal = cli.DefaultWait.String()
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if *wait < 0 {
			return usageError{fmt.Errorf("--wait must not be negative, %s was given", *wait)}
		}
		return nil
	}
}

// tableOrJSON adds --output with these two.
func tableOrJSON(cmd *cobra.Command, form *string) { output(cmd, form, cli.FormTable, cli.FormJSON) }

// scopeFlags adds the flags that say which mesh objects are in; children adds those that say
// which router or gateway.
func (c *connection) scopeFlags(cmd *cobra.Command, s *cli.Scope, children bool) {
	fl := cmd.Flags()
	fl.StringVarP(&s.Mesh, "mesh", "m", "", "the mesh")
	fl.StringVar(&s.Owner, "mesh-owner", "", "account that shares the mesh with yours")
	c.completeFlag(cmd, "mesh", "mesh", s)
	if children {
		fl.StringVar(&s.Router, "router", "", "virtual router that a route is under")
		fl.StringVar(&s.Gateway, "gateway", "", "virtual gateway that a gateway route is under")
		c.completeFlag(cmd, "router", "vr", s)
		c.completeFlag(cmd, "gateway", "vg", s)
	}
}

// completeFlag lets a shell complete a flag by the names of objects on the server.
func (c *connection) completeFlag(cmd *cobra.Command, flag, kind string, s *cli.Scope) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return c.names(cmd, kind, s), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // there is no such flag
	}
}

// names asks the server for names, with the same settings as the command itself.
func (c *connection) names(cmd *cobra.Command, kind string, s *cli.Scope) []string {
	if settle(cmd.Flags(), commandFlags(cmd.Root()), os.LookupEnv) != nil {
		return nil
	}
	return cli.CompleteNames(cmd.Context(), c.Options, kind, *s)
}

// kindThenNames completes a kind and then names of that kind.
func (c *connection) kindThenNames(s *cli.Scope) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return cli.KindNames(), cobra.ShellCompDirectiveNoFileComp
		}
		names := slices.DeleteFunc(c.names(cmd, args[0], s), func(n string) bool { return slices.Contains(args[1:], n) })
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
