package server_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/server"
)

// TestAWrongClock has a server's clock step an hour while it runs: what was signed by the
// right time is refused in clear words, with the time that would do; clients that follow are
// served, and streams that are open go on.
func TestAWrongClock(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(off.String(), func(t *testing.T) {
			t.Parallel()
			var ahead atomic.Int64
			p := meshtest.StartWith(t, meshtest.Options{Change: func(c *server.Config) {
				c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
			}})
			p.Put(t, "/meshes", `{"meshName":"shop"}`)
			p.Node(t, "shop", "a", "a.test", 8080)
			node := &corev3.Node{Id: meshtest.ARN("shop", "a")}
			stream := p.Delta(t, node)
			stream.Await(t, "its first clusters", func() bool { return len(stream.Resources(envoy.TypeCluster)) > 0 })
			before := stream.Versions()[envoy.TypeCluster]
			ahead.Store(int64(off))

			strict := meshtest.NewSigned(p.URL(), p.Creds)
			defer strict.Close()
			a, err := strict.Do(t.Context(), http.MethodGet, "/v20190125/meshes", "")
			if err != nil || a.Status != http.StatusForbidden || a.Code != "InvalidSignatureException" ||
				!strings.Contains(a.Body, "Signature expired") && !strings.Contains(a.Body, "Signature not yet current") {
				t.Errorf("signed by another clock: %v, %v", a, err)
			}
			client := meshtest.NewSigned(p.URL(), p.Creds)
			defer client.Close()
			client.FollowClock = true
			a, err = client.Do(t.Context(), http.MethodPut, "/v20190125/meshes/shop/virtualNodes/a", fmt.Sprintf(`{"spec":%s}`, meshtest.NodeSpec("b.test", 8081)))
			if err != nil || a.Status != http.StatusOK {
				t.Fatalf("signed by the server's clock: %v, %v", a, err)
			}
			var written struct {
				Metadata struct{ LastUpdatedAt float64 }
			}
			if err := json.Unmarshal([]byte(a.Body), &written); err != nil {
				t.Fatal(err)
			}
			if at := time.Unix(int64(written.Metadata.LastUpdatedAt), 0); (time.Until(at) - off).Abs() > 10*time.Minute {
				t.Errorf("what was written is dated %s, the server's clock is %s ahead", at, off)
			}
			stream.Await(t, "the edit", func() bool { return !maps.Equal(before, stream.Versions()[envoy.TypeCluster]) })
			late, err := meshtest.OpenDelta(t.Context(), p.Addrs.XDS, p.Creds)
			if err != nil {
				t.Fatal(err)
			}
			defer late.Close()
			if err := late.Begin(node, nil); err != nil {
				t.Fatal(err)
			}
			meshtest.Eventually(t, "a new stream that is signed by the right clock is refused", func() error {
				if err := late.Err(); err == nil || !strings.Contains(err.Error(), "Signature") {
					return fmt.Errorf("it ended with: %w", err)
				}
				return nil
			})
		})
	}
}
