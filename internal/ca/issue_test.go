package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// The server decides the names, whatever the request says.
func TestNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.node(w.c, "bare", `{"dns":{"hostname":"10.1.2.3"}}`)
	w.node(w.c, "odd", `{"dns":{"hostname":"*.internal"}}`)
	for resource, want := range map[string][]string{
		"virtualNode/cart":    {"cart.internal"},
		"virtualNode/till":    {"till.shop.local"},
		"virtualNode/bare":    {"10.1.2.3"},
		"virtualNode/odd":     nil,
		"virtualGateway/edge": nil,
	} {
		cert := w.issue(resource)
		leaf := chain(t, cert.Chain)[0]
		uri := "spiffe://fairlead.internal/000000000001/shop/" + resource
		if len(leaf.URIs) != 1 || leaf.URIs[0].String() != uri || cert.URI != uri {
			t.Errorf("%s: URIs are %v, %s", resource, leaf.URIs, cert.URI)
		}
		got := leaf.DNSNames
		for _, ip := range leaf.IPAddresses {
			got = append(got, ip.String())
		}
		diff(t, want, got)
		diff(t, want, cert.DNSNames)
		if leaf.IsCA || leaf.Subject.CommonName != resource || serialText(leaf.SerialNumber) != cert.Serial {
			t.Errorf("%s: %+v", resource, leaf)
		}
		if err := verify(t, cert.Chain, cert.Anchors, w.clock.Now()); err != nil {
			t.Errorf("%s: %v", resource, err)
		}
		now := w.clock.Now()
		if !leaf.NotBefore.Equal(now.Add(-5*time.Minute)) || !leaf.NotAfter.Equal(now.Add(time.Hour)) || !cert.RenewAfter.Equal(now.Add(30*time.Minute)) {
			t.Errorf("%s: valid from %s to %s, to be renewed at %s; now is %s", resource, leaf.NotBefore, leaf.NotAfter, cert.RenewAfter, now)
		}
	}
	all, err := w.ca.Issued(t.Context(), w.c, shop)
	if err != nil || len(all) != 5 {
		t.Errorf("issued: %+v %v", all, err)
	}
}

