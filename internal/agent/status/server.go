package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Requests a second, and at once, over all pages together.
const (
	requestRate  = 10
	requestBurst = 20
)

// snapshotEvery is how often statistics are put down for ?delta.
const snapshotEvery = time.Minute

// mostStatistics bounds what is read of Envoy's statistics.
const mostStatistics = 64 << 20

// Config is what a Server needs. All is required.
type Config struct {
	// Report says how Envoy is now.
	Report func(context.Context) Report
	// Ask asks Envoy's admin interface. An answer with another status than 200 is an error.
	Ask func(ctx context.Context, method, path string) (io.ReadCloser, error)
	// Level is Envoy's level of logging when nobody has changed it.
	Level string
	// ResetAfter is for how long a level holds that was asked for.
	ResetAfter time.Duration
	// Snapshots has statistics put down each minute, for ?delta.
	Snapshots bool
	Logger    *slog.Logger
}

// Server answers questions about an Envoy. Run must be called, and once only.
type Server struct {
	cfg    Config
	bucket *bucket
	levels *levels
	deltas deltas
}

// New makes a server.
func New(cfg Config) *Server {
	return &Server{cfg: cfg, bucket: newBucket(requestRate, requestBurst, time.Now), levels: newLevels(cfg)}
}

// Listen listens on a Unix socket, mode 0600, or where socket is "" on a TCP address. A
// socket that an agent has left is taken; one where an agent answers is not.
func Listen(socket, address string) (net.Listener, error) {
	if socket == "" {
		return net.Listen("tcp", address)
	}
	if info, err := os.Lstat(socket); err == nil {
		if info.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("%s is there and no socket", socket)
		}
		if c, err := net.DialTimeout("unix", socket, time.Second); err == nil {
			_ = c.Close()
			return nil, fmt.Errorf("another process listens on %s", socket)
		}
		if err := os.Remove(socket); err != nil {
			return nil, err
		}
	}
	// In a folder of its own until it has its mode, so that nobody connects before.
	dir, err := os.MkdirTemp(filepath.Dir(socket), ".fairlead-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	made := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(made, 0o600), os.Rename(made, socket)); err != nil {
		_ = l.Close()
		return nil, err
	}
	return unlinking{l, socket}, nil
}

// unlinking removes its socket when it is closed.
type unlinking struct {
	net.Listener
	socket string
}

// Close closes the listener and removes its socket.
func (u unlinking) Close() error {
	_ = os.Remove(u.socket)
	return u.Listener.Close()
}

// Run serves on a listener until ctx ends, which closes the listener, and returns then.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: s.handler(), MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 30 * time.Second,
	}
	background := make(chan struct{})
	go func() {
		defer close(background)
		if s.cfg.Snapshots {
			s.keepDeltas(ctx)
		}
	}()
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.Serve(l)
	<-background
	s.levels.end()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// EnvoyStarted tells that a new Envoy runs, which knows nothing of what its predecessor was
// told and counts anew.
func (s *Server) EnvoyStarted() {
	if s == nil {
		return
	}
	s.levels.forget()
	s.deltas.forget()
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("POST /drain_listeners", s.drain)
	mux.HandleFunc("POST /enableLogging", s.logging)
	mux.HandleFunc("GET /stats/prometheus", s.statistics)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.bucket.allow() {
			http.Error(w, http.StatusText(http.StatusTooManyRequests), http.StatusTooManyRequests)
			return
		}
		if r.ContentLength != 0 {
			refuse(w, "a body is not expected")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func refuse(w http.ResponseWriter, format string, args ...any) {
	http.Error(w, fmt.Sprintf(format, args...), http.StatusBadRequest)
}

// parameters reads a query, in which only some names are known.
func parameters(w http.ResponseWriter, r *http.Request, known ...string) (url.Values, bool) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		refuse(w, "the query cannot be read")
		return nil, false
	}
	for name := range values {
		ok := false
		for _, k := range known {
			ok = ok || name == k
		}
		if !ok {
			refuse(w, "the query has %.64q, allowed are %q", name, known)
			return nil, false
		}
	}
	return values, true
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	text, err := json.MarshalIndent(s.cfg.Report(r.Context()), "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(text, '\n'))
}

// drain passes a drain on. Envoy itself goes on running.
func (s *Server) drain(w http.ResponseWriter, r *http.Request) {
	values, ok := parameters(w, r, "inboundonly", "graceful")
	if !ok {
		return
	}
	path, separator := "/drain_listeners", "?"
	for _, name := range []string{"graceful", "inboundonly"} {
		if values.Has(name) {
			path, separator = path+separator+name, "&"
		}
	}
	s.cfg.Logger.Info("Envoy is asked to drain its listeners, by the agent's server", "path", path)
	body, err := s.cfg.Ask(r.Context(), http.MethodPost, path)
	if err != nil {
		s.failed(w, "Envoy was not told to drain", err)
		return
	}
	defer body.Close()
	_, _ = io.Copy(w, io.LimitReader(body, 1<<20))
}

// failed answers that Envoy did not do what was asked for.
func (s *Server) failed(w http.ResponseWriter, what string, err error) {
	s.cfg.Logger.Warn(what, "error", err)
	http.Error(w, what+": "+err.Error(), http.StatusInternalServerError)
}
