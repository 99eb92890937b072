package federation

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Bounds of settings.
const (
	MaxAudiences = 20
	MaxIssuer    = 255       // characters
	MaxAudience  = 255       // characters
	MaxAnchors   = 20        // certificates
	MaxPEM       = 64 << 10  // bytes of certificates
	MaxLists     = 256 << 10 // bytes of revocation lists
	MaxKeySet    = 64 << 10  // bytes
	MaxAccounts  = 100
	MaxEndpoints = 20
)

// Settings say whom a provider vouches for and how that is verified. Exactly one of the
// three is set.
type Settings struct {
	OIDC        *OIDC        `json:"oidc,omitempty"`
	Certificate *Certificate `json:"certificate,omitempty"`
	AWS         *AWS         `json:"aws,omitempty"`
}

// OIDC is an issuer of OpenID Connect tokens.
type OIDC struct {
	// Issuer is its URL, as tokens have it in iss.
	Issuer string `json:"issuer"`
	// Audiences are whom tokens must be meant for: one of them must be in aud.
	Audiences []string `json:"audiences"`
	// CA holds the roots that the issuer's TLS is verified with, PEM; "" for the system's.
	CA string `json:"ca,omitempty"`
	// KeySet is a JSON Web Key Set. With it the issuer is never asked.
	KeySet json.RawMessage `json:"keySet,omitempty"`
}

// Certificate is an authority of client certificates.
type Certificate struct {
	// Anchors are the certificates that chains must lead to, PEM.
	Anchors string `json:"anchors"`
	// Lists are revocation lists, PEM; "" for none. One counts for what its issuer signed,
	// also after the time at which it should have been replaced.
	Lists string `json:"lists,omitempty"`
}

// AWS is a set of AWS accounts.
type AWS struct {
	// Accounts are the accounts whose principals are accepted: twelve digits each.
	Accounts []string `json:"accounts"`
	// Regions are those whose STS may be asked; none for all.
	Regions []string `json:"regions,omitempty"`
	// Endpoints are URLs of STS to be asked in place of AWS's own.
	Endpoints []string `json:"endpoints,omitempty"`
}

// Provider is what Settings say, read and checked once. It does not change.
type Provider struct {
	settings Settings
	name     string // in ARNs
	caHash   string // of OIDC: tells roots apart
	roots    *x509.CertPool
	keys     *staticKeys // of OIDC: nil if the issuer is asked
	lists    []revocationList
}

// Name returns the provider's name in ARNs, without the account's part.
func (p *Provider) Name() string { return p.name }

// Settings returns what the provider was made of.
func (p *Provider) Settings() Settings { return p.settings }

// Parse reads a provider's settings. name is the name that its account gave it. The
// error is one line that says which setting is wrong and what is allowed.
func (v *Verifier) Parse(name string, s Settings) (*Provider, error) {
	return parse(name, s, v.allowLoopback)
}

func parse(name string, s Settings, allowLoopback bool) (*Provider, error) {
	p := &Provider{settings: s}
	n := 0
	for _, given := range []bool{s.OIDC != nil, s.Certificate != nil, s.AWS != nil} {
		if given {
			n++
		}
	}
	if n != 1 {
		return nil, fmt.Errorf("%d of oidc, certificate and aws are given, allowed is exactly one", n)
	}
	var err error
	switch {
	case s.OIDC != nil:
		err = p.parseOIDC(s.OIDC, allowLoopback)
	case s.Certificate != nil:
		p.name = "certificate-provider/" + name
		err = p.parseCertificate(s.Certificate)
	default:
		p.name = "aws-provider/" + name
		err = parseAWS(s.AWS, allowLoopback)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Provider) parseOIDC(o *OIDC, allowLoopback bool) error {
	u, err := checkURL(o.Issuer, allowLoopback)
	if err != nil || len(o.Issuer) > MaxIssuer {
		return fmt.Errorf("oidc.issuer is %q, allowed is a URL as tokens have it in iss: https://HOST[:PORT][/PATH], %d characters at most, "+
			"without user, query and fragment", clip(o.Issuer), MaxIssuer)
	}
	p.name = "oidc-provider/" + u.Host + u.Path
	if len(o.Audiences) == 0 || len(o.Audiences) > MaxAudiences {
		return fmt.Errorf("oidc.audiences has %d members, allowed are 1 to %d", len(o.Audiences), MaxAudiences)
	}
	for _, a := range o.Audiences {
		if a == "" || len(a) > MaxAudience || strings.ContainsFunc(a, unprintable) {
			return fmt.Errorf("oidc.audiences has %q, allowed are 1 to %d printable characters", clip(a), MaxAudience)
		}
	}
	if o.CA != "" {
		if p.roots, err = readRoots("oidc.caCertificate", o.CA); err != nil {
			return err
		}
		p.caHash = hash(o.CA)
	}
	if len(o.KeySet) > 0 {
		if p.keys, err = readStaticKeys(o.KeySet); err != nil {
			return fmt.Errorf("oidc.keySet %w", err)
		}
	}
	return nil
}

// checkURL reads the URL of something that may be asked.
func checkURL(s string, allowLoopback bool) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || strings.ContainsFunc(s, unprintable) || strings.ContainsAny(s, " \"<>\\^`{|}%"):
		return nil, errors.New("it cannot be read")
	case u.Hostname() == "" || u.User != nil || strings.ContainsAny(s, "?#") || u.Opaque != "" || u.Host != strings.ToLower(u.Host):
		return nil, errors.New("it has more or less than a scheme, a host and a path")
	case strings.Contains(u.Path, "//") || strings.Contains(u.Path, "/."):
		return nil, errors.New("its path is not in its normal form")
	case u.Scheme == "https":
		return u, nil
	}
	if ip, err := netip.ParseAddr(u.Hostname()); u.Scheme == "http" && allowLoopback && err == nil && ip.IsLoopback() {
		return u, nil
	}
	return nil, errors.New("it is not https")
}

