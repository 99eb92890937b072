package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Root says which root an authority is to have: one that Fairlead makes if it is zero.
type Root struct {
	// Certificate is that of an authority that is imported, in PEM form; those of its chain
	// may follow it. The mesh trusts the first: an intermediate of the mesh's own keeps out
	// what else its root has signed. PrivateKey is its key, in PEM form.
	Certificate, PrivateKey string
	// Vault is where the root is in HashiCorp Vault; nil if it is not.
	Vault *Vault
}

// Bounds and default of how long certificates are valid.
const (
	MinLeaf     = 5 * time.Minute
	MaxLeaf     = 24 * time.Hour
	DefaultLeaf = time.Hour
)

// newAuthority returns the authority that a mesh without one gets.
func (s *Service) newAuthority(ctx context.Context, m mesh.MeshID, uid string, root Root) (*authority, error) {
	anchor, signer, err := s.newRoot(ctx, m, root)
	if err != nil {
		return nil, err
	}
	return &authority{mesh: m, authorityValue: authorityValue{
		Created: s.timestamp(), MeshUID: uid, LeafSeconds: int64(DefaultLeaf / time.Second),
		Anchors: []anchorValue{anchor}, Signers: []signerValue{signer},
	}}, nil
}

// newRoot returns a root, and what signs below it.
func (s *Service) newRoot(ctx context.Context, m mesh.MeshID, root Root) (anchorValue, signerValue, error) {
	var anchor anchorValue
	var err error
	switch {
	case root.Vault != nil && (root.Certificate != "" || root.PrivateKey != ""):
		return anchor, signerValue{}, mesh.Errorf(mesh.ErrBadRequest, "vault and certificate exclude each other")
	case root.Vault != nil:
		return s.newVaultRoot(ctx, m, root.Vault)
	case root.Certificate != "" || root.PrivateKey != "":
		anchor, err = s.importRoot(root)
	default:
		anchor, err = s.makeRoot(m)
	}
	if err != nil {
		return anchor, signerValue{}, err
	}
	signer, err := s.newSigner(ctx, m, anchor)
	return anchor, signer, err
}

func (s *Service) makeRoot(m mesh.MeshID) (anchorValue, error) {
	root, err := newRoot("mesh "+m.Name+" of "+m.Account, s.now())
	if err != nil {
		return anchorValue{}, err
	}
	return s.anchor(root, SourceMade)
}

// anchor returns a root as it is kept.
func (s *Service) anchor(root pair, source string) (anchorValue, error) {
	sealed, err := s.sealKey(root.key)
	return anchorValue{
		ID: keyID(root.cert), Certificate: encodePEM(pemCertificate, root.cert.Raw), Source: source, Since: s.timestamp(), Sealed: sealed,
	}, err
}

