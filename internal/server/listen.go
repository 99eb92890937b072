package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

	"github.com/fairlead-mesh/fairlead/internal/server/tlsfiles"
)

// listener is one of the three addresses.
type listener struct {
	net.Listener
	tls *tls.Config // nil without TLS
}

func (l *listener) close() error {
	if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// address is what the configuration says of one of the three.
type address struct {
	name, addr     string
	files          tlsfiles.Files
	maxConnections int
	protocols      []string // that TLS negotiates, best first
	asks           bool     // clients for a certificate, which may prove who they are
	to             **listener
}

func (s *Server) addresses() []address {
	c := &s.cfg
	return []address{
		{"api", c.APIListen, c.APITLS, orDefault(c.APIConnections, 10_000), []string{"h2", "http/1.1"}, true, &s.api},
		{"xds", c.XDSListen, c.XDSTLS, orDefault(c.XDSConnections, 20_000), []string{"h2"}, false, &s.grpc},
		{"ops", c.OpsListen, c.OpsTLS, orDefault(c.OpsConnections, 250), []string{"h2", "http/1.1"}, false, &s.ops},
	}
}

func orDefault(n, byDefault int) int {
	if n == 0 {
		return byDefault
	}
	return n
}

// listen binds the three addresses before anything is made, so that a taken port or a
// bad certificate leaves nothing behind.
func (s *Server) listen() error {
	watchers := map[tlsfiles.Files]*tlsfiles.Watcher{} // files of several are read once
	for _, a := range s.addresses() {
		if err := checkPlaintext(a, s.cfg.Plaintext); err != nil {
			return err
		}
		l := &listener{}
		if a.files.Enabled() {
			w := watchers[a.files]
			if w == nil {
				var err error
				w, err = tlsfiles.Open(tlsfiles.Config{Files: a.files, Interval: s.cfg.Timeouts.TLSFiles, Now: s.cfg.Now, Logger: s.cfg.Log})
				if err != nil {
					return fmt.Errorf("loading the TLS files of --%s-listen: %w", a.name, err)
				}
				watchers[a.files] = w
				s.tlsFiles = append(s.tlsFiles, w)
			}
			l.tls = w.ServerConfig(a.protocols...)
			if a.asks {
				l.tls = w.ServerConfigAsking(a.protocols...)
			}
			s.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name:        "fairlead_tls_certificate_expiry_seconds",
				Help:        "When the certificate of a listener ends, in seconds since 1970.",
				ConstLabels: prometheus.Labels{"listener": a.name},
			}, func() float64 { return float64(w.Expiry().Unix()) }))
		}
		bound, err := net.Listen("tcp", a.addr)
		if err != nil {
			return fmt.Errorf("--%s-listen %q: %w", a.name, a.addr, err)
		}
		l.Listener = s.counted(a.name, bound, a.maxConnections)
		*a.to = l
	}
	return nil
}

// checkPlaintext refuses an address that others can reach without TLS as long as it is
// not said that the connection is secured elsewhere.
func checkPlaintext(a address, allowed bool) error {
	host, _, err := net.SplitHostPort(a.addr)
	if err != nil {
		return fmt.Errorf("--%s-listen %q: allowed is host:port, for example 127.0.0.1:9080", a.name, a.addr)
	}
	if ip := net.ParseIP(host); allowed || a.files.Enabled() || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("--%[1]s-listen %[2]q is not a loopback address and has no TLS: give --%[1]s-tls-cert and --%[1]s-tls-key "+
		"(or --tls-cert and --tls-key for all), or say --insecure-plaintext if the network is secured elsewhere", a.name, a.addr)
}

// counted returns a listener with at most so many open connections, which are counted.
func (s *Server) counted(name string, l net.Listener, most int) net.Listener {
	labels := prometheus.Labels{"listener": name}
	limit := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "fairlead_connections_limit", Help: "How many connections a listener holds at most.", ConstLabels: labels,
	})
	limit.Set(float64(most))
	open := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "fairlead_connections", Help: "Connections open now, by listener.", ConstLabels: labels,
	})
	s.metrics.MustRegister(limit, open)
	return &countedListener{Listener: netutil.LimitListener(resending{l}, most), open: open}
}

// resending has its connections tried again soon.
type resending struct{ net.Listener }

// Accept returns the next connection.
func (l resending) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		resend(c)
	}
	return c, err
}

// countedListener counts its open connections.
type countedListener struct {
	net.Listener
	open prometheus.Gauge
}

// Accept returns the next connection.
func (l *countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.open.Inc()
	return &countedConn{Conn: c, closed: sync.OnceFunc(l.open.Dec)}, nil
}

// countedConn is counted until it is closed.
type countedConn struct {
	net.Conn
	closed func()
}

// Close closes the connection.
func (c *countedConn) Close() error {
	defer c.closed()
	return c.Conn.Close()
}
