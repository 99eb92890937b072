package meshtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// ProxyUser is the user and group of the agents and Envoys on hosts, whose connections
// the kernel does not redirect.
const ProxyUser = 1337

// Hosts is a network of hosts of a test: network namespaces that are joined by a bridge
// in one more, where the name server and the way to the control plane are. The machine's
// own interfaces, addresses and rules are neither used nor changed, so every test can
// have the same addresses.
type Hosts struct {
	// Names is the name server of all hosts.
	Names *Names

	t       testing.TB
	middle  *namespace
	n       int
	relayed map[string]string // what listens outside -> where hosts find it
}

// Addresses of the bridge; a host's end in a number of its own.
const (
	middle4 = "10.77.0.1"
	middle6 = "fd77::1"
)

// NewHosts makes a network without hosts. It lasts until the test ends. Where it cannot
// be made, the test is skipped and told what is missing: root, the "ip" command of
// iproute2, and iptables or nftables.
func NewHosts(t testing.TB) *Hosts {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("there is no ip command; Debian's package is iproute2")
	}
	if _, _, err := redirector(); err != nil {
		t.Skip(err)
	}
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		t.Skip("this system has no IPv6")
	}
	middle, err := newNamespace()
	if err != nil {
		t.Skipf("this system lets nobody make network namespaces: %v", err)
	}
	t.Cleanup(middle.close)
	h := &Hosts{Names: NewNames(), t: t, middle: middle, relayed: map[string]string{}}
	h.must(middle.run(strings.Join([]string{
		"link set lo up",
		// An address of its own: otherwise it is that of one of the hosts' ends, another one as
		// hosts come, and what they remember of the bridge leads nowhere for seconds.
		"link add bridge0 address 02:00:00:77:00:01 type bridge",
		"addr add " + middle4 + "/24 dev bridge0",
		"addr add " + middle6 + "/64 dev bridge0 nodad",
		"link set bridge0 up",
	}, "\n"), "ip", "-batch", "-"))
	conn, err := middle.listenPacket(middle4 + ":53")
	h.must(err)
	t.Cleanup(func() { _ = conn.Close() })
	go h.Names.serve(conn)
	return h
}

func (h *Hosts) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("making a network of hosts: %v", err)
	}
}

// Host is one host of a network: a network namespace in which the test listens, connects
// and starts processes.
type Host struct {
	Name string
	// V4 and V6 are its addresses. Its name has the first; Hosts.Names can be told more.
	V4, V6 netip.Addr

	*namespace
	hosts *Hosts
	t     testing.TB
}

// Add makes a host with addresses of both families, and a name for the first.
func (h *Hosts) Add(name string) *Host {
	h.t.Helper()
	n, err := newNamespace()
	h.must(err)
	h.t.Cleanup(n.close)
	h.n++
	number := 9 + h.n
	x := &Host{
		Name: name, namespace: n, hosts: h, t: h.t,
		V4: netip.MustParseAddr(fmt.Sprintf("10.77.0.%d", number)),
		V6: netip.MustParseAddr(fmt.Sprintf("fd77::%d", number)),
	}
	h.must(h.middle.run(fmt.Sprintf("link add v%d type veth peer name eth0 netns %d\nlink set v%[1]d master bridge0 up\n", number, n.tid), "ip", "-batch", "-"))
	h.must(n.run(strings.Join([]string{
		"link set lo up",
		fmt.Sprintf("addr add %s/24 dev eth0", x.V4),
		fmt.Sprintf("addr add %s/64 dev eth0 nodad", x.V6),
		"link set eth0 up",
		"route add default via " + middle4,
		"route add default via " + middle6,
	}, "\n"), "ip", "-batch", "-"))
	for file, content := range map[string]string{
		"/etc/resolv.conf":   "nameserver " + middle4 + "\n",
		"/etc/hosts":         "127.0.0.1 localhost\n::1 localhost\n",
		"/etc/nsswitch.conf": "hosts: files dns\n",
	} {
		h.must(n.replace(file, content))
	}
	h.Names.Set(name, x.V4)
	return x
}

// Nowhere returns an address of each family where no host is.
func (h *Hosts) Nowhere() [2]netip.Addr {
	return [2]netip.Addr{netip.MustParseAddr("10.77.0.250"), netip.MustParseAddr("fd77::fa")}
}

// relay returns where hosts find what listens on an address of the test's own machine.
func (h *Hosts) relay(address string) string {
	h.t.Helper()
	if at, ok := h.relayed[address]; ok {
		return at
	}
	l, err := h.middle.listen(middle4 + ":0")
	h.must(err)
	h.t.Cleanup(func() { _ = l.Close() })
	go HandleConns(l, func(from net.Conn) {
		if to, err := net.Dial("tcp", address); err == nil {
			go pass(to, from)
			pass(from, to)
		}
	})
	h.relayed[address] = l.Addr().String()
	return l.Addr().String()
}

// pass copies a direction of a connection and ends both when that ends.
func pass(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
}

