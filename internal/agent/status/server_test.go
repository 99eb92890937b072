package status

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/meshtest/golden"
)

// envoy stands in for Envoy's admin interface.
type envoy struct {
	mu    sync.Mutex
	asked []string
	page  string
	err   error
}

func (e *envoy) ask(_ context.Context, method, path string) (io.ReadCloser, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = append(e.asked, method+" "+path)
	if e.err != nil {
		return nil, e.err
	}
	return io.NopCloser(strings.NewReader(e.page)), nil
}

func (e *envoy) take() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := strings.Join(e.asked, ", ")
	e.asked = nil
	return out
}

func newServer(t *testing.T, e *envoy) *Server {
	t.Helper()
	s := New(Config{
		Report: func(context.Context) Report { return Report{HealthStatus: Healthy} },
		Ask:    e.ask, Level: "info", ResetAfter: time.Hour, Logger: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(s.levels.end)
	s.bucket.tokens, s.bucket.burst = 1000, 1000 // these tests are about something else
	return s
}

func (s *Server) try(t *testing.T, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	s.handler().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w
}

func TestRequests(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method, path, body string
		code               int
		asks               string
		says               string
	}{
		"status":            {"GET", "/status", "", 200, "", `"healthStatus": "HEALTHY"`},
		"status by POST":    {"POST", "/status", "", 405, "", ""},
		"drain":             {"POST", "/drain_listeners", "", 200, "POST /drain_listeners", "page"},
		"drain inbound":     {"POST", "/drain_listeners?inboundonly", "", 200, "POST /drain_listeners?inboundonly", "page"},
		"drain slowly":      {"POST", "/drain_listeners?inboundonly=&graceful", "", 200, "POST /drain_listeners?graceful&inboundonly", "page"},
		"drain by GET":      {"GET", "/drain_listeners", "", 405, "", ""},
		"drain otherwise":   {"POST", "/drain_listeners?skip_exit", "", 400, "", `"skip_exit", allowed are`},
		"a body":            {"POST", "/drain_listeners", "x", 400, "", "body"},
		"a bad query":       {"POST", "/drain_listeners?%zz", "", 400, "", "query"},
		"level":             {"POST", "/enableLogging?level=debug", "", 200, "POST /logging?level=debug", "Setting logging level from [info] to [debug]\n"},
		"the same level":    {"POST", "/enableLogging?level=info", "", 304, "", ""},
		"level for good":    {"POST", "/enableLogging?level=trace&permanent=true", "", 200, "POST /logging?level=trace", "to [trace]"},
		"no level":          {"POST", "/enableLogging", "", 400, "", "allowed are"},
		"made-up level":     {"POST", "/enableLogging?level=loud%26x", "", 400, "", `"loud&x"`},
		"made-up permanent": {"POST", "/enableLogging?level=debug&permanent=1", "", 400, "", "true and false"},
		"level by GET":      {"GET", "/enableLogging?level=debug", "", 405, "", ""},
		"statistics":        {"GET", "/stats/prometheus", "", 200, "GET /stats?format=prometheus", "page"},
		"used ones":         {"GET", "/stats/prometheus?usedonly", "", 200, "GET /stats?format=prometheus&usedonly", "page"},
		"aggregate":         {"GET", "/stats/prometheus?filter=metrics_extension", "", 200, "GET /stats?format=prometheus&filter=appmesh", ""},
		"first delta":       {"GET", "/stats/prometheus?delta&usedonly&filter=metrics_extension", "", 200, "GET /stats?format=prometheus&filter=appmesh&usedonly", ""},
		"delta of all":      {"GET", "/stats/prometheus?delta&usedonly", "", 400, "", "delta"},
		"another filter":    {"GET", "/stats/prometheus?filter=.*", "", 400, "", "metrics_extension"},
		"another question":  {"GET", "/stats/prometheus?format=json", "", 400, "", "format"},
		"Envoy's own page":  {"POST", "/quitquitquit", "", 404, "", ""},
	} {
		e := &envoy{page: "page"}
		w := newServer(t, e).try(t, c.method, c.path, c.body)
		if w.Code != c.code || e.take() != c.asks || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s: %d %q", name, w.Code, w.Body)
		}
	}
}

func TestEnvoyIsAway(t *testing.T) {
	t.Parallel()
	s := newServer(t, &envoy{err: errors.New("refused")})
	for _, path := range []string{"POST /drain_listeners", "POST /enableLogging?level=debug", "GET /stats/prometheus", "GET /stats/prometheus?filter=metrics_extension"} {
		method, url, _ := strings.Cut(path, " ")
		if w := s.try(t, method, url, ""); w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "refused") {
			t.Errorf("%s: %d %q", path, w.Code, w.Body)
		}
	}
	if w := s.try(t, "GET", "/status", ""); w.Code != http.StatusOK {
		t.Errorf("status: %d", w.Code)
	}
}

