package envoy

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// outlierDetection returns one for the rest of a listener, that ejects an instance for a
// number of seconds, looks for those whose time is over every 100 ms, and ejects up to
// half of the instances.
func outlierDetection(seconds int) string {
	return fmt.Sprintf(`,"outlierDetection":{"maxServerErrors":3,"interval":{"unit":"ms","value":100},"baseEjectionDuration":{"unit":"s","value":%d},"maxEjectionPercent":50}`, seconds)
}

// failingFirst is an application that answers its first requests with an error, and the others
// with its name.
func failingFirst(name string, first int64) http.Handler {
	var n atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) <= first {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprint(w, name)
	})
}

// Outlier detection takes an instance that answers with errors out of the service, and
// leaves the others in. When its time is over it comes back.
func TestOutlierDetection(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualNode.listeners.outlierDetection.{maxServerErrors,interval,baseEjectionDuration,maxEjectionPercent}")
	s := newStage(t)
	names := newZone(t, 0)
	s.routed("http")
	for name, c := range map[string]struct {
		seconds   int
		instances []http.Handler
	}{
		"pool": {600, []http.Handler{named("good"), failingFirst("bad", math.MaxInt64), named("good")}},
		"back": {1, []http.Handler{named("good"), failingFirst("back", 3), named("good")}},
		"most": {600, []http.Handler{failingFirst("bad", math.MaxInt64), failingFirst("bad", math.MaxInt64), failingFirst("bad", math.MaxInt64), failingFirst("bad", math.MaxInt64)}},
	} {
		var addrs []string
		for _, h := range c.instances {
			addrs = append(addrs, serveCleartext(t, h))
		}
		names.set(name+".test", addrs...)
		s.node(name, poolAt(name+".test", "http", outlierDetection(c.seconds)))
		s.addRoute(name, "httpRoute", `{"prefix":"/`+name+`"}`, noRetries, name, 1)
	}
	s.callerWith(names.resolver)
	s.outlierOut(t)
	s.outlierBack(t)
	s.outlierMost(t)
}

func (s *stage) outlierOut(t *testing.T) {
	t.Helper()
	failed := 0
	meshtest.Eventually(t, "30 answers in a row are good", func() error {
		for range 30 {
			if status, _ := s.get("/pool"); status != http.StatusOK {
				failed++
				return fmt.Errorf("answered %d", status)
			}
		}
		return nil
	})
	if failed < 3 {
		t.Errorf("the instance was taken out after %d errors, want 3", failed)
	}
	if err := s.isHealthy("pool", "http", 2, 3); err != nil {
		t.Error(err)
	}
}

func (s *stage) outlierBack(t *testing.T) {
	t.Helper()
	meshtest.Eventually(t, "the instance is taken out", func() error {
		s.get("/back")
		return s.ejected("back", "ejections_enforced_total", 1)
	})
	meshtest.Eventually(t, "the instance is back", func() error {
		if _, body := s.get("/back"); body != "back" {
			return fmt.Errorf("%q answers", body)
		}
		return s.ejected("back", "ejections_active", 0)
	})
}

// outlierMost has all of four instances fail: two of them stay.
func (s *stage) outlierMost(t *testing.T) {
	t.Helper()
	meshtest.Eventually(t, "an instance is left in that should go out", func() error {
		s.get("/most")
		n, err := stat(s.front, outliersOf("most")+"ejections_overflow")
		if err == nil && n == 0 {
			err = errors.New("none is")
		}
		return err
	})
	if err := s.ejected("most", "ejections_active", 2); err != nil {
		t.Error(err)
	}
}

// outliersOf is how the names of statistics on a node's outliers begin.
func outliersOf(node string) string {
	return fmt.Sprintf("cluster.cds_egress_test_%s_http_%d.outlier_detection.", node, port)
}

// ejected returns an error unless a statistic on a node's outliers has a value.
func (s *stage) ejected(node, name string, want int) error {
	n, err := stat(s.front, outliersOf(node)+name)
	if err == nil && n != want {
		err = fmt.Errorf("%s of %s is %d, want %d", name, node, n, want)
	}
	return err
}
