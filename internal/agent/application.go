package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Application is a command that the agent runs when Envoy serves.
type Application struct {
	Command []string // the program, as a path, and its arguments
	Environ []string // nil for this process's
	// User is whose process it is; nil for the agent's own.
	User *syscall.Credential
	// Stdin, Stdout and Stderr are given to it as they are.
	Stdin, Stdout, Stderr *os.File
}

// check finds out whether the agent may start the command as its user, and may end it.
func (a *Application) check() error {
	if a == nil || a.User == nil {
		return nil
	}
	lacking, err := lackingCapabilities()
	if err != nil {
		return fmt.Errorf("looking at the agent's capabilities: %w", err)
	}
	if len(lacking) > 0 {
		return fmt.Errorf("--user needs %s, which the agent has not: to become another user, and to signal its processes", strings.Join(lacking, ", "))
	}
	return nil
}

// readyPoll is how often Envoy is asked whether it serves, for an application that waits: at
// first, when a moment counts, and after readySoon.
const (
	readyPoll  = 25 * time.Millisecond
	readySoon  = 5 * time.Second
	readyLater = 250 * time.Millisecond
)

// application is an Application that is to run, or runs. A nil one is none. It belongs to
// the supervisor's goroutine.
type application struct {
	Application
	stopTime time.Duration
	logger   *slog.Logger

	ready   chan struct{} // closed when Envoy serves; nil afterwards
	waiting context.CancelFunc
	waited  *sync.WaitGroup
	child   *child
	failed  chan int // the code of a command that could not be started
}

// newApplication begins to wait for Envoy. What it is waiting with ends with ctx.
func newApplication(ctx context.Context, cfg RunConfig, serves func(context.Context) bool) *application {
	if cfg.Application == nil {
		return nil
	}
	a := &application{
		Application: *cfg.Application, stopTime: cfg.Settings.Supervision.StopTime, logger: cfg.Logger,
		ready: make(chan struct{}), waited: &sync.WaitGroup{},
	}
	ctx, a.waiting = context.WithCancel(ctx)
	ready := a.ready
	a.waited.Go(func() {
		tick := time.NewTicker(readyPoll)
		defer tick.Stop()
		late := time.After(readySoon)
		for !serves(ctx) {
			select {
			case <-ctx.Done():
				return
			case <-late:
				tick.Reset(readyLater)
			case <-tick.C:
			}
		}
		close(ready)
	})
	return a
}

// due returns what is closed when it is time to run the command.
func (a *application) due() <-chan struct{} {
	if a == nil {
		return nil
	}
	return a.ready
}

// run starts the command.
func (a *application) run() {
	a.ready = nil
	attributes := childAttributes(syscall.SIGTERM)
	attributes.Credential = a.User
	c, err := startChild(childConfig{
		path: a.Command[0], args: a.Command[1:], environ: a.Environ, stdin: a.Stdin, stdout: a.Stdout, stderr: a.Stderr, attributes: attributes,
	})
	if err != nil {
		a.logger.Error("the application cannot be started", "error", err)
		a.failed = make(chan int, 1)
		a.failed <- cannotStart
		return
	}
	a.logger.Info("Envoy serves, the application is started", "command", a.Command[0], "pid", c.pid)
	a.child = c
}

// cannotStart is the code to end with when a command cannot be started, as a shell has it.
const cannotStart = 126

// ended returns what tells how the command ended.
func (a *application) ended() <-chan int {
	switch {
	case a == nil:
		return nil
	case a.failed != nil:
		return a.failed
	}
	return a.child.ended()
}

// over is told that it has ended.
func (a *application) over() { a.child, a.failed = nil, nil }

// running reports whether the command runs.
func (a *application) running() bool { return a != nil && (a.child != nil || a.failed != nil) }

// cancel has a command that does not run yet not be run.
func (a *application) cancel() {
	if a != nil {
		a.waiting()
		a.ready = nil
	}
}

// signal passes a signal on.
func (a *application) signal(sig syscall.Signal) {
	if a != nil {
		a.child.signal(sig)
	}
}

// kill kills all that the command has started and that is still in its process group.
func (a *application) kill() {
	if a != nil && a.child != nil {
		_ = syscall.Kill(-a.child.pid, syscall.SIGKILL) // it may have ended
	}
}

// close waits for what was waiting for Envoy.
func (a *application) close() {
	if a != nil {
		a.waiting()
		a.waited.Wait()
	}
}
