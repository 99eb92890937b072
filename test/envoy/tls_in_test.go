package envoy

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/credentials"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// targetName is the name in the certificates of the virtual node target.
const targetName = "target.test.local"

// tlsStage is a node whose listeners ask for TLS.
type tlsStage struct {
	*inboundStage
	dir   string
	ca    *meshtest.Authority
	files meshtest.Files
}

func newTLSStage(t *testing.T) *tlsStage {
	t.Helper()
	s := &tlsStage{inboundStage: newInbound(t), dir: t.TempDir(), ca: meshtest.NewAuthority(t)}
	s.files = s.ca.WriteLeaf(t, s.dir, "target", meshtest.Leaf{Name: "first", DNS: []string{targetName}, URIs: []string{"spiffe://test/target"}})
	return s
}

func (s *tlsStage) in(t *testing.T) *tlsStage {
	part := *s
	part.inboundStage = s.inboundStage.in(t)
	return &part
}

// asks is the setting of a listener with the certificate of a file; more are members of
// its TLS as JSON, with a comma in front.
func (s *tlsStage) asks(mode, more string) string {
	return fmt.Sprintf(`,"tls":{"mode":%q,"certificate":{"file":{"certificateChain":%q,"privateKey":%q}}%s}`, mode, s.files.Cert, s.files.Key, more)
}

// trusting is the validation of clients by the stage's authority.
func (s *tlsStage) trusting(names ...string) string {
	sans := ""
	if len(names) > 0 {
		sans = `,"subjectAlternativeNames":{"match":{"exact":["` + strings.Join(names, `","`) + `"]}}`
	}
	return fmt.Sprintf(`,"validation":{"trust":{"file":{"certificateChain":%q}}%s}`, s.ca.File, sans)
}

// config returns how a client speaks TLS to the node.
func (s *tlsStage) config(certificates ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: s.ca.Pool, ServerName: targetName, MinVersion: tls.VersionTLS12, Certificates: certificates}
}

// handshake opens a TLS connection to a listener and waits until the other side has
// accepted the client too, or refused it.
func (s *tlsStage) handshake(port int, c *tls.Config) (*tls.Conn, error) {
	s.t.Helper()
	conn := tls.Client(s.dial(port), c)
	if err := conn.HandshakeContext(limited(s.t)); err != nil {
		return nil, err
	}
	return conn, nil
}

// httpsClient returns a client that opens a connection for each request, in HTTP/1.1.
func (s *tlsStage) httpsClient(c *tls.Config) *http.Client {
	var p http.Protocols
	p.SetHTTP1(true)
	return &http.Client{Timeout: deadline, Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true, Protocols: &p}}
}

func (s *tlsStage) getTLS(port int, c *tls.Config, headers ...string) result {
	status, body, err := meshtest.Get(s.httpsClient(c), "https://"+s.at(port)+"/", headers...)
	return result{status, body, err}
}

// refuses fails the test unless a call was refused before it reached the application.
func (r result) refused(t *testing.T, what string) {
	t.Helper()
	if r.err == nil {
		t.Errorf("%s: %d %q, want no answer", what, r.status, r.body)
	}
}

// The ports of TestListenerTLS.
const (
	strictPort = 8443 + iota
	permissivePort
	strictHTTP2Port
	strictGRPCPort
	strictTCPPort
	permissiveTCPPort
	acmPort
	plainPort
)

