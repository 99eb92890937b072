package intercept

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead-mesh/fairlead/internal/intercept/rules"
)

// nft is nftables over netlink.
type nft struct{}

func (nft) name() string { return rules.NFTables }

// netlinkBuffer is room for the kernel's answers to a transaction with the longest lists.
const netlinkBuffer = 4 << 20

// netlinkTime is how long the kernel may take; it takes milliseconds.
const netlinkTime = 10 * time.Second

// with opens a connection for one function.
func (nft) with(f func(*nftables.Conn) error) error {
	c, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		_ = c.SetReadBuffer(netlinkBuffer)
		_ = c.SetWriteBuffer(netlinkBuffer)
		return c.SetDeadline(time.Now().Add(netlinkTime))
	}))
	if err != nil {
		return err
	}
	defer func() { _ = c.CloseLasting() }()
	return f(c)
}

// unsupported reports whether an error means that the kernel has no nftables, or not the
// parts of it that are needed.
func unsupported(err error) bool {
	for _, no := range []error{unix.EINVAL, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.ENOENT} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

func familyOf(ipv6 bool) nftables.TableFamily {
	if ipv6 {
		return nftables.TableFamilyIPv6
	}
	return nftables.TableFamilyIPv4
}

func (n nft) look() (state, error) {
	s := state{entries: map[bool][]entry{}}
	err := n.with(func(c *nftables.Conn) error {
		tables, err := c.ListTables()
		if err != nil {
			return err
		}
		for _, ipv6 := range []bool{false, true} {
			if err := lookFamily(c, tables, ipv6, &s); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, fs.ErrPermission) {
		return s, ErrNoPermission
	}
	if err != nil {
		return s, fmt.Errorf("reading the rules of nftables: %w", err)
	}
	return s, nil
}

// lookFamily adds what is installed for a family.
func lookFamily(c *nftables.Conn, tables []*nftables.Table, ipv6 bool, s *state) error {
	family := familyOf(ipv6)
	i := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Family == family && t.Name == rules.TableName })
	if i >= 0 {
		s.entries[ipv6] = []entry{tableEntry(tables[i])}
	}
	chains, err := c.ListChainsOfTableFamily(family)
	if err != nil {
		return err
	}
	var parts map[uint64][]part
	if i >= 0 {
		if parts, err = readParts(family); err != nil {
			return err
		}
	}
	for _, chain := range chains {
		if chain.Table.Name == "nat" && rules.IsAppMeshChain(chain.Name) {
			s.others = append(s.others, appMeshNote(chain.Name, ipv6, "nf_tables"))
		}
		if i < 0 || chain.Table.Name != rules.TableName {
			continue
		}
		s.entries[ipv6] = append(s.entries[ipv6], chainEntry(chain))
		rules, err := c.GetRules(tables[i], chain)
		if err != nil {
			return err
		}
		for _, r := range rules {
			s.entries[ipv6] = append(s.entries[ipv6], ruleEntry(family, chain.Name, whole(family, r.Exprs, parts[r.Handle]), "a rule that is not ours in chain "+chain.Name))
		}
	}
	return nil
}

func tableEntry(t *nftables.Table) entry {
	return entry{key: fmt.Sprintf("table %d", t.Flags), text: "the table " + t.Name}
}

func chainEntry(c *nftables.Chain) entry {
	e := entry{key: "chain " + c.Name, text: "the chain " + c.Name}
	if c.Hooknum != nil && c.Priority != nil {
		e.key += fmt.Sprintf(" %s %d %d", c.Type, *c.Hooknum, *c.Priority)
	}
	if c.Policy != nil {
		e.key += fmt.Sprintf(" policy %d", *c.Policy)
	}
	return e
}

// ruleEntry compares rules by what they are in the kernel's form.
func ruleEntry(family nftables.TableFamily, chain string, exprs []expr.Any, text string) entry {
	key := "rule " + chain
	for _, e := range exprs {
		b, err := expr.Marshal(byte(family), e)
		if err != nil {
			b = fmt.Append(nil, err)
		}
		key += fmt.Sprintf(" %x", b)
	}
	return entry{key: key, text: text}
}

func (nft) want(tables []rules.Table) map[bool][]entry {
	out := map[bool][]entry{}
	for _, t := range tables {
		family := familyOf(t.IPv6)
		table := &nftables.Table{Name: rules.TableName, Family: family}
		entries := []entry{tableEntry(table)}
		for _, c := range t.Chains {
			entries = append(entries, chainEntry(nftChain(table, c)))
			for _, r := range c.Rules {
				entries = append(entries, ruleEntry(family, c.Name, nftRule(t.IPv6, r), c.Name+": "+t.NFTRule(r)))
			}
		}
		out[t.IPv6] = entries
	}
	return out
}

// apply puts tables in the place of what is there, in one transaction.
func (n nft) apply(tables []rules.Table, have state) error {
	return n.with(func(c *nftables.Conn) error {
		unwanted := map[bool]bool{false: true, true: true}
		for _, t := range tables {
			unwanted[t.IPv6] = false
			table := &nftables.Table{Name: rules.TableName, Family: familyOf(t.IPv6)}
			c.AddTable(table) // so that there is one to delete
			c.DelTable(table)
			c.AddTable(table)
			for _, chain := range t.Chains {
				made := c.AddChain(nftChain(table, chain))
				for _, r := range chain.Rules {
					c.AddRule(&nftables.Rule{Table: table, Chain: made, Exprs: nftRule(t.IPv6, r)})
				}
			}
		}
		for ipv6, no := range unwanted {
			if no && len(have.entries[ipv6]) > 0 {
				c.DelTable(&nftables.Table{Name: rules.TableName, Family: familyOf(ipv6)})
			}
		}
		if err := c.Flush(); err != nil {
			return fmt.Errorf("setting the rules of nftables: %w", err)
		}
		return nil
	})
}

func (n nft) remove(have state) error { return n.apply(nil, have) }

func nftChain(table *nftables.Table, c rules.Chain) *nftables.Chain {
	out := &nftables.Chain{Name: c.Name, Table: table}
	if !c.Hooked() {
		return out
	}
	accept := nftables.ChainPolicyAccept
	out.Type, out.Policy, out.Priority = nftables.ChainTypeNAT, &accept, nftables.ChainPriorityRef(rules.Priority)
	if c.Filters() {
		out.Type = nftables.ChainTypeFilter
	}
	out.Hooknum = map[string]*nftables.ChainHook{
		rules.Output: nftables.ChainHookOutput, rules.Prerouting: nftables.ChainHookPrerouting, rules.Input: nftables.ChainHookInput,
	}[c.Name]
	return out
}

// nftRule returns a rule as the kernel takes it, its parts in the order of
// rules.Table.NFTRule.
func nftRule(ipv6 bool, r rules.Rule) []expr.Any {
	var out []expr.Any
	if r.UID != nil {
		out = append(out, meta(expr.MetaKeySKUID), equal(binaryutil.NativeEndian.PutUint32(*r.UID)))
	}
	if r.GID != nil {
		out = append(out, meta(expr.MetaKeySKGID), equal(binaryutil.NativeEndian.PutUint32(*r.GID)))
	}
	// Where source and destination are in a header.
	offsets := [2]uint32{12, 16}
	if ipv6 {
		offsets = [2]uint32{8, 24}
	}
	out = append(out, within(r.From, offsets[0])...)
	out = append(out, within(r.To, offsets[1])...)
	if r.FromOutside {
		out = append(out, notLocal(&expr.Fib{Register: 1, FlagSADDR: true, ResultADDRTYPE: true})...)
	}
	if r.ToOutside {
		out = append(out, notLocal(&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true})...)
	}
	if r.Redirected {
		out = append(out, &expr.Ct{Register: 1, Key: expr.CtKeySTATUS}, mask(binaryutil.NativeEndian.PutUint32(ctDestinationChanged)),
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)})
	}
	if r.Protocol != "" {
		number := byte(unix.IPPROTO_TCP)
		if r.Protocol == rules.UDP {
			number = unix.IPPROTO_UDP
		}
		out = append(out, meta(expr.MetaKeyL4PROTO), equal([]byte{number}))
	}
	if r.Port != 0 {
		out = append(out, &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, equal(binaryutil.BigEndian.PutUint16(r.Port)))
	}
	if r.Opening {
		out = append(out, &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1}, mask([]byte{tcpFIN | tcpSYN | tcpRST | tcpACK}), equal([]byte{tcpSYN}))
	}
	if r.Heard {
		// Where there is no socket the rule ends here and does not fit.
		out = append(out, &expr.Socket{Key: expr.SocketKeyTransparent, Register: 1}, &expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: []byte{1}})
	}
	switch {
	case r.Drop:
		return append(out, &expr.Verdict{Kind: expr.VerdictDrop})
	case r.Redirect != 0:
		return append(out,
			&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(r.Redirect)},
			&expr.Redir{RegisterProtoMin: 1, RegisterProtoMax: 1, Flags: unix.NF_NAT_RANGE_PROTO_SPECIFIED})
	case r.Jump != "":
		return append(out, &expr.Verdict{Kind: expr.VerdictJump, Chain: r.Jump})
	}
	return append(out, &expr.Verdict{Kind: expr.VerdictReturn})
}

