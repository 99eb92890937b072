package ca

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// Certificate is a certificate that was issued, and what its holder trusts.
type Certificate struct {
	// Serial is the serial number, in hexadecimal digits.
	Serial string
	// Chain is the certificate, and what is between it and the root, PEM.
	Chain string
	// Bundle is what the mesh trusts.
	Bundle
	// URI is the SPIFFE ID, and DNSNames what else it is for: host names and addresses.
	URI      string
	DNSNames []string
	// NotAfter is its end, and RenewAfter when another should be asked for.
	NotBefore, NotAfter, RenewAfter time.Time
}

// Issue signs the request csr (PEM) of the virtual node or gateway that an ARN names,
// which is in mesh m and of the caller's account. The caller needs
// appmesh:StreamAggregatedResources on it. Errors are *mesh.Error: ErrBadRequest,
// ErrForbidden (also while the workload is revoked), ErrNotFound, ErrConflict and
// ErrServiceUnavailable.
func (s *Service) Issue(ctx context.Context, c store.Caller, m mesh.MeshID, arn, csr string) (Certificate, error) {
	o, err := s.workload(ctx, c, m, arn)
	if err != nil {
		return Certificate{}, err
	}
	public, err := ParseRequest(csr)
	if err != nil {
		return Certificate{}, mesh.Errorf(mesh.ErrBadRequest, "csr: %v", err)
	}
	n, err := s.namesOf(ctx, o)
	if err != nil {
		return Certificate{}, err
	}
	var lease int64
	for i := range maxTries {
		a, err := s.ensure(ctx, o.ID.Mesh, i > 0)
		if err != nil {
			return Certificate{}, err
		}
		if lease == 0 {
			// A minute more, for clocks that differ. Its length is what the certificate's is at most.
			if lease, err = s.store.GrantLease(ctx, self, a.LeafSeconds+60); err != nil {
				return Certificate{}, err
			}
		}
		cert, err := s.issue(ctx, c, s.renewed(ctx, a), o, n, public, lease)
		if !errors.Is(err, store.ErrRevision) {
			return cert, err
		}
	}
	return Certificate{}, busy(o.ID.Mesh)
}

// issue signs and writes down a certificate. The error is store.ErrRevision if the
// authority has changed.
func (s *Service) issue(ctx context.Context, c store.Caller, a *authority, o *mesh.Object, n names, public crypto.PublicKey, lease int64) (Certificate, error) {
	if err := a.refuses(o.ID, s.now()); err != nil {
		return Certificate{}, err
	}
	signer, err := s.pair(a.Signers[0].Certificate, a.Signers[0].Sealed)
	if err != nil {
		return Certificate{}, err
	}
	now := s.now()
	until := now.Add(time.Duration(a.LeafSeconds) * time.Second)
	if until.After(signer.cert.NotAfter) {
		until = signer.cert.NotAfter
	}
	if until.Sub(now) < time.Minute {
		return Certificate{}, mesh.Errorf(mesh.ErrServiceUnavailable, "the authority of mesh %s cannot sign: its certificate ends at %s", a.mesh.Name, signer.cert.NotAfter.UTC().Format(time.RFC3339))
	}
	leaf, err := signer.sign(leafTemplate(n, o.ID.Key.String(), public, now, until), public)
	if err != nil {
		return Certificate{}, err
	}
	serial := serialText(leaf.SerialNumber)
	rec, err := encodeRecord(issuedKey(o.ID, serial), 0, nil, issuedValue{
		Format: recordFormat, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, URI: n.uri.String(), Caller: c.ARN,
	})
	if err != nil {
		return Certificate{}, err
	}
	rec.Lease = lease
	_, err = s.store.ApplyRecords(ctx, self, store.RecordChange{
		Account: a.mesh.Account, Puts: []store.Record{rec}, Holds: []store.Record{{Key: authorityKey(a.mesh), Revision: a.revision}},
	})
	if err != nil {
		return Certificate{}, fmt.Errorf("writing down a certificate: %w", err)
	}
	hosts := slices.Clone(n.dns)
	for _, ip := range n.ips {
		hosts = append(hosts, ip.String())
	}
	return Certificate{
		Serial: serial, Chain: encodePEM(pemCertificate, leaf.Raw) + a.Signers[0].Chain, Bundle: a.bundle(), URI: n.uri.String(), DNSNames: hosts,
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, RenewAfter: now.Add(leaf.NotAfter.Sub(now) / 2).Truncate(time.Second),
	}, nil
}

// leafTemplate returns the template of a workload's certificate.
func leafTemplate(n names, name string, public crypto.PublicKey, now, until time.Time) *x509.Certificate {
	usage := x509.KeyUsageDigitalSignature
	if _, ok := public.(*rsa.PublicKey); ok {
		usage |= x509.KeyUsageKeyEncipherment
	}
	t := &x509.Certificate{
		NotBefore: now.Add(-backdated), NotAfter: until, KeyUsage: usage, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{n.uri}, DNSNames: n.dns, IPAddresses: n.ips,
	}
	if len(name) <= 64 { // more does not fit; the names that count are the alternative ones
		t.Subject = pkix.Name{CommonName: name}
	}
	return t
}