func TestListenerTLS(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualNode.listeners.tls.{mode,certificate.file.certificateChain,certificate.file.privateKey}")
	s := newTLSStage(t)
	for _, port := range []int{strictPort, permissivePort, acmPort, plainPort} {
		s.serveHTTP(port, false, version)
	}
	s.serveHTTP(strictHTTP2Port, true, version)
	s.serveGRPC(strictGRPCPort, &rpc{})
	s.serveTCP(strictTCPPort, greet)
	s.serveTCP(permissiveTCPPort, greet)
	s.define("",
		listener(strictPort, "http", s.asks("STRICT", "")),
		listener(permissivePort, "http", s.asks("PERMISSIVE", "")),
		listener(strictHTTP2Port, "http2", s.asks("STRICT", "")),
		listener(strictGRPCPort, "grpc", s.asks("STRICT", "")),
		listener(strictTCPPort, "tcp", s.asks("STRICT", "")),
		listener(permissiveTCPPort, "tcp", s.asks("PERMISSIVE", "")),
		listener(acmPort, "http", `,"tls":{"mode":"STRICT","certificate":{"acm":{"certificateArn":"arn:aws:acm:us-east-1:000000000001:certificate/1"}}}`),
		listener(plainPort, "http", s.asks("DISABLED", "")))
	s.start(nil)

	t.Run("strict", func(t *testing.T) {
		s := s.in(t)
		s.getTLS(strictPort, s.config()).want(t, "TLS", http.StatusOK, "HTTP/1.1")
		s.get(false, strictPort, "/").refused(t, "plain text")
		s.openssl(t, strictPort, "", "HTTP/1.1 200 OK")
	})
	t.Run("permissive", func(t *testing.T) {
		s := s.in(t)
		s.getTLS(permissivePort, s.config()).want(t, "TLS", http.StatusOK, "HTTP/1.1")
		s.get(false, permissivePort, "/").want(t, "plain text", http.StatusOK, "HTTP/1.1")
		s.openssl(t, permissivePort, "", "HTTP/1.1 200 OK")
	})
	t.Run("disabled", func(t *testing.T) {
		s := s.in(t)
		s.getTLS(plainPort, s.config()).refused(t, "TLS")
		s.get(false, plainPort, "/").want(t, "plain text", http.StatusOK, "HTTP/1.1")
	})
	t.Run("a certificate of ACM", func(t *testing.T) {
		s := s.in(t)
		s.getTLS(acmPort, s.config()).refused(t, "TLS")
		s.get(false, acmPort, "/").refused(t, "plain text")
		if log := s.plane.Log.String(); !strings.Contains(log, "port 8449 is closed") {
			t.Error("nobody is told that the port is closed")
		}
	})
	t.Run("protocols agreed on", func(t *testing.T) { s.in(t).agreements(t) })
	t.Run("grpc", func(t *testing.T) {
		s := s.in(t)
		rpcs(t, s.callGRPC(strictGRPCPort, credentials.NewTLS(s.config())))
	})
	t.Run("tcp", func(t *testing.T) { s.in(t).greetings(t) })
}

// greet is an application that speaks first, and then sends back what comes.
func greet(c net.Conn) {
	if _, err := io.WriteString(c, "welcome\n"); err == nil {
		echo(c)
	}
}

// greetings has TCP with TLS, and both ways of speaking to a listener in mode PERMISSIVE
// whose server speaks first.
func (s *tlsStage) greetings(t *testing.T) {
	t.Helper()
	for _, port := range []int{strictTCPPort, permissiveTCPPort} {
		c, err := s.handshake(port, s.config())
		if err != nil {
			t.Fatalf("port %d: %v", port, err)
		}
		if got, err := readLine(c); err != nil || got != "welcome" {
			t.Errorf("port %d: %q %v", port, got, err)
		}
		if got, err := ask(c, "hello"); err != nil || got != "hello" {
			t.Errorf("port %d: %q %v", port, got, err)
		}
	}
	plain := s.dial(permissiveTCPPort)
	if got, err := readLine(plain); err != nil || got != "welcome" {
		t.Errorf("plain text: %q %v", got, err)
	}
	strict := s.dial(strictTCPPort)
	if got, err := ask(strict, "hello"); err == nil {
		t.Errorf("plain text to a listener with TLS only: %q", got)
	}
}

// agreements lists which protocol each listener chooses from those that a client offers.
func (s *tlsStage) agreements(t *testing.T) {
	t.Helper()
	for _, c := range []struct {
		port  int
		offer []string
		want  string
	}{
		{strictPort, []string{"h2", "http/1.1"}, "http/1.1"},
		{strictPort, []string{"h2"}, ""},
		{strictPort, nil, ""},
		{strictHTTP2Port, []string{"http/1.1", "h2"}, "h2"},
		{strictHTTP2Port, []string{"http/1.1"}, "http/1.1"},
		{strictGRPCPort, []string{"h2"}, "h2"},
		{strictTCPPort, []string{"h2"}, ""},
	} {
		config := s.config()
		config.NextProtos = c.offer
		conn, err := s.handshake(c.port, config)
		if err != nil {
			t.Errorf("port %d, offered %q: %v", c.port, c.offer, err)
			continue
		}
		if got := conn.ConnectionState().NegotiatedProtocol; got != c.want {
			t.Errorf("port %d, offered %q: agreed on %q, want %q", c.port, c.offer, got, c.want)
		}
	}
	// The protocol that was agreed on is the one that is spoken; the application's is
	// its listener's.
	for _, http2 := range []bool{false, true} {
		var p http.Protocols
		p.SetHTTP1(!http2)
		p.SetHTTP2(http2)
		c := &http.Client{Timeout: deadline, Transport: &http.Transport{TLSClientConfig: s.config(), DisableKeepAlives: true, Protocols: &p}}
		status, body, err := meshtest.Get(c, "https://"+s.at(strictHTTP2Port)+"/")
		result{status, body, err}.want(t, fmt.Sprintf("http2, client in HTTP/2 %t", http2), http.StatusOK, "HTTP/2.0")
	}
}

