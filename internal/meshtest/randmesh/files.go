package randmesh

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Files are the certificates that meshes name.
type Files struct {
	// Secrets is what a workload's own source of secrets has, as PEM text, by the names of
	// the secrets: certificates with their keys, and what to trust alone.
	Secrets map[string]Secret
}

// Secret is a certificate and its key, or, without a key, a certificate to trust.
type Secret struct{ Certificate, Key []byte }

// WriteFiles makes the certificates that meshes with this folder name, and writes them.
func WriteFiles(dir string) (*Files, error) {
	f := &Files{Secrets: map[string]Secret{}}
	for i := range secrets {
		ca, cert, err := issue()
		if err != nil {
			return nil, fmt.Errorf("making certificates: %w", err)
		}
		f.Secrets[fmt.Sprintf("trust-%d", i)] = ca
		f.Secrets[fmt.Sprintf("certificate-%d", i)] = cert
		for name, text := range map[string][]byte{"ca": ca.Certificate, "certificate": cert.Certificate, "key": cert.Key} {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d.pem", name, i)), text, 0o600); err != nil {
				return nil, fmt.Errorf("writing certificates: %w", err)
			}
		}
	}
	return f, nil
}

// issue makes an authority, and a certificate that it has signed.
func issue() (ca, cert Secret, err error) {
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return ca, cert, err
	}
	if ca, err = sign(root, root, rootKey, rootKey); err != nil {
		return ca, cert, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "shop.test"}, DNSNames: []string{"shop.test"},
		NotBefore: root.NotBefore, NotAfter: root.NotAfter,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return ca, cert, err
	}
	if cert, err = sign(leaf, root, key, rootKey); err != nil {
		return ca, cert, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	cert.Key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return ca, cert, err
}

func sign(template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) (Secret, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	return Secret{Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, err
}
