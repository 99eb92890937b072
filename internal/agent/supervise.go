package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/agent/status"
)

// supervisor stands over Envoy, and over the application if the agent runs it, until both
// have ended. All that it does it does in run's goroutine.
type supervisor struct {
	start     func() (*child, error) // starts an Envoy
	admin     *adminClient
	monitor   *monitor
	registrar *registrar // nil: nothing is registered
	app       *application
	logger    *slog.Logger
	drainTime time.Duration
	ownAdmin  bool // the admin interface is where our own bootstrap put it
	onStart   func()
	onReopen  func() // SIGUSR1: log files are opened anew

	restarts restarts
	envoy    *child // nil between two
	began    time.Time
	again    <-chan time.Time // when to start the next

	leaving, ending bool
	final           bool          // code is the one to end with
	code            int           // of what ended last
	left            chan struct{} // closed when the instance has left the registry
	drained         chan error    // the answer to the drain request
	drainOver       <-chan time.Time
	killAt, killApp <-chan time.Time
}

// run supervises an Envoy that has been started, and returns the code to end with.
func (s *supervisor) run(ctx context.Context, signals <-chan os.Signal) int {
	s.drained, s.left = make(chan error, 1), make(chan struct{})
	left, over := s.left, ctx.Done()
	for !s.over() {
		select {
		case code := <-s.envoy.ended():
			s.onEnvoyEnd(code)
		case <-s.again:
			s.restart()
		case <-s.app.due():
			s.app.run()
		case code := <-s.app.ended():
			s.onAppEnd(code)
		case sig := <-signals:
			s.onSignal(sig)
		case <-left:
			left = nil
			s.drain(ctx)
		case err := <-s.drained:
			s.onDrainAnswer(err)
		case <-s.drainOver:
			s.end(syscall.SIGTERM)
		case <-s.killAt:
			s.logger.Warn("Envoy did not end in time and is killed", "seconds", killDelay.Seconds())
			s.envoy.signal(syscall.SIGKILL)
		case <-s.killApp:
			s.logger.Warn("the application did not end in time and is killed", "seconds", s.app.stopTime.Seconds())
			s.app.kill()
		case <-over:
			over = nil
			s.end(syscall.SIGTERM)
		}
	}
	return s.code
}

// over reports whether there is nothing more to wait for.
func (s *supervisor) over() bool { return s.envoy == nil && s.again == nil && !s.app.running() }

// take takes over an Envoy that has been started.
func (s *supervisor) take(c *child) {
	s.envoy, s.began = c, time.Now()
	s.monitor.started(c.pid)
	s.onStart()
}

func (s *supervisor) onEnvoyEnd(code int) {
	s.envoy, s.killAt = nil, nil
	served := s.monitor.ended(code)
	s.note(code)
	if s.ending || s.leaving {
		s.logger.Info("Envoy ended", "code", code)
		s.drainOver = nil
		s.end(syscall.SIGTERM)
		return
	}
	pause, again := s.restarts.next(code, time.Since(s.began), served)
	if again {
		s.logger.Error("Envoy ended by itself and is started again; its own log says why", "code", code, "time", s.restarts.used, "of", s.restarts.most, "after", pause)
		s.again = time.After(pause)
		return
	}
	s.logger.Error("Envoy ended by itself; its own log says why", "code", code, "restarts", s.restarts.used)
	s.finish(code)
	s.end(syscall.SIGTERM)
}

// note keeps the code of what has ended; finish keeps one that stays.
func (s *supervisor) note(code int) {
	if !s.final {
		s.code = code
	}
}

func (s *supervisor) finish(code int) {
	s.note(code)
	s.final = true
}

func (s *supervisor) restart() {
	s.again = nil
	c, err := s.start()
	if err != nil {
		s.logger.Error("Envoy cannot be started", "error", err)
		s.began = time.Now()
		s.onEnvoyEnd(1)
		return
	}
	s.logger.Info("Envoy started again", "pid", c.pid)
	s.take(c)
}

// onAppEnd ends all when the application has ended: what comes in could not be answered.
func (s *supervisor) onAppEnd(code int) {
	s.killApp = nil
	s.app.over()
	s.logger.Info("the application ended", "code", code)
	s.finish(code)
	s.registrar.depart()
	s.endEnvoy()
}

func (s *supervisor) onSignal(sig os.Signal) {
	switch {
	case sig == syscall.SIGHUP || sig == syscall.SIGUSR1:
		s.envoy.signal(sig.(syscall.Signal))
		s.app.signal(sig.(syscall.Signal))
		if sig == syscall.SIGUSR1 {
			s.onReopen()
		}
	case sig == syscall.SIGUSR2 || sig == syscall.SIGWINCH:
		s.app.signal(sig.(syscall.Signal))
	case s.ending:
		s.logger.Warn("told to end once more: killing", "signal", sig.String())
		s.app.kill()
		s.envoy.signal(syscall.SIGKILL)
	case sig == syscall.SIGINT || s.leaving:
		s.logger.Info("ending Envoy", "signal", sig.String())
		s.end(sig.(syscall.Signal))
	default:
		s.logger.Info("told to end", "signal", sig.String())
		s.leaving, s.again = true, nil // one that is not there is not started any more
		s.app.cancel()
		left := s.left
		go func() { s.registrar.leave(); close(left) }()
	}
}

// drain has Envoy drain. By then nobody finds the instance in the registry any more.
func (s *supervisor) drain(ctx context.Context) {
	if s.ending {
		return
	}
	s.monitor.enter(status.PhaseDraining)
	s.logger.Info("draining Envoy", "seconds", s.drainTime.Seconds())
	s.drainOver = time.After(s.drainTime)
	inboundOnly := s.app.running() // what it calls on its way out goes through Envoy too
	go func() { s.drained <- s.admin.drain(ctx, inboundOnly) }()
}

// onDrainAnswer ends an Envoy that serves nothing, because it has no listener or its
// admin interface is not there yet. Where the interface only does not answer,
// requests may be under way: wait.
func (s *supervisor) onDrainAnswer(err error) {
	notUp := s.ownAdmin && (errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist))
	switch {
	case err == nil || s.ending:
	case notUp || errors.Is(err, errNothingToDrain):
		s.logger.Info("ending Envoy, which serves nothing", "reason", err)
		s.end(syscall.SIGTERM)
	default:
		s.logger.Warn("Envoy was not told to drain", "error", err)
	}
}

// end ends the application, if there is one, and then Envoy.
func (s *supervisor) end(sig syscall.Signal) {
	if s.ending {
		return
	}
	s.ending, s.again, s.drainOver = true, nil, nil
	s.monitor.enter(status.PhaseEnding)
	s.registrar.depart()
	s.app.cancel()
	if s.app.running() {
		s.logger.Info("ending the application", "signal", sig.String())
		s.app.signal(sig)
		s.killApp = time.After(s.app.stopTime)
		return
	}
	s.endEnvoy()
}

// endEnvoy tells Envoy to end, and has it killed when it takes too long.
func (s *supervisor) endEnvoy() {
	s.ending, s.again, s.drainOver = true, nil, nil
	if s.envoy == nil || s.killAt != nil {
		return
	}
	s.monitor.enter(status.PhaseEnding)
	s.killAt = time.After(killDelay)
	s.envoy.signal(syscall.SIGTERM)
}