// Redirect has the kernel hand the host's connections to an Envoy, as App Mesh's route
// manager has it: what goes out to port 15001, unless ProxyUser makes it or it goes to
// the host itself, and what comes in for one of the application's ports to port 15000.
func (x *Host) Redirect(ports ...int) *Host {
	x.t.Helper()
	_, rules, err := redirector()
	x.hosts.must(err)
	list := make([]string, len(ports))
	for i, p := range ports {
		list[i] = strconv.Itoa(p)
	}
	x.hosts.must(rules(x.namespace, strings.Join(list, ",")))
	return x
}

// Listen listens on an address of the host, as an application does, until the test ends.
func (x *Host) Listen(address string) net.Listener {
	x.t.Helper()
	l, err := x.listen(address)
	if err != nil {
		x.t.Fatalf("listening on host %s: %v", x.Name, err)
	}
	x.t.Cleanup(func() { _ = l.Close() })
	return l
}

// Serve runs an application on a port of all the host's addresses until the test ends.
func (x *Host) Serve(port int, handler http.Handler) {
	x.t.Helper()
	x.ServeOn(x.Listen(fmt.Sprintf(":%d", port)), handler)
}

// ServeOn runs an application on a listener until the test ends; it speaks HTTP/1.1 and
// HTTP/2 without TLS.
func (x *Host) ServeOn(l net.Listener, handler http.Handler) {
	s := &http.Server{Handler: handler, ReadHeaderTimeout: wait, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = s.Serve(l) }()
	x.t.Cleanup(func() { _ = s.Close() })
}

// Dial connects to a name or address and port as an application on the host does: the
// name is resolved first, and the connection made to its first address of the network's
// family ("tcp": either, IPv4 first).
func (x *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addrs := x.hosts.Names.Addrs(host)
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{a}
	}
	for _, a := range addrs {
		if network != "tcp4" && a.Is6() || network != "tcp6" && a.Is4() {
			return x.dial(ctx, network, net.JoinHostPort(a.String(), port))
		}
	}
	return nil, fmt.Errorf("%s has no address for %s", host, network)
}

// HTTP returns a client that calls as an application on the host does, over "tcp", "tcp4"
// or "tcp6". It has no proxy and keeps connections.
func (x *Host) HTTP(network string) *http.Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return x.Dial(ctx, network, address)
		},
		MaxIdleConnsPerHost: 32,
	}
	x.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Timeout: wait, Transport: transport}
}

// Command returns a command that StartCommand starts on the host.
func (x *Host) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Start starts a command on the host.
func (x *Host) Start(cmd *exec.Cmd) error { return x.do(cmd.Start) }

// Proxy starts fairlead-agent with an Envoy on the host, as ProxyUser, until the test
// ends, and does not wait for it. The settings are added to the agent's environment.
func (x *Host) Proxy(p *Plane, resource string, settings ...string) *Proxy {
	x.t.Helper()
	path, err := agentBinary()
	x.hosts.must(err)
	agent, err := x.bind(path, "fairlead-agent")
	x.hosts.must(err)
	envoy, err := x.bind(EnvoyPath(x.t), "envoy")
	x.hosts.must(err)
	tmp := private + "/tmp"
	x.hosts.must(x.do(func() error {
		if err := os.MkdirAll(tmp, 0o700); err != nil {
			return err
		}
		return os.Chown(tmp, ProxyUser, ProxyUser)
	}))
	cmd := x.Command(agent, "run")
	cmd.Dir = "/"
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: ProxyUser, Gid: ProxyUser}
	cmd.Env = append(p.agentEnv(x.t, ProxyConfig{ARN: resource}),
		"TMPDIR="+tmp, "ENVOY_PATH="+envoy,
		"FAIRLEAD_XDS_ENDPOINT="+x.hosts.relay(p.Addrs.XDS),
		"FAIRLEAD_XDS_PLAINTEXT=insecure", // inside one machine
		"ENVOY_ADMIN_ACCESS_LOG_FILE=/dev/null",
	)
	cmd.Env = append(cmd.Env, settings...)
	return x.started(cmd, resource)
}

// started starts the agent of a proxy.
func (x *Host) started(cmd *exec.Cmd, resource string) *Proxy {
	x.t.Helper()
	p := &Proxy{Bind: "127.0.0.1", Log: &Log{}, cmd: cmd, done: make(chan struct{}), dial: x.dial}
	r, w, err := os.Pipe()
	x.hosts.must(err)
	// Envoy opens /dev/stdout anew, which another user's pipe does not let it.
	x.hosts.must(w.Chown(ProxyUser, ProxyUser))
	cmd.Stdout, cmd.Stderr = w, w
	err = x.Start(cmd)
	_ = w.Close()
	x.hosts.must(err)
	go func() {
		_, _ = io.Copy(p.Log, r)
		_ = r.Close()
	}()
	go func() { _ = cmd.Wait(); close(p.done) }()
	x.t.Cleanup(func() {
		p.Kill()
		if x.t.Failed() {
			x.t.Logf("proxy %s on host %s:\n%s", resource, x.Name, tail(p.Log.String(), 4000))
		}
	})
	return p
}
