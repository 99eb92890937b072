package tlsfiles_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/server/tlsfiles"
)

// stand is a watcher on files in a folder, and an echo server that uses it.
type stand struct {
	ca   *meshtest.Authority
	dir  string
	cfg  tlsfiles.Config
	log  *meshtest.Log
	w    *tlsfiles.Watcher
	addr string
}

func newStand(t *testing.T, change func(*stand)) *stand {
	t.Helper()
	s := &stand{ca: meshtest.NewAuthority(t), dir: t.TempDir(), log: &meshtest.Log{}}
	s.cfg = tlsfiles.Config{
		Files:  tlsfiles.Files{Cert: s.path("tls.crt"), Key: s.path("tls.key")},
		Logger: slog.New(slog.NewTextHandler(s.log, nil)),
	}
	s.write(t, "one", time.Hour)
	if change != nil {
		change(s)
	}
	var err error
	if s.w, err = tlsfiles.Open(s.cfg); err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", s.w.ServerConfig("h2", "http/1.1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	s.addr = l.Addr().String()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return s
}

func (s *stand) path(name string) string { return filepath.Join(s.dir, name) }

func (s *stand) write(t *testing.T, name string, life time.Duration) {
	t.Helper()
	cert, key := s.ca.Issue(t, name, life)
	meshtest.WriteFile(t, s.cfg.Cert, cert)
	meshtest.WriteFile(t, s.cfg.Key, key)
}

// twice looks as often as it takes for a change to be taken.
func (s *stand) twice() {
	s.w.Look()
	s.w.Look()
}

func (s *stand) dial(cfg *tls.Config) (*tls.Conn, error) {
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg.RootCAs = s.ca.Pool
	return tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", s.addr, cfg)
}

// echo says something and waits until it comes back.
func echo(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return err
	}
	back, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && back != "hello\n" {
		err = fmt.Errorf("%q came back", back)
	}
	return err
}

func (s *stand) wantServed(t *testing.T, name string) {
	t.Helper()
	c, err := s.dial(nil)
	if err != nil {
		t.Fatalf("dialing: %v", err)
	}
	defer c.Close()
	if got := c.ConnectionState().PeerCertificates[0].Subject.CommonName; got != name {
		t.Fatalf("the certificate %q is served, want %q; log:\n%s", got, name, s.log)
	}
}

func (s *stand) wantLines(t *testing.T, text string, want int) {
	t.Helper()
	if got := strings.Count(s.log.String(), text); got != want {
		t.Fatalf("%d lines say %q, want %d:\n%s", got, text, want, s.log)
	}
}

const notUsed = "cannot be used"

func TestNewFilesAreServedAndOldConnectionsGoOn(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	old, err := s.dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	before := s.w.Expiry()
	s.write(t, "two", 3*time.Hour)
	s.w.Look()
	s.wantServed(t, "one") // it might still be written to
	s.w.Look()
	s.wantServed(t, "two")
	if err := echo(old); err != nil {
		t.Errorf("a connection from before the change: %v", err)
	}
	if after := s.w.Expiry(); after.Sub(before) < time.Hour {
		t.Errorf("the end is %s, before it was %s", after, before)
	}
	s.wantLines(t, "TLS files were read anew", 1)
	s.wantLines(t, notUsed, 0)
}

func TestPairThatDoesNotMatchIsNotServed(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	cert, key := s.ca.Issue(t, "two", time.Hour)
	meshtest.WriteFile(t, s.cfg.Cert, cert)
	for range 5 {
		s.w.Look()
	}
	s.wantServed(t, "one")
	s.wantLines(t, notUsed, 1)
	meshtest.WriteFile(t, s.cfg.Key, key)
	s.twice()
	s.wantServed(t, "two")
	s.wantLines(t, notUsed, 1)
	for line := range strings.Lines(string(key)) {
		if !strings.HasPrefix(line, "-----") && strings.Contains(s.log.String(), strings.TrimSpace(line)) {
			t.Error("the log has the key")
		}
	}
}

func TestFileThatIsCutOffIsNotServed(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	// The same key with a longer chain, so that what is there of it would load.
	cert, err := os.ReadFile(s.cfg.Cert)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(s.ca.File)
	if err != nil {
		t.Fatal(err)
	}
	chain := append(bytes.Clone(cert), ca...)
	for n := len(cert) + 1; n < len(chain)-1; n += 97 {
		meshtest.WriteFile(t, s.cfg.Cert, chain[:n])
		s.w.Look() // each look finds another length: it is being written
	}
	s.wantLines(t, notUsed, 0)
	s.wantServed(t, "one")
	meshtest.WriteFile(t, s.cfg.Cert, chain[:len(chain)-40])
	for range 3 {
		s.w.Look()
	}
	s.wantLines(t, notUsed, 1)
	meshtest.WriteFile(t, s.cfg.Cert, chain)
	s.twice()
	c, err := s.dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n := len(c.ConnectionState().PeerCertificates); n != 2 {
		t.Errorf("the chain has %d certificates, want 2", n)
	}
}

