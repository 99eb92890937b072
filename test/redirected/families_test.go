//go:build linux

package redirected

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// A name leads to one host by IPv4 and to another by IPv6, and each has an application on
// the loopback address of either family: the answer says which host a caller chose, and
// which address that host's Envoy took its application to be on.
func TestIPPreferences(t *testing.T) {
	t.Parallel()
	s := newStage(t, `{}`)
	s.node("back", meshtest.NodeSpec("only4.test", port))
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("back", 1))
	four, six := s.familyHost("four"), s.familyHost("six")
	s.hosts.Names.Set("both.test", four.V4, six.V6)
	s.hosts.Names.Set("only4.test", four.V4)
	s.hosts.Names.Set("only6.test", six.V6)
	s.caller(service)

	// No two steps in a row expect the same answer.
	for _, c := range []struct {
		mesh, node, name string
		status           int
		want             string
	}{
		{"", "", "only4.test", 200, "four on 127.0.0.1"},
		{"IPv6_ONLY", "", "both.test", 200, "six on ::1"},
		{"IPv4_ONLY", "", "both.test", 200, "four on 127.0.0.1"},
		{"IPv6_PREFERRED", "", "both.test", 200, "six on ::1"},
		{"IPv4_PREFERRED", "", "both.test", 200, "four on 127.0.0.1"},
		// A preference is one: the other family serves where there is nothing else.
		{"IPv6_PREFERRED", "", "only4.test", 200, "four on ::1"},
		{"IPv4_PREFERRED", "", "only6.test", 200, "six on 127.0.0.1"},
		{"IPv4_ONLY", "", "only6.test", 503, ""},
		// The node's own wins over the mesh's.
		{"IPv4_ONLY", "IPv6_ONLY", "both.test", 200, "six on ::1"},
		{"IPv6_ONLY", "IPv4_ONLY", "both.test", 200, "four on 127.0.0.1"},
		{"", "IPv6_PREFERRED", "both.test", 200, "six on ::1"},
		{"", "IPv4_PREFERRED", "both.test", 200, "four on 127.0.0.1"},
		{"IPv6_ONLY", "", "only4.test", 503, ""},
	} {
		s.prefer(c.mesh, c.node, c.name)
		meshtest.Eventually(t, fmt.Sprintf("mesh %q, node %q, %s: %d %q", c.mesh, c.node, c.name, c.status, c.want), func() error {
			return answers(fresh(s.front, "tcp4"), serviceURL, c.status, c.want)
		})
		// The caller's own listeners take the family that it calls in, where a preference
		// of its own or of its mesh makes them take both.
		if c.mesh != "" && c.status == http.StatusOK {
			meshtest.Eventually(t, "the service is called over IPv6", func() error {
				return answers(fresh(s.front, "tcp6"), serviceURL, c.status, c.want)
			})
		}
	}
}

// familyHost adds a host of the virtual node back, with its Envoy.
func (s *stage) familyHost(name string) *meshtest.Host {
	h := s.hosts.Add(name)
	for _, address := range []string{"127.0.0.1", "::1"} {
		l := h.Listen("[" + address + "]:8080")
		h.ServeOn(l, named(name+" on "+address))
	}
	h.Redirect(port).Proxy(s.plane, meshtest.ARN("test", "back")).Ready(s.t)
	return h
}

// prefer sets the preferences of the mesh and of the node back, "" for none, and the
// name that the node is found by.
func (s *stage) prefer(mesh, node, name string) {
	s.t.Helper()
	discovery := ""
	if mesh != "" {
		discovery = fmt.Sprintf(`"serviceDiscovery":{"ipPreference":%q}`, mesh)
	}
	s.plane.Put(s.t, "/meshes/test", `{"spec":{`+discovery+`}}`)
	preference := ""
	if node != "" {
		preference = fmt.Sprintf(`,"ipPreference":%q`, node)
	}
	s.plane.Put(s.t, "/meshes/test/virtualNodes/back", fmt.Sprintf(
		`{"spec":{"listeners":[{"portMapping":{"port":%d,"protocol":"http"}}],"serviceDiscovery":{"dns":{"hostname":%q%s}}}}`, port, name, preference))
}

// fresh returns a client on a host that makes a connection for each call.
func fresh(h *meshtest.Host, network string) *http.Client {
	c := h.HTTP(network)
	c.Transport.(*http.Transport).DisableKeepAlives = true
	return c
}
