package meshtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Authority is a certificate authority of a test.
type Authority struct {
	// Pool holds the authority's own certificate, and File is a PEM file of it.
	Pool *x509.CertPool
	File string

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes an authority.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{Pool: x509.NewCertPool(), File: filepath.Join(t.TempDir(), "ca.crt")}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, key := a.sign(t, template, 24*time.Hour)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.key = key
	a.Pool.AddCert(a.cert)
	WriteFile(t, a.File, pemText("CERTIFICATE", der))
	return a
}

// Issue returns a certificate for servers at loopback and for clients, and its key, as
// PEM text. It is told from others by its name.
func (a *Authority) Issue(t testing.TB, name string, life time.Duration) (cert, key []byte) {
	t.Helper()
	der, private := a.sign(t, &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, life)
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pemText("CERTIFICATE", der), pemText("PRIVATE KEY", raw)
}

// sign makes a key and a certificate for it, signed by the authority or, while it has
// none itself, by that key.
func (a *Authority) sign(t testing.TB, template *x509.Certificate, life time.Duration) (der []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(life)
	parent, by := template, key
	if a.cert != nil {
		parent, by = a.cert, a.key
	}
	if der, err = x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by); err != nil {
		t.Fatal(err)
	}
	return der, key
}

func pemText(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// WriteFile writes a file that its owner only can read.
func WriteFile(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// scheme returns that of the plane's URLs.
func (p *Plane) scheme() string {
	if p.CA != nil {
		return "https://"
	}
	return "http://"
}

// URL returns where the API is.
func (p *Plane) URL() string { return p.scheme() + p.Addrs.API }

// HTTP returns a client with connections of its own that trusts the plane's certificate.
func (p *Plane) HTTP() *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 16, ForceAttemptHTTP2: true}
	if p.CA != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: p.CA.Pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport, Timeout: wait}
}

// Transport returns how a gRPC client speaks to the plane's discovery service.
func (p *Plane) Transport() credentials.TransportCredentials {
	if p.CA == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(&tls.Config{RootCAs: p.CA.Pool, MinVersion: tls.VersionTLS12})
}