func TestTrustDomain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ca = w.open(Config{TrustDomain: "prod.example.com"})
	if cert := w.issue("virtualNode/cart"); cert.URI != "spiffe://prod.example.com/000000000001/shop/virtualNode/cart" {
		t.Error(cert.URI)
	}
	for _, bad := range []string{"A.example", "spiffe://x", "a/b", ".x", strings.Repeat("a", 256)} {
		if _, err := Open(t.Context(), Config{Store: w.store, TrustDomain: bad}); err == nil || !strings.Contains(err.Error(), "trust domain") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Whose certificates are refused, and in which words.
func TestIssueRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := context.Background()
	good := request(t, nil)
	for _, c := range []struct {
		arn, csr string
		code     mesh.Code
		words    string
	}{
		{"mesh/shop/virtualNode/none", good, mesh.ErrNotFound, "virtualNode/none is not present in mesh shop"},
		{"mesh/shop/virtualService/cart", good, mesh.ErrBadRequest, "names a virtualService, allowed are a virtualNode or virtualGateway"},
		{"mesh/other/virtualNode/cart", good, mesh.ErrBadRequest, "is not in mesh shop"},
		{"nonsense", good, mesh.ErrBadRequest, "resourceArn: "},
		{"arn:aws:appmesh:us-east-1:000000000002:mesh/shop/virtualNode/cart", good, mesh.ErrForbidden, "may not have the certificate"},
		{"arn:aws:appmesh:eu-west-1:000000000001:mesh/shop/virtualNode/cart", good, mesh.ErrForbidden, "may not have the certificate"},
		{"mesh/shop@000000000002/virtualNode/cart", good, mesh.ErrForbidden, "only meshes that their owner shares"},
		{"mesh/shop/virtualNode/cart", "", mesh.ErrBadRequest, "csr: it is not one certificate request in PEM form"},
	} {
		_, err := w.ca.Issue(ctx, w.c, shop, c.arn, c.csr)
		wantRefusal(t, err, c.code, c.words)
	}
	refused := w.c
	refused.Allow = func(q store.Question) error {
		if q.Action != streamAction || q.Resource != "arn:aws:appmesh:us-east-1:000000000001:mesh/shop/virtualNode/cart" {
			t.Errorf("asked %+v", q)
		}
		return mesh.Errorf(mesh.ErrForbidden, "no policy")
	}
	_, err := w.ca.Issue(ctx, refused, shop, "mesh/shop/virtualNode/cart", good)
	wantRefusal(t, err, mesh.ErrForbidden, "no policy")
	if w.ca.known(shop) != nil {
		t.Error("a refused request made an authority")
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	rsaKey := func(bits int) crypto.Signer {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	curve := func(c elliptic.Curve) crypto.Signer {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := request(t, nil)
	block, _ := pem.Decode([]byte(good))
	block.Bytes[len(block.Bytes)-1] ^= 1
	for _, c := range []struct{ name, csr, words string }{
		{"P-256", good, ""},
		{"P-384", request(t, curve(elliptic.P384())), ""},
		{"RSA 2048", request(t, rsaKey(2048)), ""},
		{"old label", strings.ReplaceAll(good, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"), ""},
		{"P-521", request(t, curve(elliptic.P521())), "curve P-521, allowed are ECDSA with P-256 or P-384"},
		{"RSA 1024", request(t, rsaKey(1024)), "1024 bits, allowed are 2048 to 4096"},
		{"Ed25519", request(t, ed), "of a kind that Envoy cannot use"},
		{"forged", string(pem.EncodeToMemory(block)), "its signature does not hold"},
		{"two", good + good, "it is not one certificate request"},
		{"a certificate", strings.ReplaceAll(good, "CERTIFICATE REQUEST", "CERTIFICATE"), `it holds a "CERTIFICATE"`},
		{"rubbish", string(pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: []byte("x")})), "cannot be read"},
	} {
		_, err := ParseRequest(c.csr)
		switch {
		case c.words == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.words != "" && (err == nil || !strings.Contains(err.Error(), c.words)):
			t.Errorf("%s: %v, want %q", c.name, err, c.words)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add(request(f, nil))
	f.Add("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		public, err := ParseRequest(text)
		if err == nil && checkKey(public) != nil {
			t.Errorf("a key of type %T was let through", public)
		}
		if err != nil && (strings.ContainsAny(err.Error(), "\n\r") || len(err.Error()) > 300) {
			t.Errorf("the refusal is not one short line: %q", err)
		}
	})
}

// Many replicas that issue a mesh's first certificates agree on one root.
func TestOneRoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const replicas, each = 4, 3
	certs := make([]Certificate, replicas*each)
	var wg sync.WaitGroup
	for r := range replicas {
		s := w.open(Config{})
		for i := range each {
			wg.Go(func() {
				var err error
				if certs[r*each+i], err = s.Issue(t.Context(), w.c, shop, "mesh/shop/virtualNode/cart", request(t, nil)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	serials := map[string]bool{}
	for _, c := range certs {
		serials[c.Serial] = true
		if c.Anchors != certs[0].Anchors || c.Version != certs[0].Version {
			t.Error("two replicas made a root each")
		}
		if err := verify(t, c.Chain, certs[0].Anchors, w.clock.Now()); err != nil {
			t.Error(err)
		}
	}
	if len(serials) != len(certs) {
		t.Error("a serial number was given twice")
	}
	marks, err := w.store.Records(t.Context(), self, anchorMarkPrefix)
	if err != nil || len(marks) != 1 {
		t.Errorf("%d roots are noted, %v", len(marks), err)
	}
}

// Meshes, accounts and trust domains do not trust each other.
func TestStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := mesh.MeshID{Account: owner, Region: region, Name: "other"}
	w.create(w.c, other.MeshObject(), `{}`)
	w.create(w.c, other.Object(mesh.KindVirtualNode, "", "cart"), `{"serviceDiscovery":{"dns":{"hostname":"cart.internal"}},"listeners":[{"portMapping":{"port":80,"protocol":"http"}}]}`)
	mine := w.issue("virtualNode/cart")
	its, err := w.ca.Issue(t.Context(), w.c, other, "mesh/other/virtualNode/cart", request(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if verify(t, its.Chain, mine.Anchors, w.clock.Now()) == nil || verify(t, mine.Chain, its.Anchors, w.clock.Now()) == nil {
		t.Error("two meshes trust each other")
	}
}

// In a shared mesh all accounts have one authority; the account in the name is the
// node's owner; a guest's node does not get the name of a node of another account.
func TestSharedMesh(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := caller(guest)
	arn := func(name string) string { return "mesh/shop@000000000001/virtualNode/" + name }
	_, err := w.ca.Issue(t.Context(), g, shop, arn("cart"), request(t, nil))
	wantRefusal(t, err, mesh.ErrForbidden, "only meshes that their owner shares")
	if _, err := w.store.Share(t.Context(), w.c, shop, guest); err != nil {
		t.Fatal(err)
	}
	w.node(g, "thief", `{"dns":{"hostname":"CART.internal"}}`)
	w.node(g, "stall", `{"dns":{"hostname":"stall.internal"}}`)
	_, err = w.ca.Issue(t.Context(), g, shop, arn("cart"), request(t, nil))
	wantRefusal(t, err, mesh.ErrNotFound, "virtualNode/cart is not present")
	_, err = w.ca.Issue(t.Context(), w.c, shop, "mesh/shop/virtualNode/stall", request(t, nil))
	wantRefusal(t, err, mesh.ErrNotFound, "virtualNode/stall is not present")
	stall, err := w.ca.Issue(t.Context(), g, shop, arn("stall"), request(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	thief, err := w.ca.Issue(t.Context(), g, shop, arn("thief"), request(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if stall.URI != "spiffe://fairlead.internal/000000000002/shop/virtualNode/stall" {
		t.Error(stall.URI)
	}
	diff(t, []string{"stall.internal"}, stall.DNSNames)
	diff(t, []string(nil), thief.DNSNames)
	if mine := w.issue("virtualNode/cart"); mine.Anchors != stall.Anchors {
		t.Error("the accounts of a shared mesh have two authorities")
	}
	if _, err := w.ca.TrustBundle(t.Context(), g, shop); err != nil {
		t.Error(err)
	}
	_, err = w.ca.Describe(t.Context(), g, shop)
	wantRefusal(t, err, mesh.ErrForbidden, "not authorized to use mesh shop")
}

// A mesh that is made anew has nothing of the one before.
func TestMeshMadeAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := mesh.MeshID{Account: owner, Region: region, Name: "again"}
	w.create(w.c, m.MeshObject(), `{}`)
	before, err := w.ca.Trusted(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.Delete(t.Context(), w.c, m.MeshObject()); err != nil {
		t.Fatal(err)
	}
	_, err = w.ca.Trusted(t.Context(), m)
	wantRefusal(t, err, mesh.ErrNotFound)
	w.create(w.c, m.MeshObject(), `{}`)
	after, err := w.ca.Trusted(t.Context(), m)
	if err != nil || after.Anchors == before.Anchors {
		t.Errorf("the new mesh has the old root: %v", err)
	}
	if _, err := w.store.Delete(t.Context(), w.c, m.MeshObject()); err != nil {
		t.Fatal(err)
	}
	if err := w.ca.tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{authorityPrefix, anchorMarkPrefix} {
		if left, err := w.store.Records(t.Context(), self, prefix); err != nil || len(left) > 0 {
			t.Errorf("left of a mesh that is gone: %v %v", left, err)
		}
	}
}

// Keys are sealed: nothing in the store can be used without the seal key.
func TestKeysAreSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.issue("virtualNode/cart")
	a := w.ca.known(shop)
	for _, sealed := range [][]byte{a.Anchors[0].Sealed, a.Signers[0].Sealed} {
		if len(sealed) == 0 {
			t.Error("a key is missing")
		}
		if _, err := x509.ParsePKCS8PrivateKey(sealed); err == nil {
			t.Error("a key is kept as it is")
		}
	}
	if strings.Contains(string(a.raw), "PRIVATE KEY") {
		t.Error("the record has a key in PEM form")
	}
}

// OpenSSL, which is nobody's relative of ours, agrees.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	w := newWorld(t)
	w.clock.Advance(time.Until(w.clock.Now())) // openssl goes by the real time
	cert := w.issue("virtualNode/cart")
	if _, err := w.ca.RevokeCertificate(t.Context(), w.c, shop, w.issue("virtualNode/cart").Serial, ""); err != nil {
		t.Fatal(err)
	}
	bundle, err := w.ca.Trusted(t.Context(), shop)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	leaf, rest, _ := strings.Cut(cert.Chain, "-----END CERTIFICATE-----\n")
	args := []string{
		"verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "cart.internal", "-crl_check",
		"-CAfile", write("anchors", bundle.Anchors), "-CRLfile", write("crl", bundle.CRL), "-untrusted", write("rest", rest),
		write("leaf", leaf+"-----END CERTIFICATE-----\n"),
	}
	if out, err := exec.CommandContext(t.Context(), openssl, args...).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := w.ca.RevokeCertificate(t.Context(), w.c, shop, cert.Serial, ""); err != nil {
		t.Fatal(err)
	}
	if bundle, err = w.ca.Trusted(t.Context(), shop); err != nil {
		t.Fatal(err)
	}
	write("crl", bundle.CRL)
	if out, err := exec.CommandContext(t.Context(), openssl, args...).CombinedOutput(); err == nil || !strings.Contains(string(out), "revoked") {
		t.Errorf("a revoked certificate: %v: %s", err, out)
	}
}
