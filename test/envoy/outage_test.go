package envoy

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

func TestTrafficGoesOnWithoutTheControlPlane(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.app("blue", named("blue")).Ready(t)
	s.app("green", named("green")).Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1, "green", 0))
	s.caller()
	s.awaitAnswer("/", http.StatusOK)
	l := s.startLoad()
	l.awaitShift(t, "blue", "green")
	s.plane.Stop(t)
	l.awaitShift(t, "blue", "green") // 20 more answers, and more below
	meshtest.Eventually(t, "Envoy has noticed", func() error { return connected(s.front, false) })
	l.awaitShift(t, "blue", "green")
	s.plane.Run(t)
	meshtest.Eventually(t, "Envoy has reconnected", func() error { return connected(s.front, true) })
	s.route(meshtest.Weights("blue", 0, "green", 1))
	l.awaitShift(t, "green", "blue")
	l.end(t)
	s.noMeshFailures()
}

// connected checks Envoy's own view of its stream.
func connected(x *meshtest.Proxy, want bool) error {
	stats, err := x.Admin("/stats?filter=control_plane.connected_state")
	if err != nil {
		return err
	}
	if strings.Contains(stats, "connected_state: 1") != want {
		return errors.New(stats)
	}
	return nil
}

func TestAWrongKeyGetsNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.plane.Node(t, "test", "front", "", 0)
	x := s.plane.Proxy(t, meshtest.ProxyConfig{
		ARN: meshtest.ARN("test", "front"), Bind: meshtest.Address(t), App: meshtest.Address(t),
		Env: []string{"AWS_SECRET_ACCESS_KEY=wrong"},
	})
	meshtest.Eventually(t, "the refusal is in the proxy's log", func() error {
		if !strings.Contains(x.Log.String(), "InvalidSignatureException") {
			return errors.New("not yet")
		}
		return nil
	})
	if ready, err := x.Admin("/ready"); err == nil && strings.Contains(ready, "LIVE") {
		t.Error("an Envoy with a wrong key got its configuration")
	}
}
