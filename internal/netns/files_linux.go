package netns

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Write puts a file into the private folder, for one user to read or with mode 0644 for
// all, and returns its path.
func (n *Namespace) Write(name, content string, mode os.FileMode, user int) (string, error) {
	path := filepath.Join(Private, name)
	return path, n.Do(func() error {
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			return err
		}
		return os.Chown(path, user, user)
	})
}

// Folder makes a folder of a user in the private folder, if it is not there yet, and
// returns its path.
func (n *Namespace) Folder(name string, user int) (string, error) {
	path := filepath.Join(Private, name)
	return path, n.Do(func() error {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return err
		}
		return os.Chown(path, user, user)
	})
}

// Bind makes a file of the machine, be it in a folder that root only can enter, seen below
// the private folder, and returns where. A name is used once.
func (n *Namespace) Bind(file, name string) (string, error) {
	path, err := n.Write(name, "", 0o644, 0)
	if err != nil {
		return "", err
	}
	return path, n.Do(func() error {
		if err := unix.Mount(file, path, "", unix.MS_BIND, ""); err != nil {
			return &os.PathError{Op: "binding", Path: file, Err: err}
		}
		return nil
	})
}

// Resolve has programs in the namespace ask a name server, and know no names but those that
// it knows and localhost. The machine's own files are left as they are.
func (n *Namespace) Resolve(server netip.Addr) error {
	for file, content := range map[string]string{
		"/etc/resolv.conf":   "nameserver " + server.String() + "\n",
		"/etc/hosts":         "127.0.0.1 localhost\n::1 localhost\n",
		"/etc/nsswitch.conf": "hosts: files dns\n",
	} {
		if err := n.replace(file, content); err != nil {
			return err
		}
	}
	return nil
}

// replace has the namespace see other text in a file of the machine, which is left as it
// is. A file that is not there stays so.
func (n *Namespace) replace(file, content string) error {
	path, err := n.Write(filepath.Base(file), content, 0o644, 0)
	if err != nil {
		return err
	}
	return n.Do(func() error {
		if target, ok := hidden(file); ok && target != path {
			// A link into the folder that is covered: it leads to our own now.
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				return err
			}
			return os.Symlink(path, target)
		}
		target, err := filepath.EvalSymlinks(file)
		if os.IsNotExist(err) || target == path {
			return nil
		}
		if err != nil {
			return err
		}
		if err := unix.Mount(path, target, "", unix.MS_BIND, ""); err != nil {
			return &os.PathError{Op: "mounting over", Path: target, Err: err}
		}
		return nil
	})
}

// hidden reports whether a file is a link into the private folder, and to where.
func hidden(file string) (target string, ok bool) {
	target, err := os.Readlink(file)
	if err != nil {
		return "", false
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(file), target)
	}
	target = filepath.Clean(strings.Replace(target, "/var/run/", "/run/", 1))
	return target, strings.HasPrefix(target, Private+"/")
}
