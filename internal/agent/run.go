package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// RunConfig is what Run needs. Nothing in it is optional but Environ.
type RunConfig struct {
	Settings Settings         // resolved
	Envoy    string           // path of the binary, see envoybin.Find
	Environ  []string         // Envoy's environment; nil for this process's
	Stdout   *os.File         // Envoy's standard output
	Stderr   *os.File         // Envoy's standard error
	Signals  <-chan os.Signal // those of Signals that arrived
	Logger   *slog.Logger
}

// Signals are what Run acts on: SIGTERM and SIGQUIT drain and then end Envoy (a
// second one ends it at once), SIGINT ends it at once, SIGHUP and SIGUSR1 (reopen
// the access logs) are passed on.
var Signals = []os.Signal{syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1}

// killDelay is how long Envoy may take to end before it is killed.
const killDelay = 3 * time.Second

// Run writes the bootstrap, runs Envoy and returns when Envoy has ended. The code is
// Envoy's exit code, or 128 and the number of the signal that killed it; with an
// error, Envoy could not be run at all. When ctx ends, Envoy is ended at once.
func Run(ctx context.Context, cfg RunConfig) (code int, err error) {
	if log := cfg.Settings.Admin.AccessLog; cfg.Settings.ConfigFile == "" && log == adminAccessLog && !canAppend(log) {
		cfg.Logger.Warn("the admin interface keeps no access log, because its file cannot be written; ENVOY_ADMIN_ACCESS_LOG_FILE names another", "file", log)
		cfg.Settings.Admin.AccessLog = ""
	}
	if err := checkVersion(ctx, cfg); err != nil {
		return 1, err
	}
	var reload reloadDir
	if cfg.Settings.ConfigFile == "" {
		if reload, err = newReloadDir(cfg.Settings); err != nil {
			return 1, err
		}
		defer reload.remove()
		cfg.Settings.ReloadDir = reload.path()
	}
	admin := newAdminClient(cfg.Settings.Admin)
	registrar, err := prepareRegistration(cfg, admin)
	if err != nil {
		return 1, err
	}
	config, remove, err := bootstrapFile(cfg.Settings)
	if err != nil {
		return 1, err
	}
	defer remove()
	if err := raiseFileLimit(); err != nil {
		cfg.Logger.Warn("raising the limit of open files failed", "error", err)
	}
	own, err := ownRelay(ctx, cfg)
	if err != nil {
		return 1, err
	}
	if own != nil {
		defer func() { err = errors.Join(err, own.stop()) }()
	}
	stopNames, err := startNames(ctx, cfg)
	if err != nil {
		return 1, err
	}
	defer stopNames()
	child, err := startChild(childConfig{
		path: cfg.Envoy, args: envoyArgs(cfg.Settings, config), environ: envoyEnviron(cfg), stdout: cfg.Stdout, stderr: cfg.Stderr,
	})
	if err != nil {
		return 1, fmt.Errorf("starting Envoy: %w", err)
	}
	cfg.Logger.Info("Envoy started", "path", cfg.Envoy, "pid", child.pid, "resource", cfg.Settings.Resource.ARN)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer startRegistration(registrar)()
	if cfg.Settings.ConfigFile == "" {
		w := &watcher{admin: admin, server: cfg.Settings.XDS.Address(), credentials: cfg.Settings.XDS.Credentials, logger: cfg.Logger}
		r := &reloader{admin: admin, dir: reload, logger: cfg.Logger}
		var background sync.WaitGroup
		if own == nil { // else the relay says how it stands
			background.Go(func() { w.run(ctx) })
		}
		background.Go(func() { r.run(ctx) })
		if x := cfg.Settings.Placement.Explicit; x.On() {
			p := &portsWriter{admin: admin, file: x.PortsFile, logger: cfg.Logger}
			background.Go(func() { p.run(ctx) })
		}
		defer func() { cancel(); background.Wait() }()
	}
	s := &supervisor{
		child: child, admin: admin, registrar: registrar, logger: cfg.Logger,
		drainTime: cfg.Settings.DrainTime, ownAdmin: cfg.Settings.ConfigFile == "",
	}
	return s.run(ctx, cfg.Signals), nil
}

// prepareRegistration returns what will look after the instance's registration, nil for
// nothing. What is missing is said before Envoy starts.
func prepareRegistration(cfg RunConfig, admin *adminClient) (*registrar, error) {
	s := cfg.Settings
	if !s.Registration.Wanted() {
		return nil, nil
	}
	plan, err := s.Registration.complete(s.Resource, s.Placement)
	if err != nil {
		return nil, err
	}
	environ := envoyEnviron(cfg)
	key := func() (aws.Credentials, error) { return s.XDS.Credentials.read(environ) }
	api, err := newCloudMap(plan, s.XDS.Region, key)
	if err != nil {
		return nil, err
	}
	return newRegistrar(plan, api, admin, cfg.Logger), nil
}

