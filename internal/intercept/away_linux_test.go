package intercept_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/intercept"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// attempt is how long is tried where nothing but waiting is expected.
const attempt = 300 * time.Millisecond

// outcome says in a word what becomes of a connection that is opened.
func outcome(h *meshtest.Host, to netip.Addr, port uint16, patience time.Duration) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := h.Dial(ctx, "tcp", netip.AddrPortFrom(to, port).String())
	switch {
	case err == nil:
		_ = c.Close()
		return "open"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "waits"
	}
	return err.Error()
}

// pair has an address of each family.
func pair(h *meshtest.Host) []netip.Addr { return []netip.Addr{h.V4, h.V6} }

// While nobody listens at Envoy's ports what was redirected to them waits or is refused, as
// the setting says, both ways and in both families; what nobody has redirected is refused.
// What waits is connected when somebody listens.
func TestWhileAway(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, _ string, env []string) {
		hosts := meshtest.NewHosts(t)
		h, far := hosts.Add("host"), hosts.Add("far")
		for _, port := range []int{80, 22} {
			answer(far, port, "far")
		}
		answer(h, 8080, "own")
		base := append([]string{"APPMESH_APP_PORTS=8080", "APPMESH_ENABLE_IPV6=1"}, env...)
		for _, setting := range []string{"wait", "refuse", "wait"} {
			call(t, h, append(base, "FAIRLEAD_INTERCEPT_WHILE_AWAY="+setting), "enable")
			if s := status(t, h, append(base, "FAIRLEAD_INTERCEPT_WHILE_AWAY="+setting)...); !s.Enabled || s.WhileAway != setting {
				t.Errorf("%s: %+v", setting, s)
			}
			redirected := "refused"
			if setting == "wait" {
				redirected = "waits"
			}
			for i := range 2 {
				for _, x := range []struct {
					name string
					from *meshtest.Host
					to   netip.Addr
					port uint16
					want string
				}{
					{"out", h, pair(far)[i], 80, redirected},
					{"in", far, pair(h)[i], 8080, redirected},
					{"out by an ignored port", h, pair(far)[i], 22, "open"},
					{"in by another port", far, pair(h)[i], 9999, "refused"},
					{"its own application", h, pair(h)[i], 8080, "open"},
					{"Envoy's own port", h, pair(h)[i], 15001, "refused"},
					{"Envoy's own port from elsewhere", far, pair(h)[i], 15000, "refused"},
				} {
					if got := outcome(x.from, x.to, x.port, attempt); got != x.want {
						t.Errorf("%s, %s of %s: %s, want %s", setting, x.name, x.to, got, x.want)
					}
				}
			}
		}
		var waiting sync.WaitGroup
		for i := range 2 {
			for _, x := range []struct {
				from *meshtest.Host
				to   netip.AddrPort
			}{{h, netip.AddrPortFrom(pair(far)[i], 80)}, {far, netip.AddrPortFrom(pair(h)[i], 8080)}} {
				waiting.Go(func() {
					if got := outcome(x.from, x.to.Addr(), x.to.Port(), 20*time.Second); got != "open" {
						t.Errorf("connecting to %s while nobody listens yet: %s", x.to, got)
					}
				})
			}
		}
		if got := outcome(h, far.V4, 80, attempt); got != "waits" { // by now the others do too
			t.Errorf("before somebody listens: %s", got)
		}
		for _, port := range []int{15000, 15001} {
			answer(h, port, "Envoy")
		}
		waiting.Wait()
		call(t, h, base, "disable")
		if s := status(t, h, base...); s.WhileAway != "" {
			t.Errorf("disabled: %+v", s)
		}
	})
}

// While somebody listens, connections are opened at once, be it with a port that was used
// for one before: what the kernel remembers of that is no reason to wait.
func TestAPortThatIsUsedAgain(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, _ string, env []string) {
		hosts := meshtest.NewHosts(t)
		h, far := hosts.Add("host"), hosts.Add("far")
		call(t, h, append([]string{"APPMESH_APP_PORTS=8080", "FAIRLEAD_INTERCEPT_WHILE_AWAY=wait"}, env...), "enable")
		// The side that closes first is the one that remembers: here "Envoy".
		go meshtest.HandleConns(h.Listen(":15000"), func(net.Conn) {})
		for i := range 20 {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{Port: 40000}, Timeout: attempt, Control: reuse}
			var c net.Conn
			meshtest.Eventually(t, "the port is free again", func() error {
				err := intercept.In(far.Namespace(), func() (err error) {
					c, err = dialer.DialContext(t.Context(), "tcp", netip.AddrPortFrom(h.V4, 8080).String())
					return err
				})
				if err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) { // else the last word of the one before is not acknowledged yet
					t.Fatalf("connection %d by the same port: %v", i, err)
				}
				return err
			})
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Fatal("there is something to read")
			}
			_ = c.Close()
		}
	})
}

// reuse lets a port be used again at once.
func reuse(_, _ string, c syscall.RawConn) (err error) {
	_ = c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) })
	return err
}

// Where the kernel cannot find sockets waiting is refused in a line that names the setting,
// and nothing is set.
func TestAKernelThatFindsNoSockets(t *testing.T) {
	t.Parallel()
	h := host(t)
	before := saved(t, h, "legacy")
	// A restore that answers as the real one does where the kernel has no xt_socket.
	dir := t.TempDir()
	for _, base := range []string{"iptables", "ip6tables"} {
		restore := need(t, base+"-legacy-restore", "iptables")
		script := "#!/bin/sh\ninput=$(cat)\ncase $input in *'-m socket'*) echo \"" + base + "-restore: line 3 failed\" >&2; exit 1;; esac\nprintf '%s\\n' \"$input\" | exec " + restore + " \"$@\"\n"
		meshtest.WriteFile(t, filepath.Join(dir, base+"-restore"), []byte(script))
		if err := errors.Join(os.Chmod(filepath.Join(dir, base+"-restore"), 0o755),
			os.Symlink(need(t, base+"-legacy-save", "iptables"), filepath.Join(dir, base+"-save"))); err != nil {
			t.Fatal(err)
		}
	}
	settings := []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "FAIRLEAD_INTERCEPT_BACKEND=iptables"}
	_, err := h.Output(h.Agent(append(settings, "FAIRLEAD_INTERCEPT_WHILE_AWAY=wait"), "intercept", "enable"))
	if err == nil || !contains(err, `FAIRLEAD_INTERCEPT_WHILE_AWAY is "wait", for which the kernel needs to find sockets`) {
		t.Errorf("%v, want a line that names the setting", err)
	}
	if after := saved(t, h, "legacy"); after != before && strings.Contains(after, "FAIRLEAD") {
		t.Errorf("something was set:\n%s", after)
	}
	call(t, h, append(settings, "FAIRLEAD_INTERCEPT_WHILE_AWAY=refuse"), "enable")
}
