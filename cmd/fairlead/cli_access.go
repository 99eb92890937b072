package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/fairlead-mesh/fairlead/internal/cli"
)

// one is a command below a group that calls f with its arguments.
func (c *connection) one(use, short string, args cobra.PositionalArgs, f func(*cobra.Command, *cli.Session, cli.Terminal, []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: args, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd, func(s *cli.Session, t cli.Terminal) error { return f(cmd, s, t, args) })
		},
	}
}

// keepFlags adds the flags that say what becomes of a secret.
func keepFlags(cmd *cobra.Command, k *cli.Keeping) {
	var form string
	fl := cmd.Flags()
	fl.StringVar(&k.File, "save-credentials", "", "write the secret into this file, readable by its owner only, instead of printing it")
	fl.BoolVar(&k.Overwrite, "overwrite", false, "with --save-credentials: the file may be there already")
	fl.StringVar(&k.Profile, "save-as", "", "name of the profile to print or write (default \"default\")")
	tableOrJSON(cmd, &form)
	if err := cmd.MarkFlagFilename("save-credentials"); err != nil {
		panic(err) // there is no such flag
	}
	inner := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if form != cli.FormTable && form != cli.FormJSON {
			return usageError{errors.New("--output is not allowed to be " + form + ": table or json")}
		}
		k.JSON = form == cli.FormJSON
		return inner(cmd, args)
	}
}

func policyFlags(cmd *cobra.Command, p *cli.Policies) {
	fl := cmd.Flags()
	fl.StringArrayVar(&p.Files, "policy", nil, "NAME=FILE: a policy document, JSON as in AWS's IAM; may be given more than once")
	fl.BoolVar(&p.Administrator, "administrator", false, "a policy that allows everything")
}

func newWhoAmI() *cobra.Command {
	var c connection
	var form string
	cmd := c.one("whoami", "Show who the server takes you for", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.WhoAmI(cmd.Context(), s, t, form)
	})
	cmd.GroupID = groupAdmin
	c.flags(cmd)
	tableOrJSON(cmd, &form)
	return cmd
}

func newCredentials() *cobra.Command {
	var c connection
	var a cli.Assumption
	cmd := c.one("credentials", "Print temporary credentials for AWS clients (credential_process)", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.ProcessCredentials(cmd.Context(), s, t, a)
	})
	cmd.Long = "Print temporary credentials in the form that AWS clients read from a credential_process, so\n" +
		"that any of them gets them by itself, and anew when they expire:\n\n" +
		"  [profile shop]\n" +
		"  credential_process = fairlead credentials --profile base --role-arn arn:aws:iam::000000000001:role/deployer\n\n" +
		"The command signs with a key of its own: --profile or --credentials-file. Nothing is kept on\n" +
		"disk."
	connect := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := cli.GuardCredentials(); err != nil {
			return err
		}
		return connect(cmd, args)
	}
	cmd.GroupID = groupAdmin
	c.flags(cmd)
	cmd.Flags().StringVar(&a.RoleARN, "role-arn", "", "role to assume (else a session of your own user)")
	sessionFlags(cmd, &a)
	return cmd
}

func sessionFlags(cmd *cobra.Command, a *cli.Assumption) {
	cmd.Flags().StringVar(&a.Session, "session-name", "", "name of the session in the audit log (default \"fairlead\")")
	cmd.Flags().DurationVar(&a.Duration, "duration", 0, "how long the credentials last, for example 1h")
	cmd.Flags().StringVar(&a.Policy, "policy", "", "file with a policy document that bounds the session of a role further")
}

func newAssumeRole() *cobra.Command {
	var c connection
	var a cli.Assumption
	var k cli.Keeping
	cmd := c.one("assume-role ROLE_ARN", "Print or save a role's temporary credentials", takes("ROLE_ARN"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		a.RoleARN = args[0]
		return cli.AssumeRole(cmd.Context(), s, t, a, k)
	})
	cmd.GroupID = groupAdmin
	c.flags(cmd)
	sessionFlags(cmd, &a)
	keepFlags(cmd, &k)
	return cmd
}

func newUser() *cobra.Command {
	var c connection
	var form string
	var p cli.Policies
	create := c.one("create NAME", "Make a user", takes("NAME"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.CreateUser(cmd.Context(), s, t, args[0], p)
	})
	list := c.one("list", "List the users of your account", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.ListUsers(cmd.Context(), s, t, form)
	})
	get := c.one("get NAME", "Show a user; -o json has the policies", takes("NAME"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.GetUser(cmd.Context(), s, t, args[0], form)
	})
	set := c.one("set-policies NAME", "Give a user other policies", takes("NAME"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.SetPolicies(cmd.Context(), s, t, args[0], p)
	})
	remove := c.one("delete NAME", "Delete a user, with its access keys", takes("NAME"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.DeleteUser(cmd.Context(), s, t, args[0])
	})
	tableOrJSON(list, &form)
	tableOrJSON(get, &form)
	policyFlags(create, &p)
	policyFlags(set, &p)
	set.Flags().BoolVar(&p.None, "no-policies", false, "take all policies away")
	cmd := group("user", "Users of your account", create, list, get, set, remove)
	c.flags(cmd)
	return cmd
}

