package meshtest

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Leaf says whom a certificate is of.
type Leaf struct {
	// Name is its common name, by which tests tell it from others.
	Name string
	// DNS and URIs are its subject alternative names.
	DNS, URIs []string
}

// Files are a certificate and its key on the disk.
type Files struct{ Cert, Key string }

// IssueLeaf returns a certificate for servers and clients with the names of a leaf, and
// its key, as PEM text.
func (a *Authority) IssueLeaf(t testing.TB, leaf Leaf) (cert, key []byte) {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: leaf.Name}, DNSNames: leaf.DNS,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, text := range leaf.URIs {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	der, private := a.sign(t, template, time.Hour)
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pemText("CERTIFICATE", der), pemText("PRIVATE KEY", raw)
}

// WriteLeaf issues a certificate and writes it to two files in a directory, over those
// of the same base name: each is written beside and moved, so that nobody ever reads half
// of it.
func (a *Authority) WriteLeaf(t testing.TB, dir, base string, leaf Leaf) Files {
	t.Helper()
	cert, key := a.IssueLeaf(t, leaf)
	f := Files{filepath.Join(dir, base+".crt"), filepath.Join(dir, base+".key")}
	ReplaceFile(t, f.Key, key)
	ReplaceFile(t, f.Cert, cert)
	return f
}

// ClientCertificate issues a certificate for a client of the test itself.
func (a *Authority) ClientCertificate(t testing.TB, leaf Leaf) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(a.IssueLeaf(t, leaf))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// ReplaceFile writes a file that its owner only can read, and moves it to its place.
func ReplaceFile(t testing.TB, path string, content []byte) {
	t.Helper()
	WriteFile(t, path+".new", content)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
