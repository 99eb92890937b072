package meshtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"testing"
)

// NewWorkloadKey returns a key such as agents make, in PEM form, and a certificate request
// for it.
func NewWorkloadKey(t testing.TB) (key, request string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pemText("PRIVATE KEY", raw)), string(pemText("CERTIFICATE REQUEST", csr))
}

// CertificateRequest returns a certificate request for a key that nobody keeps.
func CertificateRequest(t testing.TB) string {
	t.Helper()
	_, csr := NewWorkloadKey(t)
	return csr
}
