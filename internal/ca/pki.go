package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// How long what is made is valid.
const (
	rootLife         = 10 * 365 * 24 * time.Hour
	intermediateLife = 90 * 24 * time.Hour
	// backdated is how much earlier than now certificates begin, for clocks that are slow.
	backdated = 5 * time.Minute
)

const (
	pemCertificate = "CERTIFICATE"
	pemRequest     = "CERTIFICATE REQUEST"
	pemCRL         = "X509 CRL"
)

func encodePEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// newSerial returns a random serial number of 16 bytes: positive, and never shorter.
func newSerial() (*big.Int, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	b[0] = b[0]&0x3f | 0x40
	return new(big.Int).SetBytes(b[:]), nil
}

// serialText spells a serial number as all of Fairlead does: lower-case hexadecimal digits.
func serialText(n *big.Int) string { return hex.EncodeToString(n.Bytes()) }

// keyID tells public keys apart: the first half of the SHA-256 of what a certificate
// says of the key.
func keyID(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:16])
}

// newKey makes a private key of an authority.
func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return key, nil
}

// pair is a certificate of an authority and its private key.
type pair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// sign has the pair sign a certificate. Without a key of its own the template is signed
// by itself with key.
func (p pair) sign(template *x509.Certificate, public crypto.PublicKey) (*x509.Certificate, error) {
	var err error
	if template.SerialNumber, err = newSerial(); err != nil {
		return nil, err
	}
	parent := p.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, p.key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// newRoot makes a root.
func newRoot(name string, now time.Time) (pair, error) {
	key, err := newKey()
	if err != nil {
		return pair{}, err
	}
	cert, err := pair{key: key}.sign(authorityTemplate(name, 1, now, now.Add(rootLife)), key.Public())
	return pair{cert, key}, err
}

// authorityTemplate returns the template of an authority below which there are at most
// below others.
func authorityTemplate(name string, below int, now, until time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:   pkix.Name{CommonName: clip(name, 64)},
		NotBefore: now.Add(-backdated), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: below, MaxPathLenZero: below == 0,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// newIntermediate makes an intermediate below a root.
func newIntermediate(root pair, name string, now time.Time) (pair, error) {
	key, err := newKey()
	if err != nil {
		return pair{}, err
	}
	until := now.Add(intermediateLife)
	if until.After(root.cert.NotAfter) {
		until = root.cert.NotAfter
	}
	cert, err := root.sign(authorityTemplate(name, 0, now, until), key.Public())
	return pair{cert, key}, err
}

func clip(s string, most int) string {
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "")
	}
	return s
}

// parseCertificates reads PEM text that holds certificates and nothing else.
func parseCertificates(text string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	rest := []byte(text)
	for len(strings.TrimSpace(string(rest))) > 0 {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return nil, errors.New("is not PEM text")
		}
		if block.Type != pemCertificate {
			return nil, fmt.Errorf("holds a %q, allowed are certificates", clip(block.Type, 40))
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("holds a certificate that cannot be read: %w", err)
		}
		out = append(out, c)
	}
	return out, nil
}

// parseKey reads a private key in PEM form: PKCS #8, SEC 1 or PKCS #1. The error says
// nothing of what the text holds.
func parseKey(text string) (crypto.Signer, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, errors.New("is not one private key in PEM form")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("is encrypted: give it without a passphrase")
	default:
		return nil, errors.New("is not a private key in PEM form (PKCS #8, SEC 1 or PKCS #1)")
	}
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, errors.New("is a private key that cannot be read")
	}
	return signer, nil
}

// checkKey refuses public keys that Envoy cannot use, or that are too weak or too slow.
func checkKey(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
		return fmt.Errorf("its key is of curve %s, allowed are ECDSA with P-256 or P-384 and RSA with 2048 to 4096 bits", k.Curve.Params().Name)
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 4096 {
			return fmt.Errorf("its RSA key has %d bits, allowed are 2048 to 4096, and ECDSA with P-256 or P-384", n)
		}
		return nil
	}
	return errors.New("its key is of a kind that Envoy cannot use, allowed are ECDSA with P-256 or P-384 and RSA with 2048 to 4096 bits")
}

// ParseRequest reads a certificate signing request in PEM form and checks its signature
// and key. What names and extensions it asks for is not looked at. The error says in one
// line what is wrong.
func ParseRequest(text string) (crypto.PublicKey, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, errors.New("it is not one certificate request in PEM form")
	}
	if block.Type != pemRequest && block.Type != "NEW "+pemRequest {
		return nil, fmt.Errorf("it holds a %q, allowed is a %q", clip(block.Type, 40), pemRequest)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, errors.New("it is a certificate request that cannot be read")
	}
	if err := checkKey(csr.PublicKey); err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, errors.New("its signature does not hold: whoever made it does not have the key")
	}
	return csr.PublicKey, nil
}
