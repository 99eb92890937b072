package demo

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

// family is all child processes of a demo. What they print goes to one file each. None
// of them outlives close, nor this process, even when it is killed.
type family struct {
	logs string       // folder of the files
	died func(*child) // told of a child that ended by itself; may be called from any goroutine

	spawn    chan func()
	released chan struct{}

	mu      sync.Mutex
	members []*child
}

// command says what to start.
type command struct {
	name string // for people and for the log file
	path string
	args []string
	env  []string
	stop os.Signal // what ends the process in good order

	user  int                   // whom it runs as; 0: as whom the demo does
	start func(*exec.Cmd) error // starts it on a thread that stays, elsewhere; may be nil
}

// child is one process of the family.
type child struct {
	command
	log  string // path of the file with what it printed
	cmd  *exec.Cmd
	done chan struct{} // closed when it is gone
	err  error         // how it ended, valid after done

	mu     sync.Mutex
	ending bool // it was told to end
}

// childError is a failure that a child's log may explain.
type childError struct {
	child *child
	err   error
}

func (e *childError) Error() string { return e.err.Error() }
func (e *childError) Unwrap() error { return e.err }

// blame adds to an error the child whose log may explain it.
func blame(c *child, err error) error {
	if err == nil || errors.As(err, new(*childError)) {
		return err
	}
	return &childError{child: c, err: err}
}

// newFamily returns a family without members. close must follow.
func newFamily(logs string, died func(*child)) *family {
	f := &family{logs: logs, died: died, spawn: make(chan func()), released: make(chan struct{})}
	go func() {
		// The kernel kills a child when the thread that started it ends. This thread
		// starts them all and stays until they are gone.
		runtime.LockOSThread()
		defer close(f.released)
		for start := range f.spawn {
			start()
		}
	}()
	return f
}

// start starts a child. Its log file grows: a child of the same name adds to it.
func (f *family) start(c command) (*child, error) {
	logPath := filepath.Join(f.logs, c.name+".log")
	file, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", c.name, err)
	}
	defer file.Close()
	cmd := exec.Command(c.path, c.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = c.env, file, file
	cmd.SysProcAttr = childAttributes(c.user)
	if c.user != 0 {
		cmd.Dir = "/"
		// Envoy opens /dev/stdout anew.
		if err := file.Chown(c.user, c.user); err != nil {
			return nil, fmt.Errorf("handing over the log of %s: %w", c.name, err)
		}
	}
	start := c.start
	if start == nil {
		start = f.startHere
	}
	if err := start(cmd); err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.name, err)
	}
	out := &child{command: c, log: logPath, cmd: cmd, done: make(chan struct{})}
	f.mu.Lock()
	f.members = append(f.members, out)
	f.mu.Unlock()
	go func() {
		out.err = cmd.Wait()
		close(out.done)
		if !out.told() && f.died != nil {
			f.died(out)
		}
	}()
	return out, nil
}

// startHere starts a command on the family's thread.
func (f *family) startHere(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	f.spawn <- func() { started <- cmd.Start() }
	return <-started
}

// close ends all children, each in good order if it can, and returns when they are gone.
func (f *family) close(patience time.Duration) {
	f.mu.Lock()
	members := f.members
	f.members = nil
	f.mu.Unlock()
	endAll(members, patience)
	close(f.spawn)
	<-f.released
}

// endAll ends children at the same time and returns when they are gone.
func endAll(members []*child, patience time.Duration) {
	var all sync.WaitGroup
	for _, c := range members {
		all.Go(func() { c.end(patience) })
	}
	all.Wait()
}

// end tells the child to end, kills it if that takes too long, and returns when it is
// gone.
func (c *child) end(patience time.Duration) {
	c.tell()
	_ = c.cmd.Process.Signal(c.stop) // gone already is as good
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-c.done:
	case <-limit.C:
		c.kill()
	}
}

// kill ends the child by SIGKILL and returns when it is gone.
func (c *child) kill() {
	c.tell()
	killGroup(c.cmd.Process)
	<-c.done
}

func (c *child) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
}

func (c *child) told() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// ended says how a child that is gone ended.
func (c *child) ended() error {
	if c.err == nil {
		return fmt.Errorf("%s ended by itself", c.name)
	}
	return fmt.Errorf("%s ended by itself: %w", c.name, c.err)
}

// logTail returns the last lines of the child's log that fit.
func (c *child) logTail(lines int) []string {
	const most = 16 << 10 // bytes
	file, err := os.Open(c.log)
	if err != nil {
		return nil
	}
	defer file.Close()
	size, err := file.Seek(0, 2)
	if err != nil {
		return nil
	}
	buf := make([]byte, min(size, most))
	if _, err := file.ReadAt(buf, size-int64(len(buf))); err != nil {
		return nil
	}
	var out []string
	for line := range bytes.Lines(buf) {
		out = append(out, string(bytes.TrimRight(line, "\r\n")))
	}
	if len(out) > lines {
		out = out[len(out)-lines:]
	}
	return out
}
