package tlsfiles

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Files are what a listener serves TLS with. The zero value is no TLS.
type Files struct {
	// Cert and Key are PEM files: the certificate, followed by those between it and its
	// authority, and its private key.
	Cert, Key string
	// ClientCA is a PEM file of the authorities that clients' certificates are verified
	// with; "" asks clients for none.
	ClientCA string
	// RequireClientCert refuses clients without a certificate; otherwise only one that
	// is presented is verified. It needs ClientCA.
	RequireClientCert bool
}

// Enabled reports whether there is TLS.
func (f Files) Enabled() bool { return f.Cert != "" || f.Key != "" }

// check returns what is missing.
func (f Files) check() error {
	switch {
	case f.Cert == "":
		return fmt.Errorf("key %s has no certificate with it", f.Key)
	case f.Key == "":
		return fmt.Errorf("certificate %s has no key with it", f.Cert)
	case f.RequireClientCert && f.ClientCA == "":
		return errors.New("client certificates are required, but no authority to verify them with is given")
	}
	return nil
}

// Config says what a Watcher reads.
type Config struct {
	Files
	// Interval is how often the files are looked at; 0 for every 5 seconds. What has
	// changed is in force after two intervals at most.
	Interval time.Duration
	// Logger is told of what was read, of what does not load, and of a certificate that
	// ends soon. Nil for none.
	Logger *slog.Logger
	// Now is the clock that the certificate's end is compared with; nil for time.Now.
	Now func() time.Time
}

// Watcher holds what the files held when they last could be read. Its methods may be
// called by several goroutines.
type Watcher struct {
	cfg     Config
	log     *slog.Logger
	now     func() time.Time
	current atomic.Pointer[material]

	mu       sync.Mutex // held by look
	parts    []*part
	toldNear time.Time
}

// material is what handshakes are served with.
type material struct {
	cert      tls.Certificate
	clientCAs *x509.CertPool
}

// Open reads the files. Its error names what cannot be used. Run keeps them up to date.
func Open(cfg Config) (*Watcher, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	w := &Watcher{cfg: cfg, log: cfg.Logger, now: cfg.Now}
	if w.cfg.Interval <= 0 {
		w.cfg.Interval = 5 * time.Second
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	if w.now == nil {
		w.now = time.Now
	}
	w.current.Store(&material{})
	w.parts = []*part{{what: "certificate and key", files: []string{cfg.Cert, cfg.Key}, take: w.takePair}}
	if cfg.ClientCA != "" {
		w.parts = append(w.parts, &part{what: "client authorities", files: []string{cfg.ClientCA}, take: w.takeClientCAs})
	}
	for _, p := range w.parts {
		if err := p.first(); err != nil {
			return nil, err
		}
	}
	w.warnNear()
	return w, nil
}

// Run looks at the files until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	tick := time.NewTicker(w.cfg.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			w.look()
		}
	}
}

// look reads the files once.
func (w *Watcher) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.parts {
		changed, err := p.look()
		if err != nil {
			w.log.Error("TLS files have changed and cannot be used; what was loaded before stays in force",
				"what", p.what, "files", strings.Join(p.files, ","), "error", err)
		} else if changed {
			w.log.Info("TLS files were read anew", "what", p.what, "files", strings.Join(p.files, ","), "expires", w.Expiry())
		}
	}
	w.warnNear()
}

// Expiry returns when the certificate in force ends, or an earlier end of one that it
// is served with.
func (w *Watcher) Expiry() time.Time {
	return w.current.Load().expiry()
}

