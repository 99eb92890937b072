package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/fairlead-mesh/fairlead/internal/cli"
)

func newAccount() *cobra.Command {
	var c connection
	var form, id string
	var k cli.Keeping
	create := c.one("create NAME", "Make an account with an administrator", takes("NAME"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.CreateAccount(cmd.Context(), s, t, id, args[0], k)
	})
	create.Flags().StringVar(&id, "id", "", "the account's twelve digits (else the server chooses)")
	keepFlags(create, &k)
	list := c.one("list", "List all accounts", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.ListAccounts(cmd.Context(), s, t, form)
	})
	get := c.one("get ACCOUNT", "Show an account", takes("ACCOUNT"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.GetAccount(cmd.Context(), s, t, args[0], form)
	})
	status := func(use, short, value string) *cobra.Command {
		return c.one(use, short, takes("ACCOUNT"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
			return cli.UpdateAccount(cmd.Context(), s, t, args[0], "", value)
		})
	}
	rename := c.one("rename ACCOUNT NAME", "Give an account another name", takes("ACCOUNT", "NAME"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.UpdateAccount(cmd.Context(), s, t, args[0], args[1], "")
	})
	remove := c.one("delete ACCOUNT", "Delete an account that has no mesh", takes("ACCOUNT"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.DeleteAccount(cmd.Context(), s, t, args[0])
	})
	tableOrJSON(list, &form)
	tableOrJSON(get, &form)
	cmd := group("account", "Accounts; for callers of the management account", create, list, get,
		status("suspend ACCOUNT", "Serve an account's callers and proxies no more", "SUSPENDED"), status("resume ACCOUNT", "Serve an account again", "ACTIVE"), rename, remove)
	c.flags(cmd)
	return cmd
}

func newQuota() *cobra.Command {
	var c connection
	var form, account string
	list := c.one("list", "List the quotas of an account", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.ListQuotas(cmd.Context(), s, t, account, form)
	})
	set := c.one("set QUOTA VALUE", "Give a quota a value", takes("QUOTA", "VALUE"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		value, err := strconv.Atoi(args[1])
		if err != nil || value < 0 {
			return usageError{fmt.Errorf("VALUE %q is not allowed: a whole number of at least 0", args[1])}
		}
		return cli.SetQuota(cmd.Context(), s, t, account, args[0], value)
	})
	reset := c.one("reset QUOTA", "Give a quota its default value", takes("QUOTA"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.ResetQuota(cmd.Context(), s, t, account, args[0])
	})
	apply := c.one("apply-set SET", "Give all quotas the values of a set: default or app-mesh", takes("SET"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.ApplyQuotaSet(cmd.Context(), s, t, account, args[0])
	})
	apply.ValidArgsFunction = cobra.FixedCompletions([]string{"default", "app-mesh"}, cobra.ShellCompDirectiveNoFileComp)
	tableOrJSON(list, &form)
	cmd := group("quota", "Quotas of accounts", list, set, reset, apply)
	c.flags(cmd)
	cmd.PersistentFlags().StringVar(&account, "account", "", "the account (else your own); for callers of the management account")
	return cmd
}

func newShare() *cobra.Command {
	var c connection
	var form string
	var scope cli.Scope
	add := c.one("add ACCOUNT", "Share a mesh with an account", takes("ACCOUNT"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.ShareMesh(cmd.Context(), s, t, scope.Mesh, args[0])
	})
	list := c.one("list", "List the accounts that a mesh is shared with", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.ListShares(cmd.Context(), s, t, scope.Mesh, form)
	})
	remove := c.one("remove ACCOUNT", "Share a mesh with an account no more", takes("ACCOUNT"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.UnshareMesh(cmd.Context(), s, t, scope.Mesh, args[0])
	})
	tableOrJSON(list, &form)
	for _, cmd := range []*cobra.Command{add, list, remove} {
		cmd.Flags().StringVarP(&scope.Mesh, "mesh", "m", "", "the mesh, one of your own account's")
		c.completeFlag(cmd, "mesh", "mesh", &scope)
		inner := cmd.RunE
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if scope.Mesh == "" {
				return usageError{fmt.Errorf("--mesh is required: the mesh that is shared")}
			}
			return inner(cmd, args)
		}
	}
	cmd := group("share", "Meshes shared with other accounts", add, list, remove)
	c.flags(cmd)
	return cmd
}

func newEvents() *cobra.Command {
	var c connection
	var q cli.EventQuery
	cmd := c.one("events", "Search the audit log", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.ListEvents(cmd.Context(), s, t, q)
	})
	cmd.Long = "Search the audit log: every call and every proxy's stream, allowed or refused, newest first.\n" +
		"With -o json, each event is one line in the form of AWS's CloudTrail."
	cmd.GroupID = groupAdmin
	c.flags(cmd)
	fl := cmd.Flags()
	fl.StringVar(&q.Account, "account", "", "the account (else your own), or all; for callers of the management account")
	fl.StringVar(&q.Since, "since", "", "no older events: a time such as 2026-11-23T08:00:00Z, or how long ago, such as 30m")
	fl.StringVar(&q.Until, "until", "", "no newer events")
	fl.StringVar(&q.Name, "name", "", "events of one operation, for example CreateRoute")
	fl.StringVar(&q.Resource, "resource", "", "events of one resource, by its ARN")
	fl.StringVar(&q.User, "user", "", "events of one user")
	fl.StringVar(&q.ErrorCode, "error", "", "events with one error, for example ForbiddenException")
	fl.IntVar(&q.Limit, "limit", 50, "how many events at most; 0 for all")
	tableOrJSON(cmd, &q.Output)
	return cmd
}
