package meshtest

import (
	"context"
	"errors"
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
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/sys/unix"

	"github.com/fairlead-mesh/fairlead/internal/intercept"
	"github.com/fairlead-mesh/fairlead/internal/intercept/rules"
	"github.com/fairlead-mesh/fairlead/internal/netns"
)

// ProxyUser is the user and group of the agents and Envoys on hosts, whose connections
// the kernel does not redirect.
const ProxyUser = 1337

// applicationUser is the user of an application that an agent on a host runs.
const applicationUser = 4242

// Hosts is a network of hosts of a test: network namespaces that are joined by a bridge
// in one more, where the name server and the way to the control plane are. The machine's
// own interfaces, addresses and rules are neither used nor changed, so every test can
// have the same addresses.
type Hosts struct {
	// Names is the name server of all hosts.
	Names *Names

	t       testing.TB
	network *netns.Network
	relayed map[string]string // what listens outside -> where hosts find it
}

// NewHosts makes a network without hosts. It lasts until the test ends. Where it cannot
// be made, the test is skipped and told what is missing: root, the "ip" command of
// iproute2, IPv6, and nftables in the kernel or iptables.
func NewHosts(t testing.TB) *Hosts {
	t.Helper()
	network, err := netns.NewNetwork(true)
	if lack := new(netns.LackError); errors.As(err, &lack) {
		t.Skip(lack)
	}
	h := &Hosts{Names: NewNames(), t: t, network: network, relayed: map[string]string{}}
	h.must(err)
	t.Cleanup(network.Close)
	if err := network.Do(func() error { _, err := intercept.Look(rules.Settings{Backend: rules.Auto}); return err }); err != nil {
		t.Skip(err)
	}
	conn, err := network.ListenPacket(net.JoinHostPort(network.V4.String(), "53"))
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
	// Its name has the address V4; Hosts.Names can be told more.
	*netns.Host

	hosts    *Hosts
	t        testing.TB
	programs map[string]string // by name, where they are found
}

// Add makes a host with addresses of both families, and a name for the first.
func (h *Hosts) Add(name string) *Host {
	h.t.Helper()
	n, err := h.network.Add()
	h.must(err)
	return h.host(name, n)
}

func (h *Hosts) host(name string, n *netns.Host) *Host {
	h.t.Helper()
	h.must(n.Resolve(h.network.V4))
	h.Names.Set(name, n.V4)
	return &Host{Name: name, Host: n, hosts: h, t: h.t, programs: map[string]string{}}
}

// Wire is the cable of a host.
type Wire = netns.Wire

// Trouble is what can happen to what a wire carries in one direction.
type Trouble = netns.Trouble

// Cut is the trouble that loses all packets from and to some hosts, or all if none is named.
func Cut(peers ...netip.Addr) Trouble { return netns.Cut(peers...) }

// AddWired makes a host as Add does, at the end of a wire that can be given trouble. Where
// the machine has no TAP devices, the test is skipped.
func (h *Hosts) AddWired(name string) (*Host, *Wire) {
	h.t.Helper()
	n, wire, err := h.network.AddWired()
	if lack := new(netns.LackError); errors.As(err, &lack) {
		h.t.Skip(lack)
	}
	h.must(err)
	return h.host(name, n), wire
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
	l, err := h.network.Listen(net.JoinHostPort(h.network.V4.String(), "0"))
	h.must(err)
	r := netns.NewRelay(l, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	})
	h.t.Cleanup(r.Close)
	h.relayed[address] = l.Addr().String()
	return l.Addr().String()
}

// Redirect has the kernel hand the host's connections to an Envoy, with the settings that
// Intercept has where it is given none but these ports of the application.
func (x *Host) Redirect(ports ...int) *Host {
	x.t.Helper()
	list := make([]string, len(ports))
	for i, p := range ports {
		list[i] = strconv.Itoa(p)
	}
	return x.Intercept("APPMESH_APP_PORTS=" + strings.Join(list, ","))
}

// Intercept has the kernel hand the host's connections to an Envoy, of both families: what
// goes out to port 15001, unless ProxyUser makes it or it goes to the host itself, and what
// comes in for one of the application's ports to port 15000. The settings are variables of
// "fairlead-agent intercept".
func (x *Host) Intercept(settings ...string) *Host {
	x.t.Helper()
	variables := map[string]string{"APPMESH_ENABLE_IPV6": "1"}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		variables[name] = value
	}
	s, err := rules.ReadSettings(func(name string) (string, bool) { v, ok := variables[name]; return v, ok })
	x.hosts.must(err)
	x.hosts.must(x.Do(func() error { _, err := intercept.Enable(s); return err }))
	return x
}

