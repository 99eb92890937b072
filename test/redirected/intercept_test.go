//go:build linux

package redirected

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// curl runs curl on a host as a user and group, which knows nothing of Envoy, and returns
// what it has been answered. The name of a service stands for an address where nothing is.
func curl(t *testing.T, h *meshtest.Host, user, group uint32, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("there is no curl; Debian's package is curl")
	}
	cmd := h.Command(path, append([]string{"--silent", "--show-error", "--max-time", "20", "--noproxy", "*"}, args...)...)
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: user, Gid: group}
	cmd.Dir, cmd.Env = "/", []string{"PATH=" + os.Getenv("PATH")}
	return h.Output(cmd)
}

// awaitCurl waits until curl is answered with a text.
func awaitCurl(t *testing.T, h *meshtest.Host, text string, args ...string) {
	t.Helper()
	meshtest.Eventually(t, fmt.Sprintf("curl %s is answered %q", strings.Join(args, " "), text), func() error {
		got, err := curl(t, h, 1000, 1000, args...)
		if err == nil && got != text {
			err = fmt.Errorf("answered %q", got)
		}
		return err
	})
}

// interceptCommand runs "fairlead-agent intercept" on a host.
func interceptCommand(t *testing.T, h *meshtest.Host, settings []string, args ...string) {
	t.Helper()
	if out, err := h.Output(h.Agent(settings, append([]string{"intercept"}, args...)...)); err != nil {
		t.Fatalf("intercept %v: %v\n%s", args, err, out)
	}
}

const ingressRequests = "http.ingress.downstream_rq_total"

// An unmodified program's calls go through the Envoys on both sides, by IPv4 and IPv6, and
// so do those that come from outside the mesh.
func TestAnUnmodifiedProgram(t *testing.T) {
	t.Parallel()
	s := newStage(t, `{"serviceDiscovery":{"ipPreference":"IPv4_PREFERRED"}}`)
	back, proxy := s.app("back", named("back"))
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("back", 1))
	proxy.Ready(t)
	s.caller(service)
	outside := s.hosts.Add("outside")
	for _, family := range []string{"-4", "-6"} {
		awaitCurl(t, s.front, "back", family, serviceURL)
		before := count(t, proxy, ingressRequests)
		for range 5 {
			awaitCurl(t, s.front, "back", family, serviceURL)
		}
		if got := count(t, proxy, ingressRequests) - before; got != 5 {
			t.Errorf("%s: %d of 5 requests came in by Envoy", family, got)
		}
		to := back.V4
		if family == "-6" {
			to = back.V6
		}
		url := "http://" + netip.AddrPortFrom(to, port).String() + "/"
		awaitCurl(t, outside, "back", url)
		if got := count(t, proxy, ingressRequests) - before; got != 6 {
			t.Errorf("%s: the request from outside did not come in by Envoy", family)
		}
		// The host's own calls to itself are its own affair.
		awaitCurl(t, back, "back", url)
		awaitCurl(t, back, "back", "http://localhost:8080/")
		if got := count(t, proxy, ingressRequests) - before; got != 6 {
			t.Errorf("%s: a host's call to itself went through Envoy", family)
		}
	}
}

// Ignored users, groups, ports and addresses go past Envoy, which lets nothing out in a
// mesh like this; everybody else does not.
func TestWhatIsIgnored(t *testing.T) {
	t.Parallel()
	s := newStage(t, `{}`)
	s.caller()
	far, spared := s.hosts.Add("far"), s.hosts.Add("spared")
	for _, h := range []*meshtest.Host{far, spared} {
		h.Serve(port, named(h.Name))
		h.Serve(8081, named(h.Name))
	}
	interceptCommand(t, s.front, []string{
		"APPMESH_IGNORE_UID=1337", "FAIRLEAD_IGNORE_UIDS=2000", "FAIRLEAD_IGNORE_GIDS=3000", "APPMESH_EGRESS_IGNORED_PORTS=8081",
		"APPMESH_EGRESS_IGNORED_IP=" + spared.V4.String(),
	}, "enable")
	for _, c := range []struct {
		user, group uint32
		url         string
		past        bool
	}{
		{1000, 1000, "http://far:8080", false},
		{0, 0, "http://far:8080", false},
		{2000, 1000, "http://far:8080", true},
		{1000, 3000, "http://far:8080", true},
		{1337, 1000, "http://far:8080", true},
		{1000, 1337, "http://far:8080", false}, // the user is set, the group is not
		{1000, 1000, "http://far:8081", true},
		{1000, 1000, "http://spared:8080", true},
	} {
		got, err := curl(t, s.front, c.user, c.group, c.url)
		if past := err == nil && (got == "far" || got == "spared"); past != c.past {
			t.Errorf("user %d, group %d, %s: %q %v, want past Envoy %v", c.user, c.group, c.url, got, err, c.past)
		}
	}
}

// While Envoy is away calls are refused, and none goes past it; Envoy comes back and they
// are answered. So it is with rules that a process watches over, whatever becomes of that.
// Disabled, the program's calls go straight to where they are addressed.
func TestInterceptionOutlivesAgents(t *testing.T) {
	t.Parallel()
	s := newStage(t, `{}`)
	_, proxy := s.app("back", named("back"))
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("back", 1))
	proxy.Ready(t)
	s.node("front", frontSpec(service))
	front := s.hosts.Add("front")
	// What would answer if a call went past Envoy.
	far := s.hosts.Add("far")
	far.Serve(port, named("past Envoy"))
	s.hosts.Names.Set(service, far.V4, far.V6)

	settings := []string{"APPMESH_ENABLE_IPV6=1"}
	watch := front.Agent(settings, "intercept", "run")
	if err := front.Start(watch); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = watch.Process.Kill(); _ = watch.Wait() })
	meshtest.Eventually(t, "interception is on", func() error {
		_, err := front.Output(front.Agent(settings, "intercept", "status"))
		return err
	})
	refused := func(when string) {
		t.Helper()
		for _, family := range []string{"-4", "-6"} {
			for range 10 {
				if got, err := curl(t, front, 1000, 1000, family, serviceURL); err == nil || !strings.Contains(err.Error(), "exit status 7") {
					t.Errorf("%s, %s: %q %v, want a refused connection", when, family, got, err)
				}
			}
		}
	}
	refused("before Envoy is there")
	for _, end := range []func(){
		func() { _ = watch.Process.Kill(); _ = watch.Wait() },
		func() {},
	} {
		x := front.Proxy(s.plane, meshtest.ARN("test", "front"))
		awaitCurl(t, front, "back", "-4", serviceURL)
		end()
		awaitCurl(t, front, "back", "-4", serviceURL)
		pid := x.EnvoyPid(t)
		x.Kill()
		gone(t, pid)
		refused("after the agent was killed")
	}
	interceptCommand(t, front, nil, "disable")
	awaitCurl(t, front, "past Envoy", "-4", serviceURL)
	awaitCurl(t, front, "past Envoy", "-6", serviceURL)
}
