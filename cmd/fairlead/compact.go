package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-mesh/fairlead/internal/store"
)

// compactFlags are the flags of "fairlead compact".
type compactFlags struct {
	store                 storeFlags
	keepHistory, noDefrag bool
}

func newCompact() *cobra.Command {
	var f compactFlags
	cmd := &cobra.Command{
		Use:   "compact",
		Short: "Make the store's etcd smaller",
		Long: "Make the store's etcd smaller: have it forget what was overwritten and deleted, and have its members\n" +
			"write their files anew without what is free in them, one after the other and the leader last. Each\n" +
			"stands still meanwhile, so nothing is done unless all of them answer. If etcd was full, and is not any\n" +
			"more, its alarm is ended.\n\n" +
			"Servers go on meanwhile with an external etcd; one with an embedded store does all this by itself, and\n" +
			"must be stopped for it. The history of an etcd is that of all who use it: where others do, ask them, or\n" +
			"say --keep-history. An etcd with users of its own wants one with the role root for this.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fl := cmd.Flags()
	f.store.registerEtcd(fl)
	fl.BoolVar(&f.keepHistory, "keep-history", false, "forget nothing: only write the files anew")
	fl.BoolVar(&f.noDefrag, "no-defragment", false, "leave the files as large as they are: what is forgotten makes room in them")
	return cmd
}

func (f *compactFlags) run(cmd *cobra.Command) error {
	cfg, err := f.store.place()
	switch {
	case err != nil:
		return usageError{err}
	case f.keepHistory && f.noDefrag:
		return usageError{errors.New("--keep-history and --no-defragment leave nothing to do")}
	}
	out := cmd.OutOrStdout()
	done, err := store.Compact(cmd.Context(), store.CompactConfig{
		Store: cfg, KeepHistory: f.keepHistory, KeepFiles: f.noDefrag,
		Done: func(m store.CompactedMember) { sayCompacted(out, m) },
	})
	if err != nil {
		return err
	}
	if done.Revision > 0 {
		fmt.Fprintf(out, "what was there before revision %d is forgotten\n", done.Revision)
	}
	if done.AlarmEnded {
		fmt.Fprintln(out, "etcd was full: its alarm was ended, it takes writes again")
	}
	return nil
}

// sayCompacted tells of a member whose file was written anew.
func sayCompacted(out io.Writer, m store.CompactedMember) {
	const mib = 1 << 20
	role := ""
	if m.Leader {
		role = " (the leader)"
	}
	fmt.Fprintf(out, "member %s%s: %.1f MiB before, %.1f MiB now, stood still for %s\n",
		m.Name, role, float64(m.Before.Bytes)/mib, float64(m.After.Bytes)/mib, m.Took.Round(time.Millisecond))
}