// Listen listens on an address of the host, as an application does, until the test ends.
func (x *Host) Listen(address string) net.Listener {
	x.t.Helper()
	l, err := x.Host.Listen(address)
	if err != nil {
		x.t.Fatalf("listening on host %s: %v", x.Name, err)
	}
	x.t.Cleanup(func() { _ = l.Close() })
	return l
}

// ListenPacket listens for UDP on an address of the host until the test ends.
func (x *Host) ListenPacket(address string) net.PacketConn {
	x.t.Helper()
	c, err := x.Host.ListenPacket(address)
	if err != nil {
		x.t.Fatalf("listening on host %s: %v", x.Name, err)
	}
	x.t.Cleanup(func() { _ = c.Close() })
	return c
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
		if !strings.HasSuffix(network, "4") && a.Is6() || !strings.HasSuffix(network, "6") && a.Is4() {
			return x.Host.Dial(ctx, network, net.JoinHostPort(a.String(), port))
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

// Signed returns a client of the API that calls from the host. It gives up a connection that
// takes more than 2 s to be made, and a call that takes more than 15 s.
func (x *Host) Signed(endpoint string, creds aws.Credentials) *Signed {
	s := NewSigned(endpoint, creds)
	s.client.Timeout = 15 * time.Second
	s.client.Transport = &http.Transport{MaxIdleConnsPerHost: 64, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return x.Dial(ctx, network, address)
	}}
	x.t.Cleanup(s.Close)
	return s
}

// Command returns a command that StartCommand starts on the host.
func (x *Host) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Agent returns a command of fairlead-agent that runs on the host as root, with nothing in
// its environment but PATH and the settings.
func (x *Host) Agent(settings []string, args ...string) *exec.Cmd {
	x.t.Helper()
	path, err := agentBinary()
	x.hosts.must(err)
	cmd := x.Command(path, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, settings...)
	return cmd
}

// AgentAs is Agent for another user, without any capability.
func (x *Host) AgentAs(user uint32, settings []string, args ...string) *exec.Cmd {
	x.t.Helper()
	cmd := x.Agent(settings, args...)
	cmd.Path, cmd.Dir = x.Program(cmd.Path, "fairlead-agent"), "/"
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: user, Gid: user}
	return cmd
}

// Program has a program of the machine seen where every user of the host can run it, and
// returns where.
func (x *Host) Program(file, name string) string {
	x.t.Helper()
	if path, ok := x.programs[name]; ok {
		return path
	}
	path, err := x.Bind(file, name)
	x.hosts.must(err)
	x.programs[name] = path
	return path
}

// Namespace returns the path of the host's network namespace, as container runtimes hand
// one to a CNI plugin.
func (x *Host) Namespace() string { return x.Path() }

// Proxy starts fairlead-agent with an Envoy on the host, as ProxyUser, until the test
// ends, and does not wait for it. The settings are added to the agent's environment.
func (x *Host) Proxy(p *Plane, resource string, settings ...string) *Proxy {
	x.t.Helper()
	return x.ProxyWith(p, resource, nil, settings...)
}

// ProxyBound is Proxy for one that is bound to the host's address, with an application at
// the host's loopback.
func (x *Host) ProxyBound(p *Plane, resource string, settings ...string) *Proxy {
	x.t.Helper()
	out := x.Proxy(p, resource, append([]string{"FAIRLEAD_BIND_ADDRESS=" + x.V4.String(), "FAIRLEAD_APPLICATION_ADDRESS=127.0.0.1"}, settings...)...)
	out.Bind = x.V4.String()
	return out
}

// ProxyWith is Proxy with an application that the agent runs when Envoy serves, as
// applicationUser: a program and its arguments, nil for none.
func (x *Host) ProxyWith(p *Plane, resource string, command []string, settings ...string) *Proxy {
	x.t.Helper()
	path, err := agentBinary()
	x.hosts.must(err)
	agent, envoy := x.Program(path, "fairlead-agent"), x.Program(EnvoyPath(x.t), "envoy")
	tmp, err := x.Folder("tmp", ProxyUser)
	x.hosts.must(err)
	var flags []string
	if command != nil {
		application, err := x.Bind(command[0], "application")
		x.hosts.must(err)
		command = append([]string{application}, command[1:]...)
		flags = []string{"--user", strconv.Itoa(applicationUser)}
	}
	cmd := x.Command(agent, agentArgs(command, flags...)...)
	cmd.Dir = "/"
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: ProxyUser, Gid: ProxyUser}
	if command != nil {
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_KILL}
	}
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
	p := &Proxy{Bind: "127.0.0.1", Log: &Log{}, cmd: cmd, done: make(chan struct{}), dial: x.Host.Dial}
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
