package names

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// How name servers are asked: each for serverTry, all of them again, for serverMost at most.
const (
	serverTry    = 1500 * time.Millisecond
	serverMost   = 4500 * time.Millisecond
	serverRounds = 2
)

// servers are the host's name servers.
type servers struct {
	fixed []netip.AddrPort
	file  string           // of the form of resolv.conf
	own   []netip.AddrPort // where we listen: we do not ask ourselves

	mu   sync.Mutex
	read time.Time // when the file was changed that all is from
	size int64
	all  []netip.AddrPort
}

// list returns the name servers in their order.
func (s *servers) list() ([]netip.AddrPort, error) {
	if s.fixed != nil {
		return s.fixed, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Stat(s.file)
	switch {
	case err != nil && s.all == nil:
		return nil, fmt.Errorf("looking for name servers: %w", err)
	case err != nil || s.all != nil && info.ModTime().Equal(s.read) && info.Size() == s.size:
		return s.all, nil
	}
	text, err := os.ReadFile(s.file)
	if err != nil {
		return nil, fmt.Errorf("looking for name servers: %w", err)
	}
	all := slices.DeleteFunc(nameservers(string(text)), func(a netip.AddrPort) bool { return slices.Contains(s.own, a) })
	if len(all) == 0 {
		return nil, fmt.Errorf("%s names no name server but this one", s.file)
	}
	s.all, s.read, s.size = all, info.ModTime(), info.Size()
	return all, nil
}

// nameservers reads the name servers of a file of the form of resolv.conf. Where it names
// none, one on the host is meant.
func nameservers(text string) []netip.AddrPort {
	var out []netip.AddrPort
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil {
			out = append(out, netip.AddrPortFrom(a, 53))
		}
	}
	if out == nil {
		out = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
	}
	return out
}

// The codes with which a name server says that another may know better.
const (
	codeMask       = 0x0f
	serverFailure  = 2
	notImplemented = 4
	refused        = 5
)

// forwardUDP asks the name servers by UDP.
func (r *Responder) forwardUDP(ctx context.Context, question []byte) ([]byte, error) {
	return r.forward(ctx, question, "udp", func(c net.Conn) ([]byte, error) {
		if _, err := c.Write(question); err != nil {
			return nil, err
		}
		buf := r.buffers.Get().(*[]byte)
		defer r.buffers.Put(buf)
		for {
			n, err := c.Read(*buf)
			if err != nil {
				return nil, err
			}
			if answers(question, (*buf)[:n]) {
				return bytes.Clone((*buf)[:n]), nil
			}
		}
	})
}

// forwardTCP asks the name servers by TCP.
func (r *Responder) forwardTCP(ctx context.Context, question []byte) ([]byte, error) {
	return r.forward(ctx, question, "tcp", func(c net.Conn) ([]byte, error) {
		if err := writeMessage(c, question); err != nil {
			return nil, err
		}
		answer, err := readMessage(c)
		if err == nil && !answers(question, answer) {
			err = errors.New("the answer is to another question")
		}
		return answer, err
	})
}

// forward asks one name server after the other until one knows an answer. Where all say that
// they cannot, what the last has said is the answer.
func (r *Responder) forward(ctx context.Context, question []byte, network string, ask func(net.Conn) ([]byte, error)) ([]byte, error) {
	all, err := r.servers.list()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, serverMost)
	defer cancel()
	var last []byte
	for range serverRounds {
		for _, server := range all {
			if ctx.Err() != nil {
				break
			}
			answer, failed := askOne(ctx, network, server, ask)
			switch {
			case failed != nil:
				err = fmt.Errorf("asking %s by %s: %w", server, network, failed)
			case unable(answer):
				last = answer
			default:
				return answer, nil
			}
		}
		if last != nil {
			return last, nil
		}
	}
	return nil, err
}

func askOne(ctx context.Context, network string, server netip.AddrPort, ask func(net.Conn) ([]byte, error)) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, serverTry)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	until, _ := ctx.Deadline()
	_ = c.SetDeadline(until)
	return ask(c)
}

// answers reports whether a message is the answer to a question: it has its id, which with
// the port that the question came from nobody else knows.
func answers(question, m []byte) bool {
	const head, response = 12, 0x80
	return len(m) >= head && len(question) >= head && m[0] == question[0] && m[1] == question[1] && m[2]&response != 0
}

// unable reports whether a name server says that it cannot answer.
func unable(m []byte) bool {
	code := m[3] & codeMask
	return code == serverFailure || code == notImplemented || code == refused
}
