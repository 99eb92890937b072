package envoy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// serveOutbound runs an application that takes TLS and plain text on the port of all
// applications, and answers with which it was: a client must not fall back to plain text
// unnoticed. Of TLS it says the server name that was asked for, the protocol, and whom the
// client's certificate is of.
func serveOutbound(t *testing.T, ca *meshtest.Authority, leaf meshtest.Leaf, clients tls.ClientAuthType) (addr string) {
	t.Helper()
	return serveOutboundOn(t, port, ca, leaf, clients)
}

// serveOutboundOn is serveOutbound for another port.
func serveOutboundOn(t *testing.T, port int, ca *meshtest.Authority, leaf meshtest.Leaf, clients tls.ClientAuthType) (addr string) {
	t.Helper()
	addr = meshtest.Address(t)
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", addr, port))
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{ca.ClientCertificate(t, leaf)}, ClientAuth: clients, ClientCAs: ca.Pool,
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
	}
	either := &eitherListener{Listener: l, config: config, conns: make(chan net.Conn)}
	go either.run()
	quiet := log.New(io.Discard, "", 0) // clients that refuse the certificate are what is tested
	s := &http.Server{TLSConfig: config, ErrorLog: quiet, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			fmt.Fprint(w, "plain")
			return
		}
		peer := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			peer = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		fmt.Fprintf(w, "tls sni=%s alpn=%s peer=%s", r.TLS.ServerName, r.TLS.NegotiatedProtocol, peer)
	})}
	go func() { _ = s.Serve(either) }()
	t.Cleanup(func() { _ = s.Close() })
	return addr
}

// eitherListener tells TLS from plain text by the first byte of a connection.
type eitherListener struct {
	net.Listener
	config *tls.Config
	conns  chan net.Conn
}

func (l *eitherListener) run() {
	defer close(l.conns)
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return
		}
		go func() {
			r := bufio.NewReader(c)
			first, err := r.Peek(1)
			if err != nil {
				_ = c.Close()
				return
			}
			defer func() { _ = recover() }() // the listener was closed meanwhile
			if read := (&readConn{c, r}); first[0] == 0x16 {
				l.conns <- tls.Server(read, l.config)
			} else {
				l.conns <- read
			}
		}()
	}
}

func (l *eitherListener) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

