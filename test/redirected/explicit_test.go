//go:build linux

package redirected

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// On a host where nothing may redirect, an application listens on loopback, and others call
// it at the host's own address, which the agent finds. It calls through loopback, where
// nobody else can.
func TestWithoutRedirection(t *testing.T) {
	t.Parallel()
	s := newStage(t, `{"egressFilter":{"type":"ALLOW_ALL"}}`)
	s.node("back", `{"listeners":[{"portMapping":{"port":8080,"protocol":"http"}},{"portMapping":{"port":2525,"protocol":"tcp"}}],"serviceDiscovery":{"dns":{"hostname":"back"}}}`)
	back := s.hosts.Add("back")
	back.ServeOn(back.Listen("127.0.0.1:8080"), named("back"))
	greetAt(back, "127.0.0.1:2525")
	proxy := back.Proxy(s.plane, meshtest.ARN("test", "back"), "FAIRLEAD_EXPLICIT=1")
	s.plane.Put(t, "/meshes/test/virtualServices", `{"virtualServiceName":"`+service+`","spec":{"provider":{"virtualNode":{"virtualNodeName":"back"}}}}`)
	s.node("front", frontSpec(service))
	front := s.hosts.Add("front")
	ports := "/run/tmp/ports.env" // where the agent's user may write
	s.front, s.proxy = front, front.Proxy(s.plane, meshtest.ARN("test", "front"), "FAIRLEAD_EXPLICIT=1", "FAIRLEAD_PORTS_FILE="+ports)
	proxy.Ready(t)
	s.proxy.Ready(t)

	meshtest.Eventually(t, "front's application is answered", func() error {
		got, err := proxiedCurl(t, front, "127.0.0.1", serviceURL)
		if err == nil && got != "back" {
			err = fmt.Errorf("answered %q", got)
		}
		return err
	})
	if got, err := proxiedCurl(t, front, "127.0.0.1", "--proxytunnel", serviceURL); err != nil || got != "back" {
		t.Errorf("through CONNECT: %q %v", got, err)
	}
	if n := count(t, proxy, ingressRequestsOf8080); n < 2 {
		t.Errorf("%d requests came in by Envoy, want 2 or more", n)
	}
	if got, err := s.hosts.Add("outside").HTTP("tcp4").Get("http://" + netip.AddrPortFrom(back.V4, port).String()); err != nil {
		t.Errorf("from outside the mesh: %v", err)
	} else {
		_ = got.Body.Close()
	}
	// Nobody else is let out by front's proxy, nor into its admin interface.
	for _, p := range []string{"15001", "9901"} {
		if c, err := back.Dial(t.Context(), "tcp4", net.JoinHostPort(front.V4.String(), p)); err == nil {
			_ = c.Close()
			t.Errorf("port %s of front is open to others", p)
		}
	}
	var at string
	meshtest.Eventually(t, "the agent has written the ports", func() error {
		out, err := front.Output(front.Command("/bin/cat", ports))
		at = strings.TrimSpace(strings.TrimPrefix(out, "COLOUR_TEST_LOCAL_2525="))
		return err
	})
	if got, err := greeted(front, at); err != nil || got != "hello from back" || !strings.HasPrefix(at, "127.0.0.1:") {
		t.Errorf("at %q: %q %v", at, got, err)
	}
}

// ingressRequestsOf8080 are the requests that come in where there are several listeners.
const ingressRequestsOf8080 = "http.ingress.http.8080.downstream_rq_total"

// proxiedCurl is curl for a program that is told of its proxy.
func proxiedCurl(t *testing.T, h *meshtest.Host, proxy string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("there is no curl; Debian's package is curl")
	}
	cmd := h.Command(path, append([]string{"--silent", "--show-error", "--max-time", "20"}, args...)...)
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 1000, Gid: 1000}
	cmd.Dir, cmd.Env = "/", []string{"PATH=" + os.Getenv("PATH"), "http_proxy=http://" + proxy + ":15001"}
	return h.Output(cmd)
}