// refuses says why a workload gets no certificate, nil if it does.
func (a *authority) refuses(id mesh.ID, now time.Time) error {
	r, revoked := a.Workloads[id.Key.String()]
	if !revoked || !r.Until.IsZero() && now.After(r.Until) {
		return nil
	}
	until := "until it is restored"
	if !r.Until.IsZero() {
		until = "until " + r.Until.UTC().Format(time.RFC3339)
	}
	return mesh.Errorf(mesh.ErrForbidden, "%s of mesh %s was revoked at %s and gets no certificate %s", id.Key, a.mesh.Name, r.At.UTC().Format(time.RFC3339), until)
}

// renewPause is how long after a failure no new intermediate is asked for.
const renewPause = time.Minute

// renewed returns an authority with a new intermediate if the present one comes to its
// end, or as it is if it does not, or a new one cannot be had now.
func (s *Service) renewed(ctx context.Context, a *authority) *authority {
	now := s.now()
	if !a.due(now) {
		return a
	}
	s.mu.RLock()
	failed := s.failed[a.mesh]
	s.mu.RUnlock()
	if now.Sub(failed) < renewPause {
		return a
	}
	after := a.clone()
	err := s.replaceSigner(ctx, after)
	if err == nil {
		if after, err = s.write(ctx, a, after); err == nil {
			s.log.Info("intermediate renewed", "mesh", a.mesh.Name, "account", a.mesh.Account)
			return after
		}
	}
	if !errors.Is(err, store.ErrRevision) { // else another replica was faster
		s.mu.Lock()
		s.failed[a.mesh] = now
		s.mu.Unlock()
		s.log.Error("renewing an intermediate failed", "mesh", a.mesh.Name, "account", a.mesh.Account, "error", err)
	}
	return a
}

// due reports whether the last third of an intermediate's time has begun.
func (a *authority) due(now time.Time) bool {
	x := a.Signers[0]
	if x.Chain == "" { // it is the root: nobody can renew it
		return false
	}
	certs, err := parseCertificates(x.Certificate)
	if err != nil || len(certs) == 0 {
		return false
	}
	life := certs[0].NotAfter.Sub(certs[0].NotBefore)
	return now.After(certs[0].NotAfter.Add(-max(life/3, 2*time.Duration(a.LeafSeconds)*time.Second)))
}

// replaceSigner gives an authority a new intermediate below the root that signs now.
func (s *Service) replaceSigner(ctx context.Context, a *authority) error {
	anchor, ok := a.anchor(a.Signers[0].Anchor)
	if !ok {
		return fmt.Errorf("the root %s of what signs is missing", a.Signers[0].Anchor)
	}
	signer, err := s.newSigner(ctx, a.mesh, anchor)
	if err != nil {
		return err
	}
	a.use(signer, s.timestamp())
	return nil
}

// use has an authority sign with another signer from now on.
func (a *authority) use(next signerValue, now time.Time) {
	a.Signers[0].Until = a.lastLeaf(now)
	a.Signers = append([]signerValue{next}, a.Signers...)
}

// lastLeaf returns when the last certificate that was signed before now ends.
func (a *authority) lastLeaf(now time.Time) time.Time {
	end := now.Add(time.Duration(a.LeafSeconds) * time.Second)
	if end.Before(a.Longest) {
		end = a.Longest
	}
	return end.Add(time.Minute) // for clocks that differ
}

func (a *authority) anchor(id string) (anchorValue, bool) {
	for _, x := range a.Anchors {
		if x.ID == id {
			return x, true
		}
	}
	return anchorValue{}, false
}

// Issued is a certificate that was issued and has not expired.
type Issued struct {
	Serial, Resource, URI, Caller string
	NotBefore, NotAfter           time.Time
	// Revoked is set if it is in the list of revoked certificates.
	Revoked bool
}

// Issued returns the certificates of a mesh that have not expired, by resource and serial
// number. The caller needs fairlead:ListCertificates on the mesh, and be of its account.
func (s *Service) Issued(ctx context.Context, c store.Caller, m mesh.MeshID) ([]Issued, error) {
	if err := s.permit(ctx, c, "ListCertificates", m, false); err != nil {
		return nil, err
	}
	return s.issued(ctx, m, "")
}

// issued returns the certificates of a mesh, or of one workload of it (KIND/NAME).
func (s *Service) issued(ctx context.Context, m mesh.MeshID, resource string) ([]Issued, error) {
	prefix := issuedPrefix + meshPath(m) + "/"
	below := prefix
	if resource != "" {
		below += resource + "/"
	}
	records, err := s.store.Records(ctx, self, below)
	if err != nil {
		return nil, err
	}
	a, now := s.known(m), s.now()
	out := make([]Issued, 0, len(records))
	for _, rec := range records {
		name := strings.TrimPrefix(rec.Key, prefix)
		at := strings.LastIndexByte(name, '/')
		var v issuedValue
		if err := decodeRecord(rec.Value, &v); err != nil || at < 0 {
			s.log.Error("record of a certificate cannot be read", "record", rec.Key, "error", err)
			continue
		}
		if now.After(v.NotAfter) {
			continue
		}
		one := Issued{Serial: name[at+1:], Resource: name[:at], URI: v.URI, Caller: v.Caller, NotBefore: v.NotBefore, NotAfter: v.NotAfter}
		if a != nil {
			_, one.Revoked = a.Serials[one.Serial]
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b Issued) int {
		return cmp.Or(cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Serial, b.Serial))
	})
	return out, nil
}
