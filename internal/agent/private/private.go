// Package private makes what only its own user can read: folders, files that are replaced
// whole, Unix sockets. It may import the standard library.
package private

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Folder makes a folder with mode 0700, and those above it, unless it is there. The error
// says if nothing can be written into it.
func Folder(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	probe, err := os.CreateTemp(path, ".probe-")
	if err != nil {
		return fmt.Errorf("writing into a folder: %w", err)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// WriteFile replaces a file, or makes it, with mode 0600: who reads it finds the old content
// or the new one, whole, also after the machine has stopped at any time.
func WriteFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-") // of mode 0600
	if err != nil {
		return fmt.Errorf("making a file: %w", err)
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it may be gone
		return fmt.Errorf("writing a file: %w", err)
	}
	return nil
}

// Listen makes a Unix socket with mode 0600. One that a process has left behind is
// replaced; one at which somebody listens is an error.
func Listen(path string) (net.Listener, error) {
	if _, err := os.Lstat(path); err == nil {
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			c.Close()
			return nil, fmt.Errorf("listening at %s: another process listens there", path)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("removing a socket that was left behind: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening at a socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("making a socket private: %w", err)
	}
	return l, nil
}