func newKey() *cobra.Command {
	var c connection
	var form string
	var k cli.Keeping
	var retire bool
	create := c.one("create USER", "Make an access key; a user has at most two", takes("USER"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.CreateKey(cmd.Context(), s, t, args[0], k)
	})
	list := c.one("list USER", "List a user's access keys", takes("USER"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.ListKeys(cmd.Context(), s, t, args[0], form)
	})
	set := func(use, short string, active bool) *cobra.Command {
		return c.one(use, short, takes("USER", "KEY_ID"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
			return cli.SetKey(cmd.Context(), s, t, args[0], args[1], active)
		})
	}
	rotate := c.one("rotate USER", "Put a new access key in the place of a user's only one, in two steps", takes("USER"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		if retire {
			return cli.RetireKey(cmd.Context(), s, t, args[0])
		}
		return cli.RotateKey(cmd.Context(), s, t, args[0], k)
	})
	rotate.Long = "Put a new access key in the place of a user's only one. The first step makes a second key;\n" +
		"both are good while you put it to use. The second step, with --retire-old, deactivates the\n" +
		"older key, which can be activated again until it is deleted."
	rotate.Flags().BoolVar(&retire, "retire-old", false, "the second step: deactivate the older of two active keys")
	remove := c.one("delete USER KEY_ID", "Delete an access key", takes("USER", "KEY_ID"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.DeleteKey(cmd.Context(), s, t, args[0], args[1])
	})
	tableOrJSON(list, &form)
	keepFlags(create, &k)
	keepFlags(rotate, &k)
	cmd := group("key", "Access keys of users", create, list,
		set("activate USER KEY_ID", "Let an access key be good again", true), set("deactivate USER KEY_ID", "Let an access key be good no more, until it is activated", false), rotate, remove)
	c.flags(cmd)
	return cmd
}

func newRole() *cobra.Command {
	var c connection
	var form string
	var set cli.RoleSettings
	create := c.one("create NAME", "Make a role", takes("NAME"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.CreateRole(cmd.Context(), s, t, args[0], set)
	})
	list := c.one("list", "List the roles of your account", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.ListRoles(cmd.Context(), s, t, form)
	})
	get := c.one("get NAME", "Show a role; -o json has the policies", takes("NAME"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.GetRole(cmd.Context(), s, t, args[0], form)
	})
	update := c.one("update NAME", "Change a role; what is not given stays", takes("NAME"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.UpdateRole(cmd.Context(), s, t, args[0], set)
	})
	remove := c.one("delete NAME", "Delete a role", takes("NAME"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.DeleteRole(cmd.Context(), s, t, args[0])
	})
	revoke := c.one("revoke-sessions NAME", "Make all sessions of a role void that began before now", takes("NAME"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.RevokeSessions(cmd.Context(), s, t, args[0])
	})
	tableOrJSON(list, &form)
	tableOrJSON(get, &form)
	for _, cmd := range []*cobra.Command{create, update} {
		cmd.Flags().StringVar(&set.Trust, "trust", "", "file with the policy document that says who may assume the role")
		cmd.Flags().DurationVar(&set.MaxSession, "max-session", 0, "how long a session may last: 15m to 12h (default 1h)")
		policyFlags(cmd, &set.Policies)
	}
	update.Flags().BoolVar(&set.None, "no-policies", false, "take all policies away")
	cmd := group("role", "Roles of your account, for temporary credentials", create, list, get, update, remove, revoke)
	c.flags(cmd)
	return cmd
}

func newIdentityProvider() *cobra.Command {
	var c connection
	var form string
	var set cli.ProviderSettings
	create := c.one("create NAME", "Let an issuer, an authority or AWS vouch for workloads", takes("NAME"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.CreateIdentityProvider(cmd.Context(), s, t, args[0], set)
	})
	list := c.one("list", "List the identity providers of your account", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.ListIdentityProviders(cmd.Context(), s, t, form)
	})
	get := c.one("get NAME", "Show an identity provider; -o json has its settings", takes("NAME"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.GetIdentityProvider(cmd.Context(), s, t, args[0], form)
	})
	update := c.one("update NAME", "Change an identity provider; what is not given stays", takes("NAME"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.UpdateIdentityProvider(cmd.Context(), s, t, args[0], set)
	})
	remove := c.one("delete NAME", "Delete an identity provider", takes("NAME"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.DeleteIdentityProvider(cmd.Context(), s, t, args[0])
	})
	tableOrJSON(list, &form)
	tableOrJSON(get, &form)
	for _, cmd := range []*cobra.Command{create, update} {
		fl := cmd.Flags()
		fl.StringVar(&set.Issuer, "issuer", "", "OpenID Connect: the issuer's URL")
		fl.StringSliceVar(&set.Audiences, "audience", nil, "OpenID Connect: whom tokens must be meant for; may be given more than once")
		fl.StringVar(&set.CA, "ca-cert", "", "OpenID Connect: file with the roots that the issuer's certificate is verified with, PEM (default the system's)")
		fl.StringVar(&set.KeySet, "key-set", "", "OpenID Connect: file with the issuer's JSON Web Key Set, for one that the server cannot reach")
		fl.StringVar(&set.Anchors, "trust-anchors", "", "certificates: file with what client certificates must lead to, PEM")
		fl.StringVar(&set.Lists, "revocation-lists", "", "certificates: file with revocation lists, PEM")
		fl.StringSliceVar(&set.Accounts, "aws-account", nil, "AWS: an account whose principals are accepted; may be given more than once")
		fl.StringSliceVar(&set.Regions, "aws-region", nil, "AWS: a region whose STS may be asked (default all); may be given more than once")
		fl.StringSliceVar(&set.Endpoints, "sts-endpoint", nil, "AWS: the URL of an STS in place of AWS's own; may be given more than once")
	}
	cmd := group("identity-provider", "Who may vouch for workloads, so that they need no access keys", create, list, get, update, remove)
	c.flags(cmd)
	return cmd
}
