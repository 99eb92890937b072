package names

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// How Envoy is asked. It answers out of its memory, on the same host. Before it has its first
// configuration nobody listens, and what is asked is waited for: an application that starts
// with its Envoy must not learn that a service does not exist.
const (
	filterTry   = 250 * time.Millisecond
	filterPause = 25 * time.Millisecond
	filterMost  = 4 * time.Second // applications wait for five
)

// filter is Envoy's DNS filter, which knows the names of virtual services.
type filter struct{ address netip.AddrPort }

// found is what Envoy knows of a name.
type found struct {
	v4, v6 []dnsmessage.Resource
}

func (f found) known() bool { return len(f.v4)+len(f.v6) > 0 }

// answer answers a question about a name that is known. Of another type, or of a family that
// the name has no address of, there is nothing: that the name does not exist (NXDOMAIN, as
// Envoy says itself) would be taken for all families by some programs.
func (f found) answer(head dnsmessage.Header, q dnsmessage.Question) []byte {
	var all []dnsmessage.Resource
	switch q.Type {
	case dnsmessage.TypeA:
		all = f.v4
	case dnsmessage.TypeAAAA:
		all = f.v6
	case dnsmessage.TypeALL:
		all = append(append(all, f.v4...), f.v6...)
	}
	out := make([]dnsmessage.Resource, len(all))
	for i, r := range all {
		r.Header.Name = q.Name // in the letters of who asks
		out[i] = r
	}
	return message(head, dnsmessage.RCodeSuccess, q, out)
}

// lookup asks for a name's addresses of both families. The error says that nobody answers.
func (f filter) lookup(ctx context.Context, name dnsmessage.Name) (out found, err error) {
	lower, err := dnsmessage.NewName(strings.ToLower(name.String()))
	if err != nil {
		return found{}, nil // no name that a virtual service can have
	}
	ctx, cancel := context.WithTimeout(ctx, filterMost)
	defer cancel()
	for {
		if out, err = f.try(ctx, lower); err == nil {
			return out, nil
		}
		select {
		case <-ctx.Done():
			return found{}, fmt.Errorf("asking Envoy's DNS filter: %w", err)
		case <-time.After(filterPause):
		}
	}
}

// try asks once.
func (f filter) try(ctx context.Context, name dnsmessage.Name) (found, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", f.address.String())
	if err != nil {
		return found{}, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(filterTry))
	first := uint16(rand.Uint32()) &^ 1
	for i, t := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
		m := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: first + uint16(i), RecursionDesired: true},
			Questions: []dnsmessage.Question{{Name: name, Type: t, Class: dnsmessage.ClassINET}},
		}
		raw, err := m.Pack()
		if err != nil {
			return found{}, err
		}
		if _, err := c.Write(raw); err != nil {
			return found{}, err
		}
	}
	var out found
	buf := make([]byte, 1500)
	for range 2 {
		n, err := c.Read(buf)
		if err != nil {
			return found{}, err
		}
		var m dnsmessage.Message
		if err := m.Unpack(buf[:n]); err != nil || m.ID&^1 != first {
			return found{}, errors.Join(errors.New("an answer cannot be read"), err)
		}
		if m.ID == first {
			out.v4 = m.Answers
		} else {
			out.v6 = m.Answers
		}
	}
	return out, nil
}
