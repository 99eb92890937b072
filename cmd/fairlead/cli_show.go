package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/fairlead-mesh/fairlead/internal/cli"
)

func newGet() *cobra.Command {
	var c connection
	var sel cli.Selection
	cmd := &cobra.Command{
		Use:     "get KIND [NAME…] | get --all",
		GroupID: groupMesh,
		Short:   "List objects, or print them as files for apply",
		Long: "List objects. Without --mesh, those of all meshes. '-o yaml' prints documents that apply\n" +
			"takes back; '-o json' has each object's metadata, too. 'get proxies' and 'get problems' are\n" +
			"the commands of these names.\n\nKinds:\n" + cli.KindHelp(),
		Example: "  fairlead get routes --mesh shop\n  fairlead get node cart --mesh shop -o yaml\n  fairlead get --all --mesh shop -o yaml > shop.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			sel.Args = args
			return c.run(cmd, func(s *cli.Session, t cli.Terminal) error { return cli.Get(cmd.Context(), s, t, sel) })
		},
		ValidArgsFunction: c.kindThenNames(&sel.Scope),
	}
	c.flags(cmd)
	c.scopeFlags(cmd, &sel.Scope, true)
	cmd.Flags().BoolVarP(&sel.All, "all", "A", false, "objects of all kinds")
	output(cmd, &sel.Output, cli.FormTable, cli.FormWide, cli.FormJSON, cli.FormYAML, cli.FormName)
	return cmd
}

func newDescribe() *cobra.Command {
	var c connection
	var sel cli.Selection
	cmd := &cobra.Command{
		Use:     "describe KIND NAME…",
		GroupID: groupMesh,
		Short:   "Tell all about an object",
		Long: "Tell all about an object: its settings and tags, what refers to it, the proxies that have its\n" +
			"configuration, and problems.\n\nKinds:\n" + cli.KindHelp(),
		RunE: func(cmd *cobra.Command, args []string) error {
			sel.Args = args
			return c.run(cmd, func(s *cli.Session, t cli.Terminal) error { return cli.Describe(cmd.Context(), s, t, sel) })
		},
		ValidArgsFunction: c.kindThenNames(&sel.Scope),
	}
	c.flags(cmd)
	c.scopeFlags(cmd, &sel.Scope, true)
	return cmd
}

func newShift() *cobra.Command {
	var c connection
	var cfg cli.Shift
	cmd := &cobra.Command{
		Use:     "shift SERVICE NODE=WEIGHT…",
		GroupID: groupMesh,
		Short:   "Part a service's traffic between virtual nodes",
		Long: "Part the traffic of a virtual service between virtual nodes. The nodes that are given become\n" +
			"the targets of the route behind the service; one that is not given gets no traffic any more.\n" +
			"Weights are whole numbers from 0 to 100, relative to each other.",
		Example: "  fairlead shift cart.local cart-v1=90 cart-v2=10 --mesh shop",
		Args:    atLeast("SERVICE", "NODE=WEIGHT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg.Service, cfg.Weights = args[0], args[1:]
			return c.run(cmd, func(s *cli.Session, t cli.Terminal) error { return cli.ShiftTraffic(cmd.Context(), s, t, cfg) })
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return c.names(cmd, "vs", &cfg.Scope), cobra.ShellCompDirectiveNoFileComp
			}
			nodes := c.names(cmd, "vn", &cfg.Scope)
			for i := range nodes {
				nodes[i] += "="
			}
			return nodes, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		},
	}
	c.flags(cmd)
	c.scopeFlags(cmd, &cfg.Scope, false)
	cmd.Flags().StringVar(&cfg.Route, "route", "", "the route, where the service's router has several")
	cmd.Flags().BoolVar(&cfg.DryRun, "dry-run", false, "show what would be done, and do nothing")
	return cmd
}

// overview returns a command that shows something of one mesh or of all.
func overview(use, short string, show func(context.Context, *cli.Session, cli.Terminal, cli.Scope, string) error) *cobra.Command {
	var c connection
	var scope cli.Scope
	var form string
	cmd := &cobra.Command{
		Use: use, Short: short, GroupID: groupMesh, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.run(cmd, func(s *cli.Session, t cli.Terminal) error { return show(cmd.Context(), s, t, scope, form) })
		},
	}
	c.flags(cmd)
	c.scopeFlags(cmd, &scope, false)
	tableOrJSON(cmd, &form)
	return cmd
}

func newStatus() *cobra.Command {
	return overview("status", "Show meshes, proxies and problems on one screen", cli.Status)
}

func newProxies() *cobra.Command {
	return overview("proxies", "List the connected proxies, and whether they have what they should", cli.ListProxies)
}

func newProblems() *cobra.Command {
	return overview("problems", "List what in meshes is not served as written, or refused by a proxy", cli.ListProblems)
}
