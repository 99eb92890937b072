package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fairlead-mesh/fairlead/internal/backup"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// RestoreConfig says what is restored, and where to.
type RestoreConfig struct {
	// Store says where the store is. No server may be using it. Its Quotas do not count.
	Store Config
	// File is a backup.
	File string
	// Account restores this account alone; "" all that is in the backup.
	Account string
	// Replace allows that there is something already: it is lost, but for what belongs to
	// other accounts where one account is restored. An embedded store that was there
	// before is kept beside the new one.
	Replace bool
	// CheckOnly ends before anything is changed.
	CheckOnly bool
}

// Restored says what was done.
type Restored struct {
	Header backup.Header
	Totals backup.Totals
	// Entries is how many keys were restored.
	Entries int64
	// Kept is the directory of the embedded store that was there before, "" for none.
	Kept string
	// SealKeyFile is the file that the seal key was written to, "" if it was there.
	SealKeyFile string
}

// restoration is a restore under way.
type restoration struct {
	RestoreConfig
	out Restored
	// account is whose keys are restored, "" for all.
	account string
}

// Restore puts what a backup holds into a store. It reads the whole file and checks it, its
// format and the seal key before it changes anything. An embedded store is made anew
// beside the one that is there, and takes its place in one step: a restore that is cut off
// changes nothing, or is finished by the next start of the server. An external store is
// marked first, so that no server starts on half of a restore, and the mark goes with the
// last key: a restore that is cut off must be run again. The error is one line that says
// what to do.
func Restore(ctx context.Context, cfg RestoreConfig) (Restored, error) {
	r := &restoration{RestoreConfig: cfg, account: cfg.Account}
	if err := r.run(ctx); err != nil {
		return r.out, fmt.Errorf("restoring: %w", err)
	}
	return r.out, nil
}

func (r *restoration) run(ctx context.Context) error {
	if err := r.Store.check(); err != nil {
		return err
	}
	if err := r.checkFile(); err != nil {
		return err
	}
	if r.Store.DataDir != "" {
		return r.embedded(ctx)
	}
	return r.external(ctx)
}

// checkFile reads the whole backup.
func (r *restoration) checkFile() error {
	f, err := os.Open(r.File)
	if err != nil {
		return err
	}
	defer f.Close()
	if r.out.Header, r.out.Totals, err = backup.Check(f); err != nil {
		return fmt.Errorf("%s: %w", r.File, err)
	}
	of := r.out.Header.Account
	switch {
	case r.account != "" && !mesh.ValidAccount(r.account):
		return fmt.Errorf("account %q is not allowed: twelve digits", r.account)
	case r.account == "":
		r.account = of
	case of != "" && of != r.account:
		return fmt.Errorf("%s is a backup of account %s, and account %s is to be restored", r.File, of, r.account)
	}
	known := r.Store.knownFormats()
	if err := known.mayRestore(r.out.Header.StoreFormat); err != nil {
		return fmt.Errorf("%s: %w", r.File, err)
	}
	found := false
	err = r.each(func(e backup.Entry, value []byte) error {
		found = true
		if _, err := leaseOf(e); err != nil {
			return err
		}
		return known.readable(e, value)
	})
	if err == nil && !found {
		err = fmt.Errorf("%s holds nothing of account %s", r.File, r.account)
	}
	return err
}

// each calls f with the entries that are to be restored.
func (r *restoration) each(f func(e backup.Entry, value []byte) error) error {
	file, err := os.Open(r.File)
	if err != nil {
		return err
	}
	defer file.Close()
	in, err := backup.NewReader(file)
	if err != nil {
		return err
	}
	known := r.Store.knownFormats()
	for {
		e, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		value, err := e.Value()
		if err != nil {
			return err
		}
		if !known.inScope(e.Key, value, r.account) || e.Key == restoringKey {
			continue
		}
		if err := f(e, value); err != nil {
			return err
		}
	}
}

// checkFormat refuses to put one account's documents into a store whose servers may not be
// able to read them. Older ones they can, and bring them to the newer format.
func (r *restoration) checkFormat(ctx context.Context, s *Store) error {
	l, err := s.readKeys(ctx, formatKey)
	if err != nil {
		return err
	}
	if kv := l.kvs[formatKey]; kv != nil {
		s.learnFormat(kv)
	}
	if has, is := r.out.Header.StoreFormat, s.level.Load().writes; has > is {
		return fmt.Errorf("%s: its documents have formats up to %d, the store's have %d: an account can only be put into a store that has the newer format already", r.File, has, is)
	}
	return nil
}

// checkKey compares the seal key of the target with the backup's. It returns the key that
// is to be written to a file, "" for none.
func (r *restoration) checkKey(s *Store) (path, key string, err error) {
	h := r.out.Header
	path, own := r.Store.sealKeyFile()
	have, err := s.readSealKey(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && own && h.SealKey != "":
		raw, ok := parseSealKey(h.SealKey)
		if !ok || sealKeyID(raw).String() != h.SealKeyID {
			return "", "", fmt.Errorf("%s: the seal key in it is not the one that its secrets are sealed under: %w", r.File, backup.ErrDamaged)
		}
		return path, hex.EncodeToString(raw), nil
	case errors.Is(err, fs.ErrNotExist):
		return "", "", fmt.Errorf("seal key file %s is missing: put there the one of the server that the backup is of, with fingerprint %s", path, h.SealKeyID)
	case err != nil:
		return "", "", err
	}
	if id := sealKeyID(have).String(); id != h.SealKeyID {
		return "", "", fmt.Errorf("seal key file %s holds a key with fingerprint %s, the backup's secrets are sealed under %s: put there the right one", path, id, h.SealKeyID)
	}
	return "", "", nil
}

// Names below the data directory. buildDir is where a store is made; once it is whole it
// is renamed to readyDir, which is the moment when the restore is done: what is left is
// to put it in its place, which the next start does if nobody else has.
const (
	etcdDir   = "etcd"
	buildDir  = "restoring"
	readyDir  = "etcd.restored"
	keptDir   = "etcd.before-restore"
	keptLimit = 1000
)

// finishRestore puts a restored store in its place, if one waits for it. The data
// directory is locked.
func finishRestore(dir string) error {
	_, err := putInPlace(dir)
	if err != nil {
		return fmt.Errorf("putting a restored store in its place: %w", err)
	}
	return nil
}

// putInPlace returns the directory that the store before is kept in.
func putInPlace(dir string) (kept string, err error) {
	ready, place := filepath.Join(dir, readyDir), filepath.Join(dir, etcdDir)
	if _, err := os.Stat(ready); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	if _, err := os.Stat(place); err == nil {
		if kept, err = freeName(filepath.Join(dir, keptDir)); err != nil {
			return "", err
		}
		if err := os.Rename(place, kept); err != nil {
			return "", err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.Rename(ready, place); err != nil {
		return kept, err
	}
	return kept, syncDir(dir)
}

// freeName returns a name that is not taken: path, or path with a number.
func freeName(path string) (string, error) {
	name := path
	for n := 2; n < keptLimit; n++ {
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
		name = fmt.Sprintf("%s-%d", path, n)
	}
	return "", fmt.Errorf("there are too many %s: remove those that are not needed", path)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// syncTree forces all files and directories below one to the disk.
func syncTree(root string) error {
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncDir(path) // files are forced in the same way
	})
}
