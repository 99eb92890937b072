package ca

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// maxRevoked bounds how many workloads, and how many certificates, of a mesh are revoked at
// once: every proxy of the mesh is given the list, and all is in one record, of which etcd
// takes 1.5 MiB.
const maxRevoked = 1000

// Revocation says that a workload gets no certificates, or that a certificate is not to be
// trusted any more.
type Revocation struct {
	// Resource is the workload, KIND/NAME.
	Resource string
	// Serial is the certificate's; "" for the workload itself.
	Serial     string
	At         time.Time
	Until      time.Time // zero: until it is lifted
	Reason, By string
}

// CheckResource reads what names a workload: "virtualNode/NAME" or "virtualGateway/NAME".
func CheckResource(m mesh.MeshID, resource string) (mesh.ID, error) {
	word, name, _ := strings.Cut(resource, "/")
	for _, k := range []mesh.Kind{mesh.KindVirtualNode, mesh.KindVirtualGateway} {
		if word == k.String() && mesh.CheckName(k, name) == nil {
			return m.Object(k, "", name), nil
		}
	}
	return mesh.ID{}, mesh.Errorf(mesh.ErrBadRequest, "resource must be virtualNode/NAME or virtualGateway/NAME, %q was given", clip(resource, 300))
}

// RevokeWorkload refuses a workload certificates until a time, or with the zero time until
// it is restored. With listed the certificates that it has are put on the list of revoked
// ones, so that its peers refuse it at once; else they are good until they expire. The
// caller needs fairlead:RevokeWorkload on the mesh.
func (s *Service) RevokeWorkload(ctx context.Context, c store.Caller, m mesh.MeshID, resource, reason string, until time.Time, listed bool) (Revocation, error) {
	if err := s.permit(ctx, c, "RevokeWorkload", m, false); err != nil {
		return Revocation{}, err
	}
	id, err := CheckResource(m, resource)
	if err != nil {
		return Revocation{}, err
	}
	now := s.timestamp()
	if !until.IsZero() && !until.After(now) {
		return Revocation{}, mesh.Errorf(mesh.ErrBadRequest, "until is %s, allowed is a time to come", until.UTC().Format(time.RFC3339))
	}
	name := id.Key.String()
	r := workloadRevocation{At: now, Until: until.UTC(), Reason: shortReason(reason), By: c.ARN}
	_, err = s.alter(ctx, m, func(a *authority) error {
		if _, again := a.Workloads[name]; !again && len(a.Workloads) >= maxRevoked {
			return mesh.Errorf(mesh.ErrLimitExceeded, "%d workloads of mesh %s are revoked, allowed are %d", len(a.Workloads), m.Name, maxRevoked)
		}
		a.Workloads[name] = r
		return nil
	})
	if err != nil {
		return Revocation{}, err
	}
	if listed { // no other can be issued now
		err = s.revoke(ctx, m, r, func() ([]Issued, error) { return s.issued(ctx, m, name) })
	}
	return Revocation{Resource: name, At: r.At, Until: r.Until, Reason: r.Reason, By: r.By}, err
}

// RestoreWorkload lets a workload have certificates again. What is on the list of revoked
// ones stays there. The caller needs fairlead:RevokeWorkload on the mesh.
func (s *Service) RestoreWorkload(ctx context.Context, c store.Caller, m mesh.MeshID, resource string) error {
	if err := s.permit(ctx, c, "RevokeWorkload", m, false); err != nil {
		return err
	}
	id, err := CheckResource(m, resource)
	if err != nil {
		return err
	}
	if _, err := s.mustHave(ctx, m); err != nil {
		return err
	}
	_, err = s.alter(ctx, m, func(a *authority) error {
		if _, ok := a.Workloads[id.Key.String()]; !ok {
			return mesh.Errorf(mesh.ErrNotFound, "%s of mesh %s is not revoked", id.Key, m.Name)
		}
		delete(a.Workloads, id.Key.String())
		return nil
	})
	return err
}

// RevokeCertificate puts a certificate that has not expired on the list of revoked ones,
// which every proxy of the mesh is given at once. Its workload can have another. The caller
// needs fairlead:RevokeCertificate on the mesh.
func (s *Service) RevokeCertificate(ctx context.Context, c store.Caller, m mesh.MeshID, serial, reason string) (Revocation, error) {
	if err := s.permit(ctx, c, "RevokeCertificate", m, false); err != nil {
		return Revocation{}, err
	}
	serial = strings.TrimLeft(strings.ToLower(strings.ReplaceAll(serial, ":", "")), "0")
	r := workloadRevocation{At: s.timestamp(), Reason: shortReason(reason), By: c.ARN}
	out := Revocation{Serial: serial, At: r.At, Reason: r.Reason, By: r.By}
	err := s.revoke(ctx, m, r, func() ([]Issued, error) {
		all, err := s.issued(ctx, m, "")
		if err != nil {
			return nil, err
		}
		for _, x := range all {
			if strings.TrimLeft(x.Serial, "0") == serial {
				out.Serial, out.Resource, out.Until = x.Serial, x.Resource, x.NotAfter
				return []Issued{x}, nil
			}
		}
		return nil, mesh.Errorf(mesh.ErrNotFound, "mesh %s has no certificate with serial number %q that has not expired", m.Name, clip(serial, 60))
	})
	return out, err
}

