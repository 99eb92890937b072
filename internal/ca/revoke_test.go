package ca

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// listed returns the serial numbers on the lists of a bundle, each of which must be signed by
// one of the issuers.
func listed(t *testing.T, b Bundle, issuers ...*x509.Certificate) []string {
	t.Helper()
	var out []string
	n := 0
	for rest := []byte(b.CRL); len(rest) > 0; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			t.Fatalf("the list is not PEM: %q", b.CRL)
		}
		crl, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(issuers, func(c *x509.Certificate) bool { return crl.CheckSignatureFrom(c) == nil }) {
			t.Error("a list is signed by nobody of whom one is wanted")
		}
		for _, e := range crl.RevokedCertificateEntries {
			if s := serialText(e.SerialNumber); !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	if len(b.CRL) > 0 && n != len(issuers) {
		t.Errorf("there are %d lists, wanted is one of each of %d issuers", n, len(issuers))
	}
	slices.Sort(out)
	return out
}

func TestRevokeWorkload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	try := func() error {
		_, err := w.ca.Issue(ctx, w.c, shop, "mesh/shop/virtualNode/cart", request(t, nil))
		return err
	}
	for _, bad := range []string{"cart", "virtualService/cart", "virtualNode/", "virtualNode/a/b", "virtualRouter/r"} {
		_, err := w.ca.RevokeWorkload(ctx, w.c, shop, bad, "", time.Time{}, false)
		wantRefusal(t, err, mesh.ErrBadRequest, "resource must be virtualNode/NAME or virtualGateway/NAME")
	}
	_, err := w.ca.RevokeWorkload(ctx, w.c, shop, "virtualNode/cart", "", w.clock.Now().Add(-time.Second), false)
	wantRefusal(t, err, mesh.ErrBadRequest, "until is ", "allowed is a time to come")
	// Without a list: what was issued is good until it expires.
	cert := w.issue("virtualNode/cart")
	r, err := w.ca.RevokeWorkload(ctx, w.c, shop, "virtualNode/cart", " broken into ", w.clock.Now().Add(time.Hour), false)
	if err != nil || r.Reason != "broken into" || r.By != w.c.ARN {
		t.Fatalf("%+v %v", r, err)
	}
	wantRefusal(t, try(), mesh.ErrForbidden, "virtualNode/cart of mesh shop was revoked at ", "gets no certificate until ")
	other := w.open(Config{})
	_, err = other.Issue(ctx, w.c, shop, "mesh/shop/virtualNode/cart", request(t, nil))
	wantRefusal(t, err, mesh.ErrForbidden, "was revoked")
	if b, _ := w.ca.Known(shop); b.CRL != "" {
		t.Error("there is a list that nobody asked for")
	}
	w.issue("virtualNode/till") // others go on
	w.clock.Advance(time.Hour + time.Second)
	if err := try(); err != nil {
		t.Errorf("after its time: %v", err)
	}
	// With a list, until it is restored.
	now := []string{w.issue("virtualNode/cart").Serial, w.issue("virtualNode/cart").Serial}
	all, err := w.ca.Issued(ctx, w.c, shop)
	if err != nil {
		t.Fatal(err)
	}
	var wanted []string
	for _, x := range all {
		if x.Resource == "virtualNode/cart" {
			wanted = append(wanted, x.Serial)
		}
	}
	if slices.Sort(wanted); slices.Contains(wanted, cert.Serial) || !slices.Contains(wanted, now[0]) || !slices.Contains(wanted, now[1]) {
		t.Errorf("issued are %v", wanted)
	}
	if _, err := w.ca.RevokeWorkload(ctx, w.c, shop, "virtualNode/cart", "", time.Time{}, true); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, try(), mesh.ErrForbidden, "until it is restored")
	b, _ := w.ca.Known(shop)
	issuer := chain(t, w.issue("virtualNode/till").Chain)[1]
	diff(t, wanted, listed(t, b, issuer))
	revocations, err := w.ca.Revocations(ctx, w.c, shop)
	if err != nil || len(revocations) != 1+len(wanted) || revocations[0].Serial != "" || revocations[1].Resource != "virtualNode/cart" {
		t.Errorf("%+v %v", revocations, err)
	}
	if err := w.ca.RestoreWorkload(ctx, w.c, shop, "virtualNode/cart"); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, w.ca.RestoreWorkload(ctx, w.c, shop, "virtualNode/cart"), mesh.ErrNotFound, "is not revoked")
	if err := try(); err != nil {
		t.Error(err)
	}
	// What has expired leaves the list, and an empty list is none.
	w.clock.Advance(2 * time.Hour)
	if err := w.ca.tidy(ctx); err != nil {
		t.Fatal(err)
	}
	if b, _ := w.ca.Known(shop); b.CRL != "" {
		t.Error("the list outlives what is on it")
	}
}

func TestRevokeCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	one, two := w.issue("virtualNode/cart"), w.issue("virtualNode/cart")
	first := chain(t, one.Chain)[1]
	_, err := w.ca.RevokeCertificate(ctx, w.c, shop, "0123", "")
	wantRefusal(t, err, mesh.ErrNotFound, `no certificate with serial number "123" that has not expired`)
	r, err := w.ca.RevokeCertificate(ctx, w.c, shop, "00:"+one.Serial, "lost")
	if err != nil || r.Serial != one.Serial || r.Resource != "virtualNode/cart" || !r.Until.Equal(one.NotAfter) {
		t.Fatalf("%+v %v", r, err)
	}
	b, _ := w.ca.Known(shop)
	diff(t, []string{one.Serial}, listed(t, b, first))
	w.issue("virtualNode/cart") // its workload can have another
	if _, err := w.ca.RevokeCertificate(ctx, w.c, shop, one.Serial, "again"); err != nil {
		t.Fatal(err)
	}
	if all, err := w.ca.Revocations(ctx, w.c, shop); err != nil || len(all) != 1 || all[0].Reason != "lost" {
		t.Errorf("revoked twice: %+v %v", all, err)
	}
	// A new intermediate: both have a list, with the same on it.
	if _, err := w.ca.RotateIntermediate(ctx, w.c, shop); err != nil {
		t.Fatal(err)
	}
	second := chain(t, w.issue("virtualNode/cart").Chain)[1]
	b, _ = w.ca.Known(shop)
	diff(t, []string{one.Serial}, listed(t, b, first, second))
	// The list does not change while what it says does not.
	if _, err := w.ca.RevokeWorkload(ctx, w.c, shop, "virtualNode/till", "", time.Time{}, true); err != nil {
		t.Fatal(err)
	}
	if after, _ := w.ca.Known(shop); after != b {
		t.Error("the list was signed anew without a reason")
	}
	if _, err := w.ca.RevokeCertificate(ctx, w.c, shop, two.Serial, ""); err != nil {
		t.Fatal(err)
	}
	b, _ = w.ca.Known(shop)
	wanted := []string{one.Serial, two.Serial}
	slices.Sort(wanted)
	diff(t, wanted, listed(t, b, first, second))
	// While a root is replaced the new one's intermediate has a list before it signs.
	if _, err := w.ca.AddRoot(ctx, w.c, shop, Root{}); err != nil {
		t.Fatal(err)
	}
	next := chain(t, w.ca.known(shop).Next.Certificate)[0]
	b, _ = w.ca.Known(shop)
	diff(t, wanted, listed(t, b, first, second, next))
}

// Each call needs its own permission, on the mesh, and is the mesh's owner's only.
func TestPermissions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	calls := map[string]func(store.Caller) error{
		"fairlead:DescribeAuthority":   func(c store.Caller) error { _, err := w.ca.Describe(ctx, c, shop); return err },
		"fairlead:DescribeTrustBundle": func(c store.Caller) error { _, err := w.ca.TrustBundle(ctx, c, shop); return err },
		"fairlead:ImportAuthority":     func(c store.Caller) error { _, err := w.ca.Import(ctx, c, shop, Root{}); return err },
		"fairlead:UpdateAuthority":     func(c store.Caller) error { _, err := w.ca.SetLeaf(ctx, c, shop, time.Hour); return err },
		"fairlead:RotateAuthority":     func(c store.Caller) error { _, err := w.ca.AddRoot(ctx, c, shop, Root{}); return err },
		"fairlead:ListCertificates":    func(c store.Caller) error { _, err := w.ca.Issued(ctx, c, shop); return err },
		"fairlead:ListRevocations":     func(c store.Caller) error { _, err := w.ca.Revocations(ctx, c, shop); return err },
		"fairlead:RevokeCertificate":   func(c store.Caller) error { _, err := w.ca.RevokeCertificate(ctx, c, shop, "1", ""); return err },
		"fairlead:RevokeWorkload": func(c store.Caller) error {
			return w.ca.RestoreWorkload(ctx, c, shop, "virtualNode/cart")
		},
	}
	for action, call := range calls {
		var asked []store.Question
		c := w.c
		c.Allow = func(q store.Question) error {
			asked = append(asked, q)
			return mesh.Errorf(mesh.ErrForbidden, "no policy")
		}
		wantRefusal(t, call(c), mesh.ErrForbidden, "no policy")
		if len(asked) != 1 || asked[0].Action != action || asked[0].Resource != "arn:aws:appmesh:us-east-1:000000000001:mesh/shop" {
			t.Errorf("%s: asked %+v", action, asked)
		}
		wantRefusal(t, call(store.Caller{Account: owner, Region: region, ARN: "x"}), mesh.ErrForbidden)
		wantRefusal(t, call(caller(guest)), mesh.ErrForbidden, "only meshes that their owner shares")
	}
	if w.ca.known(shop) != nil {
		t.Error("a refused call made an authority")
	}
	_, err := w.ca.Describe(ctx, w.c, shop)
	wantRefusal(t, err, mesh.ErrNotFound, "mesh shop has no authority yet")
}
