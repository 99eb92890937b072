package status

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// logLevels are the levels that Envoy knows.
var logLevels = []string{"trace", "debug", "info", "warning", "warn", "error", "critical", "off"}

// levels sets Envoy's level of logging, and sets it back after a while.
type levels struct {
	cfg Config

	mu    sync.Mutex
	usual string      // what holds when nobody has asked for another
	now   string      // what holds
	reset *time.Timer // sets it back; nil for nothing to set back
}

func newLevels(cfg Config) *levels {
	return &levels{cfg: cfg, usual: cfg.Level, now: cfg.Level}
}

// set has Envoy log at a level: until the time is over, or for good. It reports what held
// before, and whether there was something to change.
func (l *levels) set(ctx context.Context, level string, permanent bool) (before string, changed bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before = l.now
	if level == l.now && !(permanent && level != l.usual) {
		return before, false, nil
	}
	if err := l.tell(ctx, level); err != nil {
		return before, false, err
	}
	l.stop()
	l.now = level
	switch {
	case permanent:
		l.usual = level
	case level != l.usual:
		l.reset = time.AfterFunc(l.cfg.ResetAfter, l.back)
	}
	return before, true, nil
}

// back sets the usual level again.
func (l *levels) back() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reset == nil {
		return // told otherwise meanwhile
	}
	l.reset = nil
	if err := l.tell(context.Background(), l.usual); err != nil {
		l.cfg.Logger.Warn("Envoy's level of logging was not set back", "level", l.usual, "error", err)
		return
	}
	l.now = l.usual
	l.cfg.Logger.Info("Envoy's level of logging is as it was", "level", l.usual)
}

// forget is told that a new Envoy runs, at the level it was started with.
func (l *levels) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stop()
	l.usual, l.now = l.cfg.Level, l.cfg.Level
}

// end sets nothing back any more.
func (l *levels) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stop()
}

func (l *levels) stop() {
	if l.reset != nil {
		l.reset.Stop()
		l.reset = nil
	}
}

func (l *levels) tell(ctx context.Context, level string) error {
	body, err := l.cfg.Ask(ctx, http.MethodPost, "/logging?level="+level)
	if err != nil {
		return err
	}
	defer body.Close()
	for lines := bufio.NewScanner(body); lines.Scan(); { // to the end, for the connection's sake
	}
	return nil
}

// logging sets Envoy's level of logging. As with App Mesh's agent, 304 says that nothing was
// to be changed.
func (s *Server) logging(w http.ResponseWriter, r *http.Request) {
	values, ok := parameters(w, r, "level", "permanent")
	if !ok {
		return
	}
	level, permanent := values.Get("level"), values.Get("permanent")
	if !slices.Contains(logLevels, level) {
		refuse(w, "level is %.64q, allowed are %q", level, logLevels)
		return
	}
	if permanent != "" && permanent != "true" && permanent != "false" {
		refuse(w, "permanent is %.64q, allowed are true and false", permanent)
		return
	}
	before, changed, err := s.levels.set(r.Context(), level, permanent == "true")
	switch {
	case err != nil:
		s.failed(w, "Envoy's level of logging was not changed", err)
	case !changed:
		w.WriteHeader(http.StatusNotModified)
	default:
		s.cfg.Logger.Info("Envoy's level of logging is changed, by the agent's server", "from", before, "to", level, "permanent", permanent == "true")
		fmt.Fprintf(w, "Setting logging level from [%s] to [%s]\n", before, level)
	}
}