// envoyEnviron is Envoy's environment. Its resource attributes name the service, so
// that traces, metrics and logs are told apart by one name.
func envoyEnviron(cfg RunConfig) []string {
	environ := cfg.Environ
	if environ == nil {
		environ = os.Environ()
	}
	if a := cfg.Settings.Telemetry.Attributes; a != "" {
		environ = append(slices.Clone(environ), "OTEL_RESOURCE_ATTRIBUTES="+a) // the last one holds
	}
	return environ
}

// bootstrapFile returns the file for Envoy's -c: the user's own, or ours in a new
// private folder, which remove takes away.
func bootstrapFile(s Settings) (path string, remove func(), err error) {
	if s.ConfigFile != "" {
		return s.ConfigFile, func() {}, nil
	}
	text, err := BootstrapText(s)
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "fairlead-agent-")
	if err != nil {
		return "", nil, fmt.Errorf("making a folder for the bootstrap (TMPDIR says where): %w", err)
	}
	remove = func() { os.RemoveAll(dir) }
	path = filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		remove()
		return "", nil, fmt.Errorf("writing the bootstrap: %w", err)
	}
	return path, remove, nil
}

// canAppend opens a file as Envoy does, which does not start when that fails: with
// the default file of a read-only container, or one that another user has left.
func canAppend(path string) bool {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err == nil {
		f.Close()
	}
	return err == nil
}

// envoyArgs is Envoy's command line.
func envoyArgs(s Settings, config string) []string {
	args := []string{
		"-c", config, "-l", s.LogLevel,
		"--drain-time-s", strconv.Itoa(int(s.DrainTime / time.Second)),
		"--disable-hot-restart",
	}
	if !s.ShowDeprecated {
		args = append(args, "--skip-deprecated-logs")
	}
	if s.Concurrency > 0 {
		args = append(args, "--concurrency", strconv.Itoa(s.Concurrency))
	}
	return args
}

// supervisor stands over one Envoy until it ends.
type supervisor struct {
	child     *child
	admin     *adminClient
	logger    *slog.Logger
	drainTime time.Duration
	ownAdmin  bool // the admin interface is where our own bootstrap put it

	registrar *registrar // nil: nothing is registered

	leaving, ending   bool
	left              chan struct{} // closed when the instance has left the registry
	drainOver, killAt <-chan time.Time
	drained           chan error // the answer to the drain request
}

func (s *supervisor) run(ctx context.Context, signals <-chan os.Signal) int {
	s.drained, s.left = make(chan error, 1), make(chan struct{})
	over := ctx.Done()
	for {
		select {
		case code := <-s.child.done:
			s.logEnd(code)
			return code
		case sig := <-signals:
			s.onSignal(sig)
		case <-s.left:
			s.left = nil
			s.drain(ctx)
		case err := <-s.drained:
			s.onDrainAnswer(err)
		case <-s.drainOver:
			s.end()
		case <-s.killAt:
			s.logger.Warn("Envoy did not end in time and is killed", "seconds", killDelay.Seconds())
			s.child.signal(syscall.SIGKILL)
		case <-over:
			over = nil
			s.end()
		}
	}
}

func (s *supervisor) onSignal(sig os.Signal) {
	switch {
	case sig == syscall.SIGHUP || sig == syscall.SIGUSR1:
		s.child.signal(sig.(syscall.Signal))
	case s.ending:
		s.logger.Warn("told to end once more: killing Envoy", "signal", sig.String())
		s.child.signal(syscall.SIGKILL)
	case sig == syscall.SIGINT || s.leaving:
		s.logger.Info("ending Envoy", "signal", sig.String())
		s.end()
	default:
		s.logger.Info("told to end", "signal", sig.String())
		s.leaving = true
		left := s.left
		go func() { s.registrar.leave(); close(left) }()
	}
}

// drain has Envoy drain. By then nobody finds the instance in the registry any more.
func (s *supervisor) drain(ctx context.Context) {
	if s.ending {
		return
	}
	s.logger.Info("draining Envoy", "seconds", s.drainTime.Seconds())
	s.drainOver = time.After(s.drainTime)
	go func() { s.drained <- s.admin.drain(ctx) }()
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
		s.end()
	default:
		s.logger.Warn("Envoy was not told to drain", "error", err)
	}
}

// end tells Envoy to end, and has it killed when it takes too long.
func (s *supervisor) end() {
	if s.ending {
		return
	}
	s.ending, s.drainOver = true, nil
	s.registrar.depart()
	s.killAt = time.After(killDelay)
	s.child.signal(syscall.SIGTERM)
}

func (s *supervisor) logEnd(code int) {
	if s.ending {
		s.logger.Info("Envoy ended", "code", code)
		return
	}
	s.logger.Error("Envoy ended by itself; its own log says why", "code", code)
}
