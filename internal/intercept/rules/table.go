package rules

import (
	"net/netip"
	"slices"
)

// Protocols of a rule.
const (
	TCP = "tcp"
	UDP = "udp"
)

// Names of chains. The first three are where the kernel comes by: with nftables chains of
// our own at its hooks, with iptables its own chains. Input and Away are about packets, and
// with iptables in the table filter; the others are about connections, in the table nat.
const (
	Output     = "output"
	Prerouting = "prerouting"
	Input      = "input"
	Egress     = "egress"
	Ingress    = "ingress"
	DNS        = "dns"
	Away       = "away"
)

// Table is what the kernel is to do for one family of addresses.
type Table struct {
	IPv6   bool
	Chains []Chain
}

// Family returns ipv4 or ipv6.
func (t Table) Family() string {
	if t.IPv6 {
		return "ipv6"
	}
	return "ipv4"
}

// Chain is a list of rules, of which the first that fits a new connection, or in a chain
// that filters a packet, decides.
type Chain struct {
	Name  string
	Rules []Rule
}

// Hooked reports whether the kernel comes by the chain itself, instead of by a jump.
func (c Chain) Hooked() bool { return c.Name == Output || c.Name == Prerouting || c.Name == Input }

// Filters reports whether the chain is about packets, instead of where connections go.
func (c Chain) Filters() bool { return c.Name == Input || c.Name == Away }

// Rule says what is done with a connection that fits all that is set. One of Jump,
// Redirect and Drop, or none: then it is left alone.
type Rule struct {
	// UID and GID are owners of the connection's socket; nil for any.
	UID, GID *uint32
	// From and To are networks of source and destination; the zero Prefix is any.
	From, To netip.Prefix
	// FromOutside and ToOutside fit addresses that are not the host's own.
	FromOutside, ToOutside bool
	// Protocol is TCP or UDP; "" for any.
	Protocol string
	// Port is the destination's; 0 for any.
	Port uint16

	// Redirected, Opening and Heard are for chains that filter. They fit what a rule has
	// redirected before, ours or another's; the packet that opens a connection (SYN); and
	// what the kernel has a socket for, one that listens included.
	Redirected, Opening, Heard bool

	Jump     string // a chain's name
	Redirect uint16 // a port of this host
	Drop     bool
}

// Tables returns the rules for each family that is to be intercepted, IPv4 first. Chains
// that others jump to come before those.
func (s Settings) Tables() []Table {
	tables := []Table{s.table(false)}
	if s.IPv6 {
		tables = append(tables, s.table(true))
	}
	return tables
}

func (s Settings) table(ipv6 bool) Table {
	t := Table{IPv6: ipv6}
	output := []Rule{{ToOutside: true, Protocol: TCP, Jump: Egress}}
	if s.DNSPort != 0 {
		t.add(DNS, s.dns(ipv6)...)
		output = append(s.asksDNS(ipv6), output...)
	}
	t.add(Egress, s.egress(ipv6)...)
	if len(s.AppPorts) > 0 {
		t.add(Ingress, s.ingress(ipv6)...)
		t.add(Prerouting, Rule{FromOutside: true, Protocol: TCP, Jump: Ingress})
	}
	t.add(Output, output...)
	if s.WhileAway == Wait {
		t.add(Away, Rule{Heard: true}, Rule{Drop: true})
		t.add(Input, s.input()...)
	}
	return t
}

func (t *Table) add(name string, rules ...Rule) {
	t.Chains = append(t.Chains, Chain{Name: name, Rules: rules})
}

// owners leave their connections alone.
func (s Settings) owners() []Rule {
	var rules []Rule
	for i := range s.UIDs {
		rules = append(rules, Rule{UID: &s.UIDs[i]})
	}
	for i := range s.GIDs {
		rules = append(rules, Rule{GID: &s.GIDs[i]})
	}
	return rules
}

func (s Settings) egress(ipv6 bool) []Rule {
	rules := s.owners()
	for _, p := range s.IgnoredPorts {
		rules = append(rules, Rule{Protocol: TCP, Port: p})
	}
	for _, n := range of(s.IgnoredNets, ipv6) {
		rules = append(rules, Rule{To: n})
	}
	return append(rules, Rule{Protocol: TCP, Redirect: s.EgressPort})
}

func (s Settings) ingress(ipv6 bool) []Rule {
	var rules []Rule
	for _, n := range of(s.IgnoredSources, ipv6) {
		rules = append(rules, Rule{From: n})
	}
	for _, p := range s.AppPorts {
		rules = append(rules, Rule{Protocol: TCP, Port: p, Redirect: s.IngressPort})
	}
	return rules
}

// input jumps to the rules for connections that Envoy is to take and may not be there for.
// Only what was redirected: who calls Envoy's ports themselves is told that nobody listens.
func (s Settings) input() []Rule {
	open := Rule{Redirected: true, Protocol: TCP, Port: s.EgressPort, Opening: true, Jump: Away}
	if len(s.AppPorts) == 0 {
		return []Rule{open}
	}
	in := open
	in.Port = s.IngressPort
	return []Rule{in, open}
}

// asksDNS jumps to the rules for DNS. Where name servers are named, only they are meant,
// be they on loopback; the proxy's own questions get no further than dns.
func (s Settings) asksDNS(ipv6 bool) []Rule {
	var rules []Rule
	for _, protocol := range []string{UDP, TCP} {
		rule := Rule{Protocol: protocol, Port: 53, Jump: DNS}
		if len(s.DNSServers) == 0 {
			rule.ToOutside = true
			rules = append(rules, rule)
		}
		for _, a := range s.DNSServers {
			if a.Is6() == ipv6 {
				rule.To = netip.PrefixFrom(a, a.BitLen())
				rules = append(rules, rule)
			}
		}
	}
	return rules
}

// dns leaves alone what egress does. Ignored ports are of TCP.
func (s Settings) dns(ipv6 bool) []Rule {
	rules := s.owners()
	if slices.Contains(s.IgnoredPorts, 53) {
		rules = append(rules, Rule{Protocol: TCP, Port: 53})
	}
	for _, n := range of(s.IgnoredNets, ipv6) {
		rules = append(rules, Rule{To: n})
	}
	return append(rules, Rule{Protocol: UDP, Redirect: s.DNSPort}, Rule{Protocol: TCP, Redirect: s.DNSPort})
}

// of returns the networks of a family.
func of(nets []netip.Prefix, ipv6 bool) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range nets {
		if n.Addr().Is6() == ipv6 {
			out = append(out, n)
		}
	}
	return out
}