// revoke puts certificates on the list.
func (s *Service) revoke(ctx context.Context, m mesh.MeshID, r workloadRevocation, which func() ([]Issued, error)) error {
	all, err := which()
	if err != nil || len(all) == 0 {
		return err
	}
	_, err = s.alter(ctx, m, func(a *authority) error {
		for _, x := range all {
			if _, again := a.Serials[x.Serial]; again {
				continue // it stays as it was revoked first
			}
			a.Serials[x.Serial] = serialRevocation{At: r.At, Reason: r.Reason, By: r.By, Resource: x.Resource, Until: x.NotAfter}
		}
		if len(a.Serials) > maxRevoked {
			return mesh.Errorf(mesh.ErrLimitExceeded, "%d certificates of mesh %s would be on the list of revoked ones, allowed are %d: replace its root instead", len(a.Serials), m.Name, maxRevoked)
		}
		return nil
	})
	return err
}

// Revocations returns what is revoked in a mesh, workloads and certificates, in the order
// of resources and serial numbers. The caller needs fairlead:ListRevocations on the mesh.
func (s *Service) Revocations(ctx context.Context, c store.Caller, m mesh.MeshID) ([]Revocation, error) {
	if err := s.permit(ctx, c, "ListRevocations", m, false); err != nil {
		return nil, err
	}
	a, _, _, err := s.current(ctx, m, false)
	if err != nil || a == nil {
		return nil, err
	}
	now := s.now()
	var out []Revocation
	for name, r := range a.Workloads {
		if r.Until.IsZero() || now.Before(r.Until) {
			out = append(out, Revocation{Resource: name, At: r.At, Until: r.Until, Reason: r.Reason, By: r.By})
		}
	}
	for serial, r := range a.Serials {
		if now.Before(r.Until) {
			out = append(out, Revocation{Resource: r.Resource, Serial: serial, At: r.At, Until: r.Until, Reason: r.Reason, By: r.By})
		}
	}
	slices.SortFunc(out, func(a, b Revocation) int {
		return strings.Compare(a.Resource+"\x00"+a.Serial, b.Resource+"\x00"+b.Serial)
	})
	return out, nil
}

// list makes the lists of revoked certificates anew, if what they say has changed: one of
// each signer, for Envoy wants one of every issuer as soon as there is any.
func (s *Service) list(a *authority) error {
	signers := a.Signers
	if a.Next != nil {
		signers = append(slices.Clone(signers), *a.Next)
	}
	serials := slices.Sorted(maps.Keys(a.Serials))
	h := sha256.New()
	for _, x := range signers {
		fmt.Fprintln(h, x.Certificate)
	}
	fmt.Fprintln(h, serials)
	of := hex.EncodeToString(h.Sum(nil)[:16])
	switch {
	case len(serials) == 0:
		a.CRLs, a.CRLOf = nil, ""
		return nil
	case of == a.CRLOf:
		return nil
	}
	a.CRLs, a.CRLOf = nil, of
	a.CRLNumber++
	for _, x := range signers {
		p, err := s.pair(x.Certificate, x.Sealed)
		if err != nil {
			return err
		}
		crl, err := s.signList(p, a, serials)
		if err != nil {
			return err
		}
		a.CRLs = append(a.CRLs, crl)
	}
	return nil
}

// signList has a signer sign the list. It is good until the signer's end: it is replaced
// long before, but a proxy that is cut off from the control plane goes on with the one that
// it has, and would refuse everybody once it had expired.
func (s *Service) signList(p pair, a *authority, serials []string) (string, error) {
	if p.cert.KeyUsage != 0 && p.cert.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return "", mesh.Errorf(mesh.ErrConflict, "what signs for mesh %s may not sign lists of revoked certificates (key usage CRL Sign)", a.mesh.Name)
	}
	template := &x509.RevocationList{
		Number: big.NewInt(a.CRLNumber), ThisUpdate: s.now().Add(-backdated), NextUpdate: p.cert.NotAfter,
	}
	for _, serial := range serials {
		n, ok := new(big.Int).SetString(serial, 16)
		if !ok {
			return "", fmt.Errorf("listing a revoked certificate: %q is no serial number", serial)
		}
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: n, RevocationTime: a.Serials[serial].At,
		})
	}
	issuer := *p.cert
	issuer.KeyUsage |= x509.KeyUsageCRLSign // absent is any
	der, err := x509.CreateRevocationList(rand.Reader, template, &issuer, p.key)
	if err != nil {
		return "", fmt.Errorf("signing a list of revoked certificates: %w", err)
	}
	return encodePEM(pemCRL, der), nil
}

// raced reports whether a change was refused because somebody else was quicker.
func raced(err error) bool { return errors.Is(err, store.ErrRevision) }
