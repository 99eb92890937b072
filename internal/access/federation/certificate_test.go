package federation_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/access/federation"
)

// authority signs certificates at any time that a test wants.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// sign returns a certificate of the template for a new key, signed by parent, or by
// itself without one.
func sign(t *testing.T, parent *authority, template x509.Certificate) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if template.SerialNumber == nil {
		template.SerialNumber = big.NewInt(template.NotAfter.Unix()%100000 + int64(len(template.Subject.CommonName)))
	}
	by, signer := &template, key
	if parent != nil {
		by, signer = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, by, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// revoke returns a list of revoked serial numbers.
func (a *authority) revoke(t *testing.T, serials ...*big.Int) string {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: testNow, NextUpdate: testNow.Add(time.Hour)}
	for _, s := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: testNow})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

func authorityTemplate(name string) x509.Certificate {
	return x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, NotBefore: testNow.Add(-time.Hour), NotAfter: testNow.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
}

func clientTemplate(name string) x509.Certificate {
	return x509.Certificate{
		Subject: pkix.Name{CommonName: name, Organization: []string{"shop"}}, NotBefore: testNow.Add(-time.Hour), NotAfter: testNow.Add(time.Hour),
		URIs: []*url.URL{{Scheme: "spiffe", Host: "shop.test", Path: "/cart"}}, DNSNames: []string{"cart.shop.test"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, SerialNumber: big.NewInt(0xabc),
	}
}

func TestCertificate(t *testing.T) {
	t.Parallel()
	root := sign(t, nil, authorityTemplate("root"))
	middle := sign(t, root, authorityTemplate("middle"))
	stranger := sign(t, nil, authorityTemplate("root")) // of the same name
	leaf := sign(t, middle, clientTemplate("cart")).cert
	with := func(change func(*x509.Certificate)) *x509.Certificate {
		c := clientTemplate("cart")
		change(&c)
		return sign(t, middle, c).cert
	}
	v, now := newVerifier(t)
	provider := func(lists ...string) *federation.Provider {
		return parse(t, v, federation.Settings{Certificate: &federation.Certificate{Anchors: root.pem(), Lists: strings.Join(lists, "")}})
	}
	p := provider()
	got, err := v.Certificate(p, []*x509.Certificate{leaf, middle.cert})
	if err != nil {
		t.Fatal(err)
	}
	want := federation.Subject{Provider: "certificate-provider/p", Name: "spiffe://shop.test/cart", Claims: map[string][]string{
		"x509Subject/CN": {"cart"}, "x509Subject/O": {"shop"}, "x509Issuer/CN": {"middle"}, "x509SAN/URI": {"spiffe://shop.test/cart"},
		"x509SAN/DNS": {"cart.shop.test"}, "x509Serial": {"abc"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for name, c := range map[string]struct {
		provider *federation.Provider
		chain    []*x509.Certificate
		reason   federation.Reason
		say      string
	}{
		"none":                {p, nil, federation.Malformed, "no client certificate"},
		"no way to an anchor": {p, []*x509.Certificate{leaf}, federation.Invalid, "trust anchor"},
		"a stranger's":        {p, []*x509.Certificate{sign(t, stranger, clientTemplate("cart")).cert, stranger.cert}, federation.Invalid, "trust anchor"},
		"an authority's":      {p, []*x509.Certificate{middle.cert}, federation.Invalid, "an authority's"},
		"for servers":         {p, []*x509.Certificate{with(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), middle.cert}, federation.Invalid, "meant for clients"},
		"not for signing":     {p, []*x509.Certificate{with(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), middle.cert}, federation.Invalid, "digitalSignature"},
		"expired":             {p, []*x509.Certificate{with(func(c *x509.Certificate) { c.NotAfter = testNow.Add(-time.Second) }), middle.cert}, federation.Expired, "has expired"},
		"not yet":             {p, []*x509.Certificate{with(func(c *x509.Certificate) { c.NotBefore = testNow.Add(time.Second) }), middle.cert}, federation.Invalid, "not valid yet"},
		"revoked":             {provider(middle.revoke(t, big.NewInt(1), leaf.SerialNumber)), []*x509.Certificate{leaf, middle.cert}, federation.Invalid, "revoked"},
		"revoked in between":  {provider(root.revoke(t, middle.cert.SerialNumber)), []*x509.Certificate{leaf, middle.cert}, federation.Invalid, "revoked"},
	} {
		_, err := v.Certificate(c.provider, c.chain)
		refused(t, name, err, c.reason, c.say)
	}
	// A list counts for what its issuer signed, and nothing else, and does not end.
	others := provider(root.revoke(t, leaf.SerialNumber), sign(t, nil, authorityTemplate("middle")).revoke(t, leaf.SerialNumber))
	if _, err := v.Certificate(others, []*x509.Certificate{leaf, middle.cert}); err != nil {
		t.Errorf("revoked by others: %v", err)
	}
	now.Advance(90 * time.Minute)
	long := with(func(c *x509.Certificate) { c.NotAfter = testNow.Add(5 * time.Hour) })
	_, err = v.Certificate(provider(middle.revoke(t, long.SerialNumber)), []*x509.Certificate{long, middle.cert})
	refused(t, "an old list", err, federation.Invalid, "revoked")
}
