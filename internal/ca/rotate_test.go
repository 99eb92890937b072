package ca

import (
	"crypto/x509"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// A root is replaced in three steps; at each of them what was issued before and after is
// trusted by those who have the bundle of that moment or of the step before.
func TestReplaceRoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, now := t.Context(), w.clock.Now
	trusted := func(c Certificate, b Bundle) bool { return verify(t, c.Chain, b.Anchors, now()) == nil }
	first := w.issue("virtualNode/cart")
	before, err := w.ca.Describe(ctx, w.c, shop)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.ca.SwitchRoot(ctx, w.c, shop, true)
	wantRefusal(t, err, mesh.ErrConflict, "the first step is AddRoot")
	_, err = w.ca.RetireRoot(ctx, w.c, shop, true)
	wantRefusal(t, err, mesh.ErrConflict, "old root signs still")
	_, err = w.ca.CancelRotation(ctx, w.c, shop)
	wantRefusal(t, err, mesh.ErrConflict, "no replacement")

	added, err := w.ca.AddRoot(ctx, w.c, shop, Root{})
	if err != nil {
		t.Fatal(err)
	}
	if added.Step != StepAdded || len(added.Roots) != 2 || !added.Roots[0].Signs || added.Roots[1].Signs || added.Bundle.Version == before.Bundle.Version {
		t.Errorf("after the first step: %+v", added)
	}
	if !added.NextStepAt.Equal(added.StepAt.Add(time.Hour + time.Minute)) {
		t.Errorf("the second step may follow at %s, now is %s", added.NextStepAt, added.StepAt)
	}
	_, err = w.ca.AddRoot(ctx, w.c, shop, Root{})
	wantRefusal(t, err, mesh.ErrConflict, "is under way (ADDED)")
	_, err = w.ca.SwitchRoot(ctx, w.c, shop, false)
	wantRefusal(t, err, mesh.ErrConflict, "some workloads may not have the new root yet: wait until ", "or say force")
	second := w.issue("virtualNode/cart")
	if !trusted(second, before.Bundle) || !trusted(first, added.Bundle) {
		t.Error("the first step broke trust")
	}

	w.clock.Advance(time.Hour + 2*time.Minute)
	second = w.issue("virtualNode/cart")
	switched, err := w.ca.SwitchRoot(ctx, w.c, shop, false)
	if err != nil {
		t.Fatal(err)
	}
	third := w.issue("virtualNode/cart")
	if switched.Step != StepSwitched || switched.Roots[0].Signs || !switched.Roots[1].Signs || switched.Bundle.Version != added.Bundle.Version {
		t.Errorf("after the second step: %+v", switched)
	}
	if !trusted(third, added.Bundle) || !trusted(second, switched.Bundle) || trusted(third, before.Bundle) {
		t.Error("the second step broke trust")
	}
	_, err = w.ca.CancelRotation(ctx, w.c, shop)
	wantRefusal(t, err, mesh.ErrConflict, "signs already")
	_, err = w.ca.RetireRoot(ctx, w.c, shop, false)
	wantRefusal(t, err, mesh.ErrConflict, "are still valid: wait until ")

	w.clock.Advance(time.Hour + 2*time.Minute)
	fourth := w.issue("virtualNode/cart")
	retired, err := w.ca.RetireRoot(ctx, w.c, shop, false)
	if err != nil {
		t.Fatal(err)
	}
	if retired.Step != StepNone || len(retired.Roots) != 1 || retired.Roots[0].ID != added.Roots[1].ID {
		t.Errorf("after the third step: %+v", retired)
	}
	if !trusted(fourth, retired.Bundle) || strings.Contains(retired.Bundle.Anchors, before.Roots[0].Certificate) {
		t.Error("the third step broke trust, or left the old root")
	}
	// The next replacement, given up.
	if _, err = w.ca.AddRoot(ctx, w.c, shop, Root{}); err != nil {
		t.Fatal(err)
	}
	cancelled, err := w.ca.CancelRotation(ctx, w.c, shop)
	if err != nil || cancelled.Bundle != retired.Bundle {
		t.Errorf("after giving up: %+v %v", cancelled, err)
	}
	if marks, err := w.store.Records(ctx, self, anchorMarkPrefix); err != nil || len(marks) != 1 {
		t.Errorf("roots that are noted: %v %v", marks, err)
	}
}

