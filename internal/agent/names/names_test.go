package names

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// table is a name server of a test: it answers by UDP and TCP out of a table, and says of
// all else that it does not exist.
type table struct {
	answers map[string]string // "NAME TYPE" -> an address or a text; "" for no data
	code    dnsmessage.RCode  // of what is not there
	asked   atomic.Int64
	silent  atomic.Bool
}

func (s *table) answer(question []byte) []byte {
	s.asked.Add(1)
	var m dnsmessage.Message
	if s.silent.Load() || m.Unpack(question) != nil {
		return nil
	}
	q := m.Questions[0]
	text, ok := s.answers[fmt.Sprintf("%s %s", q.Name, strings.TrimPrefix(q.Type.String(), "Type"))]
	code := dnsmessage.RCodeSuccess
	if !ok {
		code = s.code
	}
	var all []dnsmessage.Resource
	if text != "" {
		r := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 7}}
		switch a, err := netip.ParseAddr(text); {
		case err != nil:
			r.Body = &dnsmessage.TXTResource{TXT: []string{text}}
		case a.Is4():
			r.Body = &dnsmessage.AResource{A: a.As4()}
		default:
			r.Body = &dnsmessage.AAAAResource{AAAA: a.As16()}
		}
		all = append(all, r)
	}
	return message(m.Header, code, q, all)
}

// start serves on a free port of loopback, by UDP and TCP, until the test ends.
func (s *table) start(t testing.TB) netip.AddrPort {
	t.Helper()
	u, l := freePort(t)
	t.Cleanup(func() { _ = u.Close(); _ = l.Close() })
	go func() {
		buf := make([]byte, 2000)
		for {
			n, from, err := u.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if a := s.answer(buf[:n]); a != nil {
				_, _ = u.WriteToUDPAddrPort(a, from)
			}
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if m, err := readMessage(c); err == nil {
					_ = writeMessage(c, s.answer(m))
				}
			}()
		}
	}()
	return u.LocalAddr().(*net.UDPAddr).AddrPort()
}

// freePort listens on one port by UDP and TCP.
func freePort(t testing.TB) (*net.UDPConn, *net.TCPListener) {
	t.Helper()
	for range 50 {
		u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: u.LocalAddr().(*net.UDPAddr).Port})
		if err == nil {
			return u, l
		}
		_ = u.Close()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

// serve runs a Responder until the test ends, and returns where.
func serve(t testing.TB, c Config) netip.AddrPort {
	t.Helper()
	u, l := freePort(t)
	at := u.LocalAddr().(*net.UDPAddr).AddrPort()
	_ = u.Close()
	_ = l.Close()
	c.Listen, c.Logger = []netip.AddrPort{at}, slog.New(slog.DiscardHandler)
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return at
}

// ask asks a question, and returns the answer as "CODE answer…".
func ask(t *testing.T, network string, at netip.AddrPort, name string, typ dnsmessage.Type) string {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 4711, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}},
	}
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial(network, at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if network == "tcp" {
		if err := writeMessage(c, raw); err != nil {
			t.Fatal(err)
		}
		raw, err = readMessage(c)
	} else {
		if _, err := c.Write(raw); err != nil {
			t.Fatal(err)
		}
		raw = make([]byte, 2000)
		var n int
		n, err = c.Read(raw)
		raw = raw[:n]
	}
	if err != nil {
		t.Fatalf("%s %s: %v", name, typ, err)
	}
	var got dnsmessage.Message
	if err := got.Unpack(raw); err != nil {
		t.Fatal(err)
	}
	if got.ID != 4711 || !got.Response || len(got.Questions) != 1 || got.Questions[0] != m.Questions[0] {
		t.Errorf("%s %s: the answer is to another question: %+v", name, typ, got)
	}
	out := []string{strings.TrimPrefix(got.RCode.String(), "RCode")}
	for _, a := range got.Answers {
		if a.Header.Name.String() != name {
			t.Errorf("%s: an answer is about %s", name, a.Header.Name)
		}
		switch b := a.Body.(type) {
		case *dnsmessage.AResource:
			out = append(out, netip.AddrFrom4(b.A).String())
		case *dnsmessage.AAAAResource:
			out = append(out, netip.AddrFrom16(b.AAAA).String())
		case *dnsmessage.TXTResource:
			out = append(out, b.TXT...)
		}
	}
	return strings.Join(out, " ")
}

// What Envoy knows is answered out of that, with no data where there is none; all else
// comes from the name server as it is.
func TestAnswers(t *testing.T) {
	t.Parallel()
	// Envoy says NXDOMAIN of all that it has no answer for.
	envoy := &table{code: dnsmessage.RCodeNameError, answers: map[string]string{
		"colour. A": "240.1.2.3", "both.local. A": "240.1.2.4", "both.local. AAAA": "fd66::4",
	}}
	hosts := &table{code: dnsmessage.RCodeNameError, answers: map[string]string{
		"far. A": "10.0.0.9", "far. AAAA": "", "far. TXT": "hello", "colour. TXT": "not this one", "colour. A": "10.0.0.8",
	}}
	at := serve(t, Config{Envoy: envoy.start(t), Servers: []netip.AddrPort{hosts.start(t)}})
	for _, c := range []struct {
		name string
		typ  dnsmessage.Type
		want string
	}{
		{"colour.", dnsmessage.TypeA, "Success 240.1.2.3"},
		{"CoLour.", dnsmessage.TypeA, "Success 240.1.2.3"},
		{"colour.", dnsmessage.TypeAAAA, "Success"},
		{"colour.", dnsmessage.TypeTXT, "Success"},
		{"colour.", dnsmessage.Type(65), "Success"}, // HTTPS
		{"both.local.", dnsmessage.TypeA, "Success 240.1.2.4"},
		{"both.local.", dnsmessage.TypeAAAA, "Success fd66::4"},
		{"both.local.", dnsmessage.TypeALL, "Success 240.1.2.4 fd66::4"},
		{"far.", dnsmessage.TypeA, "Success 10.0.0.9"},
		{"far.", dnsmessage.TypeAAAA, "Success"},
		{"far.", dnsmessage.TypeTXT, "Success hello"},
		{"far.", dnsmessage.TypeSRV, "NameError"},
		{"nowhere.", dnsmessage.TypeA, "NameError"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			if got := ask(t, network, at, c.name, c.typ); got != c.want {
				t.Errorf("%s %s by %s: %q, want %q", c.name, c.typ, network, got, c.want)
			}
		}
	}
}

