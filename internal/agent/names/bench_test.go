package names

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// BenchmarkAnswer asks one question after the other, of a name in the mesh and of one that a
// name server is asked for: what Envoy's filter and the name server cost is that of tables
// in this process.
func BenchmarkAnswer(b *testing.B) {
	envoy := (&table{code: dnsmessage.RCodeNameError, answers: map[string]string{"colour. A": "240.1.2.3"}}).start(b)
	hosts := (&table{code: dnsmessage.RCodeNameError, answers: map[string]string{"far. A": "10.0.0.9"}}).start(b)
	at := serve(b, Config{Envoy: envoy, Servers: []netip.AddrPort{hosts}, Logger: slog.New(slog.DiscardHandler)})
	for _, name := range []string{"colour.", "far."} {
		b.Run(name, func(b *testing.B) {
			m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
			raw, err := m.Pack()
			if err != nil {
				b.Fatal(err)
			}
			c, err := net.Dial("udp", at.String())
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			buf := make([]byte, 2000)
			for b.Loop() {
				if _, err := c.Write(raw); err != nil {
					b.Fatal(err)
				}
				if _, err := c.Read(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
