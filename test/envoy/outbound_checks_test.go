package envoy

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// verdict is what becomes of a health check.
type verdict string

const (
	pass  verdict = "pass"
	fail  verdict = "fail"  // an answer that says so, which counts at once
	cut   verdict = "cut"   // the connection ends, which counts towards the threshold
	hangs verdict = "hangs" // no answer, for as long as Envoy waits
)

// checkedApp is an instance that holds each health check until the test says what becomes
// of it. While one is held Envoy makes no other, and changes its mind of the instance
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
		switch v {
		case fail:
			w.WriteHeader(http.StatusServiceUnavailable)
		case cut:
			panic(http.ErrAbortHandler)
		case hangs:
			<-r.Context().Done()
		case pass:
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

// TestHealthCheckNumbers has three nodes of one instance each, checked every 5 seconds: one
// comes into its service, two go out of it, the second of those for want of answers.
func TestHealthCheckNumbers(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualNode.listeners.healthCheck.{healthyThreshold,unhealthyThreshold,intervalMillis,timeoutMillis}")
	s := newStage(t)
	names := newZone(t, 0)
	apps := map[string]*checkedApp{}
	var services []string
	for name, c := range map[string]struct {
		timeout, healthy, unhealthy int
		first                       verdict
	}{
		"comes": {60000, 2, 10, fail},
		"goes":  {60000, 10, 2, pass},
		"hangs": {2000, 10, 2, pass},
	} {
		app := &checkedApp{held: make(chan chan verdict)}
		apps[name] = app
		names.set(name+".test", serveCleartext(t, app))
		s.node(name, poolAt(name+".test", "http", fmt.Sprintf(
			`,"healthCheck":{"protocol":"http","path":"/ping","healthyThreshold":%d,"unhealthyThreshold":%d,"timeoutMillis":%d,"intervalMillis":5000}`,
			c.healthy, c.unhealthy, c.timeout)))
		s.provided(name+".local", name)
		services = append(services, name+".local")
		go func() { // the first check alone decides of a new instance
			select {
			case said := <-app.held:
				said <- c.first
			case <-t.Context().Done():
			}
		}()
	}
	s.startFrontWith(s.defineCaller("", services...), names.resolver)

	t.Run("at work", func(t *testing.T) {
		in := func(t *testing.T, name string, want int) {
			t.Helper()
			meshtest.Eventually(t, fmt.Sprintf("%d instances are in the service", want), func() error {
				return s.isHealthy(name, "http", want, 1)
			})
		}
		// changes answers two checks. Envoy changes its mind with the second.
		changes := func(t *testing.T, name string, v verdict, before int) {
			t.Helper()
			for range 2 {
				said := apps[name].next(t)
				if err := s.isHealthy(name, "http", before, 1); err != nil {
					t.Error(err)
				}
				said <- v
			}
			in(t, name, 1-before)
		}
		t.Run("comes", func(t *testing.T) {
			t.Parallel()
			changes(t, "comes", pass, 0)
		})
		t.Run("goes", func(t *testing.T) {
			t.Parallel()
			in(t, "goes", 1)
			changes(t, "goes", cut, 1)
		})
		t.Run("hangs", func(t *testing.T) {
			t.Parallel()
			in(t, "hangs", 1)
			apps["hangs"].next(t) <- hangs
			apps["hangs"].next(t) <- hangs // the first has timed out
			in(t, "hangs", 0)
		})
	})
}
