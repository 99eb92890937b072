package main

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"golang.org/x/net/dns/dnsmessage"
)

// A nameServer knows one name, as the cluster's name server does with an entry for App Mesh's.
type nameServer struct {
	address string // where it listens
	name    dnsmessage.Name
	ip      netip.Addr
	conn    net.PacketConn
	asked   atomic.Int64
}

// serveDNS starts a name server that knows name, as the address of endpoint (host:port), and nothing else.
func serveDNS(name, endpoint string) (*nameServer, error) {
	at, err := netip.ParseAddrPort(endpoint)
	if err != nil {
		return nil, fmt.Errorf("reading the endpoint: %w", err)
	}
	known, err := dnsmessage.NewName(name)
	if err != nil {
		return nil, fmt.Errorf("reading the name %q: %w", name, err)
	}
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the name server: %w", err)
	}
	s := &nameServer{address: conn.LocalAddr().String(), name: known, ip: at.Addr(), conn: conn}
	go s.serve()
	return s, nil
}

func (s *nameServer) close() {
	_ = s.conn.Close() // it is only read from
}

// serve answers until the server is closed.
func (s *nameServer) serve() {
	buffer := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		var message dnsmessage.Message
		if message.Unpack(buffer[:n]) != nil || len(message.Questions) != 1 {
			continue
		}
		if answer, err := s.answer(message); err == nil {
			_, _ = s.conn.WriteTo(answer, from) // who asked asks again
		}
	}
}

func (s *nameServer) answer(message dnsmessage.Message) ([]byte, error) {
	q := message.Questions[0]
	message.Response, message.RecursionAvailable, message.Additionals = true, true, nil
	switch {
	case q.Name.String() != s.name.String():
		message.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		s.asked.Add(1)
		message.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 5},
			Body:   &dnsmessage.AResource{A: s.ip.As4()},
		}}
	}
	return message.Pack()
}
