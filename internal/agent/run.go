package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/fairlead-mesh/fairlead/internal/agent/status"
)

// RunConfig is what Run needs.
type RunConfig struct {
	Settings    Settings         // resolved
	Envoy       string           // path of the binary, see envoybin.Find
	Environ     []string         // Envoy's environment; nil for this process's
	Stdout      *os.File         // Envoy's standard output
	Stderr      *os.File         // Envoy's standard error
	LogFile     *LogFile         // takes both in place of them; nil for none
	Application *Application     // what to run when Envoy serves; nil for nothing
	Signals     <-chan os.Signal // those of Signals that arrived
	Version     string           // of the agent, for its status; "" for none
	Logger      *slog.Logger
}

// Signals are what Run acts on: SIGTERM and SIGQUIT drain and then end Envoy (a
// second one ends it at once), SIGINT ends it at once, SIGHUP and SIGUSR1 (reopen
// the access logs) are passed on.
var Signals = []os.Signal{syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1}

// ApplicationSignals are passed on to an application, beside those of Signals.
var ApplicationSignals = []os.Signal{syscall.SIGUSR2, syscall.SIGWINCH}

// killDelay is how long Envoy may take to end before it is killed.
const killDelay = 3 * time.Second

// Run writes the bootstrap, runs Envoy and the application, if there is one, and returns when
// both have ended. The code is the application's exit code, else Envoy's, or 128 and the
// number of the signal that killed it; with an error, Envoy could not be run at all. When ctx
// ends, both are ended at once.
func Run(ctx context.Context, cfg RunConfig) (code int, err error) {
	if log := cfg.Settings.Admin.AccessLog; cfg.Settings.ConfigFile == "" && log == adminAccessLog && !canAppend(log) {
		cfg.Logger.Warn("the admin interface keeps no access log, because its file cannot be written; ENVOY_ADMIN_ACCESS_LOG_FILE names another", "file", log)
		cfg.Settings.Admin.AccessLog = ""
	}
	if err := checkVersion(ctx, cfg); err != nil {
		return 1, err
	}
	if err := cfg.Application.check(); err != nil {
		return 1, err
	}
	var reload reloadDir
	if err := cfg.Settings.makeCacheDir(); err != nil {
		return 1, err
	}
	if cfg.Settings.ConfigFile == "" {
		if reload, err = newReloadDir(cfg.Settings); err != nil {
			return 1, err
		}
		defer reload.remove()
		cfg.Settings.ReloadDir = reload.path()
		cfg.Settings.WorkloadSocket = cfg.Settings.workloadSocket(reload.base, cfg.Logger)
	}
	source, stopIdentity, err := startIdentity(ctx, cfg.Settings.Identity, &cfg.Settings.XDS, cfg.Logger)
	if err != nil {
		return 1, err
	}
	defer stopIdentity()
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
	monitor := newMonitor(cfg, admin)
	server, endServer, err := startStatus(cfg, monitor)
	if err != nil {
		return 1, err
	}
	defer endServer()
	if err := raiseFileLimit(); err != nil {
		cfg.Logger.Warn("raising the limit of open files failed", "error", err)
	}
	own, err := ownRelay(ctx, cfg, source.Renew)
	if err != nil {
		return 1, err
	}
	if own != nil {
		defer func() { err = errors.Join(err, own.stop()) }()
	}
	certificates, stopWorkload, err := startWorkload(ctx, cfg)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, stopWorkload()) }()
	monitor.hear(source, own, certificates)
	stopNames, err := startNames(ctx, cfg)
	if err != nil {
		return 1, err
	}
	defer stopNames()
	start := func() (*child, error) { return startEnvoy(cfg, config, monitor) }
	envoy, err := start()
	if err != nil {
		return 1, fmt.Errorf("starting Envoy: %w", err)
	}
	cfg.Logger.Info("Envoy started", "path", cfg.Envoy, "pid", envoy.pid, "resource", cfg.Settings.Resource.ARN)

	over, cancel := context.WithCancel(ctx)
	defer cancel()
	defer startRegistration(registrar)()
	var background sync.WaitGroup
	defer func() { cancel(); background.Wait() }()
	s := &supervisor{
		start: start, admin: admin, monitor: monitor, registrar: registrar, logger: cfg.Logger,
		drainTime: cfg.Settings.DrainTime, ownAdmin: cfg.Settings.ConfigFile == "", restarts: restarts{most: cfg.Settings.Supervision.Restarts},
		onStart: server.EnvoyStarted, onReopen: cfg.reopen,
	}
	s.take(envoy)
	background.Go(func() { monitor.run(over) })
	if cfg.Settings.ConfigFile == "" {
		r := &reloader{admin: admin, dir: reload, logger: cfg.Logger}
		background.Go(func() { r.run(over) })
		if x := cfg.Settings.Placement.Explicit; x.On() {
			p := &portsWriter{admin: admin, file: x.PortsFile, logger: cfg.Logger}
			background.Go(func() { p.run(over) })
		}
	}
	s.app = newApplication(over, cfg, monitor.serves)
	defer s.app.close()
	return s.run(ctx, cfg.Signals), nil
}

// startEnvoy starts an Envoy.
func startEnvoy(cfg RunConfig, config string, m *monitor) (*child, error) {
	var out, log io.Writer = reopenable(cfg.Stdout), cfg.Stderr
	if cfg.LogFile != nil {
		out, log = cfg.LogFile, cfg.LogFile
	}
	return startChild(childConfig{
		path: cfg.Envoy, args: envoyArgs(cfg.Settings, config), environ: envoyEnviron(cfg),
		stdout: out, stderr: &tap{to: log, closed: m.closed}, attributes: childAttributes(syscall.SIGKILL),
	})
}

// reopen opens the log file anew.
func (cfg RunConfig) reopen() {
	if cfg.LogFile != nil {
		cfg.LogFile.Reopen()
	}
}

// startStatus starts the agent's own server, if there is to be one, and returns what ends it.
// The error names the variable.
func startStatus(cfg RunConfig, m *monitor) (*status.Server, func(), error) {
	where := cfg.Settings.Supervision.Server
	if !where.On() {
		return nil, func() {}, nil
	}
	l, err := status.Listen(where.Socket, where.address())
	if err != nil {
		variables := "APPNET_AGENT_HTTP_BIND_ADDRESS and APPNET_AGENT_HTTP_PORT say"
		if where.Socket != "" {
			variables = "APPNET_AGENT_ADMIN_UDS_PATH says"
		}
		return nil, nil, fmt.Errorf("the agent's server cannot listen on %s (%s where): %w", where, variables, err)
	}
	server := status.New(status.Config{
		Report: m.report, Ask: m.admin.do, Level: cfg.Settings.LogLevel, ResetAfter: cfg.Settings.Supervision.LogReset,
		Snapshots: cfg.Settings.Supervision.Snapshots, Logger: cfg.Logger,
	})
	// It answers to the end, so that one can see what Envoy is waiting for.
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Run(ctx, l); err != nil {
			cfg.Logger.Error("the agent's server ended", "error", err)
		}
	}()
	cfg.Logger.Info("the agent's server listens", "address", where.String())
	return server, func() { cancel(); <-ended }, nil
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
	api, err := newCloudMap(s.API, s.XDS.Region, key)
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
	// What stays when Envoy reports by another stream, so that nothing is counted twice.
	environ = append(slices.Clone(environ), proxyVariable+"="+rand.Text())
	if a := cfg.Settings.Telemetry.Attributes; a != "" {
		environ = append(environ, "OTEL_RESOURCE_ATTRIBUTES="+a) // the last one holds
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
