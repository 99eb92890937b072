package envoy

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/data/dns/v3"
	dnsfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/udp/dns_filter/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// dnsFilterName is the filter that answers for names. A proxy whose agent has set a port
// for it must have it.
const dnsFilterName = "envoy.filters.udp.dns_filter"

// dnsTTL is how long an answer may be kept. The filter takes no less.
var dnsTTL = durationpb.New(30 * time.Second)

// The networks of the addresses that the names of virtual services stand for at a
// redirected proxy. Nothing is there: connections only have to leave the host, so that the
// kernel hands them to the proxy.
var (
	virtual4 = netip.MustParsePrefix("240.0.0.0/8")         // reserved for the future since 1989
	virtual6 = netip.MustParsePrefix("fd66:6169:726c::/64") // of the unique local ones
)

// parseNames reads where the proxy's DNS filter listens. The error says so if its Envoy
// has none.
func (p *Profile) parseNames(fields map[string]*structpb.Value, node *corev3.Node) (err error) {
	if p.DNSPort, err = portNumber(fields, "dnsPort"); err != nil || p.DNSPort == 0 {
		return err
	}
	return needs(node, "fairlead.dnsPort", dnsFilterName)
}

// needs returns an error if an Envoy that lists its extensions lacks some that a setting
// asks for.
func needs(node *corev3.Node, setting string, extensions ...string) error {
	for _, name := range extensions {
		if !lists(node, name) {
			return fmt.Errorf("node.extensions is without %s, which node metadata %s asks for", name, setting)
		}
	}
	return nil
}

// lists reports whether an Envoy has an extension; one that lists none has all.
func lists(node *corev3.Node, name string) bool {
	return len(node.GetExtensions()) == 0 || slices.ContainsFunc(node.GetExtensions(), func(e *corev3.Extension) bool {
		return e.GetName() == name && !e.GetDisabled()
	})
}

// portNumber returns a member that must be a port, or 0.
func portNumber(fields map[string]*structpb.Value, name string) (uint16, error) {
	v, ok := fields[name]
	if !ok {
		return 0, nil
	}
	n, ok := v.GetKind().(*structpb.Value_NumberValue)
	if !ok || n.NumberValue < 1 || n.NumberValue > 65535 || n.NumberValue != float64(uint16(n.NumberValue)) {
		return 0, fmt.Errorf("node metadata fairlead.%s must be a port, 1 to 65535", name)
	}
	return uint16(n.NumberValue), nil
}

// dnsName is a virtual service's name with the addresses that it is answered with.
type dnsName struct {
	name  string // in lower case
	addrs []netip.Addr
}

// answered returns the names that the proxy answers for, by their services; none without
// a DNS filter. A virtual service that does not exist is left to other name servers.
func (t *translator) answered() map[string]dnsName {
	if t.profile.DNSPort == 0 {
		return nil
	}
	out, owner, taken := map[string]dnsName{}, map[string]string{}, map[netip.Addr]bool{}
	for i := range t.view.Services {
		s := &t.view.Services[i]
		if s.Missing || !t.validService(s.Name) {
			continue
		}
		name := strings.TrimSuffix(lower(s.Name), ".")
		if _, literal := literalAddress(name); literal || !validHost(name) {
			t.problem(serviceKey(s.Name), "", "the name cannot be one of DNS: it is not answered")
			continue
		}
		if other, twice := owner[name]; twice {
			t.problem(serviceKey(s.Name), "", "DNS cannot tell the name from that of virtual service %q: it is answered for that one", other)
			continue
		}
		owner[name] = s.Name
		out[s.Name] = dnsName{name, t.addressesOf(name, taken)}
	}
	return out
}

// addressesOf returns the addresses that a name stands for: where a bound proxy listens, or
// virtual ones of the families that a redirected proxy takes. They are made of the name
// alone, so that they stay when other services come and go. Where two names of one node
// would have the same, the one that comes first in the order of names has it.
func (t *translator) addressesOf(name string, taken map[netip.Addr]bool) []netip.Addr {
	if t.profile.Bound {
		return []netip.Addr{t.profile.Bind}
	}
	var out []netip.Addr
	for _, network := range virtualNetworks(t.preference) {
		a := virtualAddress(network, t.view.Mesh, name, 0)
		for n := 1; taken[a]; n++ {
			a = virtualAddress(network, t.view.Mesh, name, n)
		}
		taken[a] = true
		out = append(out, a)
	}
	return out
}

// virtualNetworks returns the networks of the families that an IP preference allows.
func virtualNetworks(preference string) []netip.Prefix {
	switch preference {
	case "", onlyIPv4:
		return []netip.Prefix{virtual4}
	case onlyIPv6:
		return []netip.Prefix{virtual6}
	}
	return []netip.Prefix{virtual4, virtual6}
}

// virtualAddress returns the address of a network that a name has in a mesh, the n-th that
// is tried.
func virtualAddress(network netip.Prefix, m mesh.MeshID, name string, n int) netip.Addr {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%d", m.Account, m.Name, name, n))
	b := network.Addr().AsSlice()
	fixed := network.Bits() / 8
	copy(b[fixed:], sum[:])
	a, _ := netip.AddrFromSlice(b)
	return a
}

