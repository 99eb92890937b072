package rules

import (
	"fmt"
	"net/netip"
	"strings"
)

// TableName is the table of nftables that is ours, in the families ip and ip6.
const TableName = "fairlead"

// Priority is that of our chains at their hooks: before those of iptables and of most
// others (-100), behind the tracking of connections (-200).
const Priority = -110

// NFT returns the table in the language of the nft command.
func (t Table) NFT() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n", t.ip(), TableName)
	for _, c := range t.Chains {
		fmt.Fprintf(&b, "\tchain %s {\n", c.Name)
		if c.Hooked() {
			fmt.Fprintf(&b, "\t\t%s\n", c.NFTHook())
		}
		for _, r := range c.Rules {
			fmt.Fprintf(&b, "\t\t%s\n", t.NFTRule(r))
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// NFTHook returns where a hooked chain hangs.
func (c Chain) NFTHook() string {
	kind := "nat"
	if c.Filters() {
		kind = "filter"
	}
	return fmt.Sprintf("type %s hook %s priority %d; policy accept;", kind, c.Name, Priority)
}

// ip is the family's name in nftables.
func (t Table) ip() string {
	if t.IPv6 {
		return "ip6"
	}
	return "ip"
}

// NFTRule returns one rule of the table in the language of the nft command.
func (t Table) NFTRule(r Rule) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if r.UID != nil {
		add("meta skuid %d", *r.UID)
	}
	if r.GID != nil {
		add("meta skgid %d", *r.GID)
	}
	if limited(r.From) {
		add("%s saddr %s", t.ip(), network(r.From))
	}
	if limited(r.To) {
		add("%s daddr %s", t.ip(), network(r.To))
	}
	if r.FromOutside {
		add("fib saddr type != local")
	}
	if r.ToOutside {
		add("fib daddr type != local")
	}
	if r.Redirected {
		add("ct status dnat")
	}
	switch {
	case r.Port != 0:
		add("%s dport %d", r.Protocol, r.Port)
	case r.Protocol != "":
		add("meta l4proto %s", r.Protocol)
	}
	if r.Opening {
		add("tcp flags & (fin | syn | rst | ack) == syn")
	}
	if r.Heard {
		// Whether or not it is a transparent one. What else could be asked of a socket the
		// kernel does not know of all kinds.
		add("socket transparent <= 1")
	}
	switch {
	case r.Redirect != 0:
		add("redirect to :%d", r.Redirect)
	case r.Drop:
		add("drop")
	case r.Jump != "":
		add("jump %s", r.Jump)
	default:
		add("return")
	}
	return strings.Join(parts, " ")
}

// limited reports whether a network is less than all addresses.
func limited(p netip.Prefix) bool { return p.IsValid() && p.Bits() > 0 }

// network writes a network of one address as the address.
func network(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