// openssl makes a request with openssl's client, which verifies the listener's
// certificate, and wants a text in what comes back; "" for a refusal. flags are more
// arguments of the client.
func (s *tlsStage) openssl(t *testing.T, port int, flags, want string) {
	t.Helper()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Log("without openssl's client: there is none")
		return
	}
	args := []string{
		"s_client", "-connect", s.at(port), "-CAfile", s.ca.File, "-verify_return_error",
		"-verify_hostname", targetName, "-servername", targetName, "-quiet", "-ign_eof",
	}
	cmd := exec.CommandContext(limited(t), openssl, append(args, strings.Fields(flags)...)...)
	cmd.Stdin = strings.NewReader("GET / HTTP/1.1\r\nHost: target\r\nConnection: close\r\n\r\n")
	out, err := cmd.CombinedOutput()
	if answered := strings.Contains(string(out), "HTTP/1.1 "); want == "" && answered || want != "" && !strings.Contains(string(out), want) {
		t.Errorf("openssl %s: %v\n%s", flags, err, out)
	}
}

// The ports of TestClientCertificates.
const (
	anyClientPort = 8443 + iota
	dnsClientPort
	uriClientPort
	bothPort
	rpcClientPort
	tcpClientPort
)

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualNode.listeners.tls.validation.{trust.file.certificateChain,subjectAlternativeNames.match.exact}")
	s := newTLSStage(t)
	for port := anyClientPort; port <= bothPort; port++ {
		s.serveHTTP(port, false, version)
	}
	s.serveGRPC(rpcClientPort, &rpc{})
	s.serveTCP(tcpClientPort, greet)
	s.define("",
		listener(anyClientPort, "http", s.asks("STRICT", s.trusting())),
		listener(dnsClientPort, "http", s.asks("STRICT", s.trusting("other.test.local", "caller.test.local"))),
		listener(uriClientPort, "http", s.asks("STRICT", s.trusting("spiffe://test/caller"))),
		listener(bothPort, "http", s.asks("PERMISSIVE", s.trusting("caller.test.local"))),
		listener(rpcClientPort, "grpc", s.asks("STRICT", s.trusting("spiffe://test/caller"))),
		listener(tcpClientPort, "tcp", s.asks("STRICT", s.trusting("spiffe://test/caller"))))
	s.start(nil)

	caller := s.ca.ClientCertificate(t, meshtest.Leaf{Name: "caller", DNS: []string{"caller.test.local"}, URIs: []string{"spiffe://test/caller"}})
	stranger := s.ca.ClientCertificate(t, meshtest.Leaf{Name: "stranger", DNS: []string{"caller.test.local.example", "spiffe://test/caller"}, URIs: []string{"spiffe://test/caller/x"}})
	forged := meshtest.NewAuthority(t).ClientCertificate(t, meshtest.Leaf{Name: "forged", DNS: []string{"caller.test.local"}, URIs: []string{"spiffe://test/caller"}})

	for _, port := range []int{anyClientPort, dnsClientPort, uriClientPort, bothPort} {
		s.getTLS(port, s.config(caller)).want(t, fmt.Sprint("the caller, port ", port), http.StatusOK, "HTTP/1.1")
		s.getTLS(port, s.config()).refused(t, fmt.Sprint("nobody, port ", port))
		s.getTLS(port, s.config(forged)).refused(t, fmt.Sprint("another authority's, port ", port))
	}
	s.getTLS(anyClientPort, s.config(stranger)).want(t, "a stranger where all of the authority's are trusted", http.StatusOK, "HTTP/1.1")
	s.getTLS(dnsClientPort, s.config(stranger)).refused(t, "a stranger, by DNS name")
	s.getTLS(bothPort, s.config(stranger)).refused(t, "a stranger, with TLS where plain text is allowed")
	s.get(false, bothPort, "/").want(t, "plain text where it is allowed", http.StatusOK, "HTTP/1.1")

	rpcs(t, s.callGRPC(rpcClientPort, credentials.NewTLS(s.config(caller))))
	if _, err := s.callGRPC(rpcClientPort, credentials.NewTLS(s.config(forged))).UnaryCall(limited(t), nil); err == nil {
		t.Error("gRPC answers a client with another authority's certificate")
	}
	if c, err := s.handshake(tcpClientPort, s.config(caller)); err != nil {
		t.Error(err)
	} else if got, err := readLine(c); err != nil || got != "welcome" {
		t.Errorf("TCP: %q %v", got, err)
	}
	if c, err := s.handshake(tcpClientPort, s.config()); err == nil { // with TLS 1.3 the client learns of it afterwards
		if got, err := readLine(c); err == nil {
			t.Errorf("TCP without a certificate: %q", got)
		}
	}

	file := s.ca.WriteLeaf(t, s.dir, "caller", meshtest.Leaf{Name: "caller", DNS: []string{"caller.test.local"}})
	other := s.ca.WriteLeaf(t, s.dir, "stranger", meshtest.Leaf{Name: "stranger", DNS: []string{"stranger.test.local"}})
	s.openssl(t, dnsClientPort, "-cert "+file.Cert+" -key "+file.Key, "HTTP/1.1 200 OK")
	s.openssl(t, dnsClientPort, "-cert "+other.Cert+" -key "+other.Key, "")
	s.openssl(t, dnsClientPort, "", "")
}

