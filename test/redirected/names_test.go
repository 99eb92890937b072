//go:build linux

package redirected

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// resolve has the C library of a host resolve a name, for IPv4 with database ahostsv4, for IPv6 with
// ahostsv6, and returns the first address.
func resolve(t *testing.T, h *meshtest.Host, database, name string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("getent")
	if err != nil {
		t.Skip("there is no getent; Debian's package is libc-bin")
	}
	out, err := h.Output(h.Command(path, database, name))
	if err != nil {
		return "", err
	}
	address, _, _ := strings.Cut(out, " ")
	return address, nil
}

// asking makes a mesh whose host front has its DNS questions intercepted.
func asking(t *testing.T, spec string, services ...string) *stage {
	t.Helper()
	s := newStage(t, spec)
	s.node("front", frontSpec(services...))
	s.front = s.hosts.Add("front").Intercept("FAIRLEAD_DNS_PORT=15053")
	return s
}

// answer starts front's Envoy.
func (s *stage) answer() {
	s.t.Helper()
	s.proxy = s.front.Proxy(s.plane, meshtest.ARN("test", "front"), "FAIRLEAD_DNS_PORT=15053")
	s.proxy.Ready(s.t)
}

// A program calls services by names that no name server knows, and other names as ever. What
// comes into the mesh is there at once, and what goes is not.
func TestNamesWithoutDNS(t *testing.T) {
	t.Parallel()
	const preferred = `{"serviceDiscovery":{"ipPreference":"IPv4_PREFERRED"}}`
	s := asking(t, preferred, "colour", "later.shop.local")
	_, back := s.app("back", named("back"))
	far := s.hosts.Add("far")
	s.plane.Routed(t, "test", "colour", "colour", port, meshtest.Weights("back", 1))
	back.Ready(t)
	s.answer()
	for _, family := range []string{"-4", "-6"} {
		awaitCurl(t, s.front, "back", family, "http://colour:8080/")
		awaitCurl(t, s.front, "back", family, "http://Colour:8080/")
	}
	if n := s.hosts.Names.Asked("colour"); n != 0 {
		t.Errorf("the name server was asked for a service %d times", n)
	}
	if got, err := resolve(t, s.front, "ahostsv4", "far"); err != nil || got != far.V4.String() {
		t.Errorf("the name of a host that is not in the mesh: %q %v, want %s", got, err, far.V4)
	}
	if got, err := resolve(t, s.front, "ahosts", "nowhere.test.local"); err == nil {
		t.Errorf("a name that nobody knows: %q", got)
	}

	first, err := resolve(t, s.front, "ahostsv4", "colour")
	if err != nil || !strings.HasPrefix(first, "240.") {
		t.Fatalf("colour: %q %v, want a virtual address", first, err)
	}
	if got, err := resolve(t, s.front, "ahostsv4", "later.shop.local"); err == nil {
		t.Errorf("a service that is not there: %q", got)
	}
	s.plane.Routed(t, "test", "later.shop.local", "later", port, meshtest.Weights("back", 1))
	awaitCurl(t, s.front, "back", "http://later.shop.local:8080/")
	s.plane.Delete(t, "/meshes/test/virtualServices/later.shop.local")
	meshtest.Eventually(t, "the service is gone", func() error {
		if got, err := resolve(t, s.front, "ahostsv4", "later.shop.local"); err == nil {
			return fmt.Errorf("it is still at %s", got)
		}
		return nil
	})
	if got, err := resolve(t, s.front, "ahostsv4", "colour"); err != nil || got != first {
		t.Errorf("colour has moved from %s to %q %v", first, got, err)
	}
}

// Two services for TCP on one port, and one for HTTP, are told apart by their names'
// addresses; without IPv6 in the mesh a name has no address of that family.
func TestServicesOnOnePort(t *testing.T) {
	t.Parallel()
	services := []string{"mail.one", "mail.two", "web.one"}
	s := asking(t, `{"egressFilter":{"type":"ALLOW_ALL"}}`, services...)
	for _, name := range []string{"one", "two"} {
		s.node(name, fmt.Sprintf(`{"listeners":[{"portMapping":{"port":8080,"protocol":"tcp"}}],"serviceDiscovery":{"dns":{"hostname":%q}}}`, name))
		h, proxy := s.start(name, port)
		greet(h, port)
		s.plane.Put(t, "/meshes/test/virtualServices", fmt.Sprintf(`{"virtualServiceName":"mail.%s","spec":{"provider":{"virtualNode":{"virtualNodeName":%[1]q}}}}`, name))
		proxy.Ready(t)
	}
	_, web := s.app("web", named("web"))
	s.plane.Put(t, "/meshes/test/virtualServices", `{"virtualServiceName":"web.one","spec":{"provider":{"virtualNode":{"virtualNodeName":"web"}}}}`)
	web.Ready(t)
	s.answer()
	for name, want := range map[string]string{"mail.one": "hello from one", "mail.two": "hello from two"} {
		meshtest.Eventually(t, name+" greets", func() error {
			at, err := resolve(t, s.front, "ahostsv4", name)
			if err != nil {
				return err
			}
			got, err := greeted(s.front, net.JoinHostPort(at, "8080"))
			if err == nil && got != want {
				err = fmt.Errorf("got %q", got)
			}
			return err
		})
	}
	awaitCurl(t, s.front, "web", "http://web.one:8080/")
	if got, err := resolve(t, s.front, "ahostsv6", "web.one"); err == nil && !strings.HasPrefix(got, "::ffff:") {
		t.Errorf("web.one has %s", got)
	}
	// A port that the service does not have is no way out, though the mesh allows all.
	at, err := resolve(t, s.front, "ahostsv4", "mail.one")
	if err != nil {
		t.Fatal(err)
	}
	wantClosed(t, s.front, net.JoinHostPort(at, "9999"))
}

// Edits of what a node may call fail no question, and no call by name.
func TestEditsFailNoName(t *testing.T) {
	t.Parallel()
	s := asking(t, `{}`, "colour")
	_, back := s.app("back", named("back"))
	s.plane.Routed(t, "test", "colour", "colour", port, meshtest.Weights("back", 1))
	for i := range 4 {
		s.plane.Routed(t, "test", fmt.Sprintf("more%d", i), fmt.Sprintf("more%d", i), port, meshtest.Weights("back", 1))
	}
	back.Ready(t)
	s.answer()
	awaitCurl(t, s.front, "back", "http://colour:8080/")
	stop, failed := make(chan struct{}), make(chan error, 1)
	asked := 0
	go func() {
		defer close(failed)
		for {
			select {
			case <-stop:
				return
			default:
			}
			asked++
			if got, err := resolve(t, s.front, "ahostsv4", "colour"); err != nil {
				failed <- fmt.Errorf("question %d: %q %w", asked, got, err)
				return
			}
		}
	}()
	for i := range 8 {
		services := []string{"colour"}
		if i%2 == 0 {
			services = append(services, fmt.Sprintf("more%d", i/2))
		}
		s.edit("front", frontSpec(services...))
		meshtest.Eventually(t, "the edit is in force", func() error {
			_, err := resolve(t, s.front, "ahostsv4", fmt.Sprintf("more%d", i/2))
			if (err == nil) != (i%2 == 0) {
				return errStill
			}
			return nil
		})
	}
	close(stop)
	if err := <-failed; err != nil {
		t.Error(err)
	}
	t.Logf("%d questions beside the edits", asked)
}
