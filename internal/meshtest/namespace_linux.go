package meshtest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// private is the folder of a namespace that no other sees: a file system in memory over
// /run, so that locks and sockets of the machine's own services are out of sight too.
const private = "/run"

// namespace is a network namespace, a mount namespace and the thread that is in both. No
// file names it: it is gone with this process, however that ends.
type namespace struct {
	net  *os.File
	tid  int
	work chan func()
	over chan struct{}
}

// newNamespace makes a namespace without interfaces but its own loopback.
func newNamespace() (*namespace, error) {
	n := &namespace{work: make(chan func()), over: make(chan struct{})}
	entered := make(chan error)
	go func() {
		defer close(n.over)
		// Never unlocked, so the thread ends with this function, and with the thread, by
		// their parent death signal, the processes that it started.
		runtime.LockOSThread()
		err := n.enter()
		entered <- err
		if err != nil {
			return
		}
		for f := range n.work {
			f()
		}
	}()
	return n, <-entered
}

// enter takes the calling thread into namespaces of its own.
func (n *namespace) enter() (err error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("making namespaces: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("none", private, "tmpfs", unix.MS_NOSUID, "mode=0755"); err != nil {
		return fmt.Errorf("mounting over %s: %w", private, err)
	}
	// Where the machine has IPv6 switched off, the namespace has it all the same.
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("0"), 0)
	n.tid = unix.Gettid()
	if n.net, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", n.tid)); err != nil {
		return fmt.Errorf("opening the network namespace: %w", err)
	}
	return nil
}

// close ends the namespace and every process that was started in it by start.
func (n *namespace) close() {
	close(n.work)
	<-n.over
	_ = n.net.Close()
}

// do runs a function on the namespace's thread and waits for it. What it opens, listens
// on and starts is the namespace's.
func (n *namespace) do(f func() error) error {
	done := make(chan error, 1)
	n.work <- func() { done <- f() }
	return <-done
}

// run runs a command in the namespace with an input. The error holds what it has written.
func (n *namespace) run(input, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.do(cmd.Start); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out.Bytes())
	}
	return nil
}

// listen listens on an address in the namespace.
func (n *namespace) listen(address string) (l net.Listener, err error) {
	err = n.do(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	return l, err
}

// listenPacket listens for UDP on an address in the namespace.
func (n *namespace) listenPacket(address string) (c net.PacketConn, err error) {
	err = n.do(func() (err error) {
		c, err = net.ListenPacket("udp", address)
		return err
	})
	return c, err
}

// dial connects to an address and port from within the namespace, on a thread of its own:
// a connection that takes long to be made stands in no other's way.
func (n *namespace) dial(ctx context.Context, network, address string) (net.Conn, error) {
	type made struct {
		conn net.Conn
		err  error
	}
	done := make(chan made, 1)
	go func() {
		runtime.LockOSThread() // for ever, see newNamespace
		if err := unix.Setns(int(n.net.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- made{nil, fmt.Errorf("entering a network namespace: %w", err)}
			return
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, network, address)
		done <- made{c, err}
	}()
	m := <-done
	return m.conn, m.err
}

// write puts a file into the private folder and returns its path. Everybody in the
// namespace can read it.
func (n *namespace) write(name, content string) (string, error) {
	path := filepath.Join(private, name)
	return path, n.do(func() error {
		//nolint:gosec // other users of the namespace read it
		return os.WriteFile(path, []byte(content), 0o644)
	})
}

// bind makes a file of the machine, be it in a folder that root only can enter, seen
// below the private folder, and returns where.
func (n *namespace) bind(file, name string) (string, error) {
	path, err := n.write(name, "")
	if err != nil {
		return "", err
	}
	return path, n.do(func() error { return unix.Mount(file, path, "", unix.MS_BIND, "") })
}

// replace has the namespace see other text in a file of the machine, which is left as it
// is. A file that is not there stays so.
func (n *namespace) replace(file, content string) error {
	path, err := n.write(filepath.Base(file), content)
	if err != nil {
		return err
	}
	return n.do(func() error {
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
		return unix.Mount(path, target, "", unix.MS_BIND, "")
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
	return target, strings.HasPrefix(target, private+"/")
}
