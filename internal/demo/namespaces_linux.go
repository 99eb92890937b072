package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/fairlead-mesh/fairlead/internal/netns"
)

// needs is what namespaces with interception need.
const needs = "root with CAP_SYS_ADMIN and CAP_NET_ADMIN, the program ip, and nftables or iptables"

// Users inside the namespaces. The kernel hands everybody's connections to Envoy but Envoy's.
const (
	proxyUser = 1337
	appUser   = 65534 // nobody
)

// Ports inside the namespaces.
const (
	adminInside = 9901
	dnsInside   = 15053
)

// namespaces is the ground where each instance is on a host of its own: a network namespace
// in which the kernel hands its connections to the Envoy beside it. They hang on this
// process and are gone with it. What the demo and its reader ask for on loopback addresses
// is passed on into them.
type namespaces struct {
	stack   *stack
	network *netns.Network
	hosts   map[string]*netns.Host // by the virtual node of the instance
	relays  []*netns.Relay
}

// Where programs are seen on a host by every user.
const (
	fairleadInside = netns.Private + "/fairlead"
	agentInside    = netns.Private + "/fairlead-agent"
	envoyInside    = netns.Private + "/envoy"
)

// openNamespaces makes the hosts, with the rules by which connections are intercepted, and
// looks that all that is to run there can. The error says what this machine refuses.
func openNamespaces(ctx context.Context, s *stack) (*namespaces, error) {
	network, err := netns.NewNetwork(false)
	if err != nil {
		return nil, err
	}
	n := &namespaces{stack: s, network: network, hosts: map[string]*netns.Host{}}
	for _, node := range []string{frontNode, blueNode, greenNode} {
		if err := n.add(ctx, node); err != nil {
			n.close()
			return nil, err
		}
	}
	if err := n.try(ctx); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// add makes the host of one instance, as whoever runs an application makes it ready.
func (n *namespaces) add(ctx context.Context, node string) error {
	h, err := n.network.Add()
	if err != nil {
		return fmt.Errorf("making a namespace for %s: %w", node, err)
	}
	n.hosts[node] = h
	// There is no name server: what is asked of this one goes to the agent.
	if err := h.Resolve(n.network.V4); err != nil {
		return fmt.Errorf("giving %s a name server: %w", node, err)
	}
	for name, from := range map[string]string{"fairlead": n.stack.programs.fairlead, "fairlead-agent": n.stack.programs.agent, "envoy": n.stack.programs.envoy} {
		if _, err := h.Bind(from, name); err != nil {
			return fmt.Errorf("showing %s the programs: %w", node, err)
		}
	}
	cmd := exec.CommandContext(ctx, agentInside, "intercept", "enable")
	cmd.Env = n.stack.environ("APPMESH_APP_PORTS="+strconv.Itoa(portInside), "FAIRLEAD_DNS_PORT="+strconv.Itoa(dnsInside))
	if _, err := h.Output(cmd); err != nil {
		return fmt.Errorf("intercepting the connections of %s: %w", node, err)
	}
	return nil
}

// try runs each program as the user that it will run as: who may not, or is not known to
// this system's user namespace, finds out now.
func (n *namespaces) try(ctx context.Context) error {
	programs := n.stack.programs
	for _, p := range []struct {
		is, path, arg string
		user          uint32
	}{
		{programs.fairlead, fairleadInside, "--version", appUser},
		{programs.agent, agentInside, "version", proxyUser},
		{programs.envoy, envoyInside, "--version", proxyUser},
	} {
		cmd := exec.CommandContext(ctx, p.path, p.arg)
		cmd.Dir, cmd.Env = "/", n.stack.environ("HOME=/")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: p.user, Gid: p.user}}
		if _, err := n.hosts[frontNode].Output(cmd); err != nil {
			if errors.Is(err, syscall.EACCES) {
				err = fmt.Errorf("%w (chmod a+rx lets others run it)", err)
			}
			return fmt.Errorf("running %s as user %d: %w", p.is, p.user, err)
		}
	}
	return nil
}

