package envoy

import (
	"fmt"
	"net/http"
	"net/netip"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// drainTime is how long an instance that is replaced goes on serving: longer than the
// 5 s after which Envoys ask for a name again, and than a late answer takes.
const drainTime = "8"

// instance is one of several applications of a virtual node, with its Envoy.
type instance struct {
	name  string
	addr  netip.Addr
	proxy *meshtest.Proxy
}

// instance starts an instance of the virtual node pool and waits for its Envoy.
func (s *stage) instance(name string) instance {
	s.t.Helper()
	bind := meshtest.Address(s.t)
	x := s.plane.Proxy(s.t, meshtest.ProxyConfig{
		ARN: meshtest.ARN("test", "pool"), Bind: bind, App: meshtest.Serve(s.t, port, named(name)),
		Env: []string{"LISTENER_DRAIN_WAIT_TIME_S=" + drainTime},
	})
	return instance{name, netip.MustParseAddr(bind), x.Ready(s.t)}
}

// The instances of a node are replaced one by one under load, as a deployment does: a new
// one starts, its address takes the old one's place in DNS, and the old one is told to
// end at that moment, when its callers do not know it yet.
func TestReplacedInstancesFailNoRequest(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.plane.Put(t, "/meshes/test/virtualNodes", fmt.Sprintf(
		`{"virtualNodeName":"pool","spec":{"listeners":[{"portMapping":{"port":%d,"protocol":"http"}}],`+
			`"serviceDiscovery":{"dns":{"hostname":"pool.test","responseType":"ENDPOINTS"}}}}`, port))
	running := []instance{s.instance("first"), s.instance("second")}
	names := meshtest.NewNames()
	names.Set("pool.test", running[0].addr, running[1].addr)
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("pool", 1))
	s.callerAsking(names)
	s.awaitAnswer("/", http.StatusOK)
	l := s.startLoad()
	for i := range running {
		l.awaitShift(t, running[i].name)
	}
	for i := range running {
		old := running[i]
		running[i] = s.instance("new " + old.name)
		names.SetLate(editLate, "pool.test", running[0].addr, running[1].addr)
		old.proxy.Drain()
		l.awaitShift(t, running[i].name, old.name)
		meshtest.Eventually(t, old.name+" has ended", func() error {
			select {
			case <-old.proxy.Ended():
				return nil
			default:
				return fmt.Errorf("it drains")
			}
		})
	}
	l.more(20)
	l.end(t)
	s.noMeshFailures()
	if n := sum(t, s.front, `cluster\..*\.upstream_rq_retry$`); n > 0 {
		t.Errorf("%d requests were tried again", n)
	}
}
