package meshtest

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Names is a name server of a test. It answers over UDP, with the addresses that the
// test has set: those of a name that has none of the family asked for with no address,
// and names that are not known with NXDOMAIN.
type Names struct {
	mu    sync.Mutex
	names map[string]nameEntry
	asked map[string]int
}

type nameEntry struct {
	addrs []netip.Addr
	late  time.Duration
}

// NewNames returns a server that knows no names and does not listen: Serve and Listen do.
func NewNames() *Names { return &Names{names: map[string]nameEntry{}, asked: map[string]int{}} }

// Set has a name answered with addresses, of both families, from now on.
func (n *Names) Set(name string, addrs ...netip.Addr) { n.SetLate(0, name, addrs...) }

// SetLate is Set for a name whose answers come late by a time.
func (n *Names) SetLate(late time.Duration, name string, addrs ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[key(name)] = nameEntry{addrs, late}
}

// Asked returns how often a name has been asked for.
func (n *Names) Asked(name string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[key(name)]
}

// Addrs returns the addresses of a name.
func (n *Names) Addrs(name string) []netip.Addr {
	e, _ := n.entry(name)
	return e.addrs
}

func (n *Names) entry(name string) (nameEntry, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked[key(name)]++
	e, ok := n.names[key(name)]
	return e, ok
}

func key(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// Listen serves on a free port of loopback until the test ends, and returns its address.
func (n *Names) Listen(t testing.TB) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go n.serve(conn)
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// serve answers what comes on a connection until that is closed.
func (n *Names) serve(conn net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		size, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if answer, late, ok := n.answer(buf[:size]); ok {
			time.AfterFunc(late, func() { _, _ = conn.WriteTo(answer, from) })
		}
	}
}

// answer returns what is to be sent for a question, and how late.
func (n *Names) answer(question []byte) (answer []byte, late time.Duration, ok bool) {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) != 1 {
		return nil, 0, false
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	q := m.Questions[0]
	e, known := n.entry(q.Name.String())
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range e.addrs {
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	answer, err := m.Pack()
	return answer, e.late, err == nil
}