func (s *Service) importRoot(root Root) (anchorValue, error) {
	refuse := func(format string, args ...any) (anchorValue, error) {
		return anchorValue{}, mesh.Errorf(mesh.ErrBadRequest, format, args...)
	}
	chain, err := parseCertificates(root.Certificate)
	if err != nil {
		return refuse("certificate %v", err)
	}
	if len(chain) == 0 {
		return refuse("certificate is required with privateKey")
	}
	key, err := parseKey(root.PrivateKey)
	if err != nil {
		return refuse("privateKey %v", err)
	}
	if err := s.checkAuthority(chain[0]); err != nil {
		return refuse("certificate: %v", err)
	}
	for i, c := range chain[:len(chain)-1] {
		if err := c.CheckSignatureFrom(chain[i+1]); err != nil {
			return refuse("certificate: the one in place %d is not signed by the next: give the signing authority first, then its chain", i+1)
		}
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(chain[0].PublicKey) {
		return refuse("privateKey does not belong to the first certificate")
	}
	return s.anchor(pair{chain[0], key}, SourceImported)
}

// checkAuthority says why a certificate is none that can sign for a mesh.
func (s *Service) checkAuthority(c *x509.Certificate) error {
	now := s.now()
	switch {
	case !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("it is not that of an authority: it may not sign certificates")
	case now.Before(c.NotBefore):
		return fmt.Errorf("it is not valid before %s", c.NotBefore.UTC().Format(time.RFC3339))
	case now.Add(MaxLeaf).After(c.NotAfter):
		return fmt.Errorf("it ends at %s, needed is more than a day", c.NotAfter.UTC().Format(time.RFC3339))
	}
	return checkKey(c.PublicKey)
}

// newSigner returns a new intermediate below a root, or what was imported to sign itself.
func (s *Service) newSigner(ctx context.Context, m mesh.MeshID, a anchorValue) (signerValue, error) {
	if a.Source == SourceVault {
		return s.newVaultSigner(ctx, m, a)
	}
	root, err := s.pair(a.Certificate, a.Sealed)
	if err != nil {
		return signerValue{}, err
	}
	signer := root
	if !root.cert.MaxPathLenZero {
		if signer, err = newIntermediate(root, intermediateName(m), s.now()); err != nil {
			return signerValue{}, err
		}
	}
	return s.signer(a, signer)
}

func intermediateName(m mesh.MeshID) string { return "mesh " + m.Name + " intermediate" }

// signer returns what signs below a root as it is kept, once it has shown that what it
// signs is trusted.
func (s *Service) signer(a anchorValue, p pair) (signerValue, error) {
	v := signerValue{Anchor: a.ID, Certificate: encodePEM(pemCertificate, p.cert.Raw), Since: s.timestamp()}
	if keyID(p.cert) != a.ID {
		v.Chain = v.Certificate
	}
	if err := s.tryOut(a, p); err != nil {
		return v, err
	}
	var err error
	v.Sealed, err = s.sealKey(p.key)
	return v, err
}

// tryOut signs a certificate and verifies it as a peer does: the authority's certificate
// may have constraints that no certificate of this server fulfils.
func (s *Service) tryOut(a anchorValue, p pair) error {
	anchors, err := parseCertificates(a.Certificate)
	if err != nil {
		return fmt.Errorf("reading a root: %w", err)
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	n := names{uri: &url.URL{Scheme: "spiffe", Host: s.trustDomain, Path: "/trial"}}
	leaf, err := p.sign(leafTemplate(n, "trial", key.Public(), s.now(), s.now().Add(MinLeaf)), key.Public())
	if err != nil {
		return err
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(anchors[0])
	between.AddCert(p.cert)
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: s.now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return mesh.Errorf(mesh.ErrBadRequest, "what the authority signs for trust domain %s would not be trusted: %v", s.trustDomain, err)
	}
	return nil
}

// sealKey returns a private key as it is kept.
func (s *Service) sealKey(key crypto.Signer) ([]byte, error) {
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("keeping a private key: %w", err)
	}
	return s.store.Seal(raw)
}

// pair reads a certificate and its key as they are kept.
func (s *Service) pair(certificate string, sealed []byte) (pair, error) {
	certs, err := parseCertificates(certificate)
	if err != nil || len(certs) == 0 {
		return pair{}, fmt.Errorf("reading an authority's certificate: %w", err)
	}
	raw, err := s.store.Unseal(sealed)
	if err != nil {
		return pair{}, fmt.Errorf("reading an authority's key: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(raw)
	if err != nil {
		return pair{}, fmt.Errorf("reading an authority's key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return pair{}, fmt.Errorf("reading an authority's key: a %T cannot sign", key)
	}
	return pair{certs[0], signer}, nil
}

// newVaultRoot asks Vault for a first intermediate, and so for the certificate of the
// authority that signs there.
func (s *Service) newVaultRoot(ctx context.Context, m mesh.MeshID, v *Vault) (anchorValue, signerValue, error) {
	if err := s.checkVault(v); err != nil {
		return anchorValue{}, signerValue{}, err
	}
	p, issuer, err := s.askVault(ctx, m, v)
	if err != nil {
		return anchorValue{}, signerValue{}, err
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return anchorValue{}, signerValue{}, fmt.Errorf("keeping how Vault is asked: %w", err)
	}
	sealed, err := s.store.Seal(raw)
	if err != nil {
		return anchorValue{}, signerValue{}, err
	}
	a := anchorValue{
		ID: keyID(issuer), Certificate: encodePEM(pemCertificate, issuer.Raw), Source: SourceVault, Since: s.timestamp(), SealedVault: sealed,
	}
	signer, err := s.signer(a, p)
	return a, signer, err
}

// newVaultSigner asks Vault for another intermediate.
func (s *Service) newVaultSigner(ctx context.Context, m mesh.MeshID, a anchorValue) (signerValue, error) {
	v, err := s.vaultOf(a)
	if err != nil {
		return signerValue{}, err
	}
	if err := s.checkVault(v); err != nil {
		return signerValue{}, err
	}
	p, issuer, err := s.askVault(ctx, m, v)
	if err != nil {
		return signerValue{}, err
	}
	if anchors, err := parseCertificates(a.Certificate); err != nil || !bytes.Equal(anchors[0].RawSubjectPublicKeyInfo, issuer.RawSubjectPublicKeyInfo) {
		return signerValue{}, mesh.Errorf(mesh.ErrConflict, "Vault at %s, mount %s, signs with another authority than the mesh trusts: replace the mesh's root, beginning with AddRoot", v.Address, v.Mount)
	}
	return s.signer(a, p)
}

// vaultOf reads how Vault is asked for a root.
func (s *Service) vaultOf(a anchorValue) (*Vault, error) {
	raw, err := s.store.Unseal(a.SealedVault)
	if err != nil {
		return nil, fmt.Errorf("reading how Vault is asked: %w", err)
	}
	v := new(Vault)
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, fmt.Errorf("reading how Vault is asked: %w", err)
	}
	return v, nil
}

// shortReason bounds what a caller gives as a reason.
func shortReason(s string) string { return clip(strings.TrimSpace(s), 128) }
