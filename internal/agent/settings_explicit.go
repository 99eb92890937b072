package agent

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const (
	explicitProxy   = "FAIRLEAD_EXPLICIT"
	explicitAddress = "FAIRLEAD_EXPLICIT_ADDRESS"
	tcpPorts        = "FAIRLEAD_TCP_PORTS"
	portsFileName   = "FAIRLEAD_PORTS_FILE"
)

// Explicit is a proxy that its application knows of, because nothing can redirect to it.
// The zero value is none.
type Explicit struct {
	// Address is where the application calls: Envoy's HTTP proxy and a port for each
	// service for TCP. It is valid for an explicit proxy and for no other.
	Address netip.Addr
	// TCPPorts are the ports that are set, as "SERVICE:PORT=LOCAL,…", sorted.
	TCPPorts string
	// PortsFile is where the ports of services for TCP are written; "" for nowhere.
	PortsFile string
}

// On reports whether the proxy is an explicit one.
func (x Explicit) On() bool { return x.Address.IsValid() }

// readExplicit reads what an explicit proxy needs. bind is where others call the
// application, not valid where Resolve is to find out.
func readExplicit(e *env, bind netip.Addr) Explicit {
	if !e.yes(explicitProxy, false) {
		for _, name := range []string{explicitAddress, tcpPorts, portsFileName} {
			if e.text(name, "") != "" {
				e.refuse("%s is set and %s is not; set %[2]s=1, or unset it", name, explicitProxy)
			}
		}
		return Explicit{}
	}
	for _, name := range []string{dnsPort, "ENVOY_CONFIG_FILE"} {
		if e.text(name, "") != "" {
			e.refuse("%s is set and so is %s, which has no part in it; unset one of them", explicitProxy, name)
		}
	}
	x := Explicit{Address: e.address(explicitAddress), TCPPorts: readTCPPorts(e), PortsFile: e.absolute(portsFileName)}
	switch {
	case x.Address.IsValid():
	case bind.IsLoopback():
		x.Address = bind
	default:
		x.Address = loopback4
	}
	return x
}

// readTCPPorts reads SERVICE:PORT=LOCAL with commas in between, and returns them in one
// order.
func readTCPPorts(e *env) string {
	var all []string
	taken := map[int]string{egressPort: "the HTTP proxy"}
	for one := range strings.SplitSeq(e.text(tcpPorts, ""), ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		at := strings.LastIndexByte(one, '=')
		service, port, err := net.SplitHostPort(one[:max(at, 0)])
		remote, local := portOf(port), portOf(one[at+1:])
		switch other := taken[local]; {
		case at < 0 || err != nil || service == "" || remote == 0 || local == 0:
			e.refuse("%s holds %q, allowed is SERVICE:PORT=LOCAL with commas in between, for example redis.local:6379=6379", tcpPorts, one)
		case other != "":
			e.refuse("%s holds %q, and port %d is that of %s; allowed is a port of its own", tcpPorts, one, local, other)
		default:
			taken[local] = one[:at]
			all = append(all, fmt.Sprintf("%s:%d=%d", service, remote, local))
		}
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}

// portOf reads a port, 0 for what is none.
func portOf(text string) int {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0
	}
	return int(n)
}

// resolveBind finds the address by which others call an explicit proxy's application, where
// none is given: the host's.
func (p Placement) resolveBind() (Placement, error) {
	if !p.Explicit.On() || p.Bind.IsValid() {
		return p, nil
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return p, fmt.Errorf("looking for this host's address (FAIRLEAD_BIND_ADDRESS sets it): %w", err)
	}
	if p.Bind, err = onlyAddress(all, "FAIRLEAD_BIND_ADDRESS"); err == nil && p.Bind == p.Application {
		err = fmt.Errorf("FAIRLEAD_APPLICATION_ADDRESS is %q, which is this host's own, where Envoy takes calls; allowed is another, for example 127.0.0.1", p.Bind)
	}
	return p, err
}

// metadata says so to the control plane.
func (x Explicit) metadata(m map[string]any) {
	if !x.On() {
		return
	}
	m["explicit"], m["egressAddress"] = true, x.Address.String()
	if x.TCPPorts != "" {
		m["tcpPorts"] = x.TCPPorts
	}
}
