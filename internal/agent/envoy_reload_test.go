package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// pairOf makes a self-signed certificate with a serial number, in PEM.
func pairOf(t *testing.T, serial int64) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"cart"}}
	der, err := x509.CreateCertificate(rand.Reader, &c, &c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

func writeFile(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// secureProxy is proxyTo with TLS, its certificate a secret that names files and the
// directory that the agent says it has.
func secureProxy(t *testing.T, ip, applicationPort, cert, key string) func(*corev3.Node) map[string]proto.Message {
	out := proxyTo(t, ip, applicationPort)
	return func(node *corev3.Node) map[string]proto.Message {
		dir := node.GetMetadata().GetFields()["fairlead"].GetStructValue().GetFields()["reloadDirectory"].GetStringValue()
		file := func(name string) *corev3.DataSource {
			return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: name}}
		}
		name := "certificate:" + cert + ":" + key
		out[name] = &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: file(cert), PrivateKey: file(key), WatchedDirectory: &corev3.WatchedDirectory{Path: dir},
		}}}
		config, err := anypb.New(&tlsv3.DownstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: name, SdsConfig: &corev3.ConfigSource{
				ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}, ResourceApiVersion: corev3.ApiVersion_V3,
			}}},
		}})
		if err != nil {
			t.Error(err)
		}
		out["ingress"].(*listenerv3.Listener).FilterChains[0].TransportSocket = &corev3.TransportSocket{
			Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config},
		}
		return out
	}
}

