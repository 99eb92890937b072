package intercept_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// answer has a host answer on a TCP port of all its addresses with a word.
func answer(h *meshtest.Host, port int, word string) {
	go meshtest.HandleConns(h.Listen(fmt.Sprintf(":%d", port)), func(c net.Conn) { _, _ = io.WriteString(c, word) })
}

// answerUDP has a host answer each datagram to a port of an address with a word.
func answerUDP(t *testing.T, h *meshtest.Host, address, word string) {
	t.Helper()
	conn := h.ListenPacket(address)
	go func() {
		buf := make([]byte, 512)
		for {
			_, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo([]byte(word), from)
		}
	}()
}

// ask connects from a host, and returns the word that it gets.
func ask(h *meshtest.Host, network string, to netip.Addr, port int) string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := h.Dial(ctx, network, netip.AddrPortFrom(to, uint16(port)).String())
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if strings.HasPrefix(network, "udp") {
		if _, err := c.Write([]byte("?")); err != nil {
			return err.Error()
		}
	}
	buf := make([]byte, 512)
	n, err := c.Read(buf)
	if err != nil {
		return err.Error()
	}
	return string(buf[:n])
}

// What is intercepted and what is left alone, both ways and in both families, with words
// in the place of Envoy.
func TestTraffic(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, kind string, env []string) {
		hosts := meshtest.NewHosts(t)
		h, far, ignored := hosts.Add("host"), hosts.Add("far"), hosts.Add("ignored")
		for port, word := range map[int]string{15000: "ingress", 15001: "egress", 15053: "dns", 8080: "own", 9999: "own"} {
			answer(h, port, word)
		}
		for _, port := range []int{22, 53, 80, 2049} {
			answer(far, port, "far")
			answer(ignored, port, "ignored")
		}
		for _, a := range []netip.Addr{h.V4, h.V6} {
			network := "127.0.0.1"
			if a.Is6() {
				network = "[::1]"
			}
			answerUDP(t, h, network+":15053", "dns")
		}
		answerUDP(t, h, "127.0.0.53:53", "stub")
		answerUDP(t, h, "[::1]:53", "stub")
		for _, a := range []netip.Addr{far.V4, far.V6} {
			answerUDP(t, far, netip.AddrPortFrom(a, 53).String(), "far")
			answerUDP(t, far, netip.AddrPortFrom(a, 9999).String(), "far")
		}
		base := append([]string{
			"APPMESH_APP_PORTS=8080", "APPMESH_ENABLE_IPV6=1", "APPMESH_EGRESS_IGNORED_PORTS=2049",
			fmt.Sprintf("APPMESH_EGRESS_IGNORED_IP=%s,%s", ignored.V4, ignored.V6),
			fmt.Sprintf("FAIRLEAD_INGRESS_IGNORED_IPS=%s,%s", ignored.V4, ignored.V6),
		}, env...)
		for _, step := range []struct {
			name     string
			settings []string
			want     map[string]string // other than below
		}{
			{"no more", nil, nil},
			{"DNS", []string{"FAIRLEAD_DNS_PORT=15053"}, map[string]string{"udp far 53": "dns", "tcp far 53": "dns"}},
			{"DNS, TCP ignored", []string{"FAIRLEAD_DNS_PORT=15053", "APPMESH_EGRESS_IGNORED_PORTS=2049,53"}, map[string]string{"udp far 53": "dns", "tcp far 53": "far"}},
			{"another name server", []string{"FAIRLEAD_DNS_PORT=15053", "FAIRLEAD_DNS_SERVERS=10.99.0.1,fd99::1"}, nil},
			{"one name server", []string{"FAIRLEAD_DNS_PORT=15053", fmt.Sprintf("FAIRLEAD_DNS_SERVERS=%s,%s", far.V4, far.V6)}, map[string]string{"udp far 53": "dns", "tcp far 53": "dns"}},
			{"name servers on loopback", []string{"FAIRLEAD_DNS_PORT=15053", "FAIRLEAD_DNS_SERVERS=127.0.0.53,::1"}, map[string]string{"udp loopback 53": "dns"}},
			{"our user", []string{"FAIRLEAD_DNS_PORT=15053", "FAIRLEAD_IGNORE_UIDS=5,0"}, map[string]string{"tcp far 80": "far", "tcp far 53": "far"}},
			{"our group", []string{"FAIRLEAD_DNS_PORT=15053", "APPMESH_IGNORE_GID=0"}, map[string]string{"tcp far 80": "far", "tcp far 53": "far"}},
			{"no ports", []string{"APPMESH_APP_PORTS="}, map[string]string{"in 8080": "own"}},
		} {
			settings := append(base, step.settings...)
			call(t, h, settings, "enable")
			if s := status(t, h, settings...); !s.Enabled || s.Backend != kind {
				t.Errorf("%s: %+v", step.name, s)
			}
			got := traffic(h, far, ignored)
			for question, word := range map[string]string{
				"tcp far 80": "egress", "tcp far 22": "far", "tcp far 2049": "far", "tcp far 53": "egress", "tcp ignored 80": "ignored",
				"udp far 53": "far", "udp far 9999": "far",
				"udp loopback 53": "stub", "own 8080": "own", "loopback 8080": "own",
				"in 8080": "ingress", "in 9999": "own", "in ignored 8080": "own",
			} {
				if other, ok := step.want[question]; ok {
					word = other
				}
				for _, family := range []string{"4 ", "6 "} {
					if got[family+question] != word {
						t.Errorf("%s: %s%s is answered %q, want %q", step.name, family, question, got[family+question], word)
					}
				}
			}
		}
		call(t, h, nil, "disable")
		for question, word := range traffic(h, far, ignored) {
			if word == "egress" || word == "ingress" || word == "dns" {
				t.Errorf("disabled: %s is answered %q", question, word)
			}
		}
	})
}

// traffic asks everything, and returns the answers.
func traffic(h, far, ignored *meshtest.Host) map[string]string {
	out := map[string]string{}
	for family, of := range map[string]func(*meshtest.Host) netip.Addr{
		"4": func(x *meshtest.Host) netip.Addr { return x.V4 },
		"6": func(x *meshtest.Host) netip.Addr { return x.V6 },
	} {
		put := func(question, network string, from *meshtest.Host, to netip.Addr, port int) {
			out[family+" "+question] = ask(from, network+family, to, port)
		}
		for _, port := range []int{80, 22, 2049, 53} {
			put(fmt.Sprintf("tcp far %d", port), "tcp", h, of(far), port)
		}
		put("tcp ignored 80", "tcp", h, of(ignored), 80)
		put("udp far 53", "udp", h, of(far), 53)
		put("udp far 9999", "udp", h, of(far), 9999)
		put("own 8080", "tcp", h, of(h), 8080)
		loopback, stub := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.53")
		if family == "6" {
			loopback, stub = netip.IPv6Loopback(), netip.IPv6Loopback()
		}
		put("loopback 8080", "tcp", h, loopback, 8080)
		put("udp loopback 53", "udp", h, stub, 53)
		put("in 8080", "tcp", far, of(h), 8080)
		put("in 9999", "tcp", far, of(h), 9999)
		put("in ignored 8080", "tcp", ignored, of(h), 8080)
	}
	return out
}
