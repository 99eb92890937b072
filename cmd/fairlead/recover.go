package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fairlead-mesh/fairlead/internal/server"
)

// recoverFlags are the flags of "fairlead recover".
type recoverFlags struct {
	store   storeFlags
	account string
	regions []string
}

func newRecover() *cobra.Command {
	var f recoverFlags
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Make a new administrator, on the server's host",
		Long: "Make a new administrator of an account whose access keys are lost, and write its access key to a\n" +
			"file. It works on the store itself and asks nobody: run it where the store and the seal key are.\n" +
			"An embedded store can be opened by one process only, so stop the server before and start it after.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fl := cmd.Flags()
	f.store.register(fl)
	fl.StringVar(&f.account, "account-id", "", "account that gets an administrator: twelve digits (default the one that the first start made)")
	fl.StringSliceVar(&f.regions, "region", []string{"us-east-1"}, "region that is written into the credentials file: the first, if there are more")
	return cmd
}

func (f *recoverFlags) run(cmd *cobra.Command) error {
	cfg, err := f.store.config()
	if err == nil {
		err = checkAccount(f.account, true)
	}
	switch {
	case err != nil:
		return usageError{err}
	case len(f.regions) == 0 || f.regions[0] == "":
		return usageError{errors.New("--region is empty: give a name, for example us-east-1")}
	case f.store.dataDir == "" && f.store.credentials == "":
		return usageError{errors.New("--credentials-file is required with --etcd-endpoints")}
	}
	made, err := server.Recover(cmd.Context(), server.RecoverConfig{
		Store: cfg, AccountID: f.account, Region: f.regions[0], CredentialsFile: f.store.credentialsFile(),
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "access key %s of a new administrator was written to %s\n", made, f.store.credentialsFile())
	return nil
}
