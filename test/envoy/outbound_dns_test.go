package envoy

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// TestIPPreference has a name with an address of either family, and shows which of them
// is called: by the virtual node's preference, and by the mesh's where the node has none.
func TestIPPreference(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualNode.serviceDiscovery.dns.ipPreference", "Mesh.serviceDiscovery.ipPreference")
	l6, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("this system has no IPv6: %v", err)
	}
	both := l6.Addr().(*net.TCPAddr).Port
	six := &http.Server{Handler: named("six")}
	go func() { _ = six.Serve(l6) }()
	t.Cleanup(func() { _ = six.Close() })
	four := meshtest.Address(t)
	serveAt(t, four, both, named("four"))
	for _, ofMesh := range []string{"", "IPv4_ONLY", "IPv6_ONLY"} {
		t.Run("mesh "+ofMesh, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			names := newZone(t, 0)
			if ofMesh != "" {
				s.plane.Put(t, "/meshes/test", fmt.Sprintf(`{"spec":{"serviceDiscovery":{"ipPreference":%q}}}`, ofMesh))
			}
			want := map[string]string{"": "four", "IPv4_ONLY": "four", "IPv4_PREFERRED": "four", "IPv6_ONLY": "six", "IPv6_PREFERRED": "six"}
			var services []string
			for ofNode := range want {
				name := serviceOf(ofNode)
				preference := ""
				if ofNode != "" {
					preference = fmt.Sprintf(`,"ipPreference":%q`, ofNode)
				}
				names.set(name, four, "::1")
				s.node(name, fmt.Sprintf(`{"listeners":[{"portMapping":{"port":%d,"protocol":"http"}}],"serviceDiscovery":{"dns":{"hostname":%q%s}}}`, both, name, preference))
				s.provided(name, name)
				services = append(services, name)
			}
			s.startFrontWith(s.defineCaller("", services...), names.resolver)
			if ofMesh == "IPv6_ONLY" {
				want[""] = "six"
			}
			for ofNode, who := range want {
				if status, body, err := meshtest.Get(s.http, "http://"+serviceOf(ofNode)+"/"); err != nil || status != 200 || body != who {
					t.Errorf("with preference %q: %d %q %v, want %s", ofNode, status, body, err, who)
				}
			}
		})
	}
}

// serviceOf returns the name of the service of an IP preference, which has an underscore
// that a host name must not have.
func serviceOf(preference string) string {
	return "node-" + strings.ReplaceAll(preference, "_", "-") + ".local"
}

// TestResponseTypes has a name with three addresses: each is an instance of its own, or
// all are ways to one.
func TestResponseTypes(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualNode.serviceDiscovery.dns.responseType")
	s := newStage(t)
	names := newZone(t, 0)
	names.set(poolName, serveCleartext(t, named("one")), serveCleartext(t, named("two")), serveCleartext(t, named("three")))
	types := map[string]string{"each": `"responseType":"ENDPOINTS",`, "one": `"responseType":"LOADBALANCER",`, "unsaid": ""}
	var services []string
	for name, responseType := range types {
		s.node(name, strings.Replace(nodeSpec(poolName, "http", ""), `{"hostname"`, "{"+responseType+`"hostname"`, 1))
		s.provided(name+".local", name)
		services = append(services, name+".local")
	}
	s.startFrontWith(s.defineCaller("", services...), names.resolver)
	for name, want := range map[string]int{"each": 3, "one": 1, "unsaid": 1} {
		who := map[string]bool{}
		for range 30 {
			status, body, err := meshtest.Get(s.http, "http://"+name+".local/")
			if err != nil || status != http.StatusOK {
				t.Fatalf("%s: %d %q %v", name, status, body, err)
			}
			who[body] = true
		}
		if err := s.isHealthy(name, "http", want, want); err != nil || len(who) != want {
			t.Errorf("%s: %v answered, %v; want %d", name, who, err, want)
		}
	}
}
