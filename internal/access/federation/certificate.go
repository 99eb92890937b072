package federation

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"strings"
)

// revocationList is a list of revoked certificates.
type revocationList struct {
	list    *x509.RevocationList
	serials map[string]struct{}
}

func (p *Provider) parseCertificate(c *Certificate) error {
	var err error
	if p.roots, err = readRoots("certificate.trustAnchors", c.Anchors); err != nil {
		return err
	}
	if len(c.Lists) > MaxLists {
		return fmt.Errorf("certificate.revocationLists has %d bytes, allowed are %d", len(c.Lists), MaxLists)
	}
	err = blocks(c.Lists, "X509 CRL", func(der []byte) error {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return err
		}
		l := revocationList{list: list, serials: make(map[string]struct{}, len(list.RevokedCertificateEntries))}
		for _, e := range list.RevokedCertificateEntries {
			l.serials[e.SerialNumber.String()] = struct{}{}
		}
		p.lists = append(p.lists, l)
		return nil
	})
	if err != nil || c.Lists != "" && len(p.lists) == 0 {
		return fmt.Errorf("certificate.revocationLists is not revocation lists in PEM (X509 CRL), with nothing in between")
	}
	return nil
}

// Certificate verifies the chain of a TLS client: that it leads to one of the provider's
// anchors, that all of it is valid now and meant for clients, and that none of it has been
// revoked. chain is what the client sent, its own certificate first; the handshake has
// shown that it has the key. The errors are *Error.
func (v *Verifier) Certificate(p *Provider, chain []*x509.Certificate) (Subject, error) {
	if p.settings.Certificate == nil || len(chain) == 0 {
		return Subject{}, refuse(Malformed, "the connection has no client certificate")
	}
	leaf := chain[0]
	now := v.now()
	if now.After(leaf.NotAfter) {
		return Subject{}, refuse(Expired, "the client certificate has expired")
	}
	if leaf.IsCA || leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return Subject{}, refuse(Invalid, "the client certificate is not meant for signing as a client: it is an authority's, or its key usage lacks digitalSignature")
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	paths, err := leaf.Verify(x509.VerifyOptions{
		Roots: p.roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return Subject{}, refuse(Invalid, "the client certificate does not lead to a trust anchor, is not valid yet, or is not meant for clients")
	}
	if !slices.ContainsFunc(paths, p.unrevoked) {
		return Subject{}, refuse(Invalid, "the client certificate, or one that it was issued by, has been revoked")
	}
	return p.certificateSubject(leaf), nil
}

// unrevoked reports whether none of a path from a certificate to an anchor is revoked.
func (p *Provider) unrevoked(path []*x509.Certificate) bool {
	for i := range len(path) - 1 {
		issuer := path[i+1]
		for _, l := range p.lists {
			if _, revoked := l.serials[path[i].SerialNumber.String()]; revoked &&
				bytes.Equal(l.list.RawIssuer, issuer.RawSubject) && l.list.CheckSignatureFrom(issuer) == nil {
				return false
			}
		}
	}
	return true
}

// certificateSubject says what a certificate says of its holder, under the names that
// AWS's IAM Roles Anywhere gives it.
func (p *Provider) certificateSubject(c *x509.Certificate) Subject {
	s := Subject{Provider: p.name, Claims: map[string][]string{}}
	add := func(name string, values ...string) {
		for _, v := range values {
			if v != "" && !strings.ContainsFunc(v, unprintable) {
				s.Claims["x509"+name] = append(s.Claims["x509"+name], v)
			}
		}
	}
	addName := func(prefix string, n *pkix.Name) {
		add(prefix+"/CN", n.CommonName)
		add(prefix+"/O", n.Organization...)
		add(prefix+"/OU", n.OrganizationalUnit...)
		add(prefix+"/C", n.Country...)
		add(prefix+"/L", n.Locality...)
		add(prefix+"/ST", n.Province...)
	}
	addName("Subject", &c.Subject)
	addName("Issuer", &c.Issuer)
	add("SAN/DNS", c.DNSNames...)
	add("SAN/Email", c.EmailAddresses...)
	for _, u := range c.URIs {
		add("SAN/URI", u.String())
	}
	for _, ip := range c.IPAddresses {
		add("SAN/IP", ip.String())
	}
	add("Serial", fmt.Sprintf("%x", c.SerialNumber))
	for _, name := range []string{"x509SAN/URI", "x509Subject/CN", "x509SAN/DNS", "x509Serial"} {
		if values := s.Claims[name]; len(values) > 0 {
			s.Name = values[0]
			break
		}
	}
	return s
}