// dns emits the listener that answers for names, and for nothing else. The agent asks it, on
// loopback where the proxy is redirected, so that nobody else can.
func (t *translator) dns(names map[string]dnsName) {
	if t.profile.DNSPort == 0 {
		return
	}
	config := &dnsfilterv3.DnsFilterConfig{
		StatPrefix: egressStatPrefix,
		// Without a client_config the filter asks nobody. What it does not know the agent
		// asks the host's name servers for: docs/design/workloads.md says why.
		ServerConfig: &dnsfilterv3.DnsFilterConfig_ServerContextConfig{
			ConfigSource: &dnsfilterv3.DnsFilterConfig_ServerContextConfig_InlineDnsTable{InlineDnsTable: t.dnsTable(names)},
		},
	}
	packed := t.packed(config, t.self(), "", "the DNS filter")
	if packed == nil {
		return
	}
	at, port := loopback4, uint32(t.profile.DNSPort)
	if t.profile.Bound {
		at = t.profile.Bind
	}
	l := &listenerv3.Listener{
		Name:             dnsListenerName(at, port),
		Address:          socket(at.String(), port),
		TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		ListenerFilters: []*listenerv3.ListenerFilter{{
			Name:       dnsFilterName,
			ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: packed},
		}},
	}
	l.Address.GetSocketAddress().Protocol = corev3.SocketAddress_UDP
	if t.valid(l, t.self(), "", "listener "+l.Name) {
		t.emit(TypeListener, l.Name, l)
	}
}

// dnsTable returns the names with their addresses, in the order of their services.
func (t *translator) dnsTable(names map[string]dnsName) *dnsv3.DnsTable {
	table := &dnsv3.DnsTable{}
	for i := range t.view.Services {
		n, ok := names[t.view.Services[i].Name]
		if !ok {
			continue
		}
		list := &dnsv3.DnsTable_AddressList{}
		for _, a := range n.addrs {
			list.Address = append(list.Address, a.String())
		}
		table.VirtualDomains = append(table.VirtualDomains, &dnsv3.DnsTable_DnsVirtualDomain{
			Name:      n.name,
			AnswerTtl: dnsTTL,
			Endpoint:  &dnsv3.DnsTable_DnsEndpoint{EndpointConfig: &dnsv3.DnsTable_DnsEndpoint_AddressList{AddressList: list}},
		})
	}
	return table
}

// addressedChains returns the filter chains of connections that are made to the address of
// a service for TCP, where the port alone does not say which service is meant; and in a mesh
// that allows all egress the one that closes what is made to the address of a service on a
// port that none has, because nothing is there.
func (t *translator) addressedChains(ports []servicePort, names map[string]dnsName) []*listenerv3.FilterChain {
	if len(names) == 0 || t.profile.Bound {
		return nil
	}
	var chains []*listenerv3.FilterChain
	for i := range ports {
		p := &ports[i]
		if !p.isTCP() || !sharesPort(ports, p) || len(names[p.service].addrs) == 0 {
			continue
		}
		if filters := t.tcpFilters(p); filters != nil {
			c := portChain(p.port, filters)
			for _, a := range names[p.service].addrs {
				c.FilterChainMatch.PrefixRanges = append(c.FilterChainMatch.PrefixRanges, cidr(netip.PrefixFrom(a, a.BitLen())))
			}
			chains = append(chains, c)
		}
	}
	if t.allowAll() {
		if filters := t.closing(); filters != nil {
			m := &listenerv3.FilterChainMatch{}
			for _, n := range virtualNetworks(t.preference) {
				m.PrefixRanges = append(m.PrefixRanges, cidr(n))
			}
			chains = append(chains, &listenerv3.FilterChain{FilterChainMatch: m, Filters: filters})
		}
	}
	return chains
}

func cidr(p netip.Prefix) *corev3.CidrRange {
	return &corev3.CidrRange{AddressPrefix: p.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(p.Bits()))}
}

// sharesPort reports whether another service is on the port of p.
func sharesPort(ports []servicePort, p *servicePort) bool {
	return slices.ContainsFunc(ports, func(o servicePort) bool { return o.port == p.port && o.service != p.service })
}

// nameTexts says which names a listener answers for; nil if it is not one for DNS.
func nameTexts(l *listenerv3.Listener) []string {
	for _, f := range l.ListenerFilters {
		config := new(dnsfilterv3.DnsFilterConfig)
		if f.GetTypedConfig().UnmarshalTo(config) != nil {
			continue
		}
		out := []string{}
		for _, d := range config.GetServerConfig().GetInlineDnsTable().GetVirtualDomains() {
			out = append(out, fmt.Sprintf("%s is %s", d.Name, strings.Join(d.GetEndpoint().GetAddressList().GetAddress(), " and ")))
		}
		return out
	}
	return nil
}
