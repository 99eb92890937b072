package netns

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

// Private is the folder of a namespace that no other sees: a file system in memory over
// /run, so that locks and sockets of the machine's own services are out of sight too.
const Private = "/run"

// Namespace is a network namespace, a mount namespace and the thread that is in both.
type Namespace struct {
	net  *os.File
	tid  int
	work chan func()
	over chan struct{}
}

// newNamespace makes a namespace without interfaces but its own loopback.
func newNamespace() (*Namespace, error) {
	n := &Namespace{work: make(chan func()), over: make(chan struct{})}
	entered := make(chan error)
	onThread(func() {
		defer close(n.over)
		err := n.enter()
		entered <- err
		if err != nil {
			return
		}
		for f := range n.work {
			f()
		}
	})
	return n, <-entered
}

// onThread runs a function on a thread that ends with it; and with the thread, by their
// parent death signal, the processes that it started. It does not wait.
func onThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f() // the goroutine ends while it is locked, which ends the thread
			return
		}
		// The main thread never ends. While this goroutine holds it, another gets another.
		over := make(chan struct{})
		onThread(func() {
			defer close(over)
			f()
		})
		<-over
		runtime.UnlockOSThread()
	}()
}

// enter takes the calling thread into namespaces of its own.
func (n *Namespace) enter() (err error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("making namespaces: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("none", Private, "tmpfs", unix.MS_NOSUID, "mode=0755"); err != nil {
		return fmt.Errorf("mounting over %s: %w", Private, err)
	}
	// Where the machine has IPv6 switched off, the namespace has it all the same.
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("0"), 0)
	n.tid = unix.Gettid()
	if n.net, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", n.tid)); err != nil {
		return fmt.Errorf("opening the network namespace: %w", err)
	}
	return nil
}

// close ends the namespace and every process that was started in it by Start.
func (n *Namespace) close() {
	close(n.work)
	<-n.over
	_ = n.net.Close()
}

// Do runs a function on the namespace's thread and waits for it. What it opens, listens on
// and starts is the namespace's.
func (n *Namespace) Do(f func() error) error {
	done := make(chan error, 1)
	n.work <- func() { done <- f() }
	return <-done
}

// Path returns a path of the network namespace that is good in this process, and in others
// while this one lives, as container runtimes hand one to a CNI plugin.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.net.Fd()) }

// Start starts a command in the namespace.
func (n *Namespace) Start(cmd *exec.Cmd) error { return n.Do(cmd.Start) }

// Output runs a command in the namespace, and returns what it has written to standard
// output. The error holds what it has written to standard error. The command is killed
// should this process be.
func (n *Namespace) Output(cmd *exec.Cmd) (string, error) {
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := n.Start(cmd); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, strings.ReplaceAll(strings.TrimSpace(complaint.String()), "\n", "; "))
	}
	return out.String(), nil
}

// Listen listens on a TCP address in the namespace.
func (n *Namespace) Listen(address string) (l net.Listener, err error) {
	err = n.Do(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	return l, err
}

// ListenPacket listens for UDP on an address in the namespace.
func (n *Namespace) ListenPacket(address string) (c net.PacketConn, err error) {
	err = n.Do(func() (err error) {
		c, err = net.ListenPacket("udp", address)
		return err
	})
	return c, err
}

// Dial connects to an IP address and port from within the namespace, on a thread of its own:
// a connection that takes long to be made stands in no other's way.
func (n *Namespace) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	type made struct {
		conn net.Conn
		err  error
	}
	done := make(chan made, 1)
	onThread(func() {
		if err := unix.Setns(int(n.net.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- made{nil, fmt.Errorf("entering a network namespace: %w", err)}
			return
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, network, address)
		done <- made{c, err}
	})
	m := <-done
	return m.conn, m.err
}