// settle makes the plan, and passes on what comes to its addresses.
func (n *namespaces) settle() (err error) {
	p, err := findPlan(portChoices, true)
	if err != nil {
		return err
	}
	n.stack.plan = p
	for node, at := range map[string]*spot{frontNode: &p.front, blueNode: &p.blue, greenNode: &p.green} {
		h := n.hosts[node]
		at.inside = h.V4
		err = errors.Join(err,
			// As the reader's shell asks them, past the Envoy too.
			n.relay(net.Listen, p.ingress(*at), n.network.Dial, join(h.V4, portInside)),
			n.relay(net.Listen, p.app(*at), h.Dial, loopbackPort(portInside)),
			n.relay(net.Listen, p.admin(*at), h.Dial, loopbackPort(adminInside)),
		)
	}
	inside := func(_, address string) (net.Listener, error) { return n.network.Listen(address) }
	return errors.Join(err, n.relay(inside, n.xds(), new(net.Dialer).DialContext, p.xds()))
}

func loopbackPort(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// xds is where hosts find the control plane.
func (n *namespaces) xds() string { return join(n.network.V4, n.stack.plan.ports.api+1) }

// relay passes on what comes to one address to another.
func (n *namespaces) relay(listen func(network, address string) (net.Listener, error), from string, dial dialer, to string) error {
	l, err := listen("tcp", from)
	if err != nil {
		return fmt.Errorf("listening for %s: %w", to, err)
	}
	n.relays = append(n.relays, netns.NewRelay(l, func(ctx context.Context) (net.Conn, error) { return dial(ctx, "tcp", to) }))
	return nil
}

func (n *namespaces) app(i instance, c *command) {
	c.path, c.user, c.start = fairleadInside, appUser, n.hosts[i.node].Start
	c.args = append(c.args, "--listen", fmt.Sprintf(":%d", portInside))
	c.env = append(c.env, "HOME=/")
}

func (n *namespaces) agent(i instance, c *command) error {
	h := n.hosts[i.node]
	key, err := os.ReadFile(n.stack.credentials())
	if err != nil {
		return fmt.Errorf("reading the access key: %w", err)
	}
	credentials, err := h.Write("credentials", string(key), 0o600, proxyUser)
	if err != nil {
		return fmt.Errorf("handing the access key to %s: %w", i.node, err)
	}
	folder, err := h.Folder("agent", proxyUser)
	if err != nil {
		return fmt.Errorf("making a folder for the agent of %s: %w", i.node, err)
	}
	c.path, c.user, c.start = agentInside, proxyUser, h.Start
	c.env = append(c.env,
		"HOME="+folder, "TMPDIR="+folder,
		"ENVOY_PATH="+envoyInside,
		"AWS_SHARED_CREDENTIALS_FILE="+credentials,
		"FAIRLEAD_XDS_ENDPOINT="+n.xds(),
		"FAIRLEAD_XDS_PLAINTEXT=insecure", // it does not leave this machine
		fmt.Sprintf("FAIRLEAD_DNS_PORT=%d", dnsInside),
		fmt.Sprintf("ENVOY_ADMIN_ACCESS_PORT=%d", adminInside),
		"ENVOY_ADMIN_ACCESS_LOG_FILE=/dev/null",
	)
	return nil
}

func (n *namespaces) way() (url string, dial dialer) {
	return "http://" + join(n.stack.plan.front.inside, portInside) + "/", n.network.Dial
}

func (n *namespaces) about() (line, why string) {
	return "a namespace each, intercepted; front knows of no proxy", ""
}

// byHand calls as somebody who is logged in beside front.
func (n *namespaces) byHand() string {
	front := n.stack.apps[len(n.stack.apps)-1] // it is the last of the instances
	return fmt.Sprintf("nsenter --target %d --net --mount curl -s %s", front.cmd.Process.Pid, n.stack.plan.colourURL())
}

func (n *namespaces) close() {
	for _, r := range n.relays {
		r.Close()
	}
	n.network.Close()
}
