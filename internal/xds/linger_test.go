package xds_test

import (
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/xds"
)

// rebuilds counts the translations.
func rebuilds(t *testing.T, reg *prometheus.Registry) uint64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "fairlead_xds_rebuild_seconds" {
			return f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	t.Fatal("there is no metric of translations")
	return 0
}

// A proxy that comes back finds what it is sent as it was, or as edits have made it
// meanwhile, and nothing is translated for it.
func TestAProxyThatComesBack(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	p := newPlane(t, func(c *xds.Config) { c.Linger, c.Metrics = time.Hour, reg })
	p.connect(p.owner, meshtest.ARN("test", "front")).Close()
	p.proxies(0)
	before := rebuilds(t, reg)
	again := p.connect(p.owner, meshtest.ARN("test", "front"))
	if n := rebuilds(t, reg); n != before {
		t.Errorf("%d translations for a proxy that came back", n-before)
	}
	again.Close()
	p.proxies(0)
	p.change("front", 8123)
	meshtest.Eventually(t, "the edit is translated, though there is no proxy", func() error {
		if rebuilds(t, reg) == before {
			return errNotYet
		}
		return nil
	})
	at := rebuilds(t, reg)
	last := p.connect(p.owner, meshtest.ARN("test", "front"))
	last.Await(t, "the edited listener's cluster", func() bool {
		return last.Resources(envoy.TypeCluster)["cds_ingress_test_front_http_8123"] != nil
	})
	if n := rebuilds(t, reg); n != at {
		t.Errorf("%d translations for a proxy that came back after an edit", n-at)
	}
}

// What nobody comes back to is forgotten.
func TestWhatNobodyComesBackTo(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	p := newPlane(t, func(c *xds.Config) { c.Linger, c.Metrics = time.Nanosecond, reg })
	before := uint64(0)
	meshtest.Eventually(t, "a proxy that comes back is translated for anew", func() error {
		p.connect(p.owner, meshtest.ARN("test", "front")).Close()
		p.proxies(0)
		n := rebuilds(t, reg)
		defer func() { before = n }()
		if before == 0 || n == before {
			return errors.New("it is not")
		}
		return nil
	})
}
