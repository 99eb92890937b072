package server

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/replica"
)

// listenPeers binds the address at which the other replicas ask this one.
func (s *Server) listenPeers() error {
	if s.cfg.PeerListen == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(s.cfg.PeerListen); err != nil {
		return fmt.Errorf("--peer-listen %q: allowed is host:port, for example 0.0.0.0:9083", s.cfg.PeerListen)
	}
	bound, err := net.Listen("tcp", s.cfg.PeerListen)
	if err != nil {
		return fmt.Errorf("--peer-listen %q: %w", s.cfg.PeerListen, err)
	}
	s.peers = &listener{Listener: bound}
	return nil
}

// openReplica prepares this server as one of the replicas over its store.
func (s *Server) openReplica() (err error) {
	cfg := replica.Config{
		Store: s.store, Alone: s.cfg.Store.DataDir != "", Version: s.cfg.Version,
		Work:     map[string]replica.Work{"certificates": s.ca.Run, "cloud map": s.wanted.follow, "store": s.store.Lead, "quotas": s.tidyQuotas},
		Handlers: s.handlers(), Metrics: s.metrics, Logger: s.cfg.Log,
	}
	if s.peers != nil {
		cfg.Listener = s.peers
		cfg.Address = advertised(s.cfg.PeerAdvertise, s.peers.Addr().String(), s.cfg.Store.Endpoints, outgoing)
	}
	if s.replica, err = replica.New(cfg); err != nil {
		return err
	}
	s.crowd = &crowd{replica: s.replica, counts: map[crowdKey]streamsCount{}}
	return nil
}

// advertised returns the address that the others are told: what is set, with the
// listener's port if it has none, or the listener's own. One that listens everywhere is
// reached at the address that this host reaches etcd from: the network that the replicas
// share. from finds it, "" for none.
func advertised(set, listens string, endpoints []string, from func(hostport string) string) string {
	host, port, err := net.SplitHostPort(listens)
	if err != nil {
		return listens
	}
	if set != "" {
		if _, _, err := net.SplitHostPort(set); err == nil {
			return set
		}
		return net.JoinHostPort(strings.Trim(set, "[]"), port)
	}
	if ip, err := netip.ParseAddr(host); host != "" && (err != nil || !ip.IsUnspecified()) {
		return listens
	}
	// An etcd on this host says nothing of how others reach it.
	best := ""
	for _, e := range endpoints {
		found := from(hostport(e))
		if ip, err := netip.ParseAddr(found); err == nil && !ip.IsLoopback() {
			return net.JoinHostPort(found, port)
		}
		if best == "" {
			best = found
		}
	}
	if found := interfaceAddress(); found != "" {
		best = found
	}
	if best == "" {
		best = "127.0.0.1"
	}
	return net.JoinHostPort(best, port)
}

// hostport returns an endpoint of etcd, which may be a URL, as host:port.
func hostport(endpoint string) string {
	if u, err := url.Parse(endpoint); err == nil && u.Host != "" {
		endpoint = u.Host
	}
	if _, _, err := net.SplitHostPort(endpoint); err != nil {
		return net.JoinHostPort(strings.Trim(endpoint, "[]"), "2379")
	}
	return endpoint
}

// outgoing returns the address that packets to another come from. None is sent.
func outgoing(to string) string {
	c, err := net.Dial("udp", to)
	if err != nil {
		return ""
	}
	defer c.Close()
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		return ""
	}
	return host
}

// interfaceAddress returns the first address of this host that others may reach, "" if it
// has none.
func interfaceAddress() string {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	return ""
}
