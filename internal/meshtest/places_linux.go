package meshtest

import (
	"net"
	"net/http"
	"os"
	"testing"
)

// ServeAt runs a service on an address beside those of the hosts until the test ends: a
// metadata service of the platform, which all hosts reach.
func (h *Hosts) ServeAt(address, port string, handler http.Handler) {
	h.t.Helper()
	h.must(h.network.Has(address))
	l, err := h.network.Listen(net.JoinHostPort(address, port))
	h.must(err)
	s := &http.Server{Handler: handler, ReadHeaderTimeout: wait}
	go func() { _ = s.Serve(l) }()
	h.t.Cleanup(func() { _ = s.Close() })
}

// Reach returns where hosts find what listens on an address of the test's own machine.
func (h *Hosts) Reach(address string) string { return h.relay(address) }

// Install makes a file of the machine, be it in a folder that root only can enter, seen
// where every user of the host can run it, and returns where. A name is used once.
func (x *Host) Install(file, name string) string {
	x.t.Helper()
	path, err := x.Bind(file, name)
	x.hosts.must(err)
	return path
}

// AgentPath returns fairlead-agent, which it builds at its first use.
func AgentPath(t testing.TB) string {
	t.Helper()
	path, err := agentBinary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Owned returns a pipe that a process of another user can open anew by /dev/stdout, as
// Envoy does with its access log. The test reads the first and closes both.
func Owned(t testing.TB, user int) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := w.Chown(user, user); err != nil {
			t.Fatal(err)
		}
	}
	return r, w
}
