package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const testLimit = 20 * time.Second

func TestLoadKeepsEveryRequest(t *testing.T) {
	t.Parallel()
	var served atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if served.Add(1)%10 == 0 {
			http.Error(w, "every tenth", http.StatusServiceUnavailable)
			return
		}
		colourHandler(blue).ServeHTTP(w, r)
	}))
	defer srv.Close()
	l := startLoad(srv.URL, nil, 1000)
	defer l.stop()
	err := await(t.Context(), "100 requests", testLimit, func(context.Context) error {
		if n := len(l.since(0)); n < 100 {
			return fmt.Errorf("%d ended", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	l.stop()
	l.stop() // does nothing
	samples := l.since(0)
	got := count(samples)
	if n := int(served.Load()); got.total != n || got.failed != n/10 || got.answers[blue] != n-n/10 {
		t.Errorf("%d requests, %d failed, %d from blue; the server saw %d", got.total, got.failed, got.answers[blue], n)
	}
	if got.reason == nil || !strings.Contains(got.reason.Error(), "every tenth") {
		t.Errorf("the reason of a failure is %v", got.reason)
	}
	for _, s := range samples {
		if s.sent.IsZero() || s.end.Before(s.sent) {
			t.Fatalf("sent at %v, ended at %v", s.sent, s.end)
		}
	}
	if n := len(l.since(len(samples) - 1)); n != 1 {
		t.Errorf("%d requests behind the last but one, want 1", n)
	}
	if n := len(l.take()); n != len(samples) || len(l.since(0)) != 0 {
		t.Errorf("%d requests were taken of %d, %d are left", n, len(samples), len(l.since(0)))
	}
}

// TestLoadGivesUp has a server that does not answer: stop returns, and what was given
// up is no failure.
func TestLoadGivesUp(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{}, senders)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		reached <- struct{}{}
		<-r.Context().Done()
	}))
	defer srv.Close()
	l := startLoad(srv.URL, nil, 100)
	<-reached
	l.giveUp() // as stop does in the end
	l.stop()
	if got := count(l.since(0)); got.failed > 0 {
		t.Errorf("%d requests count as failed, of one: %v", got.failed, got.reason)
	}
}

func TestAwait(t *testing.T) {
	t.Parallel()
	notYet := func(context.Context) error { return errors.New("it answers 503") }
	err := await(t.Context(), "the control plane", 30*time.Millisecond, notYet)
	if want := "waited 30 ms for the control plane in vain: it answers 503"; err == nil || err.Error() != want {
		t.Errorf("after the limit: %v, want %q", err, want)
	}

	why := errors.New("envoy-front ended by itself")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := await(ctx, "the control plane", testLimit, notYet); !errors.Is(err, why) {
		t.Errorf("after the context's end: %v, want its cause", err)
	}
}