// Two who begin a replacement at once: one does.
func TestReplaceRootOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.issue("virtualNode/cart")
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		s := w.open(Config{})
		wg.Go(func() { _, errs[i] = s.AddRoot(t.Context(), w.c, shop, Root{}) })
	}
	wg.Wait()
	done := 0
	for _, err := range errs {
		if err == nil {
			done++
		} else {
			wantRefusal(t, err, mesh.ErrConflict, "under way")
		}
	}
	if done != 1 {
		t.Errorf("%d of them began", done)
	}
}

// An intermediate is renewed by itself in the last third of its time, by one replica, and
// when it is asked for; what the old one signed stays good.
func TestRenewIntermediate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	old := w.issue("virtualNode/cart")
	w.clock.Advance(59 * 24 * time.Hour)
	same := w.issue("virtualNode/cart")
	w.clock.Advance(2 * 24 * time.Hour)
	other := w.open(Config{})
	var wg sync.WaitGroup
	for _, s := range []*Service{w.ca, other, w.ca, other} {
		wg.Go(func() {
			if _, err := s.Issue(ctx, w.c, shop, "mesh/shop/virtualNode/cart", request(t, nil)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	renewed := w.issue("virtualNode/cart")
	serial := func(c Certificate) string { return serialText(chain(t, c.Chain)[1].SerialNumber) }
	if serial(old) != serial(same) || serial(old) == serial(renewed) || old.Anchors != renewed.Anchors {
		t.Error("the intermediate was renewed too early, or not at all, or with the root")
	}
	if a := w.ca.known(shop); len(a.Signers) != 2 {
		t.Errorf("there are %d intermediates", len(a.Signers))
	}
	before, err := w.ca.Describe(ctx, w.c, shop)
	if err != nil {
		t.Fatal(err)
	}
	after, err := w.ca.RotateIntermediate(ctx, w.c, shop)
	if err != nil || after.Intermediate.Serial == before.Intermediate.Serial || after.Bundle != before.Bundle {
		t.Errorf("%+v %v", after, err)
	}
	if err := verify(t, renewed.Chain, after.Bundle.Anchors, w.clock.Now()); err != nil {
		t.Error(err)
	}
	w.clock.Advance(2 * time.Hour)
	if err := w.ca.tidy(ctx); err != nil {
		t.Fatal(err)
	}
	if a := w.ca.known(shop); len(a.Signers) != 1 {
		t.Errorf("%d intermediates are kept for what has expired", len(a.Signers))
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, now := t.Context(), w.clock.Now()
	top, topPEM, topKey := testRoot(t, "corporate root", nil, now, nil)
	_, direct, directKey := testRoot(t, "mesh shop", &top, now, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	_, stranger, strangerKey := testRoot(t, "stranger", nil, now, nil)
	_, old, oldKey := testRoot(t, "old", nil, now, func(c *x509.Certificate) { c.NotAfter = now.Add(time.Hour) })
	_, leaf, leafKey := testRoot(t, "no authority", &top, now, func(c *x509.Certificate) { c.IsCA, c.MaxPathLen = false, 0; c.KeyUsage = x509.KeyUsageDigitalSignature })
	_, narrow, narrowKey := testRoot(t, "narrow", nil, now, func(c *x509.Certificate) {
		c.PermittedURIDomains, c.PermittedDNSDomainsCritical = []string{"elsewhere.example"}, true
	})
	for _, c := range []struct {
		root  Root
		words string
	}{
		{Root{}, "either certificate and privateKey or vault is required"},
		{Root{Certificate: topPEM}, "privateKey is not one private key in PEM form"},
		{Root{PrivateKey: topKey}, "certificate is required with privateKey"},
		{Root{Certificate: "x", PrivateKey: topKey}, "certificate is not PEM text"},
		{Root{Certificate: topKey, PrivateKey: topKey}, `certificate holds a "PRIVATE KEY", allowed are certificates`},
		{Root{Certificate: topPEM, PrivateKey: strangerKey}, "privateKey does not belong to the first certificate"},
		{Root{Certificate: direct + stranger, PrivateKey: directKey}, "the one in place 1 is not signed by the next"},
		{Root{Certificate: old, PrivateKey: oldKey}, "needed is more than a day"},
		{Root{Certificate: leaf, PrivateKey: leafKey}, "it is not that of an authority"},
		{Root{Certificate: narrow, PrivateKey: narrowKey}, "what the authority signs for trust domain fairlead.internal would not be trusted"},
	} {
		_, err := w.ca.Import(ctx, w.c, shop, c.root)
		wantRefusal(t, err, mesh.ErrBadRequest, c.words)
		if err != nil && strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("the refusal shows what was given: %v", err)
		}
	}
	// An authority that signs leaves only, with its chain: it is what is trusted, not the root above it.
	a, err := w.ca.Import(ctx, w.c, shop, Root{Certificate: direct + topPEM, PrivateKey: directKey})
	if err != nil {
		t.Fatal(err)
	}
	cert := w.issue("virtualNode/cart")
	if a.Roots[0].Source != SourceImported || cert.Anchors != direct || len(chain(t, cert.Chain)) != 1 {
		t.Errorf("%+v", a)
	}
	if err := verify(t, cert.Chain, cert.Anchors, now); err != nil {
		t.Error(err)
	}
	_, err = w.ca.RotateIntermediate(ctx, w.c, shop)
	wantRefusal(t, err, mesh.ErrConflict, "signs by itself")
	_, err = w.ca.Import(ctx, w.c, shop, Root{Certificate: topPEM, PrivateKey: topKey})
	wantRefusal(t, err, mesh.ErrConflict, "has an authority already", "beginning with AddRoot")
	// A root that may have authorities below it gets an intermediate.
	if _, err = w.ca.AddRoot(ctx, w.c, shop, Root{Certificate: topPEM, PrivateKey: topKey}); err != nil {
		t.Fatal(err)
	}
	if _, err = w.ca.SwitchRoot(ctx, w.c, shop, true); err != nil {
		t.Fatal(err)
	}
	cert = w.issue("virtualNode/cart")
	if len(chain(t, cert.Chain)) != 2 || verify(t, cert.Chain, topPEM, now) != nil {
		t.Error("below an imported root there is no intermediate")
	}
	// The same authority cannot be another mesh's too.
	other := mesh.MeshID{Account: owner, Region: region, Name: "other"}
	w.create(w.c, other.MeshObject(), `{}`)
	_, err = w.ca.Import(ctx, w.c, other, Root{Certificate: topPEM, PrivateKey: topKey})
	wantRefusal(t, err, mesh.ErrConflict, "is trusted in another mesh already")
	// Once it has left, it can.
	if _, err = w.ca.RetireRoot(ctx, w.c, shop, true); err != nil {
		t.Fatal(err)
	}
	if _, err = w.ca.Import(ctx, w.c, other, Root{Certificate: direct, PrivateKey: directKey}); err != nil {
		t.Error(err)
	}
}

func TestSetLeaf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	for _, bad := range []time.Duration{0, MinLeaf - time.Second, MaxLeaf + time.Second} {
		_, err := w.ca.SetLeaf(ctx, w.c, shop, bad)
		wantRefusal(t, err, mesh.ErrBadRequest, "allowed are 300 to 86400")
	}
	if _, err := w.ca.SetLeaf(ctx, w.c, shop, 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	long := w.issue("virtualNode/cart")
	if _, err := w.ca.SetLeaf(ctx, w.c, shop, 5*time.Minute); err != nil {
		t.Fatal(err)
	}
	short := w.issue("virtualNode/cart")
	if d := long.NotAfter.Sub(w.clock.Now()); d != 24*time.Hour {
		t.Error(d)
	}
	if d := short.NotAfter.Sub(w.clock.Now()); d != 5*time.Minute {
		t.Error(d)
	}
	// What was issued for a day is waited for when a root is replaced.
	if _, err := w.ca.AddRoot(ctx, w.c, shop, Root{}); err != nil {
		t.Fatal(err)
	}
	switched, err := w.ca.SwitchRoot(ctx, w.c, shop, true)
	if err != nil || switched.NextStepAt.Before(long.NotAfter) {
		t.Errorf("the old root may leave at %s, its last certificate ends at %s: %v", switched.NextStepAt, long.NotAfter, err)
	}
}
