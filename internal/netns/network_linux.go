package netns

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
)

// LackError says what a machine lacks for networks to be made on it.
type LackError struct{ What string }

func (e *LackError) Error() string { return e.What }

// Network is hosts that a bridge joins, and the namespace where that bridge is. Hosts find
// what is there at the addresses V4 and V6. Two networks have the same addresses and know
// nothing of each other.
type Network struct {
	*Namespace
	V4, V6 netip.Addr // V6 only where the network has IPv6

	hosts []*Host
	wires []*Wire
}

// Host is one host of a network. Its default route leads to the bridge, from where nothing
// leads on.
type Host struct {
	*Namespace
	V4, V6 netip.Addr // V6 only where the network has IPv6
}

// The address of a number in a network; the bridge has number 1.
func v4(number int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(number)}) }
func v6(number int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd77::%d", number)) }

// first is the number of the first host.
const first = 10

// NewNetwork makes a network without hosts, for IPv4 and if wanted IPv6. Close must follow.
// The error is a *LackError where this machine does not let it be made.
func NewNetwork(ipv6 bool) (*Network, error) {
	if err := lacking(ipv6); err != nil {
		return nil, err
	}
	n, err := newNamespace()
	if err != nil {
		return nil, &LackError{err.Error()}
	}
	w := &Network{Namespace: n, V4: v4(1)}
	lines := []string{
		"link set lo up",
		// With an address of its own: otherwise it takes that of one of its members, another
		// one when a host is added, and hosts that know the old one are cut off for a while.
		"link add bridge0 address 02:00:00:00:00:01 type bridge",
		"addr add " + w.V4.String() + "/24 dev bridge0",
	}
	if ipv6 {
		w.V6 = v6(1)
		lines = append(lines, "addr add "+w.V6.String()+"/64 dev bridge0 nodad")
	}
	if err := n.ip(append(lines, "link set bridge0 up")...); err != nil {
		w.Close()
		for _, refusal := range []string{"not permitted", "not supported", "Unknown device type"} {
			if strings.Contains(err.Error(), refusal) {
				return nil, &LackError{"making a bridge: " + err.Error()}
			}
		}
		return nil, fmt.Errorf("making a bridge: %w", err)
	}
	return w, nil
}

// lacking says what can be told before anything is made.
func lacking(ipv6 bool) error {
	if os.Geteuid() != 0 {
		return &LackError{"only root can make network namespaces"}
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return &LackError{"there is no program ip (package iproute2)"}
	}
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil && ipv6 {
		return &LackError{"this system has no IPv6"}
	}
	return nil
}

// Add makes a host.
func (w *Network) Add() (*Host, error) {
	return w.add(func(n *Namespace, number int) error {
		return w.ip(
			fmt.Sprintf("link add v%d type veth peer name eth0 netns %d", number, n.tid),
			fmt.Sprintf("link set v%d master bridge0 up", number),
		)
	})
}

// add makes a host; link makes its device eth0, and joins its other end, which has the
// host's number, to the bridge.
func (w *Network) add(link func(n *Namespace, number int) error) (*Host, error) {
	n, err := newNamespace()
	if err != nil {
		return nil, err
	}
	number := first + len(w.hosts)
	h := &Host{Namespace: n, V4: v4(number)}
	w.hosts = append(w.hosts, h)
	if err := link(n, number); err != nil {
		return nil, fmt.Errorf("making a link: %w", err)
	}
	lines := []string{
		"link set lo up",
		fmt.Sprintf("addr add %s/24 dev eth0", h.V4),
		"link set eth0 up",
		"route add default via " + w.V4.String(),
	}
	if w.V6.IsValid() {
		h.V6 = v6(number)
		lines = append(lines, fmt.Sprintf("addr add %s/64 dev eth0 nodad", h.V6), "route add default via "+w.V6.String())
	}
	if err := n.ip(lines...); err != nil {
		return nil, fmt.Errorf("setting addresses: %w", err)
	}
	return h, nil
}

// Has gives the bridge one more IPv4 address, which hosts find by their default route.
func (w *Network) Has(address string) error {
	return w.ip("addr add " + address + "/32 dev bridge0")
}

// Close ends the network, and every process that was started in it by Start.
func (w *Network) Close() {
	for _, x := range w.wires {
		x.close()
	}
	for _, h := range w.hosts {
		h.close()
	}
	w.close()
}

// ip has the program ip run lines in the namespace.
func (n *Namespace) ip(lines ...string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	_, err := n.Output(cmd)
	return err
}
