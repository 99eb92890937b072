package agent

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/fairlead-mesh/fairlead/internal/agent/names"
)

// Names says where an application's DNS questions are answered. The zero value is nowhere.
type Names struct {
	// Port is the agent's own; Envoy's DNS filter has the next.
	Port int
	// Servers are asked for what is not in the mesh; none means those of /etc/resolv.conf.
	Servers []netip.AddrPort
}

const (
	dnsPort    = "FAIRLEAD_DNS_PORT"
	dnsServers = "FAIRLEAD_DNS_UPSTREAMS"
)

// filterPort is where Envoy's DNS filter listens.
func (n Names) filterPort() int { return n.Port + 1 }

func readNames(e *env, r Resource) Names {
	n := Names{Port: e.integer(dnsPort, 0, 1, 65534)}
	servers := e.text(dnsServers, "")
	_, kind, _ := r.parts()
	switch {
	case n.Port == 0 && servers != "":
		e.refuse("%s is set and %s is not, which says where questions come in; set both or neither", dnsServers, dnsPort)
	case n.Port != 0 && kind == "virtualGateway":
		e.refuse("%s is \"%d\", and %s is a virtual gateway, which no application asks; unset it", dnsPort, n.Port, r.Variable)
	}
	for one := range strings.SplitSeq(servers, ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		server, err := netip.ParseAddrPort(one)
		if a, other := netip.ParseAddr(one); other == nil {
			server, err = netip.AddrPortFrom(a, 53), nil
		}
		if err != nil || server.Port() == 0 || server.Addr().IsUnspecified() || server.Addr().IsMulticast() {
			e.refuse("%s holds %q, allowed are IP addresses, each with or without a port, with commas in between: 10.0.0.2,[fd00::2]:53", dnsServers, one)
			continue
		}
		n.Servers = append(n.Servers, server)
	}
	return n
}

// apart refuses ports that are taken.
func (n Names) apart(e *env, a Admin) {
	if n.Port == 0 {
		return
	}
	for port, of := range map[int]string{ingressPort: "where Envoy takes what comes in", egressPort: "where Envoy takes what goes out", a.Port: "ENVOY_ADMIN_ACCESS_PORT"} {
		if n.Port == port {
			e.refuse("%s is \"%d\", which is %s; allowed is a port of its own", dnsPort, n.Port, of)
		}
	}
}

// startNames answers questions until stop is called. Without a port for them it does
// nothing.
func startNames(ctx context.Context, cfg RunConfig) (stop func(), err error) {
	n := cfg.Settings.Names
	if n.Port == 0 {
		return func() {}, nil
	}
	at := []netip.Addr{loopback4, netip.IPv6Loopback()}
	if bind := cfg.Settings.Placement.Bind; bind.IsValid() {
		at = []netip.Addr{bind}
	}
	c := names.Config{Envoy: netip.AddrPortFrom(at[0], uint16(n.filterPort())), Servers: n.Servers, Logger: cfg.Logger}
	for _, a := range at {
		c.Listen = append(c.Listen, netip.AddrPortFrom(a, uint16(n.Port)))
	}
	r, err := names.New(c)
	if err != nil {
		return nil, fmt.Errorf("%w (%s says which port)", err, dnsPort)
	}
	ctx, cancel := context.WithCancel(ctx)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := r.Serve(ctx); err != nil {
			cfg.Logger.Warn("DNS questions are not answered any more", "error", err)
		}
	})
	cfg.Logger.Info("answering DNS questions", "addresses", c.Listen)
	return func() { cancel(); serving.Wait() }, nil
}