// readConn is a connection of which some was read ahead.
type readConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *readConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// The rows of the table in internal/envoy/DESIGN.md: whether a client's policy and a
// target's listener give TLS, and whom the client then takes for the target. Each row is
// a service of its own, provided by a virtual node of its own, at a name of its own.
func TestTLSToBackends(t *testing.T) {
	t.Parallel()
	covers(t,
		"VirtualNode.backends.virtualService.clientPolicy.tls.{enforce,ports}",
		"VirtualNode.backends.virtualService.clientPolicy.tls.certificate.{file.certificateChain,file.privateKey,sds.secretName}",
		"VirtualNode.backends.virtualService.clientPolicy.tls.validation.{subjectAlternativeNames.match.exact,trust.file.certificateChain,trust.sds.secretName}",
	)
	s := newStage(t)
	ca, strangers := meshtest.NewAuthority(t), meshtest.NewAuthority(t)
	dir := t.TempDir()
	mine := ca.WriteLeaf(t, dir, "client", meshtest.Leaf{Name: "front"})
	source, socket := startSecrets(t)
	source.issue(t, ca, "front-certificate", meshtest.Leaf{Name: "secret"})
	source.trust(t, ca, "authority")
	names := newZone(t, 0)
	policy := func(more string) string {
		return fmt.Sprintf(`"clientPolicy":{"tls":{"validation":{"trust":{"file":{"certificateChain":%q}}}%s}}`, ca.File, more)
	}
	listed := func(name string) string {
		return fmt.Sprintf(`"clientPolicy":{"tls":{"validation":{"trust":{"file":{"certificateChain":%q}},"subjectAlternativeNames":{"match":{"exact":[%q]}}}}}`, ca.File, name)
	}
	secrets := `"clientPolicy":{"tls":{"validation":{"trust":{"sds":{"secretName":"authority"}}},"certificate":{"sds":{"secretName":"front-certificate"}}}}`
	tlsOf := func(mode string) string {
		return fmt.Sprintf(`,"tls":{"mode":%q,"certificate":{"file":{"certificateChain":"/c","privateKey":"/k"}}}`, mode)
	}
	rows := []struct {
		name     string
		policy   string // of the backend, "" for none
		listener string // more of the target's listener
		ca       *meshtest.Authority
		cert     string // the name in the target's certificate, "" for its host name
		uri      string // another, a URI
		protocol string
		mutual   bool   // the target asks for a certificate
		want     string // what the application sees, HOST standing for its name; "" for 503
	}{
		{name: "none-none", want: "plain"},
		{name: "none-disabled", listener: tlsOf("DISABLED"), want: "plain"},
		{name: "none-permissive", listener: tlsOf("PERMISSIVE"), want: "tls sni=HOST alpn=http/1.1 peer=nobody"},
		{name: "none-strict", listener: tlsOf("STRICT"), want: "tls sni=HOST alpn=http/1.1 peer=nobody"},
		{name: "none-strict-stranger", listener: tlsOf("STRICT"), ca: strangers, cert: "else.test", want: "tls sni=HOST alpn=http/1.1 peer=nobody"},
		{name: "enforced-none", policy: policy(""), want: "tls sni=HOST alpn=http/1.1 peer=nobody"},
		{name: "enforced-strict", policy: policy(""), listener: tlsOf("STRICT"), want: "tls sni=HOST alpn=http/1.1 peer=nobody"},
		{name: "enforced-http2", policy: policy(""), protocol: "http2", listener: tlsOf("STRICT"), want: "tls sni=HOST alpn=h2 peer=nobody"},
		{name: "enforced-other-port", policy: policy(`,"ports":[1]`), want: "plain"},
		{name: "enforced-this-port", policy: policy(fmt.Sprintf(`,"ports":[1,%d]`, port)), want: "tls sni=HOST alpn=http/1.1 peer=nobody"},
		{name: "other-port-strict-stranger", policy: policy(`,"ports":[1]`), listener: tlsOf("STRICT"), ca: strangers},
		{name: "enforced-stranger", policy: policy(""), listener: tlsOf("STRICT"), ca: strangers},
		{name: "enforced-wrong-name", policy: policy(""), listener: tlsOf("STRICT"), cert: "else.test"},
		{name: "listed-name", policy: listed("else.test"), listener: tlsOf("STRICT"), cert: "else.test", want: "tls sni=else.test alpn=http/1.1 peer=nobody"},
		{name: "listed-wrong-name", policy: listed("else.test"), listener: tlsOf("STRICT")},
		{name: "listed-uri", policy: listed("spiffe://mesh/blue"), listener: tlsOf("STRICT"), uri: "spiffe://mesh/blue", want: "tls sni=HOST alpn=http/1.1 peer=nobody"},
		{name: "listed-wrong-uri", policy: listed("spiffe://mesh/green"), listener: tlsOf("STRICT"), uri: "spiffe://mesh/blue"},
		{name: "not-enforced-none", policy: policy(`,"enforce":false`), want: "plain"},
		{name: "not-enforced-permissive", policy: policy(`,"enforce":false`), listener: tlsOf("PERMISSIVE"), want: "tls sni=HOST alpn=http/1.1 peer=nobody"},
		{name: "not-enforced-stranger", policy: policy(`,"enforce":false`), listener: tlsOf("PERMISSIVE"), ca: strangers},
		{
			name: "mutual", mutual: true,
			policy: policy(fmt.Sprintf(`,"certificate":{"file":{"certificateChain":%q,"privateKey":%q}}`, mine.Cert, mine.Key)), listener: tlsOf("STRICT"),
			want: "tls sni=HOST alpn=http/1.1 peer=front",
		},
		{name: "mutual-nobody", mutual: true, policy: policy(""), listener: tlsOf("STRICT")},
		{name: "secrets", mutual: true, policy: secrets, listener: tlsOf("STRICT"), want: "tls sni=HOST alpn=http/1.1 peer=secret"},
		{name: "secrets-stranger", policy: secrets, listener: tlsOf("STRICT"), ca: strangers},
		{name: "acm", policy: `"clientPolicy":{"tls":{"validation":{"trust":{"acm":{"certificateAuthorityArns":["arn:aws:acm-pca:us-east-1:000000000001:certificate-authority/x"]}}}}}`},
	}
	var backends []string
	for _, r := range rows {
		host := r.name + ".test"
		leaf := meshtest.Leaf{Name: r.name, DNS: []string{host}}
		if r.cert != "" {
			leaf.DNS = []string{r.cert}
		}
		if r.uri != "" {
			leaf.URIs = []string{r.uri}
		}
		by, protocol := ca, "http"
		if r.ca != nil {
			by = r.ca
		}
		if r.protocol != "" {
			protocol = r.protocol
		}
		clients := tls.NoClientCert
		if r.mutual {
			clients = tls.RequireAndVerifyClientCert
		}
		names.set(host, serveOutbound(t, by, leaf, clients))
		s.node(r.name, nodeSpec(host, protocol, r.listener))
		s.provided(r.name, r.name)
		b := fmt.Sprintf(`{"virtualService":{"virtualServiceName":%q`, r.name)
		if r.policy != "" {
			b += "," + r.policy
		}
		backends = append(backends, b+"}}")
	}
	s.node("front", `{"backends":[`+strings.Join(backends, ",")+`],"logging":{"accessLog":{"file":{"path":"/dev/stdout"}}}}`)
	c := meshtest.ProxyConfig{ARN: meshtest.ARN("test", "front"), Bind: meshtest.Address(t), App: meshtest.Address(t)}
	s.startFrontWith(c, func(b map[string]any) { names.resolver(b); withSecrets(socket)(b) })
	for _, r := range rows {
		want, status := strings.ReplaceAll(r.want, "HOST", r.name+".test"), http.StatusOK
		if r.want == "" {
			status = http.StatusServiceUnavailable
		}
		got, body, err := meshtest.Get(s.http, fmt.Sprintf("http://%s:%d/", r.name, port))
		if err != nil || got != status || want != "" && body != want {
			t.Errorf("%s: %d %q %v, want %d %q", r.name, got, body, err, status, want)
		}
	}
}