// readRoots reads certificates in PEM into a pool.
func readRoots(field, text string) (*x509.CertPool, error) {
	certs, err := readCertificates(field, text)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}

// readCertificates reads 1 to MaxAnchors certificates in PEM, and nothing else.
func readCertificates(field, text string) ([]*x509.Certificate, error) {
	if len(text) > MaxPEM {
		return nil, fmt.Errorf("%s has %d bytes, allowed are %d", field, len(text), MaxPEM)
	}
	var certs []*x509.Certificate
	err := blocks(text, "CERTIFICATE", func(der []byte) error {
		c, err := x509.ParseCertificate(der)
		certs = append(certs, c)
		return err
	})
	if err != nil || len(certs) == 0 || len(certs) > MaxAnchors {
		return nil, fmt.Errorf("%s is not 1 to %d certificates in PEM, with nothing in between (%d were read)", field, MaxAnchors, len(certs))
	}
	return certs, nil
}

// blocks calls do for each block of PEM, all of which must be of a kind.
func blocks(text, kind string, do func(der []byte) error) error {
	rest := []byte(text)
	for {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type != kind {
			return fmt.Errorf("it has a block of type %q", clip(b.Type))
		}
		if err := do(b.Bytes); err != nil {
			return err
		}
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return errors.New("it has something else behind the last block")
	}
	return nil
}

var (
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	regionForm  = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$`)
)

func parseAWS(a *AWS, allowLoopback bool) error {
	if len(a.Accounts) == 0 || len(a.Accounts) > MaxAccounts {
		return fmt.Errorf("aws.accountIds has %d members, allowed are 1 to %d", len(a.Accounts), MaxAccounts)
	}
	for _, id := range a.Accounts {
		if !accountForm.MatchString(id) {
			return fmt.Errorf("aws.accountIds has %q, allowed are twelve digits", clip(id))
		}
	}
	if len(a.Regions) > MaxEndpoints || len(a.Endpoints) > MaxEndpoints {
		return fmt.Errorf("aws.regions and aws.endpoints have %d and %d members, allowed are %d at most", len(a.Regions), len(a.Endpoints), MaxEndpoints)
	}
	if len(a.Regions) > 0 && len(a.Endpoints) > 0 {
		return errors.New("aws.regions and aws.endpoints are both given, allowed is one of them")
	}
	for _, r := range a.Regions {
		if !regionForm.MatchString(r) {
			return fmt.Errorf("aws.regions has %q, allowed are names of regions, for example eu-west-1", clip(r))
		}
	}
	for _, e := range a.Endpoints {
		u, err := checkURL(e, allowLoopback)
		if err != nil || len(e) > MaxIssuer || strings.Trim(u.Path, "/") != "" {
			return fmt.Errorf("aws.endpoints has %q, allowed are URLs without a path: https://HOST[:PORT]", clip(e))
		}
	}
	return nil
}

// stsHost is the form of the names that AWS's own STS has: the global one, a region's,
// that with FIPS, and the one with IPv6.
var stsHost = regexp.MustCompile(`^sts(?:-fips)?(?:\.([a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}))?\.(?:amazonaws\.com|amazonaws\.com\.cn|api\.aws)$`)

// globalRegion is where AWS's STS without a region is.
const globalRegion = "us-east-1"

// asks reports whether STS at a URL may be asked.
func (a *AWS) asks(u *url.URL) bool {
	origin := u.Scheme + "://" + u.Host
	if len(a.Endpoints) > 0 {
		return slices.ContainsFunc(a.Endpoints, func(e string) bool { return strings.TrimSuffix(e, "/") == origin })
	}
	m := stsHost.FindStringSubmatch(u.Host)
	if m == nil || u.Scheme != "https" {
		return false
	}
	region := m[1]
	if region == "" {
		region = globalRegion
	}
	return len(a.Regions) == 0 || slices.Contains(a.Regions, region)
}

func unprintable(r rune) bool {
	return r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' || r == 0xFFFD
}

// clip shortens what somebody sent for a message.
func clip(s string) string {
	const most = 100
	if len(s) <= most {
		return strings.ToValidUTF8(s, "")
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
