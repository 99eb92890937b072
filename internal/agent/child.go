package agent

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// childConfig says what to start and where its output goes.
type childConfig struct {
	path           string
	args, environ  []string
	stdin          *os.File  // nil for none
	stdout, stderr io.Writer // an *os.File is given to the process itself
	attributes     *syscall.SysProcAttr
}

// child is a running process. It dies with this one.
type child struct {
	pid     int
	process *os.Process
	done    <-chan int // its exit code, or 128 and the number of the signal that killed it
}

// pipesAfter is how long the output of a process is waited for that has ended: one that it
// has started may hold it open.
const pipesAfter = time.Second

// startChild starts the process.
func startChild(cfg childConfig) (*child, error) {
	cmd := exec.Command(cfg.path, cfg.args...)
	cmd.Env = cfg.environ
	if cfg.stdin != nil {
		cmd.Stdin = cfg.stdin
	}
	cmd.Stdout, cmd.Stderr = cfg.stdout, cfg.stderr
	cmd.SysProcAttr = cfg.attributes
	cmd.WaitDelay = pipesAfter
	started, done := make(chan error), make(chan int, 1)
	go func() {
		// Linux kills the child when the thread that started it ends: the thread is
		// kept for as long as the child lives.
		runtime.LockOSThread()
		dropAmbient()
		err := cmd.Start()
		started <- err
		if err == nil {
			done <- wait(cmd)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return &child{pid: cmd.Process.Pid, process: cmd.Process, done: done}, nil
}

// signal passes a signal on. A child that is gone already is no error, and nor is none.
func (c *child) signal(sig syscall.Signal) {
	if c != nil {
		_ = c.process.Signal(sig)
	}
}

// ended returns what tells the exit code; nil, which tells nothing, for no child.
func (c *child) ended() <-chan int {
	if c == nil {
		return nil
	}
	return c.done
}

func wait(cmd *exec.Cmd) int {
	_ = cmd.Wait() // what matters of its error is in the state
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return cmd.ProcessState.ExitCode()
}

// reopenable returns f itself if Envoy will be able to open it by name, and otherwise
// a plain writer, for which exec makes a pipe. Envoy opens /dev/stdout for its
// logs, and does not start when that is a socket (systemd's journal) or a pipe of
// another user.
func reopenable(f *os.File) io.Writer {
	again, err := os.OpenFile(fmt.Sprintf("/dev/fd/%d", f.Fd()), os.O_WRONLY|os.O_APPEND|syscall.O_NONBLOCK, 0)
	if err != nil {
		return lossyWriter{f}
	}
	again.Close()
	return f
}

// lossyWriter drops what cannot be written: nobody reading the log is no reason for
// Envoy to stop.
type lossyWriter struct{ to io.Writer }

func (w lossyWriter) Write(p []byte) (int, error) {
	_, _ = w.to.Write(p)
	return len(p), nil
}
