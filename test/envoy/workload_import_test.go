package envoy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	neturl "net/url"
	"testing"
	"time"
)

// corporate is an authority outside of Fairlead, of which others have intermediates too.
type corporate struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCorporate(t *testing.T) *corporate {
	t.Helper()
	c := &corporate{t: t}
	return c.authority("corporate root", 2)
}

// authority signs an authority that may have some below it; itself if there is no other.
func (c *corporate) authority(name string, below int) *corporate {
	c.t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, MaxPathLen: below, MaxPathLenZero: below == 0,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	made := &corporate{t: c.t}
	made.cert, made.key = c.sign(template)
	return made
}

func (c *corporate) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100)); err != nil {
		c.t.Fatal(err)
	}
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(1000 * time.Hour)
	}
	parent, by := c.cert, c.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return cert, key
}

// leaf signs a certificate with a SPIFFE ID, and sends the signer along.
func (c *corporate) leaf(spiffe string) tls.Certificate { return c.leafUntil(spiffe, time.Time{}) }

// expired signs a certificate that was good until a minute ago.
func (c *corporate) expired(spiffe string) tls.Certificate {
	return c.leafUntil(spiffe, time.Now().Add(-time.Minute))
}

func (c *corporate) leafUntil(spiffe string, end time.Time) tls.Certificate {
	c.t.Helper()
	uri, err := neturl.Parse(spiffe)
	if err != nil {
		c.t.Fatal(err)
	}
	cert, key := c.sign(&x509.Certificate{
		NotAfter: end, URIs: []*neturl.URL{uri}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw, c.cert.Raw}, PrivateKey: key}
}

// pem returns the certificate with those above it, and the key.
func (c *corporate) pem(above ...*corporate) (chain, key string) {
	c.t.Helper()
	raw, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, x := range append([]*corporate{c}, above...) {
		chain += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: x.cert.Raw}))
	}
	return chain, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

// TestImportedIntermediate has a mesh's authority be an intermediate of a corporate root:
// Envoy trusts it without its root, and nothing else that the root has signed. One that
// may sign leaves only, one that may have an intermediate below it.
func TestImportedIntermediate(t *testing.T) {
	t.Parallel()
	for name, below := range map[string]int{"signs leaves": 0, "signs an intermediate": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := newCorporate(t)
			mine, others := root.authority("mesh test", below), root.authority("somebody else", 0)
			chain, key := mine.pem(root)
			s := newMutualStageWith(t, func(s *stage) {
				body, err := json.Marshal(map[string]string{"certificate": chain, "privateKey": key})
				if err != nil {
					t.Fatal(err)
				}
				s.plane.Signed(t).Want(t, http.MethodPut, "/v1/meshes/test/authority/root", string(body), nil)
			})
			if status, body, err := s.call(); err != nil || body != "cart" {
				t.Fatalf("the caller: %d %q %v", status, body, err)
			}
			if s.as(others.leaf(s.front.spiffe())) == nil {
				t.Error("what another authority below the same root has signed is let in")
			}
			front, serial := s.front.certificate()
			if err := s.as(front); err != nil {
				t.Error(err)
			}
			s.plane.Signed(t).Want(t, http.MethodPut, fmt.Sprintf("/v1/meshes/test/revokedCertificates/%s", serial), "", nil)
			s.awaitRefused(front)
			s.front.renew()
			s.awaitCall()
		})
	}
}
