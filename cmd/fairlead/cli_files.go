package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/fairlead-mesh/fairlead/internal/cli"
)

const documentsHelp = `Documents are YAML or JSON, one an object:

  kind: Route               # Mesh, VirtualNode, VirtualRouter, Route, VirtualService,
  mesh: shop                #   VirtualGateway or GatewayRoute
  virtualRouter: cart       # of a route; virtualGateway of a gateway route
  name: cart
  spec: {…}                 # exactly the App Mesh API's
  tags: {team: checkout}    # absent: tags stay as they are; {}: there are none
  meshOwner: "123456789012" # of a mesh that another account shares

In folders, files that end in .yaml, .yml and .json are read, at any depth.`

// fileFlags adds -f; the folder's files are read too.
func fileFlags(cmd *cobra.Command, cfg *cli.FilesConfig) {
	cmd.Flags().StringSliceVarP(&cfg.Paths, "file", "f", nil, "file or folder of documents, - for standard input; may be given more than once")
	if err := cmd.MarkFlagFilename("file", "yaml", "yml", "json"); err != nil {
		panic(err) // there is no such flag
	}
}

func newApply() *cobra.Command {
	var c connection
	var cfg cli.FilesConfig
	cmd := &cobra.Command{
		Use:     "apply -f FILE",
		GroupID: groupMesh,
		Short:   "Make meshes what files say",
		Long: "Make the objects of meshes what documents say: what is not there is created, what differs\n" +
			"is updated, in an order in which nothing breaks. Everything is checked first, and nothing\n" +
			"is sent if something is wrong. What could not be done is named, and the rest is done.\n" +
			"With --wait the exit code is 0 only if all connected proxies have accepted everything.\n\n" + documentsHelp,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(cfg.Paths) == 0 {
				return usageError{errors.New("-f is required: a file, a folder, or - for standard input")}
			}
			return c.run(cmd, func(s *cli.Session, t cli.Terminal) error { return cli.Apply(cmd.Context(), s, t, cfg) })
		},
	}
	c.flags(cmd)
	fileFlags(cmd, &cfg)
	cmd.Flags().BoolVar(&cfg.DryRun, "dry-run", false, "tell what would be done, and do nothing")
	waits(cmd, &cfg.Wait)
	cmd.Flags().BoolVar(&cfg.Prune, "prune", false, "delete what is in the files' meshes and not in the files; the meshes themselves must be in them")
	cmd.Flags().BoolVar(&cfg.Replace, "replace", false, "delete routes and make them anew where nothing else leads to what the files say; this interrupts their traffic")
	cmd.Flags().IntVar(&cfg.Parallel, "parallel", cli.DefaultParallel, "how many calls are made at the same time")
	return cmd
}

func newDiff() *cobra.Command {
	var c connection
	var cfg cli.FilesConfig
	cmd := &cobra.Command{
		Use:     "diff -f FILE",
		GroupID: groupMesh,
		Short:   "Show what apply would change",
		Long: "Show what apply would change, a line for each field: - what is on the server, + what the\n" +
			"files say. The exit code is 0 if there is no difference, 1 if there is one or something\n" +
			"failed (an error line on standard error tells them apart), 2 for wrong usage.\n\n" + documentsHelp,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(cfg.Paths) == 0 {
				return usageError{errors.New("-f is required: a file, a folder, or - for standard input")}
			}
			return c.run(cmd, func(s *cli.Session, t cli.Terminal) error { return cli.Diff(cmd.Context(), s, t, cfg) })
		},
	}
	c.flags(cmd)
	fileFlags(cmd, &cfg)
	cmd.Flags().BoolVar(&cfg.Prune, "prune", false, "show what apply --prune would delete, too")
	cmd.Flags().IntVar(&cfg.Parallel, "parallel", cli.DefaultParallel, "how many calls are made at the same time")
	return cmd
}

func newValidate() *cobra.Command {
	var cfg cli.FilesConfig
	cmd := &cobra.Command{
		Use:     "validate -f FILE",
		GroupID: groupMesh,
		Short:   "Check files, without a server",
		Long: "Check documents without a server: their form, all bounds and rules of their specs, and the\n" +
			"rules between the objects that they define. All problems are told at once, each with its\n" +
			"file, line and field.\n\n" + documentsHelp,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cli.Validate(terminal(cmd), cfg) },
	}
	fileFlags(cmd, &cfg)
	cmd.Flags().BoolVar(&cfg.Complete, "complete", false, "the files are all there is: refuse references to anything else")
	return cmd
}

func newDelete() *cobra.Command {
	var c connection
	var cfg cli.Removal
	var scope cli.Scope
	cmd := &cobra.Command{
		Use:     "delete KIND NAME… | delete -f FILE",
		GroupID: groupMesh,
		Short:   "Delete objects",
		Long: "Delete objects: by kind and name, by the names that 'get -o name' prints, by ARN, or those\n" +
			"that files define. What is used is deleted after what uses it; what something else uses is\n" +
			"not deleted. With -f, what is not there is passed over.\n\nKinds:\n" + cli.KindHelp(),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if (len(cfg.Paths) > 0) == (len(args) > 0) {
				return usageError{errors.New("a kind and a name are required, or -f, and only one of them")}
			}
			if len(args) > 0 {
				if cfg.Refs, err = cli.Objects(args, scope); err != nil {
					return err
				}
			}
			return c.run(cmd, func(s *cli.Session, t cli.Terminal) error { return cli.Delete(cmd.Context(), s, t, cfg) })
		},
		ValidArgsFunction: c.kindThenNames(&scope),
	}
	c.flags(cmd)
	c.scopeFlags(cmd, &scope, true)
	fileFlags(cmd, &cfg.FilesConfig)
	cmd.Flags().BoolVar(&cfg.DryRun, "dry-run", false, "tell what would be deleted, and do nothing")
	waits(cmd, &cfg.Wait)
	return cmd
}
