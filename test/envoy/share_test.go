package envoy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

const (
	guestAccount = "000000000002"
	guestARN     = "mesh/test@" + meshtest.Account + "/virtualNode/guest"
)

// A proxy of another account is in the mesh as long as the mesh is shared with it: then
// its Envoy loses listeners and clusters, and the owner's go on.
func TestUnsharingTakesTheGuestsConfigurationAway(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.app("blue", named("blue")).Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1))
	s.caller()
	s.awaitAnswer("/", http.StatusOK)
	guest := s.guest()
	calls := guest.Outbound()
	s.awaitGuest(guest, calls)

	l := s.startLoad()
	s.owner().Want(t, http.MethodDelete, "/v1/meshes/test/shares/"+guestAccount, "", nil)
	meshtest.Eventually(t, "the guest's Envoy has neither listeners nor clusters", func() error {
		if listeners, clusters, err := configured(guest); err != nil || listeners+clusters > 0 {
			return fmt.Errorf("it has %d listeners and %d clusters, %w", listeners, clusters, err)
		}
		return nil
	})
	for _, c := range []*http.Client{calls, guest.Outbound()} { // with connections that are open, and new ones
		if status, body, err := meshtest.Get(c, url("/")); err == nil && status == http.StatusOK {
			t.Errorf("a call through the guest's Envoy is answered with %d %q", status, body)
		}
	}
	if status, body, err := meshtest.Get(&http.Client{}, inbound(guest)); err == nil && status == http.StatusOK {
		t.Errorf("a call to the guest's Envoy is answered with %d %q", status, body)
	}
	l.awaitShift(t, "blue")
	l.end(t)
	s.noMeshFailures()
	if status, body := s.get("/"); status != http.StatusOK || body != "blue" {
		t.Errorf("the owner's proxy answers %d %q", status, body)
	}

	s.share()
	s.awaitGuest(guest, guest.Outbound())
}

// owner is a light client of the mesh's owner.
func (s *stage) owner() *meshtest.Signed { return s.plane.Signed(s.t) }

func (s *stage) share() {
	s.t.Helper()
	s.owner().Want(s.t, http.MethodPut, "/v1/meshes/test/shares", `{"accountId":"`+guestAccount+`"}`, nil)
}

// guest shares the mesh with another account, which defines a virtual node in it that
// has a listener and calls the service, and starts its Envoy.
func (s *stage) guest() *meshtest.Proxy {
	s.t.Helper()
	creds := s.plane.Account(s.t, guestAccount)
	s.share()
	bind := meshtest.Address(s.t)
	s.owner().As(creds).Want(s.t, http.MethodPut, "/v20190125/meshes/test/virtualNodes?meshOwner="+meshtest.Account,
		`{"virtualNodeName":"guest","spec":`+meshtest.NodeSpec(bind, port, service)+`}`, nil)
	return s.plane.Proxy(s.t, meshtest.ProxyConfig{
		ARN: guestARN, Bind: bind, App: meshtest.Serve(s.t, port, named("guest")),
		Env: []string{"AWS_ACCESS_KEY_ID=" + creds.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + creds.SecretAccessKey},
	}).Ready(s.t)
}

// awaitGuest waits until calls through the guest's Envoy, and to it, are answered.
func (s *stage) awaitGuest(guest *meshtest.Proxy, calls *http.Client) {
	s.t.Helper()
	meshtest.Eventually(s.t, "the guest is in the mesh", func() error {
		for _, c := range []struct {
			client    *http.Client
			url, want string
		}{{calls, url("/"), "blue"}, {&http.Client{}, inbound(guest), "guest"}} {
			if status, body, err := meshtest.Get(c.client, c.url); err != nil || status != http.StatusOK || body != c.want {
				return fmt.Errorf("%s answers %d %q, %w", c.url, status, body, err)
			}
		}
		return nil
	})
}

// inbound is where a proxy is called from outside.
func inbound(x *meshtest.Proxy) string { return fmt.Sprintf("http://%s:%d/", x.Bind, port) }

// configured counts what an Envoy was given by its control plane and serves.
func configured(x *meshtest.Proxy) (listeners, clusters int, err error) {
	dump, err := x.Admin("/config_dump")
	if err != nil {
		return 0, 0, err
	}
	var all struct {
		Configs []struct {
			DynamicListeners []struct { // with neither, it only drains
				Active  json.RawMessage `json:"active_state"`
				Warming json.RawMessage `json:"warming_state"`
			} `json:"dynamic_listeners"`
			DynamicActiveClusters  []json.RawMessage `json:"dynamic_active_clusters"`
			DynamicWarmingClusters []json.RawMessage `json:"dynamic_warming_clusters"`
		}
	}
	if err := json.Unmarshal([]byte(dump), &all); err != nil {
		return 0, 0, errors.Join(errors.New("reading the configuration of Envoy"), err)
	}
	for _, c := range all.Configs {
		for _, l := range c.DynamicListeners {
			if l.Active != nil || l.Warming != nil {
				listeners++
			}
		}
		clusters += len(c.DynamicActiveClusters) + len(c.DynamicWarmingClusters)
	}
	return listeners, clusters, nil
}
