package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/fairlead-mesh/fairlead/internal/cli"
	"github.com/fairlead-mesh/fairlead/internal/server"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// backupFlags are the flags of "fairlead backup".
type backupFlags struct {
	connection connection
	store      storeFlags
	account    string
	direct     bool
	withKey    bool
}

func newBackup() *cobra.Command {
	var f backupFlags
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write all that is stored into a file",
		Long: "Write all that is stored into a file, \"-\" for standard output, as it is at one moment; what happens\n" +
			"meanwhile is not in it. The file is compressed, checked by a hash, and there whole or not at all.\n\n" +
			"A server that runs is asked through its API, as a caller of the management account who is allowed\n" +
			"fairlead:ReadBackup. With --direct the store itself is read, where it lies: an external etcd at any\n" +
			"time, a data directory while no server uses it.\n\n" +
			"Secrets in the file are sealed under the server's seal key, which is not in it: keep that apart\n" +
			"(DATA_DIR/seal.key, or what --seal-key names). It does not change.",
		Args:              takes("FILE"),
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
		RunE:              func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	f.connection.flags(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.account, "account-id", "", "back up this account alone: twelve digits")
	fl.BoolVar(&f.direct, "direct", false, "read the store itself, not through a server; needs --data-dir or --etcd-endpoints")
	fl.BoolVar(&f.withKey, "with-seal-key", false, "with --direct: put the seal key into the file, which is as good as all secrets in it")
	f.store.registerPlace(fl)
	return cmd
}

func (f *backupFlags) run(cmd *cobra.Command, file string) error {
	if err := checkAccount(f.account, true); err != nil {
		return usageError{err}
	}
	switch {
	case f.withKey && !f.direct:
		return usageError{errors.New("--with-seal-key needs --direct: a server gives its seal key to nobody")}
	case !f.direct:
		return f.connection.run(cmd, func(s *cli.Session, t cli.Terminal) error {
			return cli.Backup(cmd.Context(), s, t, file, f.account)
		})
	}
	cfg, err := f.store.config()
	if err != nil {
		return usageError{err}
	}
	b := server.BackupConfig{Store: cfg, File: file, Account: f.account, WithSealKey: f.withKey}
	if file == "-" {
		b.File, b.Out = "", cmd.OutOrStdout()
	}
	says, err := server.Backup(cmd.Context(), b)
	if err != nil {
		return err
	}
	fmt.Fprintln(cmd.ErrOrStderr(), says)
	return nil
}

// restoreFlags are the flags of "fairlead restore".
type restoreFlags struct {
	store           storeFlags
	account         string
	replace, dryRun bool
}

func newRestore() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put what a backup holds into a store",
		Long: "Put what a backup holds into a store, on the server's host while no server uses the store. The whole\n" +
			"file, its format and the seal key are checked before anything is changed.\n\n" +
			"An embedded store is made anew beside the one that is there and takes its place in one step; the one\n" +
			"before is kept as DATA_DIR/etcd.before-restore until you remove it. An external etcd is written key by\n" +
			"key: if that is cut off no server starts on it until the command has been run again to its end.",
		Args:              takes("FILE"),
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
		RunE:              func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.account, "account-id", "", "restore this account alone, and leave the others as they are: twelve digits")
	fl.BoolVar(&f.replace, "replace", false, "what is there goes: all of it, or all of the account's")
	fl.BoolVar(&f.dryRun, "dry-run", false, "check everything, and change nothing")
	f.store.registerPlace(fl)
	return cmd
}

func (f *restoreFlags) run(cmd *cobra.Command, file string) error {
	cfg, err := f.store.config()
	if err == nil {
		err = checkAccount(f.account, true)
	}
	if err != nil {
		return usageError{err}
	}
	done, err := store.Restore(cmd.Context(), store.RestoreConfig{
		Store: cfg, File: file, Account: f.account, Replace: f.replace, CheckOnly: f.dryRun,
	})
	if err != nil {
		return err
	}
	f.report(cmd.OutOrStdout(), done)
	return nil
}

// report says what was done, and what is left to do.
func (f *restoreFlags) report(out io.Writer, done store.Restored) {
	if f.dryRun {
		fmt.Fprintf(out, "the backup can be restored: %d keys, read at revision %d on %s\n", done.Totals.Entries, done.Header.Revision, done.Header.CreatedAt.Format("2006-01-02 15:04:05 MST"))
		return
	}
	fmt.Fprintf(out, "%d keys were restored, as they were on %s\n", done.Entries, done.Header.CreatedAt.Format("2006-01-02 15:04:05 MST"))
	if done.SealKeyFile != "" {
		fmt.Fprintf(out, "the seal key was written to %s\n", done.SealKeyFile)
	}
	if done.Kept != "" {
		fmt.Fprintf(out, "the store that was there before is in %s: remove it when it is not needed any more\n", done.Kept)
	}
}
