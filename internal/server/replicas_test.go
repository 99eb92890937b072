package server_test

import (
	"encoding/hex"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/server"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// startReplicas runs two servers over one etcd. peers is where they listen for each other.
func startReplicas(t *testing.T, peers string) [2]*meshtest.Plane {
	t.Helper()
	etcd, dir := meshtest.StartEtcd(t, 1), t.TempDir()
	key := filepath.Join(dir, "seal.key")
	meshtest.WriteFile(t, key, []byte(hex.EncodeToString(slices.Repeat([]byte{3}, 32))))
	var all [2]*meshtest.Plane
	for i := range all {
		all[i] = meshtest.StartWith(t, meshtest.Options{Change: func(c *server.Config) {
			c.Store = store.Config{Endpoints: etcd.Endpoints, SealKeyFile: key, Logger: c.Log, Quotas: meshtest.MostQuotas()}
			c.CredentialsFile, c.PeerListen = filepath.Join(dir, "credentials"), peers
		}})
	}
	for _, p := range all {
		wantMetric(t, p, "fairlead_replicas", "2")
	}
	return all
}

// TestQuotaOfProxiesHoldsOnAllReplicas opens streams of one node on two servers.
func TestQuotaOfProxiesHoldsOnAllReplicas(t *testing.T) {
	t.Parallel()
	all := startReplicas(t, "127.0.0.1:0")
	all[0].Put(t, "/meshes", `{"meshName":"test"}`)
	all[0].Node(t, "test", "front", "10.0.0.1", 8080, "missing.local")
	quota := map[mesh.Quota]int{mesh.QuotaNodeProxies: 2}
	if err := all[0].Server().Store().SetQuotas(t.Context(), store.System("test"), meshtest.Account, quota); err != nil {
		t.Fatal(err)
	}
	open := func(p *meshtest.Plane) (*meshtest.Delta, error) {
		d, err := meshtest.OpenDelta(t.Context(), p.Addrs.XDS, p.Creds)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Close)
		if err := d.Begin(&corev3.Node{Id: meshtest.ARN("test", "front")}, nil); err != nil {
			t.Fatal(err)
		}
		meshtest.Eventually(t, "the stream is served or refused", func() error {
			if len(d.Resources(envoy.TypeListener)) == 0 && d.Err() == nil {
				return errors.New("neither")
			}
			return nil
		})
		return d, d.Err()
	}
	var first *meshtest.Delta
	for _, p := range all {
		meshtest.Eventually(t, "the node and the quota are known", func() error {
			if p.Server().Store().Quotas(meshtest.Account)[mesh.QuotaNodeProxies] != 2 {
				return errors.New("not yet")
			}
			return nil
		})
		d, err := open(p)
		if err != nil {
			t.Fatalf("a proxy below the quota is refused: %v", err)
		}
		if first == nil {
			first = d
		}
	}
	for _, p := range all {
		if _, err := open(p); err == nil || !strings.Contains(err.Error(), "as many proxies connected as") {
			t.Errorf("a third proxy is answered with %v", err)
		}
	}
	// What one knows the other tells.
	for _, p := range all {
		var proxies struct {
			Proxies         []struct{ ConnectionID string }
			MissingReplicas []string
		}
		p.Signed(t).Want(t, "GET", "/v1/meshes/test/proxies", "", &proxies)
		if len(proxies.Proxies) != 2 || len(proxies.MissingReplicas) > 0 {
			t.Fatalf("proxies are %+v", proxies)
		}
		for _, x := range proxies.Proxies {
			var c struct{ Configuration struct{ ConnectionID string } }
			p.Signed(t).Want(t, "GET", "/v1/meshes/test/configuration?resource=virtualNode/front&connectionId="+x.ConnectionID, "", &c)
			if c.Configuration.ConnectionID != x.ConnectionID {
				t.Errorf("the configuration of %s is that of %q", x.ConnectionID, c.Configuration.ConnectionID)
			}
		}
		var problems struct{ Problems []struct{ ARN string } }
		p.Signed(t).Want(t, "GET", "/v1/meshes/test/problems", "", &problems)
		if len(problems.Problems) != 1 {
			t.Errorf("the missing backend is told %d times", len(problems.Problems))
		}
	}
	first.Close()
	meshtest.Eventually(t, "there is room once a proxy on the other server is gone", func() error {
		_, err := open(all[1])
		return err
	})
}

// TestReplicasThatDoNotListen are named, and the one that is called answers for itself.
func TestReplicasThatDoNotListen(t *testing.T) {
	t.Parallel()
	all := startReplicas(t, "")
	all[0].Put(t, "/meshes", `{"meshName":"test"}`)
	for _, path := range []string{"/v1/meshes/test/proxies", "/v1/meshes/test/problems", "/v1/events"} {
		a, err := all[0].Signed(t).Do(t.Context(), http.MethodGet, path, "")
		if err != nil || a.Status != http.StatusOK || !strings.Contains(a.Body, `"missingReplicas":["`) {
			t.Errorf("%s: %v, %v; want an answer with the other replica named", path, a, err)
		}
	}
	if n := strings.Count(all[0].Log.String(), "another replica does not answer"); n != 1 {
		t.Errorf("that the other does not answer is logged %d times, want once", n)
	}
}