// TestCertificateDetails has what the application is told of its clients' certificates.
func TestCertificateDetails(t *testing.T) {
	t.Parallel()
	const made = `Hash=0;URI=spiffe://made/up`
	const told = `Subject="CN=caller";URI=spiffe://test/caller;DNS=caller.test.local`
	for how, want := range map[string]struct{ secure, plain string }{
		"remove": {"", ""},
		"set":    {"By=spiffe://test/target;Hash=…;" + told, ""},
		"append": {made + ",By=spiffe://test/target;Hash=…;" + told, ""},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := newTLSStage(t)
			for _, port := range []int{strictPort, permissivePort} {
				s.serveHTTP(port, false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.WriteString(w, strings.Join(r.Header.Values("x-forwarded-client-cert"), "|"))
				}))
			}
			s.define("", listener(strictPort, "http", s.asks("STRICT", s.trusting())), listener(permissivePort, "http", s.asks("PERMISSIVE", s.trusting())))
			s.start(func(b map[string]any) { nodeMetadata(b)["clientCertificate"] = how })
			caller := s.ca.ClientCertificate(t, meshtest.Leaf{Name: "caller", DNS: []string{"caller.test.local"}, URIs: []string{"spiffe://test/caller"}})
			r := s.getTLS(strictPort, s.config(caller), "x-forwarded-client-cert", made)
			if got := withoutHash(r.body); r.err != nil || got != want.secure {
				t.Errorf("with TLS the application is told %q %v, want %q", got, r.err, want.secure)
			}
			status, body, err := meshtest.Get(client(false), "http://"+s.at(permissivePort)+"/", "x-forwarded-client-cert", made)
			if err != nil || status != http.StatusOK || body != want.plain {
				t.Errorf("in plain text the application is told %d %q %v, want %q", status, body, err, want.plain)
			}
		})
	}
}

// withoutHash replaces hashes of certificates.
func withoutHash(header string) string {
	parts := strings.Split(header, ";")
	for i, p := range parts {
		if hash, ok := strings.CutPrefix(p, "Hash="); ok && len(hash) == 64 {
			parts[i] = "Hash=…"
		}
	}
	return strings.Join(parts, ";")
}

// A certificate file that is not there costs its port only, which stays closed, and is
// taken once it is there.
func TestACertificateThatIsMissing(t *testing.T) {
	t.Parallel()
	s := newTLSStage(t)
	late := filepath.Join(s.dir, "late")
	s.serveHTTP(strictPort, false, version)
	s.serveHTTP(plainPort, false, version)
	s.define("",
		listener(strictPort, "http", fmt.Sprintf(`,"tls":{"mode":"STRICT","certificate":{"file":{"certificateChain":"%s.crt","privateKey":"%s.key"}}}`, late, late)),
		listener(plainPort, "http", ""))
	s.start(nil)
	s.get(false, plainPort, "/").want(t, "the other port", http.StatusOK, "HTTP/1.1")
	s.getTLS(strictPort, s.config()).refused(t, "TLS without a certificate")
	s.get(false, strictPort, "/").refused(t, "plain text")
	s.ca.WriteLeaf(t, s.dir, "late", meshtest.Leaf{Name: "late", DNS: []string{targetName}})
	meshtest.Eventually(t, "the certificate is taken", func() error {
		if r := s.getTLS(strictPort, s.config()); r.err != nil || r.status != http.StatusOK {
			return fmt.Errorf("%d %w", r.status, r.err)
		}
		return nil
	})
}

// leafOf returns the name in the certificate that a new connection sees.
func (s *tlsStage) leafOf(port int, c *tls.Config) (string, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: deadline}, "tcp", s.at(port), c)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

// awaitLeaf waits until new connections see a certificate.
func (s *tlsStage) awaitLeaf(port int, c *tls.Config, want string) {
	s.t.Helper()
	meshtest.Eventually(s.t, "new connections see certificate "+want, func() error {
		got, err := s.leafOf(port, c)
		if err == nil && got != want {
			return fmt.Errorf("they see %s", got)
		}
		return err
	})
}
