package store

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// certificate makes a certificate for the loopback that signs itself, and returns
// its files and what trusts it.
func certificate(t *testing.T) (cert, key string, trust *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "etcd"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	trust = x509.NewCertPool()
	trust.AddCert(parsed)
	return write("cert", "CERTIFICATE", der), write("key", "PRIVATE KEY", keyDER), trust
}

// allowRoot makes etcd ask for a password.
func allowRoot(t *testing.T, c *clientv3.Client, password string) {
	t.Helper()
	if _, err := c.UserAdd(t.Context(), "root", password); err != nil {
		t.Fatal(err)
	}
	if _, err := c.UserGrantRole(t.Context(), "root", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AuthEnable(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestExternalTLSAndPassword uses an etcd that asks for TLS and a password.
func TestExternalTLSAndPassword(t *testing.T) {
	t.Parallel()
	cert, key, trust := certificate(t)
	s := &Store{log: discard}
	cfg := s.etcdConfig(Config{DataDir: t.TempDir(), Unsafe: true})
	cfg.ListenClientUrls = []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
	cfg.AdvertiseClientUrls = []url.URL{{Scheme: "https", Host: "127.0.0.1:2379"}}
	cfg.ClientTLSInfo.CertFile, cfg.ClientTLSInfo.KeyFile = cert, key
	cfg.BcryptCost = 4
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	local := v3client.New(e.Server)
	defer func() { _ = local.Close() }()
	allowRoot(t, local, "right")

	store := Config{
		Endpoints: []string{"https://" + e.Clients[0].Addr().String()}, TLS: &tls.Config{RootCAs: trust},
		Username: "root", Password: "right", SealKeyFile: keyFile(t, 1),
	}
	opened, err := Open(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	w := world{t: t, s: opened, c: caller("000000000001")}
	f := follow(t, opened)
	made := w.makeAll("m")
	f.wantSame(t, opened, made[len(made)-1].Revision)
	f.stop()
	if err := opened.Close(); err != nil {
		t.Error(err)
	}

	store.Password = "wrong"
	_, err = Open(t.Context(), store)
	wantError(t, err, "(--etcd-endpoints)", "authentication failed")
}
