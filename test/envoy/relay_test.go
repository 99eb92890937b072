package envoy

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// shortDir returns a folder whose name is short enough for sockets in it.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "relay-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Agents, and their Envoys, that start while the control plane is away serve with what the
// last ones had; when it is back, edits come.
func TestRestartWithoutTheControlPlane(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.app("green", named("green")).Ready(t)
	blue := meshtest.ProxyConfig{
		ARN: meshtest.ARN("test", "blue"), Bind: meshtest.Address(t), App: meshtest.Serve(t, port, named("blue")),
		Env: []string{"FAIRLEAD_CACHE_DIR=" + shortDir(t)},
	}
	s.plane.Node(t, "test", "blue", blue.Bind, port)
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1, "green", 0))
	front := s.defineFront()
	cache := filepath.Join(shortDir(t), "made", "by the agent")
	front.Env = []string{"FAIRLEAD_CACHE_DIR=" + cache}
	target := s.plane.Proxy(t, blue).Ready(t)
	s.startFront(front)
	s.awaitAnswer("/", http.StatusOK)
	meshtest.Eventually(t, "the copies are written", func() error {
		for _, dir := range []string{cache, strings.TrimPrefix(blue.Env[0], "FAIRLEAD_CACHE_DIR=")} {
			if all, _ := filepath.Glob(filepath.Join(dir, "copies", "*.xds")); len(all) != 1 {
				return fmt.Errorf("in %s there are %v", dir, all)
			}
		}
		return nil
	})

	s.plane.Stop(t)
	s.front.Kill()
	target.Kill()
	target = s.plane.Proxy(t, blue).Ready(t)
	s.startFront(front)
	s.awaitAnswer("/", http.StatusOK)
	if _, body := s.get("/"); body != "blue" {
		t.Errorf("answered %q, want blue", body)
	}
	for _, x := range []*meshtest.Proxy{s.front, target} {
		if !strings.Contains(x.Log.String(), "the control plane does not answer") {
			t.Errorf("the log does not say that the control plane is away:\n%s", x.Log)
		}
	}
	s.plane.Run(t)
	s.route(meshtest.Weights("blue", 0, "green", 1))
	meshtest.Eventually(t, "an edit comes", func() error {
		if _, body := s.get("/"); body != "green" {
			return fmt.Errorf("answered %q", body)
		}
		return nil
	})
}

// One relay serves the Envoys of a host: one under our agent, and one whose bootstrap is
// that of App Mesh's own agent, which asks for the state of the world and for the
// endpoints of its own cluster first. Both outlive the relay.
func TestRelayOfAHost(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	socket := filepath.Join(shortDir(t), "xds.sock")
	relay := s.plane.Relay(t, socket)
	app := meshtest.ProxyConfig{
		ARN: meshtest.ARN("test", "blue"), Bind: meshtest.Address(t), App: meshtest.Serve(t, port, named("blue")),
		Env: []string{"FAIRLEAD_XDS_ENDPOINT=unix://" + socket, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY="},
	}
	s.plane.Node(t, "test", "blue", app.Bind, port)
	s.app("green", named("green")).Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1, "green", 0))
	s.plane.Proxy(t, app).Ready(t)
	s.startFrontWith(s.defineFront(), func(b map[string]any) { asAppMeshs(b, socket) })
	s.awaitAnswer("/", http.StatusOK)
	l := s.startLoad()
	l.awaitShift(t, "blue", "green")
	s.route(meshtest.Weights("blue", 0, "green", 1))
	l.awaitShift(t, "green", "blue")

	relay.Kill()
	meshtest.Eventually(t, "Envoy has noticed", func() error { return connected(s.front, false) })
	l.awaitShift(t, "green", "blue")
	s.route(meshtest.Weights("blue", 1, "green", 0))
	s.plane.Relay(t, socket)
	l.awaitShift(t, "blue", "green")
	l.end(t)
	s.noMeshFailures()
}

// asAppMeshs has a bootstrap lead to a relay as App Mesh's agent writes it: Google's gRPC
// client, the state of the world, and a cluster of Envoy's own with endpoints that are
// asked for.
func asAppMeshs(b map[string]any, socket string) {
	ads := map[string]any{
		"api_type": "GRPC", "transport_api_version": "V3",
		"grpc_services": []any{map[string]any{"google_grpc": map[string]any{
			"target_uri": "unix://" + socket, "stat_prefix": "ads",
			"channel_args": map[string]any{"args": map[string]any{"grpc.initial_reconnect_backoff_ms": map[string]any{"int_value": 100}}},
		}}},
	}
	b["dynamic_resources"].(map[string]any)["ads_config"] = ads
	b["static_resources"] = map[string]any{"clusters": []any{map[string]any{
		"name": "local_cluster", "type": "EDS", "connect_timeout": "1s",
		"eds_cluster_config": map[string]any{
			"service_name": "local_cluster",
			"eds_config":   map[string]any{"ads": map[string]any{}, "resource_api_version": "V3", "initial_fetch_timeout": "0.001s"},
		},
	}}}
	manager, _ := b["cluster_manager"].(map[string]any)
	if manager == nil {
		manager = map[string]any{}
	}
	manager["local_cluster_name"] = "local_cluster"
	b["cluster_manager"] = manager
}

// A relay that the control plane refuses says why, and an Envoy behind it gets nothing.
func TestRelayWithAWrongKey(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	socket := filepath.Join(shortDir(t), "xds.sock")
	relay := s.plane.Relay(t, socket, "AWS_SECRET_ACCESS_KEY=wrong")
	s.plane.Node(t, "test", "front", "", 0)
	x := s.plane.Proxy(t, meshtest.ProxyConfig{
		ARN: meshtest.ARN("test", "front"), Bind: meshtest.Address(t), App: meshtest.Address(t),
		Env: []string{"FAIRLEAD_XDS_ENDPOINT=unix://" + socket},
	})
	meshtest.Eventually(t, "the refusal is in the relay's log", func() error {
		if log := relay.Log.String(); !strings.Contains(log, "InvalidSignatureException") || !strings.Contains(log, "Unauthenticated") {
			return errors.New(log)
		}
		return nil
	})
	if ready, err := x.Admin("/ready"); err == nil && strings.Contains(ready, "LIVE") {
		t.Error("an Envoy behind it got its configuration")
	}
}