func TestFilesThatGoAway(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	for round := 1; round <= 2; round++ {
		aside := s.path("aside")
		if err := os.Rename(s.cfg.Key, aside); err != nil {
			t.Fatal(err)
		}
		s.w.Look()
		s.wantLines(t, notUsed, round-1) // a file is gone for a moment when it is replaced
		for range 4 {
			s.w.Look()
		}
		s.wantLines(t, notUsed, round)
		s.wantServed(t, "one")
		if err := os.Rename(aside, s.cfg.Key); err != nil {
			t.Fatal(err)
		}
		s.twice()
	}
}

// Kubernetes changes the files of a volume by one link that all of them lead through.
func TestLinkSwap(t *testing.T) {
	t.Parallel()
	version := func(t *testing.T, s *stand, name string) {
		t.Helper()
		if err := os.Mkdir(s.path(name), 0o700); err != nil {
			t.Fatal(err)
		}
		cert, key := s.ca.Issue(t, name, time.Hour)
		meshtest.WriteFile(t, filepath.Join(s.path(name), "tls.crt"), cert)
		meshtest.WriteFile(t, filepath.Join(s.path(name), "tls.key"), key)
		if err := os.Symlink(name, s.path("..next")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(s.path("..next"), s.path("..data")); err != nil {
			t.Fatal(err)
		}
	}
	s := newStand(t, func(s *stand) {
		version(t, s, "..1")
		for _, file := range []string{"tls.crt", "tls.key"} {
			if err := os.Remove(s.path(file)); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(filepath.Join("..data", file), s.path(file)); err != nil {
				t.Fatal(err)
			}
		}
	})
	s.wantServed(t, "..1")
	version(t, s, "..2")
	if err := os.RemoveAll(s.path("..1")); err != nil {
		t.Fatal(err)
	}
	s.twice()
	s.wantServed(t, "..2")
	s.wantLines(t, notUsed, 0)
}

// While files are written in the worst way, no handshake fails and no pair is mixed.
func TestHandshakesWhileFilesChange(t *testing.T) {
	t.Parallel()
	s := newStand(t, func(s *stand) { s.cfg.Interval = time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.w.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	})
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				c, err := s.dial(nil)
				if err == nil {
					err = echo(c)
					_ = c.Close()
				}
				if err != nil {
					t.Errorf("a handshake while files change: %v", err)
					return
				}
			}
		})
	}
	for i := range 20 {
		name := fmt.Sprint("round ", i)
		cert, key := s.ca.Issue(t, name, time.Hour)
		for _, f := range []struct {
			path string
			text []byte
		}{{s.cfg.Cert, cert}, {s.cfg.Key, key}} {
			file, err := os.Create(f.path)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range [][]byte{f.text[:50], f.text[50:100], f.text[100:]} {
				if _, err := file.Write(b); err != nil {
					t.Fatal(err)
				}
			}
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
		}
		meshtest.Eventually(t, name+" is served", func() error {
			c, err := s.dial(nil)
			if err != nil {
				return err
			}
			defer c.Close()
			if got := c.ConnectionState().PeerCertificates[0].Subject.CommonName; got != name {
				return fmt.Errorf("%q is served", got)
			}
			return nil
		})
	}
	cancel()
	wg.Wait()
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir, ca := t.TempDir(), meshtest.NewAuthority(t)
	cert, key := ca.Issue(t, "one", time.Hour)
	_, otherKey := ca.Issue(t, "two", time.Hour)
	for name, text := range map[string][]byte{"crt": cert, "key": key, "other": otherKey, "empty": nil, "cut": cert[:len(cert)-30]} {
		meshtest.WriteFile(t, filepath.Join(dir, name), text)
	}
	for _, c := range []struct {
		cert, key, ca string
		require       bool
		says          string
	}{
		{"crt", "", "", false, "has no key with it"},
		{"", "key", "", false, "has no certificate with it"},
		{"crt", "nowhere", "", false, "nowhere: no such file"},
		{"crt", "other", "", false, "private key does not match"},
		{"empty", "key", "", false, "failed to find any PEM data"},
		{"cut", "key", "", false, "a PEM block in it has no end"},
		{"crt", "key", "empty", false, "holds no certificate in PEM form"},
		{"crt", "key", "", true, "client certificates are required, but no authority"},
	} {
		path := func(name string) string {
			if name == "" {
				return ""
			}
			return filepath.Join(dir, name)
		}
		_, err := tlsfiles.Open(tlsfiles.Config{Files: tlsfiles.Files{
			Cert: path(c.cert), Key: path(c.key), ClientCA: path(c.ca), RequireClientCert: c.require,
		}})
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v, want one line with %q", c, err, c.says)
		}
	}
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	for _, required := range []bool{false, true} {
		t.Run(fmt.Sprintf("required %v", required), func(t *testing.T) {
			t.Parallel()
			s := newStand(t, func(s *stand) {
				s.cfg.ClientCA, s.cfg.RequireClientCert = s.path("clients.crt"), required
				pem, err := os.ReadFile(s.ca.File)
				if err != nil {
					t.Fatal(err)
				}
				meshtest.WriteFile(t, s.cfg.ClientCA, pem)
			})
			other := meshtest.NewAuthority(t)
			check := func(what string, a *meshtest.Authority, want bool) {
				t.Helper()
				cfg := &tls.Config{}
				if a != nil {
					cert, key := a.Issue(t, "client", time.Hour)
					pair, err := tls.X509KeyPair(cert, key)
					if err != nil {
						t.Fatal(err)
					}
					// Certificates would be left out where they do not fit.
					cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
				}
				c, err := s.dial(cfg)
				if err == nil {
					err = echo(c) // with TLS 1.3 the refusal comes behind the handshake
					_ = c.Close()
				}
				if (err == nil) != want {
					t.Errorf("%s: %v, want success %v", what, err, want)
				}
			}
			check("no certificate", nil, !required)
			check("one of the authority", s.ca, true)
			check("one of another authority", other, false)

			pem, err := os.ReadFile(other.File)
			if err != nil {
				t.Fatal(err)
			}
			meshtest.WriteFile(t, s.cfg.ClientCA, pem)
			s.twice()
			check("one of the authority before", s.ca, false)
			check("one of the new authority", other, true)
		})
	}
}

