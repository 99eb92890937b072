package main

import (
	"context"
	"errors"

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
			"the commands of these names; 'get instances' lists the account's services in the registry\n" +
			"(AWS Cloud Map) with their instances, and with --mesh those that its nodes are found by.\n\nKinds:\n" + cli.KindHelp(),
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
	waits(cmd, &cfg.Wait)
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

func newXDS() *cobra.Command {
	var c connection
	var q cli.ProxyQuery
	cmd := &cobra.Command{
		Use: "xds --as ARN", Short: "Print the Envoy resources that a node's or gateway's proxies are sent", GroupID: groupMesh, Args: noArgs,
		Long: "Print the Envoy resources that the proxies of a virtual node or virtual gateway are sent, whether\n" +
			"one is connected or not. What is sent depends on how a proxy is placed: as the one of --connection\n" +
			"is, else as the first that is connected, else by redirection.",
		Example: "  fairlead xds --as mesh/shop/virtualNode/cart\n  fairlead xds --as mesh/shop/virtualNode/cart --type cluster -o yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if q.As == "" {
				return usageError{errors.New("--as is required: the ARN of a virtual node or virtual gateway")}
			}
			return c.run(cmd, func(s *cli.Session, t cli.Terminal) error { return cli.XDS(cmd.Context(), s, t, q) })
		},
	}
	c.flags(cmd)
	fl := cmd.Flags()
	fl.StringVar(&q.As, "as", "", "the virtual node or gateway: its ARN, or the same from mesh/ on")
	fl.StringVar(&q.Connection, "connection", "", "a proxy, by its id (fairlead proxies -o json)")
	fl.StringVar(&q.Type, "type", "", "only resources of a type, for example cluster")
	fl.StringVar(&q.Name, "name", "", "only the resource of a name")
	output(cmd, &q.Output, cli.FormTable, cli.FormJSON, cli.FormYAML)
	return cmd
}

func newExplain() *cobra.Command {
	var c connection
	var q cli.ProxyQuery
	cmd := &cobra.Command{
		Use: "explain ARN", Short: "Tell what a node's or gateway's proxies do, and which objects cause it", GroupID: groupMesh,
		Long: "Tell what the proxies of a virtual node or virtual gateway do with the configuration that they are\n" +
			"sent: the way in, the way out with each service's routes in the order in which they are tried, and\n" +
			"the targets. An arrow points to the object that causes a line.",
		Example: "  fairlead explain mesh/shop/virtualNode/cart",
		Args:    takes("ARN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.As = args[0]
			return c.run(cmd, func(s *cli.Session, t cli.Terminal) error { return cli.Explain(cmd.Context(), s, t, q) })
		},
	}
	c.flags(cmd)
	cmd.Flags().StringVar(&q.Connection, "connection", "", "a proxy, by its id (fairlead proxies -o json)")
	tableOrJSON(cmd, &q.Output)
	return cmd
}
