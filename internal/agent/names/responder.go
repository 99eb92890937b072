package names

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Bounds of what is under way at a time. What is too much is dropped, and asked again.
const (
	mostQuestions   = 512 // by UDP
	mostConnections = 64
	connectionIdle  = 10 * time.Second
	longestMessage  = 65535
)

// Config is what a Responder needs.
type Config struct {
	// Listen is where questions come in, by UDP and TCP. An IPv6 loopback address on a
	// host without IPv6 is left out.
	Listen []netip.AddrPort
	// Envoy is where Envoy's DNS filter listens.
	Envoy netip.AddrPort
	// Servers are the name servers that are asked for all else; nil for those of the
	// file ResolvConf, which is read again when it changes.
	Servers []netip.AddrPort
	// ResolvConf is /etc/resolv.conf where it is empty.
	ResolvConf string
	Logger     *slog.Logger
}

// Responder answers questions. Make one by New.
type Responder struct {
	filter  filter
	servers servers
	logger  *slog.Logger
	udp     []*net.UDPConn
	tcp     []*net.TCPListener
	slots   chan struct{} // of questions by UDP
	places  chan struct{} // of connections
	buffers sync.Pool
}

// New listens. Serve answers; without it Close ends the listening. The error names the
// address that cannot be listened on.
func New(c Config) (*Responder, error) {
	r := &Responder{
		filter: filter{address: c.Envoy}, servers: servers{fixed: c.Servers, file: c.ResolvConf, own: c.Listen}, logger: c.Logger,
		slots: make(chan struct{}, mostQuestions), places: make(chan struct{}, mostConnections),
		buffers: sync.Pool{New: func() any { b := make([]byte, longestMessage); return &b }},
	}
	if r.servers.file == "" {
		r.servers.file = "/etc/resolv.conf"
	}
	for _, at := range c.Listen {
		err := r.listen(at)
		noFamily := errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
		if err != nil && (at.Addr() != netip.IPv6Loopback() || !noFamily) {
			return nil, errors.Join(fmt.Errorf("listening for DNS on %s: %w", at, err), r.Close())
		}
	}
	return r, nil
}

func (r *Responder) listen(at netip.AddrPort) error {
	u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	t, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return errors.Join(err, u.Close())
	}
	r.udp, r.tcp = append(r.udp, u), append(r.tcp, t)
	return nil
}

// Close ends the listening.
func (r *Responder) Close() error {
	var all []error
	for _, u := range r.udp {
		all = append(all, u.Close())
	}
	for _, t := range r.tcp {
		all = append(all, t.Close())
	}
	return errors.Join(all...)
}

// Serve answers until ctx ends, and closes what New has opened.
func (r *Responder) Serve(ctx context.Context) error {
	var running sync.WaitGroup
	for _, u := range r.udp {
		running.Go(func() { r.serveUDP(ctx, u) })
	}
	for _, t := range r.tcp {
		running.Go(func() { r.serveTCP(ctx, t) })
	}
	<-ctx.Done()
	err := r.Close()
	running.Wait()
	return err
}

// serveUDP answers what comes by UDP until the socket is closed.
func (r *Responder) serveUDP(ctx context.Context, u *net.UDPConn) {
	var running sync.WaitGroup
	defer running.Wait()
	buf := make([]byte, longestMessage)
	for {
		n, from, err := u.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an answer before found nobody there any more
		}
		select {
		case r.slots <- struct{}{}:
		default:
			continue
		}
		question := append([]byte(nil), buf[:n]...)
		running.Go(func() {
			defer func() { <-r.slots }()
			if answer := r.answer(ctx, question, r.forwardUDP); answer != nil {
				_, _ = u.WriteToUDPAddrPort(answer, from)
			}
		})
	}
}

// serveTCP answers what comes by TCP until the listener is closed.
func (r *Responder) serveTCP(ctx context.Context, t *net.TCPListener) {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		c, err := t.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select { // out of files, perhaps
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		select {
		case r.places <- struct{}{}:
		default:
			_ = c.Close()
			continue
		}
		running.Go(func() {
			defer func() { <-r.places }()
			defer context.AfterFunc(ctx, func() { _ = c.Close() })()
			r.converse(ctx, c)
			_ = c.Close()
		})
	}
}

// converse answers the questions of a connection, one after the other.
func (r *Responder) converse(ctx context.Context, c net.Conn) {
	for {
		_ = c.SetDeadline(time.Now().Add(connectionIdle))
		question, err := readMessage(c)
		if err != nil {
			return
		}
		answer := r.answer(ctx, question, r.forwardTCP)
		_ = c.SetDeadline(time.Now().Add(connectionIdle))
		if answer == nil || writeMessage(c, answer) != nil {
			return
		}
	}
}

// answer returns what is to be sent for a question; nil for nothing, where that is none.
func (r *Responder) answer(ctx context.Context, question []byte, forward func(context.Context, []byte) ([]byte, error)) []byte {
	var p dnsmessage.Parser
	head, err := p.Start(question)
	if err != nil || head.Response {
		return nil
	}
	q, err := p.Question()
	if err == nil && head.OpCode == 0 && q.Class == dnsmessage.ClassINET {
		found, err := r.filter.lookup(ctx, q.Name)
		if err != nil {
			r.logger.Debug("Envoy does not answer for names", "error", err)
			return failure(head, q)
		}
		if found.known() {
			return found.answer(head, q)
		}
	}
	answer, err := forward(ctx, question)
	if err != nil {
		r.logger.Debug("no name server answers", "error", err)
		return failure(head, q)
	}
	return answer
}

// failure is the answer that there is none for the moment.
func failure(head dnsmessage.Header, q dnsmessage.Question) []byte {
	return message(head, dnsmessage.RCodeServerFailure, q, nil)
}

// message makes an answer to a question with one header. A name that cannot be packed
// costs the question, never the answer.
func message(head dnsmessage.Header, code dnsmessage.RCode, q dnsmessage.Question, answers []dnsmessage.Resource) []byte {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: head.ID, Response: true, OpCode: head.OpCode, RecursionDesired: head.RecursionDesired, RecursionAvailable: true, RCode: code,
		},
		Answers: answers,
	}
	if q.Name.Length > 0 {
		m.Questions = []dnsmessage.Question{q}
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}

// readMessage reads a message of a connection, which has its length before it.
func readMessage(c io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return nil, err
	}
	out := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(c, out)
	return out, err
}

// writeMessage writes a message and its length to a connection.
func writeMessage(c io.Writer, m []byte) error {
	if len(m) > longestMessage {
		return fmt.Errorf("a message has %d bytes, allowed are %d", len(m), longestMessage)
	}
	_, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...))
	return err
}