// What comes while Envoy does not listen yet is answered once it does.
func TestWaitsForEnvoy(t *testing.T) {
	t.Parallel()
	envoy := &table{code: dnsmessage.RCodeNameError, answers: map[string]string{"colour. A": "240.1.2.3"}}
	envoy.silent.Store(true)
	at := serve(t, Config{Envoy: envoy.start(t), Servers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}})
	go func() {
		for envoy.asked.Load() < 4 { // two tries
			runtime.Gosched()
		}
		envoy.silent.Store(false)
	}()
	if got := ask(t, "udp", at, "colour.", dnsmessage.TypeA); got != "Success 240.1.2.3" {
		t.Errorf("answered %q", got)
	}
}

// A name server that does not answer, or cannot, is left for the next; what the last of them
// says is the answer, and where none says anything there is a failure.
func TestNextNameServer(t *testing.T) {
	t.Parallel()
	envoy := (&table{code: dnsmessage.RCodeNameError}).start(t)
	good := (&table{code: dnsmessage.RCodeNameError, answers: map[string]string{"far. A": "10.0.0.9"}}).start(t)
	refusing := (&table{code: dnsmessage.RCodeRefused}).start(t)
	nobody := netip.MustParseAddrPort("127.0.0.1:1")
	for _, c := range []struct {
		servers []netip.AddrPort
		want    string
	}{
		{[]netip.AddrPort{nobody, good}, "Success 10.0.0.9"},
		{[]netip.AddrPort{refusing, good}, "Success 10.0.0.9"},
		{[]netip.AddrPort{refusing, refusing}, "Refused"},
		{[]netip.AddrPort{nobody}, "ServerFailure"},
	} {
		at := serve(t, Config{Envoy: envoy, Servers: c.servers})
		for _, network := range []string{"udp", "tcp"} {
			if got := ask(t, network, at, "far.", dnsmessage.TypeA); got != c.want {
				t.Errorf("%v by %s: %q, want %q", c.servers, network, got, c.want)
			}
		}
	}
}

// What is no question gets no answer, and ends nothing.
func TestWhatIsNoQuestion(t *testing.T) {
	t.Parallel()
	envoy := &table{code: dnsmessage.RCodeNameError, answers: map[string]string{"colour. A": "240.1.2.3"}}
	at := serve(t, Config{Envoy: envoy.start(t), Servers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}})
	c, err := net.Dial("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, odd := range []string{"", "x", strings.Repeat("\xff", 600), "\x00\x01\x80\x00" + strings.Repeat("\x00", 8)} {
		if _, err := c.Write([]byte(odd)); err != nil {
			t.Fatal(err)
		}
	}
	if got := ask(t, "udp", at, "colour.", dnsmessage.TypeA); got != "Success 240.1.2.3" {
		t.Errorf("afterwards %q", got)
	}
}

// The name servers are those of the file, as it is now, and never we ourselves.
func TestNameServersOfTheHost(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	s := servers{file: file, own: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.2:53")}}
	if _, err := s.list(); err == nil {
		t.Error("a file that is not there has name servers")
	}
	for _, c := range []struct {
		text string
		want []string
	}{
		{"search a.b\nnameserver 127.0.0.2\nnameserver 10.0.0.2\n# nameserver 10.0.0.3\noptions ndots:5\n", []string{"10.0.0.2:53"}},
		{"nameserver fe80::1%eth0\nnameserver\tfd00::2 \nnameserver nonsense\n", []string{"[fe80::1%eth0]:53", "[fd00::2]:53"}},
		{"", []string{"127.0.0.1:53"}},
		{"nameserver 127.0.0.2\n", nil},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		all, err := s.list()
		var got []string
		for _, a := range all {
			got = append(got, a.String())
		}
		if !slices.Equal(got, c.want) || (err != nil) != (c.want == nil) {
			t.Errorf("%q: %v %v, want %v", c.text, got, err, c.want)
		}
	}
}

// FuzzAnswer has no question end the Responder, and no answer be to another question.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06colour\x00\x00\x01\x00\x01"))
	f.Add([]byte{})
	r := &Responder{logger: slog.New(slog.DiscardHandler)}
	f.Fuzz(func(t *testing.T, question []byte) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // Envoy is asked once, and nobody is there
		out := r.answer(ctx, question, func(context.Context, []byte) ([]byte, error) { return nil, os.ErrDeadlineExceeded })
		if out != nil && (len(out) < 12 || out[0] != question[0] || out[1] != question[1]) {
			t.Errorf("%x is answered %x", question, out)
		}
	})
}