// Certificates that change on the disk are taken up, however they change; never half
// written; and connections that are open stay open.
func TestEnvoyReloads(t *testing.T) {
	t.Parallel()
	envoy := envoyBinary(t)
	application, applicationPort := listen(t, "127.0.0.1:0")
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })}
	go func() { _ = server.Serve(application) }()
	t.Cleanup(func() { server.Close() })

	// As Kubernetes mounts a secret: the names are links into a folder that a link names.
	dir := t.TempDir()
	version := func(n int) string { return filepath.Join(dir, fmt.Sprintf("v%d", n)) }
	for n := 1; n <= 2; n++ {
		if err := os.Mkdir(version(n), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	put := func(n int, serial int64) {
		cert, key := pairOf(t, serial)
		writeFile(t, filepath.Join(version(n), "tls.crt"), cert)
		writeFile(t, filepath.Join(version(n), "tls.key"), key)
	}
	put(1, 1)
	link := func(to, name string) {
		if err := os.Symlink(to, filepath.Join(dir, name+".new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("v1", "..data")
	link("..data/tls.crt", "tls.crt")
	link("..data/tls.key", "tls.key")

	ip := loopback(t)
	l, port := listen(t, "127.0.0.1:0")
	ads := newADS()
	ads.build = secureProxy(t, ip, applicationPort, filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	ads.serve(t, l, nil)
	r := start(t, envoy, bound(ip, port).with(vars{"TMPDIR": t.TempDir()}), nil)

	serial := func() int64 {
		c, err := tls.Dial("tcp", ip+":15000", &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // which certificate it is, is what is asked
		if err != nil {
			return 0
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	eventually(t, "the first certificate", func() bool { return serial() == 1 })
	ask := keptConnection(t, ip+":15000")
	ask()

	// In place, the certificate before its key: in between they do not fit.
	cert, key := pairOf(t, 2)
	writeFile(t, filepath.Join(version(1), "tls.crt"), cert)
	r.waitLog("is not whole yet")
	if got := serial(); got != 1 {
		t.Errorf("certificate %d while the files do not fit together, want 1", got)
	}
	writeFile(t, filepath.Join(version(1), "tls.key"), key)
	eventually(t, "the certificate that was written in place", func() bool { return serial() == 2 })
	ask()

	put(2, 3)
	link("v2", "..data")
	eventually(t, "the certificate of another folder", func() bool { return serial() == 3 })
	ask()

	cert, key = pairOf(t, 4)
	for name, content := range map[string][]byte{"tls.crt": cert, "tls.key": key} {
		writeFile(t, filepath.Join(dir, "new"), content)
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(version(2), name)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the certificate that was moved there", func() bool { return serial() == 4 })
	ask()
	if n := strings.Count(r.log.String(), "told to read it again"); n < 3 {
		t.Errorf("Envoy was told %d times, want 3 at least", n)
	}
}

// keptConnection returns a function that makes a request over one and the same
// connection, and fails the test if that is lost.
func keptConnection(t *testing.T, address string) func() {
	t.Helper()
	dials := 0
	transport := &http.Transport{DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		dials++
		d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // as above
		return d.DialContext(ctx, network, address)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	client := http.Client{Transport: transport, Timeout: waitTime}
	return func() {
		t.Helper()
		res, err := client.Get("https://cart/")
		if err != nil {
			t.Fatalf("over the connection from the beginning: %v", err)
		}
		defer res.Body.Close()
		var body [16]byte
		for {
			if _, err := res.Body.Read(body[:]); err != nil {
				break
			}
		}
		if res.StatusCode != http.StatusOK || dials != 1 {
			t.Fatalf("status %s, %d connections, want one", res.Status, dials)
		}
	}
}

// The directory that Envoy watches has the same name in each container of a node; an
// agent that finds it taken takes another.
func TestReloadDir(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	s := Settings{Resource: Resource{ARN: "mesh/shop/virtualNode/cart"}}
	first, err := newReloadDir(s)
	if err != nil {
		t.Fatal(err)
	}
	second, err := newReloadDir(s)
	if err != nil {
		t.Fatal(err)
	}
	if first.path() == second.path() || filepath.Dir(filepath.Dir(second.path())) != temp {
		t.Errorf("two agents have %s and %s", first.path(), second.path())
	}
	if err := second.trigger(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(second.path(), "changed")); err != nil {
		t.Error(err)
	}
	second.remove()
	// As a kill leaves it: the lock is gone with its process, the folder is there.
	first.lock.Close()
	third, err := newReloadDir(s)
	if err != nil || third.path() != first.path() {
		t.Errorf("%s, %v, want %s again", third.path(), err, first.path())
	}
	third.remove()
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	// A folder that others may write to is not ours.
	if err := os.Mkdir(first.base, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(first.base, 0o777); err != nil { //nolint:gosec // that is the point
		t.Fatal(err)
	}
	fourth, err := newReloadDir(s)
	if err != nil || fourth.path() == first.path() {
		t.Errorf("%s, %v, want another than %s", fourth.path(), err, first.path())
	}
	fourth.remove()
}

func TestParseSecrets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	chain, key := filepath.Join(dir, "a:b.crt"), filepath.Join(dir, "a:b.key")
	writeFile(t, chain, nil)
	writeFile(t, key, nil)
	got, err := parseSecrets(strings.NewReader(`{"configs": [{"name": "certificate:` + chain + ":" + key + `"},
		{"name": "certificate:` + chain + `:/nowhere/k"}, {"name": "trust:/r:s"}, {"name": "trust:"}, {"name": "other"}]}`))
	want := map[string]secretFiles{"certificate:" + chain + ":" + key: {Chain: chain, Key: key}, "trust:/r:s": {Trust: "/r:s"}}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	if got, err := parseSecrets(strings.NewReader(`{}`)); err != nil || len(got) > 0 {
		t.Errorf("no secrets: %v, %v", got, err)
	}
	if _, err := parseSecrets(strings.NewReader(`x`)); err == nil {
		t.Error("a page that is not JSON gives no error")
	}
}

func TestWholePEM(t *testing.T) {
	t.Parallel()
	cert, _ := pairOf(t, 1)
	for content, whole := range map[string]bool{
		string(cert): true, string(cert) + string(cert): true, "# comment\n" + string(cert) + "\n": true,
		"": false, string(cert[:len(cert)/2]): false, string(cert) + string(cert[:len(cert)/2]): false,
	} {
		name := filepath.Join(t.TempDir(), "f")
		writeFile(t, name, []byte(content))
		if err := wholePEM(name); (err == nil) != whole {
			t.Errorf("%q: %v, want whole %t", content, err, whole)
		}
	}
}
