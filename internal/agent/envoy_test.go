package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/envoybin"
)

// envoyBinary returns the path of a real Envoy. Without one the test is skipped.
func envoyBinary(t *testing.T) string {
	t.Helper()
	path, err := envoybin.Find(os.Getenv("ENVOY_PATH"), "../..")
	if errors.Is(err, envoybin.ErrNone) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// waitTime bounds what tests wait for. It is generous: machines are slow and busy.
const waitTime = 60 * time.Second

// eventually waits until done says true.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitTime); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("waited %v in vain for: %s", waitTime, what)
}

// loopback returns a loopback address on which nothing listens at Envoy's admin
// port, so that Envoys of parallel tests do not meet.
func loopback(t *testing.T) string {
	t.Helper()
	for range 100 {
		ip := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), 2+rand.IntN(250))
		l, err := net.Listen("tcp", ip+":9901")
		if err == nil {
			l.Close()
			return ip
		}
	}
	t.Fatal("no free loopback address")
	return ""
}

// syncBuffer is a buffer that several write to.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// running is a Run in the background.
type running struct {
	t        *testing.T
	settings Settings
	signals  chan os.Signal
	cancel   context.CancelFunc
	log      *syncBuffer
	ended    chan struct{}
	code     int
	err      error
}

// start runs an agent with the environment v, which is Envoy's too. It is ended with
// the test.
func start(t *testing.T, envoy string, v vars, change func(*RunConfig)) *running {
	t.Helper()
	s, _, err := ReadSettings(v.lookup)
	if err == nil {
		s, err = s.Resolve()
	}
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, settings: s, signals: make(chan os.Signal, 4), log: &syncBuffer{}, ended: make(chan struct{})}
	output, err := os.Create(filepath.Join(t.TempDir(), "envoy.log"))
	if err != nil {
		t.Fatal(err)
	}
	environ := []string{"PATH=" + os.Getenv("PATH")}
	for name, value := range v {
		environ = append(environ, name+"="+value)
	}
	cfg := RunConfig{
		Settings: s, Envoy: envoy, Environ: environ, Stdout: output, Stderr: output,
		Signals: r.signals, Logger: slog.New(slog.NewTextHandler(r.log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(r.ended)
		r.code, r.err = Run(ctx, cfg)
	}()
	t.Cleanup(func() {
		r.cancel()
		<-r.ended
		output.Close()
		if t.Failed() {
			text, _ := os.ReadFile(output.Name())
			t.Logf("agent's log:\n%s\nend of Envoy's log:\n%s", r.log, text[max(0, len(text)-4000):])
		}
	})
	return r
}

// wait waits until the agent has ended, and checks its code.
func (r *running) wait(want int) {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(waitTime):
		r.t.Fatal("the agent does not end")
	}
	if r.err != nil || r.code != want {
		r.t.Errorf("ended with code %d, error %v, want code %d", r.code, r.err, want)
	}
}

// waitLog waits for a message in the agent's log.
func (r *running) waitLog(message string) {
	r.t.Helper()
	eventually(r.t, "log line "+message, func() bool { return strings.Contains(r.log.String(), message) })
}

// script writes a shell script that stands in for Envoy.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "envoy.sh")
	// Another test may be forking while we hold the file open for writing, and then
	// the script cannot be run for a moment ("text file busy").
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
