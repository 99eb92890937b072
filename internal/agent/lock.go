package agent

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// takeDir makes a directory for this process alone, or takes one that an earlier
// process of the same user has left, and returns what holds it until it is closed.
func takeDir(dir string) (*os.File, error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm() != 0o700 || !ok || int(owner.Uid) != os.Geteuid() {
		return nil, errors.New("the folder is someone else's")
	}
	name := filepath.Join(dir, "lock")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := holds(f, name); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// holds locks a file, and makes sure that its name still leads to it: the process
// that had it before may have removed it meanwhile.
func holds(f *os.File, name string) error {
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return err
	}
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !os.SameFile(mine, there) {
		return errors.New("the lock has been removed")
	}
	return nil
}
