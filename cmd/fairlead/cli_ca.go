package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/fairlead-mesh/fairlead/internal/cli"
)

// caCommands holds what the commands of "fairlead ca" share.
type caCommands struct {
	connection
	scope cli.Scope
	form  string
}

// call is what one of the commands does.
type call func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error

func newCA() *cobra.Command {
	c := &caCommands{}
	cmd := group("ca", "Certificates of workloads: a mesh's authority, its roots, what is revoked")
	cmd.AddCommand(c.looks()...)
	cmd.AddCommand(c.roots()...)
	cmd.AddCommand(c.revocations()...)
	for _, sub := range cmd.Commands() {
		sub.Flags().StringVarP(&c.scope.Mesh, "mesh", "m", "", "the mesh")
		c.completeFlag(sub, "mesh", "mesh", &c.scope)
	}
	c.flags(cmd)
	return cmd
}

// one is a command that needs --mesh.
func (c *caCommands) one(use, short string, args cobra.PositionalArgs, do call) *cobra.Command {
	return c.connection.one(use, short, args, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		if c.scope.Mesh == "" {
			return usageError{errors.New("--mesh is required: the mesh whose authority is meant")}
		}
		return do(cmd, s, t, args)
	})
}

// looks are the commands that show things, and issue.
func (c *caCommands) looks() []*cobra.Command {
	var csr string
	var crl bool
	show := c.one("show", "Show the authority of a mesh", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.ShowAuthority(cmd.Context(), s, t, c.scope.Mesh, c.form)
	})
	bundle := c.one("bundle", "Print what a mesh trusts, in PEM form", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.ShowBundle(cmd.Context(), s, t, c.scope, crl)
	})
	list := c.one("list", "List the certificates that have not expired", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.ListCertificates(cmd.Context(), s, t, c.scope.Mesh, c.form)
	})
	issue := c.one("issue WORKLOAD", "Have a certificate request signed, as agents do by themselves", takes("WORKLOAD"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.IssueCertificate(cmd.Context(), s, t, c.scope, args[0], csr)
	})
	issue.Long = "Have a certificate request signed for a workload: virtualNode/NAME or virtualGateway/NAME. Prints the\n" +
		"certificate and what is between it and the root. Agents do this by themselves; the command is for\n" +
		"trying things out, and for programs that have no agent."
	issue.Flags().StringVar(&csr, "csr", "", "file with the certificate request in PEM form, - for the input")
	bundle.Flags().BoolVar(&crl, "crl", false, "print the lists of revoked certificates instead")
	for _, cmd := range []*cobra.Command{bundle, issue} {
		cmd.Flags().StringVar(&c.scope.Owner, "mesh-owner", "", "account that shares the mesh with yours")
	}
	tableOrJSON(show, &c.form)
	tableOrJSON(list, &c.form)
	return []*cobra.Command{show, bundle, list, issue}
}

// roots are the commands that change an authority.
func (c *caCommands) roots() []*cobra.Command {
	var root cli.Root
	life := cli.DefaultCertificateLife
	var force bool
	imports := c.one("import", "Give a mesh that has none an authority of your own", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.ImportAuthority(cmd.Context(), s, t, c.scope.Mesh, root)
	})
	set := c.one("set", "Set how long certificates are valid", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.SetCertificateLife(cmd.Context(), s, t, c.scope.Mesh, life)
	})
	rotate := c.one("rotate", "Have a new intermediate sign, below the same root", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.RotateIntermediate(cmd.Context(), s, t, c.scope.Mesh)
	})
	add := c.one("add-root", "Replace the root, first step: a new one is trusted", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.AddRoot(cmd.Context(), s, t, c.scope.Mesh, root)
	})
	add.Long = "Replace the root of a mesh's authority, first step: a new root is trusted beside the old one. Without\n" +
		"--certificate and --vault Fairlead makes it. The second step is switch-root, the third retire-root;\n" +
		"each says from when on it breaks nobody."
	switches := c.one("switch-root", "Replace the root, second step: the new one signs", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.SwitchRoot(cmd.Context(), s, t, c.scope.Mesh, force)
	})
	retire := c.one("retire-root", "Replace the root, third step: the old one is trusted no more", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.RetireRoot(cmd.Context(), s, t, c.scope.Mesh, force)
	})
	cancel := c.one("cancel-root", "Take a new root away again that has not signed", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.CancelRotation(cmd.Context(), s, t, c.scope.Mesh)
	})
	rootFlags(imports, &root)
	rootFlags(add, &root)
	set.Flags().DurationVar(&life, "certificate-life", life, "how long: 5m to 24h")
	for _, cmd := range []*cobra.Command{switches, retire} {
		cmd.Flags().BoolVar(&force, "force", false, "do not wait: peers may refuse what is not renewed or not expired yet")
	}
	return []*cobra.Command{imports, set, rotate, add, switches, retire, cancel}
}