func TestEndOfTheCertificate(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := newStand(t, func(s *stand) {
		s.cfg.Now = func() time.Time { return now }
		s.write(t, "one", 90*24*time.Hour)
	})
	const soon, expired = "ends soon", "has expired"
	day := 24 * time.Hour
	now = now.Add(74 * day)
	s.w.Look()
	s.wantLines(t, soon, 0)
	now = now.Add(2 * day)
	s.w.Look()
	s.wantLines(t, soon, 1)
	now = now.Add(time.Hour)
	s.w.Look()
	s.wantLines(t, soon, 1) // once a day
	now = now.Add(day)
	s.w.Look()
	s.wantLines(t, soon, 2)
	now = now.Add(20 * day)
	s.w.Look()
	s.wantLines(t, soon, 2)
	s.wantLines(t, expired, 1)
	s.write(t, "two", 200*day)
	s.twice()
	s.wantLines(t, soon, 2)
	s.wantLines(t, expired, 1)
}

func TestProtocols(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	for _, c := range []struct {
		what string
		cfg  *tls.Config
		alpn string
		ok   bool
	}{
		{"TLS 1.3", &tls.Config{MinVersion: tls.VersionTLS13}, "", true},
		{"TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, "", true},
		{"TLS 1.1", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "", false},
		{"a suite without forward secrecy", &tls.Config{
			MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256},
		}, "", false},
		{"a suite with CBC", &tls.Config{
			MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA},
		}, "", false},
		{"h2", &tls.Config{NextProtos: []string{"http/1.1", "h2"}}, "h2", true},
		{"http/1.1", &tls.Config{NextProtos: []string{"http/1.1"}}, "http/1.1", true},
		{"a protocol that is not spoken", &tls.Config{NextProtos: []string{"imap"}}, "", false},
	} {
		conn, err := s.dial(c.cfg)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v, want success %v", c.what, err, c.ok)
		}
		if err != nil {
			continue
		}
		if got := conn.ConnectionState().NegotiatedProtocol; got != c.alpn {
			t.Errorf("%s: %q was agreed on, want %q", c.what, got, c.alpn)
		}
		_ = conn.Close()
	}
}

// Sessions are resumed as long as nothing changes.
func TestResumption(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	cache := tls.NewLRUClientSessionCache(4)
	var resumed bool
	for range 3 {
		c, err := s.dial(&tls.Config{ClientSessionCache: cache, ServerName: "localhost"})
		if err != nil {
			t.Fatal(err)
		}
		if err := echo(c); err != nil { // TLS 1.3 sends its tickets behind the handshake
			t.Fatal(err)
		}
		resumed = c.ConnectionState().DidResume
		_ = c.Close()
	}
	if !resumed {
		t.Error("no session was resumed")
	}
}
