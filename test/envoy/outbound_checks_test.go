package envoy

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// verdict is what becomes of a health check.
type verdict int

const (
	pass verdict = iota
	fail         // an answer that says so, which counts at once
	cut          // the connection ends, which counts towards the threshold
)

// checkedApp is an instance that holds each health check until the test says what becomes
// of it. While one is held Envoy makes no other, and it changes its mind of the instance
// only after it.
type checkedApp struct{ held chan chan verdict }

func (a *checkedApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	said := make(chan verdict, 1)
	select {
	case a.held <- said:
	case <-r.Context().Done():
		return
	}
	select {
	case v := <-said:
		if v == cut {
			panic(http.ErrAbortHandler)
		}
		if v == fail {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	case <-r.Context().Done():
	}
}

// next waits until a check is held, and returns where to say what becomes of it.
func (a *checkedApp) next(t *testing.T) chan<- verdict {
	t.Helper()
	select {
	case said := <-a.held:
		return said
	case <-time.After(deadline):
		t.Fatal("the instance is not checked")
		return nil
	}
}

// first says what becomes of the first check, which alone decides of a new instance.
func (a *checkedApp) first(t *testing.T, v verdict) {
	go func() {
		select {
		case said := <-a.held:
			said <- v
		case <-t.Context().Done():
		}
	}()
}

// answersOnce passes its first check, and never answers another.
func answersOnce() http.Handler {
	var checks atomic.Int64
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if checks.Add(1) > 1 {
			<-r.Context().Done()
		}
	})
}

// TestHealthCheckNumbers has three nodes of one instance each, checked every 5 seconds: one
// comes into its service, one goes out of it, and one goes out because it does not answer
// in time. Envoy changes its mind with the second check, not with one.
func TestHealthCheckNumbers(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualNode.listeners.healthCheck.{healthyThreshold,unhealthyThreshold,intervalMillis,timeoutMillis}")
	s := newStage(t)
	names := newZone(t, 0)
	comes, goes := &checkedApp{make(chan chan verdict)}, &checkedApp{make(chan chan verdict)}
	comes.first(t, fail)
	goes.first(t, pass)
	var services []string
	for name, c := range map[string]struct {
		app                         http.Handler
		timeout, healthy, unhealthy int
	}{
		"comes": {comes, 60000, 2, 10},
		"goes":  {goes, 60000, 10, 2},
		"hangs": {answersOnce(), 2000, 10, 2},
	} {
		names.set(name+".test", serveCleartext(t, c.app))
		s.node(name, poolAt(name+".test", "http", fmt.Sprintf(
			`,"healthCheck":{"protocol":"http","path":"/ping","healthyThreshold":%d,"unhealthyThreshold":%d,"timeoutMillis":%d,"intervalMillis":5000}`,
			c.healthy, c.unhealthy, c.timeout)))
		s.provided(name+".local", name)
		services = append(services, name+".local")
	}
	s.startFrontWith(s.defineCaller("", services...), names.resolver)

	for range 2 {
		in, out := comes.next(t), goes.next(t)
		if err := errors.Join(s.isHealthy("comes", "http", 0, 1), s.isHealthy("goes", "http", 1, 1)); err != nil {
			t.Error(err)
		}
		in <- pass
		out <- cut
	}
	for name, want := range map[string]int{"comes": 1, "goes": 0, "hangs": 0} {
		meshtest.Eventually(t, "Envoy changes its mind of "+name, func() error { return s.isHealthy(name, "http", want, 1) })
	}
	if n, err := stat(s.front, fmt.Sprintf("cluster.cds_egress_test_hangs_http_%d.health_check.success", port)); err != nil || n != 1 {
		t.Errorf("%d checks of the instance that does not answer passed, %v; want the first", n, err)
	}
}