// rootFlags adds the flags that say which root.
func rootFlags(cmd *cobra.Command, r *cli.Root) {
	fl := cmd.Flags()
	fl.StringVar(&r.Certificate, "certificate", "", "file with the certificate of an authority, and behind it its chain, in PEM form")
	fl.StringVar(&r.PrivateKey, "private-key", "", "file with its private key in PEM form, - for the input")
	fl.StringVar(&r.Vault, "vault", "", "URL of a HashiCorp Vault that has the root; the server's --vault-address must name it")
	fl.StringVar(&r.Mount, "vault-mount", "", "path of Vault's PKI secrets engine, for example pki/shop")
	fl.StringVar(&r.Namespace, "vault-namespace", "", "namespace of Vault Enterprise")
	fl.StringVar(&r.CAFile, "vault-ca-file", "", "certificates in PEM form to check Vault's against")
	fl.StringVar(&r.RoleID, "vault-role-id", "", "role of an AppRole to log in with")
	fl.StringVar(&r.SecretIDFile, "vault-secret-id-file", "", "file with the AppRole's secret id")
	fl.StringVar(&r.AuthMount, "vault-auth-mount", "", "where AppRole is mounted (default approle)")
	fl.StringVar(&r.TokenFile, "vault-token-file", "", "file with a token of Vault, in place of an AppRole")
}

// atMostOne checks that a command has the argument that its use line names, or none.
func atMostOne(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return takes(name)(cmd, args)
	}
}

// revocations are the commands about what is revoked.
func (c *caCommands) revocations() []*cobra.Command {
	var r cli.Revoking
	revoke := c.one("revoke [WORKLOAD]", "Refuse a workload certificates, or revoke one by its serial number", atMostOne("WORKLOAD"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		if len(args) > 0 {
			r.Workload = args[0]
		}
		return cli.Revoke(cmd.Context(), s, t, c.scope.Mesh, r)
	})
	revoke.Long = "Refuse a workload certificates: virtualNode/NAME or virtualGateway/NAME. Those that it has are good\n" +
		"until they expire, unless --listed puts them on the list of revoked ones, which every proxy of the mesh\n" +
		"is given at once. With --serial one certificate is put on the list; its workload can have another."
	revoke.Flags().StringVar(&r.Serial, "serial", "", "serial number of a certificate, as ca list shows it")
	revoke.Flags().DurationVar(&r.For, "for", 0, "how long, for example 24h (default until it is restored)")
	revoke.Flags().StringVar(&r.Reason, "reason", "", "why, for those who read the list")
	revoke.Flags().BoolVar(&r.Listed, "listed", false, "put the certificates that it has on the list of revoked ones")
	restore := c.one("restore WORKLOAD", "Let a workload have certificates again", takes("WORKLOAD"), func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, args []string) error {
		return cli.Restore(cmd.Context(), s, t, c.scope.Mesh, args[0])
	})
	list := c.one("revocations", "List what is revoked", noArgs, func(cmd *cobra.Command, s *cli.Session, t cli.Terminal, _ []string) error {
		return cli.ListRevocations(cmd.Context(), s, t, c.scope.Mesh, c.form)
	})
	tableOrJSON(list, &c.form)
	return []*cobra.Command{revoke, restore, list}
}
