package intercept

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// controlName is where a watching process can be told to enable and disable. A Unix
// socket in the abstract name space belongs to a network namespace, as the rules do,
// needs no folder that containers share, and is gone with its process.
const controlName = "@fairlead-intercept"

// controlTime is how long a question and its answer may take; a change takes
// milliseconds, or with iptables as long as others hold its lock.
const controlTime = time.Minute

// What a watching process can be told.
const (
	tellEnable  = "enable"
	tellDisable = "disable"
)

// command is one thing that a watching process is told.
type command struct {
	name        string
	fingerprint string // of the settings, with enable
	answer      chan<- error
}

// dialWatcher connects to the process that watches this network namespace; nil where
// there is none. A process of another user but root is not taken for one.
func dialWatcher() *net.UnixConn {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: controlName, Net: "unix"})
	if err != nil {
		return nil
	}
	if !trusted(c) {
		_ = c.Close()
		return nil
	}
	return c
}

// watched reports whether a process watches this network namespace.
func watched() bool {
	c := dialWatcher()
	if c == nil {
		return false
	}
	_ = c.Close()
	return true
}

// trusted reports whether the other side is root or of our user.
func trusted(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	err = raw.Control(func(fd uintptr) {
		peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		ok = err == nil && (peer.Uid == 0 || int(peer.Uid) == os.Geteuid())
	})
	return err == nil && ok
}

// tell has the watching process do something. There is false where none watches.
func tell(name, fingerprint string) (there bool, err error) {
	c := dialWatcher()
	if c == nil {
		return false, nil
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(controlTime))
	if _, err := fmt.Fprintf(c, "%s %s\n", name, fingerprint); err != nil {
		return true, fmt.Errorf("telling the process that watches: %w", err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return true, fmt.Errorf("hearing from the process that watches: %w", err)
	}
	if answer := strings.TrimSuffix(line, "\n"); answer != "ok" {
		return true, errors.New(answer)
	}
	return true, nil
}

// listenControl listens for commands and passes them on until the listener is closed.
func listenControl(ctx context.Context, commands chan<- command) (net.Listener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: controlName, Net: "unix"})
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			go serveControl(ctx, c, commands)
		}
	}()
	return l, nil
}

// serveControl reads one command and answers it.
func serveControl(ctx context.Context, c *net.UnixConn, commands chan<- command) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(controlTime))
	line, err := bufio.NewReaderSize(c, 256).ReadString('\n')
	if err != nil {
		return // somebody only looked whether we are here
	}
	answer := make(chan error, 1)
	name, fingerprint, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch {
	case !trusted(c):
		err = errors.New("only root and the user of this process may tell it something")
	case name != tellEnable && name != tellDisable:
		err = fmt.Errorf("there is no command %q", name)
	default:
		select {
		case commands <- command{name, fingerprint, answer}:
			err = <-answer
		case <-ctx.Done():
			err = errors.New("the process that watches is about to end")
		}
	}
	text := "ok"
	if err != nil {
		text = oneLine(err.Error())
	}
	fmt.Fprintln(c, text)
}