// A level goes back when its time is over, and a new Envoy has its own.
func TestLevelsGoBack(t *testing.T) {
	t.Parallel()
	e := &envoy{}
	s := newServer(t, e)
	s.levels.cfg.ResetAfter = time.Millisecond
	s.try(t, "POST", "/enableLogging?level=debug", "")
	for deadline := time.Now().Add(time.Minute); ; <-time.After(time.Millisecond) {
		s.levels.mu.Lock()
		now := s.levels.now
		s.levels.mu.Unlock()
		if now == "info" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the level is %s", now)
		}
	}
	if got := e.take(); got != "POST /logging?level=debug, POST /logging?level=info" {
		t.Errorf("Envoy was asked %s", got)
	}
	s.levels.cfg.ResetAfter = time.Hour
	for _, c := range []struct{ path, says string }{
		{"level=debug", "from [info] to [debug]"}, {"level=trace", "from [debug] to [trace]"}, // the later one holds
		{"level=error&permanent=true", "from [trace] to [error]"}, {"level=debug", "from [error] to [debug]"}, {"level=error", "from [debug] to [error]"},
	} {
		if w := s.try(t, "POST", "/enableLogging?"+c.path, ""); !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s: %d %q", c.path, w.Code, w.Body)
		}
	}
	s.EnvoyStarted()
	if w := s.try(t, "POST", "/enableLogging?level=info", ""); w.Code != http.StatusNotModified {
		t.Errorf("a new Envoy's level: %d %q", w.Code, w.Body)
	}
	var none *Server
	none.EnvoyStarted()
}

func TestRate(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	b := newBucket(requestRate, requestBurst, func() time.Time { return now })
	count := func() (n int) {
		for b.allow() {
			n++
		}
		return n
	}
	if n := count(); n != 20 {
		t.Errorf("%d at once, want 20", n)
	}
	now = now.Add(time.Second)
	if n := count(); n != 10 {
		t.Errorf("%d after a second, want 10", n)
	}
	now = now.Add(-time.Hour) // the clock is set back
	if n := count(); n != 0 {
		t.Errorf("%d after no time, want 0", n)
	}
	now = now.Add(time.Hour)
	if n := count(); n != 20 {
		t.Errorf("%d after an hour, want 20", n)
	}
	s := New(Config{Report: func(context.Context) Report { return Report{} }, Logger: slog.New(slog.DiscardHandler)})
	codes := map[int]int{}
	for range 40 {
		codes[s.try(t, "GET", "/status", "").Code]++
	}
	if codes[200] < 20 || codes[429] == 0 || codes[200]+codes[429] != 40 {
		t.Errorf("answers %v", codes)
	}
}

// TestDelta shows what is made of two looks at Envoy's statistics.
func TestDelta(t *testing.T) {
	t.Parallel()
	golden.Run(t, "testdata/delta.txtar", testDelta)
}

func testDelta(t *testing.T, c *golden.Case) {
	e := &envoy{}
	s := newServer(t, e)
	const path = "/stats/prometheus?delta&usedonly&filter=metrics_extension"
	for _, look := range []string{"first", "second", "third"} {
		if look == "third" {
			s.EnvoyStarted() // it counts anew
		}
		e.page = c.Section(look)
		s.snapshot(t.Context())
		c.Equal(t, look+" delta", s.try(t, "GET", path, "").Body.String())
	}
	if got := s.try(t, "GET", "/stats/prometheus?filter=metrics_extension", "").Body.String(); got != c.Section("third delta") {
		t.Errorf("without delta: %s", got)
	}
}

// TestText: what people read.
func TestText(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 10, 31, 0, 0, time.UTC)
	got := Report{
		HealthStatus: Healthy, AgentUptime: "95s", EnvoyPid: "17", EnvoyState: StateLive, EnvoyRestartCount: "1",
		ConnectionStatus: NotConnected, Disconnected: &at,
		More: More{
			Version: "1.0", Resource: "mesh/shop/virtualNode/cart", Phase: PhaseServing, Why: "it is refused", ControlPlane: "cp:9081",
			Credentials: &Credentials{Source: "file", File: "/c", Profile: "p", Expires: &at, Problem: "it is old"},
			LastRefusal: &Refusal{Time: at, Code: 16, Message: "expired"}, LastEnd: &End{Time: at, Code: 137},
		},
	}.Text() + "\n" + Report{
		HealthStatus: Unhealthy, AgentUptime: "0s", EnvoyPid: "-1", EnvoyState: StateUnreachable, EnvoyRestartCount: "0",
		More: More{Phase: PhaseStarting, Credentials: &Credentials{Source: "environment"}},
	}.Text()
	want, err := os.ReadFile("testdata/text")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("text differs (-want +got):\n%s", diff)
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	// What an agent that was killed has left.
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	_ = left.Close()

	l, err := Listen(socket, "")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v", info, err)
	}
	if _, err := Listen(socket, ""); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second agent: %v", err)
	}
	s := newServer(t, &envoy{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx, l) }()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	res, err := client.Get("http://agent/status")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file, ""); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file: %v", err)
	}
	tcp, err := Listen("", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	if _, err := Listen("", tcp.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a taken port: %v", err)
	}
}

// A thousand questions leave nothing behind.
func TestManyRequests(t *testing.T) {
	t.Parallel()
	s := newServer(t, &envoy{page: "page"})
	for i := range 1000 {
		path := []string{"GET /status", "POST /enableLogging?level=debug", "POST /enableLogging?level=info", "GET /stats/prometheus"}[i%4]
		method, url, _ := strings.Cut(path, " ")
		s.bucket.tokens = 10
		if w := s.try(t, method, url, ""); w.Code != http.StatusOK {
			t.Fatal(fmt.Sprint(path, ": ", w.Code))
		}
	}
	if s.levels.reset != nil {
		t.Error("a level waits to be set back that is set back")
	}
}
