package server

import (
	"context"
	"errors"
	"io"

	"github.com/fairlead-mesh/fairlead/internal/backup"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// BackupConfig says what is backed up by whoever can open the store.
type BackupConfig struct {
	// Store says where the data is. The server of an embedded store must have been
	// stopped: the error says so.
	Store store.Config
	// File is what is written, "" for Out.
	File string
	Out  io.Writer
	// Account is backed up alone; "" for all.
	Account string
	// WithSealKey puts the key that secrets are sealed under into the backup.
	WithSealKey bool
}

// Backup writes a backup of a store that no server need run on, and says in one line what
// is in it. It trusts whoever can open the store.
func Backup(ctx context.Context, cfg BackupConfig) (says string, err error) {
	if err := cfg.Store.Present(); err != nil {
		return "", err
	}
	st, err := store.Open(ctx, cfg.Store)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	write := func(w io.Writer) error {
		h, totals, err := st.WriteBackup(ctx, store.System("backup"), w, cfg.Account, cfg.WithSealKey)
		says = backup.Describe(h, totals)
		return err
	}
	if cfg.File == "" {
		err = write(cfg.Out)
	} else {
		err = backup.WriteFile(cfg.File, write)
	}
	return says, err
}
