package meshtest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Load is steady calls, each of which is counted, until Stop or the test's end.
type Load struct {
	calls    atomic.Int64
	stop     func()
	mu       sync.Mutex
	failures []string
}

// StartLoad makes calls, each of the functions one after another beside the others; a pause
// between two calls of one leaves the processors to others, 0 for none.
func StartLoad(t testing.TB, pause time.Duration, calls ...func() error) *Load {
	t.Helper()
	l, done := &Load{}, make(chan struct{})
	var wg sync.WaitGroup
	for _, call := range calls {
		wg.Go(func() {
			timer := time.NewTimer(0)
			defer timer.Stop()
			for {
				select {
				case <-done:
					return
				case <-timer.C:
				}
				l.calls.Add(1)
				if err := call(); err != nil {
					l.failed(err)
				}
				timer.Reset(pause)
			}
		})
	}
	l.stop = sync.OnceFunc(func() { close(done); wg.Wait() })
	t.Cleanup(l.stop)
	return l
}

func (l *Load) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, fmt.Sprintf("%s: %v", time.Now().Format("15:04:05.000"), err))
}

// Calls returns how many calls were made so far.
func (l *Load) Calls() int64 { return l.calls.Load() }

// Failures returns what has gone wrong so far.
func (l *Load) Failures() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.failures...)
}

// Stop ends the calls and returns what has gone wrong.
func (l *Load) Stop() []string {
	l.stop()
	return l.Failures()
}
