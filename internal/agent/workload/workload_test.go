package workload

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fairlead-mesh/fairlead/api/client"
	"github.com/fairlead-mesh/fairlead/internal/agent/relay"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

const trustName = "trust:" + meshtest.Account + "/shop"

// stage is a control plane with a mesh and a node.
type stage struct {
	t     *testing.T
	plane *meshtest.Plane
	api   *client.Client
	owner *meshtest.Signed
	soon  atomic.Bool // certificates are to be renewed at once
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, plane: meshtest.Start(t)}
	s.plane.Put(t, "/meshes", `{"meshName":"shop"}`)
	s.plane.Node(t, "shop", "cart", "cart.example.com", 8080)
	s.owner = s.plane.Signed(t)
	var err error
	s.api, err = client.New(client.Config{
		Endpoint: s.plane.URL(), Region: meshtest.Region, MaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return s.plane.Creds, nil }),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// issue has a request signed by the API.
func (s *stage) issue(ctx context.Context, request []byte) (Issued, error) {
	out, err := s.api.IssueCertificate(ctx, &client.IssueCertificateInput{
		MeshName: "shop", ResourceARN: "mesh/shop/virtualNode/cart", Csr: string(request),
	})
	if err != nil {
		return Issued{}, err
	}
	i := Issued{Chain: out.CertificateChain, NotAfter: out.NotAfter, RenewAfter: out.RenewAfter}
	if s.soon.Load() {
		i.RenewAfter = time.Now()
	}
	return i, nil
}

// running is a workload that runs until the test ends.
type running struct {
	*Workload
	conn *grpc.ClientConn // as its Envoy has it
	log  *meshtest.Log
	stop func()
}

func (s *stage) start(dir, node string) *running {
	s.t.Helper()
	sockets, err := os.MkdirTemp("", "workload-") // a socket's path is short
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = os.RemoveAll(sockets) })
	up, err := relay.Dial(relay.Server{
		Address: s.plane.Addrs.XDS, Region: meshtest.Region, SigningName: "appmesh",
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return s.plane.Creds, nil }),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	log := &meshtest.Log{}
	w, err := New(Config{
		Socket: filepath.Join(sockets, "s"), Issue: s.issue, Control: up, Node: node, Dir: dir, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := w.Listen()
	if err != nil {
		s.t.Fatal(err)
	}
	conn, err := grpc.NewClient("unix://"+filepath.Join(sockets, "s"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Serve(ctx, l) }()
	stop := sync.OnceFunc(func() {
		_ = conn.Close()
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
		_ = up.Close()
	})
	s.t.Cleanup(stop)
	return &running{Workload: w, conn: conn, log: log, stop: stop}
}

const cart = "mesh/shop/virtualNode/cart"

// ask asks for a secret as Envoy does.
func (r *running) ask(t *testing.T, name string) *meshtest.Bundles {
	t.Helper()
	b, err := meshtest.BundlesOver(t.Context(), r.conn)
	if err != nil {
		t.Fatal(err)
	}
	b.Begin(cart, name)
	return b
}

// certificate waits for a certificate that is another than the one given.
func certificate(t *testing.T, b *meshtest.Bundles, but string) (chain, serial string) {
	t.Helper()
	b.Await(t, "a certificate", CertificateName, func(s *tlsv3.Secret) bool {
		c := s.GetTlsCertificate()
		pair, err := tls.X509KeyPair(c.GetCertificateChain().GetInlineBytes(), c.GetPrivateKey().GetInlineBytes())
		if err != nil {
			t.Fatal(err)
		}
		chain, serial = string(c.GetCertificateChain().GetInlineBytes()), pair.Leaf.SerialNumber.String()
		return serial != but
	})
	return chain, serial
}

// roots returns the certificates of a trust bundle.
func roots(s *tlsv3.Secret) string { return s.GetValidationContext().GetTrustedCa().GetInlineString() }

// A workload's certificate is what the bundle of its mesh trusts, and has its name. The
// bundle is pushed when it changes.
func TestCertificateAndTrust(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	r := s.start("", cart)
	if st := r.Status(); st != (Status{}) {
		t.Errorf("before Envoy has asked: %+v", st)
	}
	certificates, trust := r.ask(t, CertificateName), r.ask(t, trustName)
	chain, _ := certificate(t, certificates, "")
	before := roots(trust.Await(t, "a trust bundle", trustName, func(b *tlsv3.Secret) bool { return roots(b) != "" }))
	verify(t, chain, before)

	s.owner.Want(t, http.MethodPut, "/v1/meshes/shop/authority/rotation", "", nil)
	after := roots(trust.Await(t, "the new root", trustName, func(b *tlsv3.Secret) bool { return roots(b) != before }))
	verify(t, chain, after)
	if n := strings.Count(after, "BEGIN CERTIFICATE"); n != 2 {
		t.Errorf("the bundle has %d roots, want 2", n)
	}
	if st := r.Status(); st.Certificates != 1 || st.Reason != "" || !st.RenewAfter.Before(st.NotAfter) {
		t.Errorf("status %+v", st)
	}
}

func verify(t *testing.T, chain, anchors string) {
	t.Helper()
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(anchors))
	between.AppendCertsFromPEM([]byte(chain))
	pair, err := parse(chain)
	if err != nil {
		t.Fatal(err)
	}
	_, err = pair.Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, DNSName: "cart.example.com"})
	if err != nil {
		t.Error(err)
	}
	if len(pair.URIs) != 1 || !strings.HasSuffix(pair.URIs[0].String(), "/"+meshtest.Account+"/shop/virtualNode/cart") {
		t.Errorf("names %v", pair.URIs)
	}
}

