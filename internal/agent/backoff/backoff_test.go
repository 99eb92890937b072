package backoff

import (
	"context"
	"testing"
	"time"
)

// A pause doubles up to a bound, and differs from agent to agent.
func TestAfter(t *testing.T) {
	t.Parallel()
	const most = 10 * time.Second
	p := Policy{First: 500 * time.Millisecond, Most: most}
	for failures, want := range map[int]time.Duration{1: 500 * time.Millisecond, 2: time.Second, 3: 2 * time.Second, 6: most, 1000: most} {
		different := map[time.Duration]bool{}
		for range 100 {
			got := p.After(failures)
			if got < want/2 || got > want {
				t.Errorf("after %d failures %v, want %v to %v", failures, got, want/2, want)
			}
			different[got] = true
		}
		if len(different) < 50 {
			t.Errorf("after %d failures there are only %d different pauses in 100", failures, len(different))
		}
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	if !Wait(ctx, time.Millisecond) || !Wait(ctx, -time.Second) {
		t.Error("the context has not ended")
	}
	cancel()
	if Wait(ctx, time.Hour) {
		t.Error("the context has ended")
	}
}
