package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/clock"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

const (
	owner  = "000000000001"
	guest  = "000000000002"
	region = "us-east-1"
)

var shop = mesh.MeshID{Account: owner, Region: region, Name: "shop"}

func diff(t testing.TB, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// wantRefusal checks the code and words of a refusal.
func wantRefusal(t testing.TB, err error, code mesh.Code, words ...string) {
	t.Helper()
	var refusal *mesh.Error
	if !errors.As(err, &refusal) || refusal.Code != code {
		t.Errorf("got %v, want %s", err, code)
		return
	}
	for _, w := range words {
		if !strings.Contains(refusal.Message, w) {
			t.Errorf("%q does not say %q", refusal.Message, w)
		}
	}
}

// caller returns who may do everything in an account.
func caller(account string) store.Caller {
	return store.Caller{
		Account: account, Region: region, ARN: "arn:aws:iam::" + account + ":user/tester",
		Allow: func(store.Question) error { return nil },
	}
}

// world is an authority over a store with the mesh shop, in which there are nodes.
type world struct {
	t     *testing.T
	store *store.Store
	clock *clock.Fake
	ca    *Service
	c     store.Caller
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s, err := store.Open(context.Background(), store.Config{DataDir: t.TempDir(), Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{t: t, store: s, clock: clock.New(time.Now().Truncate(time.Second)), c: caller(owner)}
	w.ca = w.open(Config{})
	w.create(w.c, shop.MeshObject(), `{}`)
	w.node(w.c, "cart", `{"dns":{"hostname":"cart.internal."}}`)
	w.node(w.c, "till", `{"awsCloudMap":{"serviceName":"till","namespaceName":"shop.local"}}`)
	w.create(w.c, shop.Object(mesh.KindVirtualGateway, "", "edge"), `{"listeners":[{"portMapping":{"port":80,"protocol":"http"}}]}`)
	return w
}

// open opens another replica.
func (w *world) open(cfg Config) *Service {
	w.t.Helper()
	cfg.Store, cfg.Now = w.store, w.clock.Now
	s, err := Open(context.Background(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = s.Close() })
	return s
}

func (w *world) create(c store.Caller, id mesh.ID, spec string) {
	w.t.Helper()
	typed, stored, err := mesh.Decode(id.Kind, "spec", []byte(spec))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.store.Create(context.Background(), c, store.NewObject{ID: id, Spec: typed, Stored: stored}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) node(c store.Caller, name, discovery string) {
	w.t.Helper()
	w.create(c, shop.Object(mesh.KindVirtualNode, "", name),
		fmt.Sprintf(`{"listeners":[{"portMapping":{"port":80,"protocol":"http"}}],"serviceDiscovery":%s}`, discovery))
}

// issue has a certificate issued for a new key.
func (w *world) issue(resource string) Certificate {
	w.t.Helper()
	cert, err := w.ca.Issue(context.Background(), w.c, shop, "mesh/shop/"+resource, request(w.t, nil))
	if err != nil {
		w.t.Fatal(err)
	}
	return cert
}

// request returns a certificate request, for a new key if none is given.
func request(t testing.TB, key crypto.Signer) string {
	t.Helper()
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "whoever I like"}, DNSNames: []string{"anything.example"},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der}))
}

// chain parses PEM certificates.
func chain(t testing.TB, text string) []*x509.Certificate {
	t.Helper()
	certs, err := parseCertificates(text)
	if err != nil || len(certs) == 0 {
		t.Fatalf("%v in %q", err, text)
	}
	return certs
}

// verify checks a chain against a trust bundle as a peer does.
func verify(t testing.TB, certificates, anchors string, now time.Time) error {
	t.Helper()
	all := chain(t, certificates)
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range chain(t, anchors) {
		roots.AddCert(c)
	}
	for _, c := range all[1:] {
		between.AddCert(c)
	}
	_, err := all[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err
}

// testRoot makes an authority outside of Fairlead; below another if one is given.
func testRoot(t testing.TB, name string, below *pair, now time.Time, change func(*x509.Certificate)) (p pair, certificate, key string) {
	t.Helper()
	private, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	template := authorityTemplate(name, -1, now, now.Add(1000*time.Hour))
	if change != nil {
		change(template)
	}
	by := pair{key: private}
	if below != nil {
		by = *below
	}
	cert, err := by.sign(template, private.Public())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pair{cert, private}, encodePEM(pemCertificate, cert.Raw), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}
