package xds_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/xds"
)

// Many proxies that come at once are all served, and writes back to back reach all of them
// with few responses.
func TestManyProxiesAtOnce(t *testing.T) {
	t.Parallel()
	const proxies, writes = 200, 100 // more than come in at once
	registry := prometheus.NewRegistry()
	p := newPlane(t, func(c *xds.Config) { c.Metrics = registry })
	p.node(owner, "back")
	p.create(owner, testMesh.Object(mesh.KindVirtualService, "", "back.test.local"), `{"provider":{"virtualNode":{"virtualNodeName":"back"}}}`)
	p.create(owner, testMesh.Object(mesh.KindVirtualNode, "", "caller"), meshtest.NodeSpec("127.0.0.9", 8080, "back.test.local"))
	all := make([]*meshtest.Delta, proxies)
	for i := range all {
		all[i] = p.open(p.owner, meshtest.ARN("test", "caller"), nil)
	}
	for _, d := range all {
		d.Await(t, "a first configuration", func() bool { return len(d.Resources(envoy.TypeListener)) > 0 })
	}
	if n := metric(t, registry, "fairlead_xds_refused_streams_total"); n != 0 {
		t.Errorf("%v streams were refused", n)
	}
	before := metric(t, registry, "fairlead_xds_responses_total")
	last := ""
	for i := range writes {
		last = fmt.Sprintf("10.1.0.%d", i+1)
		p.move("back", last)
	}
	for _, d := range all {
		d.Await(t, "the last write", func() bool {
			c := d.Resources(envoy.TypeCluster)["cds_egress_test_back_http_8080"]
			return c != nil && strings.Contains(string(c.GetResource().GetValue()), last)
		})
	}
	sent := metric(t, registry, "fairlead_xds_responses_total") - before
	t.Logf("%d writes reached %d proxies with %.1f responses each", writes, proxies, sent/proxies)
	if sent > proxies*writes/2 {
		t.Errorf("%d writes took %v responses for %d proxies: they are not taken together", writes, sent, proxies)
	}
}
