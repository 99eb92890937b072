package envoy

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/envoybin"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// Two Envoys of different versions stand for one virtual node, and their settings ask for
// all whose form depends on the version. Each gets it in the form that it knows.
func TestEnvoysOfSeveralVersions(t *testing.T) {
	t.Parallel()
	older := meshtest.OlderEnvoys(t)
	newest := meshtest.EnvoyMinor(t)
	if newest < 40 {
		t.Skipf("Envoy 1.%d is no newer one to stand beside an older", newest)
	}
	for minor, path := range older {
		t.Run(fmt.Sprint("1.", minor), func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.app("blue", named("blue")).Ready(t)
			s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1))
			s.defineFront()
			old := s.versioned("ENVOY_PATH=" + path)
			s.front = s.versioned()
			s.awaitVersions(minor, newest)
			for _, x := range []*meshtest.Proxy{old, s.front} {
				s.http = x.Outbound()
				s.awaitAnswer("/", http.StatusOK)
				knowsAll(t, x)
			}
			wantForm(t, old, minor)
			wantForm(t, s.front, newest)
		})
	}
}

// versioned starts an Envoy for the node that calls the service.
func (s *stage) versioned(env ...string) *meshtest.Proxy {
	s.t.Helper()
	// Nobody listens at the collector's address: the form of the configuration is what counts.
	collector := "http://" + meshtest.Address(s.t) + ":4317"
	env = append([]string{"APPMESH_METRIC_EXTENSION_VERSION=1", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=" + collector, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, env...)
	c := meshtest.ProxyConfig{ARN: meshtest.ARN("test", "front"), Bind: meshtest.Address(s.t), App: meshtest.Address(s.t), Env: env}
	return s.plane.Proxy(s.t, c).Ready(s.t)
}

// awaitVersions waits until Envoys of the versions have taken all that there is for the
// node.
func (s *stage) awaitVersions(minors ...int) {
	s.t.Helper()
	meshtest.Eventually(s.t, "both Envoys have all", func() error {
		var have struct {
			Proxies []struct {
				ARN, EnvoyVersion, Rejected string
				InSync                      bool
			}
		}
		s.owner().Want(s.t, http.MethodGet, "/v1/meshes/test/proxies", "", &have)
		found := map[int]bool{}
		for _, p := range have.Proxies {
			if !strings.HasSuffix(p.ARN, "/front") {
				continue
			}
			if !p.InSync || p.Rejected != "" {
				return fmt.Errorf("Envoy %s is in sync: %v, rejected: %q", p.EnvoyVersion, p.InSync, p.Rejected)
			}
			if minor, ok := envoybin.Minor(p.EnvoyVersion); ok {
				found[minor] = true
			}
		}
		for _, minor := range minors {
			if !found[minor] {
				return fmt.Errorf("no Envoy 1.%d in %v", minor, found)
			}
		}
		return nil
	})
}

// knowsAll fails the test if an Envoy was sent what it refused, or passed over.
func knowsAll(t *testing.T, x *meshtest.Proxy) {
	t.Helper()
	if err := (&taker{Proxy: x}).refused(); err != nil {
		t.Errorf("Envoy at %s: %v", x.Bind, err)
	}
}

// wantForm checks in which form an Envoy has its metrics and its log.
func wantForm(t *testing.T, x *meshtest.Proxy, minor int) {
	t.Helper()
	meshtest.Eventually(t, "Envoy's listeners can be read", func() error {
		dump, err := x.Admin("/config_dump?resource=dynamic_listeners")
		if err != nil {
			return err
		}
		if !strings.Contains(dump, "envoy.access_loggers.open_telemetry") {
			return errors.New("no listener has the log")
		}
		for form, want := range map[string]bool{
			`"stats_scope"`: minor >= 39, `"stat_prefix": "appmesh"`: minor < 39,
			`"resource_detectors"`: minor >= 40, `"resource_attributes"`: minor < 40,
		} {
			if strings.Contains(dump, form) != want {
				t.Errorf("Envoy 1.%d has %s: %v", minor, form, !want)
			}
		}
		return nil
	})
}