// A certificate is renewed in time, with a key of its own, on the stream that Envoy has.
func TestRenewal(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.soon.Store(true)
	r := s.start("", cart)
	b := r.ask(t, CertificateName)
	_, first := certificate(t, b, "")
	_, second := certificate(t, b, first)
	s.soon.Store(false)
	_, _ = certificate(t, b, second)
}

// While the workload is revoked it goes on with what it has, and says why it gets nothing
// new; it renews once it is restored.
func TestRevoked(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.soon.Store(true)
	r := s.start("", cart)
	b := r.ask(t, CertificateName)
	certificate(t, b, "")
	s.owner.Want(t, http.MethodPut, "/v1/meshes/shop/revokedWorkloads", `{"resource":"virtualNode/cart","reason":"it was lost"}`, nil)
	meshtest.Eventually(t, "the refusal is known", func() error {
		if st := r.Status(); !strings.Contains(st.Reason, "revoked") {
			return errors.New(st.Reason)
		}
		return nil
	})
	_, last := certificate(t, b, "")
	s.soon.Store(false)
	s.owner.Want(t, http.MethodDelete, "/v1/meshes/shop/revokedWorkloads?resource=virtualNode/cart", "", nil)
	certificate(t, b, last)
	if !strings.Contains(r.log.String(), "it is tried again") {
		t.Errorf("the log does not say it:\n%s", r.log)
	}
}

// A workload that begins while the control plane is away serves what was kept, if it is
// its own and good.
func TestKept(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	dir := filepath.Join(t.TempDir(), "kept")
	r := s.start(dir, cart)
	_, serial := certificate(t, r.ask(t, CertificateName), "")
	bundle := roots(r.ask(t, trustName).Await(t, "a trust bundle", trustName, func(b *tlsv3.Secret) bool { return roots(b) != "" }))
	r.stop()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Fatalf("kept: %v, %v", files, err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", f.Name(), info.Mode(), err)
		}
	}

	s.plane.Stop(t)
	again := s.start(dir, cart)
	if _, got := certificate(t, again.ask(t, CertificateName), ""); got != serial {
		t.Errorf("certificate %s is served, want %s", got, serial)
	}
	again.ask(t, trustName).Await(t, "the trust bundle", trustName, func(b *tlsv3.Secret) bool { return roots(b) == bundle })

	other := s.start(dir, "mesh/shop/virtualNode/other")
	if st := other.Status(); !st.NotAfter.IsZero() {
		t.Errorf("another node has the certificate: %+v", st)
	}
	w := &Workload{cfg: again.cfg, secrets: map[string]*secret{}, changed: make(chan struct{})}
	w.load(time.Now().Add(48 * time.Hour))
	if st := w.Status(); !st.NotAfter.IsZero() {
		t.Errorf("a certificate that has expired is served: %+v", st)
	}
}

// Files that cannot be read are no reason not to start.
func TestBadKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	meshtest.WriteFile(t, filepath.Join(dir, certificateFile), []byte(`{"node":"`+cart+`","chain":"no PEM"}`))
	meshtest.WriteFile(t, filepath.Join(dir, "a"+trustSuffix), []byte("nothing"))
	log := &meshtest.Log{}
	w, err := New(Config{Node: cart, Dir: dir, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "cannot be read"); n != 2 || len(w.secrets) > 0 {
		t.Errorf("%d warnings and %d secrets, want 2 and none:\n%s", n, len(w.secrets), log)
	}
}

// parse returns the first certificate of a chain.
func parse(chain string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(chain))
	if block == nil {
		return nil, errors.New("there is no certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}