func meta(key expr.MetaKey) expr.Any { return &expr.Meta{Key: key, Register: 1} }

func equal(data []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

// mask leaves of what was loaded the bits that are set.
func mask(bits []byte) expr.Any {
	return &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(len(bits)), Mask: bits, Xor: make([]byte, len(bits))}
}

// ctDestinationChanged is a connection's status (IPS_DST_NAT) once its destination was
// changed.
const ctDestinationChanged = 1 << 5

// Flags of TCP.
const (
	tcpFIN = 1 << 0
	tcpSYN = 1 << 1
	tcpRST = 1 << 2
	tcpACK = 1 << 4
)

// notLocal fits what a look into the routes finds not to be this host.
func notLocal(look expr.Any) []expr.Any {
	return []expr.Any{look, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)}}
}

// within fits an address of a network, at an offset of the IP header.
func within(p netip.Prefix, offset uint32) []expr.Any {
	if !p.IsValid() || p.Bits() == 0 {
		return nil
	}
	size := p.Addr().BitLen() / 8
	out := []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(size)}}
	if !p.IsSingleIP() {
		bits := make([]byte, size)
		for i := range p.Bits() {
			bits[i/8] |= 0x80 >> (i % 8)
		}
		out = append(out, mask(bits))
	}
	return append(out, equal(p.Addr().AsSlice()))
}
