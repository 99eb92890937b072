package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fairlead-mesh/fairlead/internal/backup"
)

// embedded restores into a data directory.
func (r *restoration) embedded(ctx context.Context) (err error) {
	dir := r.Store.DataDir
	if r.account != "" {
		if _, err := os.Stat(filepath.Join(dir, etcdDir)); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("data directory %s holds no store that account %s could be put into: restore a whole backup first, or start a server on it", dir, r.account)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := finishRestore(dir); err != nil {
		return err
	}
	logger := newRaw(r.Store)
	defer logger.cancel()
	keyFile, key, err := r.checkKey(logger)
	if err != nil {
		return err
	}
	if err := r.mayReplace(dir); err != nil || r.CheckOnly {
		return err
	}
	if err := r.build(ctx, dir); err != nil {
		return err
	}
	if key != "" {
		if err := writeSealKey(keyFile, key+"\n"); err != nil {
			return fmt.Errorf("writing the seal key file: %w", err)
		}
		r.out.SealKeyFile = keyFile
	}
	if err := os.Rename(filepath.Join(dir, buildDir, etcdDir), filepath.Join(dir, readyDir)); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	if r.out.Kept, err = putInPlace(dir); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, buildDir))
}

// mayReplace refuses if there is a store and nobody said that it may go.
func (r *restoration) mayReplace(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, etcdDir)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	switch {
	case r.Replace:
		return nil
	case r.account != "":
		return r.accountAbsent(filepath.Join(dir, etcdDir))
	}
	return fmt.Errorf("data directory %s holds a store already: say --replace to put the backup in its place", dir)
}

// build makes the restored store below buildDir, and forces it to the disk.
func (r *restoration) build(ctx context.Context, dir string) error {
	at := filepath.Join(dir, buildDir)
	if err := os.RemoveAll(at); err != nil { // of a restore that was cut off
		return err
	}
	cfg := r.Store
	// Nothing of it counts before it is whole, so it is forced to the disk once.
	cfg.DataDir, cfg.Unsafe = at, true
	to := newRaw(cfg)
	err := to.startEtcd(ctx, cfg)
	if err == nil && r.account != "" {
		err = r.copyOthers(ctx, to)
	}
	if err == nil {
		err = r.load(ctx, to)
	}
	if err := errors.Join(err, to.Close()); err != nil {
		return fmt.Errorf("in %s, nothing was changed: %w", at, err)
	}
	return syncTree(at)
}

// copyOthers copies what is in the store now and is not of the account that is restored.
func (r *restoration) copyOthers(ctx context.Context, to *Store) (err error) {
	from, err := r.openPresent(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if err := r.checkFormat(ctx, from); err != nil {
		return err
	}
	l := newLoader(to)
	err = from.eachEntry(ctx, "", func(e backup.Entry) error {
		value, err := e.Value()
		if err != nil || to.formats.inScope(e.Key, value, r.account) || e.Key == migrationKey { // some may be of an older format
			return err
		}
		return l.add(ctx, e, value)
	})
	if err != nil {
		return err
	}
	return l.flush(ctx)
}

// openPresent opens the etcd that is in its place now. The data directory is locked by
// this process already.
func (r *restoration) openPresent(ctx context.Context) (*Store, error) {
	s := newRaw(r.Store)
	if err := s.runEtcd(ctx, r.Store); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// accountAbsent refuses if there is anything of the account.
func (r *restoration) accountAbsent(dir string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	s, err := r.openPresent(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return r.refuseAccount(ctx, s, dir)
}