func (m *material) expiry() time.Time {
	end := m.cert.Leaf.NotAfter
	for _, der := range m.cert.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil && c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

const (
	// nearMost is the longest time before a certificate's end that counts as near, and
	// nearPart the part of its life that does: who renews does it well before.
	nearMost = 30 * 24 * time.Hour
	nearPart = 6
	// nearAgain is how often a near end is told of.
	nearAgain = 24 * time.Hour
)

// warnNear says, once a day, that the certificate ends soon or has ended.
func (w *Watcher) warnNear() {
	m, now := w.current.Load(), w.now()
	end := m.expiry()
	near := min(nearMost, end.Sub(m.cert.Leaf.NotBefore)/nearPart)
	if end.Sub(now) > near {
		w.toldNear = time.Time{}
		return
	}
	if !w.toldNear.IsZero() && now.Sub(w.toldNear) < nearAgain {
		return
	}
	w.toldNear = now
	message := "the TLS certificate ends soon and has not been renewed"
	if !now.Before(end) {
		message = "the TLS certificate has expired: clients refuse it"
	}
	w.log.Warn(message, "file", w.cfg.Cert, "subject", m.cert.Leaf.Subject.String(), "expires", end)
}

// takePair takes the contents of the certificate's and the key's file.
func (w *Watcher) takePair(contents [][]byte) error {
	for i, name := range []string{w.cfg.Cert, w.cfg.Key} {
		if err := wholePEM(contents[i]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	pair, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", w.cfg.Cert, w.cfg.Key, err)
	}
	w.current.Store(&material{cert: pair, clientCAs: w.current.Load().clientCAs})
	return nil
}

// takeClientCAs takes the contents of the client authorities' file.
func (w *Watcher) takeClientCAs(contents [][]byte) error {
	if err := wholePEM(contents[0]); err != nil {
		return fmt.Errorf("%s: %w", w.cfg.ClientCA, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(contents[0]) {
		return fmt.Errorf("%s holds no certificate in PEM form", w.cfg.ClientCA)
	}
	w.current.Store(&material{cert: w.current.Load().cert, clientCAs: pool})
	return nil
}

// wholePEM refuses text whose last block was cut off: the decoders pass over it, and a
// chain would be served without its end.
func wholePEM(text []byte) error {
	rest := text
	for {
		block, after := pem.Decode(rest)
		if block == nil {
			break
		}
		rest = after
	}
	if bytes.Contains(rest, []byte("-----BEGIN")) {
		return errors.New("a PEM block in it has no end, or cannot be read")
	}
	return nil
}

// suites are those of TLS 1.2 that are served: with forward secrecy, and authenticated.
// Those of TLS 1.3 all are.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// ServerConfig returns the configuration of a listener that speaks the given protocols
// (ALPN), best first. Each handshake gets what is in force at that moment; connections
// that are open go on as they are.
func (w *Watcher) ServerConfig(protocols ...string) *tls.Config {
	return w.serverConfig(false, protocols)
}

// ServerConfigAsking is ServerConfig for a listener that asks clients for a certificate.
// Without authorities to verify it with, any is taken, and none is as good: the handshake
// holds that the client has its key, and whoever reads it has to verify it.
func (w *Watcher) ServerConfigAsking(protocols ...string) *tls.Config {
	return w.serverConfig(true, protocols)
}

func (w *Watcher) serverConfig(ask bool, protocols []string) *tls.Config {
	type made struct {
		of  *material
		cfg *tls.Config
	}
	// One configuration for all handshakes with the same material: it holds the keys
	// that sessions are resumed with.
	var last atomic.Pointer[made]
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: suites, NextProtos: protocols}
	cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		m := w.current.Load()
		if l := last.Load(); l != nil && l.of == m {
			return l.cfg, nil
		}
		next := &tls.Config{
			MinVersion: cfg.MinVersion, CipherSuites: cfg.CipherSuites, NextProtos: protocols,
			Certificates: []tls.Certificate{m.cert}, ClientCAs: m.clientCAs,
		}
		switch {
		case w.cfg.RequireClientCert:
			next.ClientAuth = tls.RequireAndVerifyClientCert
		case m.clientCAs != nil:
			next.ClientAuth = tls.VerifyClientCertIfGiven
		case ask:
			next.ClientAuth = tls.RequestClientCert
		}
		last.Store(&made{m, next})
		return next, nil
	}
	return cfg
}
