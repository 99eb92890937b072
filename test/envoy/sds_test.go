package envoy

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// secrets is a workload's own source of secrets, as an identity provider runs on each
// host.
type secrets struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer

	mu      sync.Mutex
	all     map[string]*tlsv3.Secret
	changed chan struct{} // closed and replaced with every change
}

// startSecrets runs a source of secrets and returns its socket.
func startSecrets(t *testing.T) (*secrets, string) {
	t.Helper()
	path := filepath.Join(shortDir(t), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &secrets{all: map[string]*tlsv3.Secret{}, changed: make(chan struct{})}
	server := grpc.NewServer()
	secretv3.RegisterSecretDiscoveryServiceServer(server, s)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return s, path
}

func (s *secrets) put(secret *tlsv3.Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[secret.Name] = secret
	close(s.changed)
	s.changed = make(chan struct{})
}

// StreamSecrets sends the secret that is asked for, and again when it has changed.
func (s *secrets) StreamSecrets(stream secretv3.SecretDiscoveryService_StreamSecretsServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	go func() { // the acknowledgements
		for {
			if _, err := stream.Recv(); err != nil {
				return
			}
		}
	}()
	var sent *tlsv3.Secret
	for n := 1; ; n++ {
		s.mu.Lock()
		secret, changed := s.all[first.GetResourceNames()[0]], s.changed
		s.mu.Unlock()
		if secret != nil && secret != sent {
			packed, err := anypb.New(secret)
			if err != nil {
				return err
			}
			resp := &discoveryv3.DiscoveryResponse{VersionInfo: fmt.Sprint(n), Nonce: fmt.Sprint(n), TypeUrl: packed.TypeUrl, Resources: []*anypb.Any{packed}}
			if err := stream.Send(resp); err != nil {
				return err
			}
			sent = secret
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

func inlineBytes(raw []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: raw}}
}

// issue puts a new certificate of an authority under a name.
func (s *secrets) issue(t *testing.T, a *meshtest.Authority, name string, leaf meshtest.Leaf) {
	t.Helper()
	cert, key := a.IssueLeaf(t, leaf)
	s.put(certificateSecret(name, cert, key))
}

// trust puts an authority under a name.
func (s *secrets) trust(t *testing.T, a *meshtest.Authority, name string) {
	t.Helper()
	raw, err := os.ReadFile(a.File)
	if err != nil {
		t.Fatal(err)
	}
	s.put(trustSecret(name, raw))
}

// certificateSecret returns a certificate with its key, in PEM, as Envoy takes it.
func certificateSecret(name string, cert, key []byte) *tlsv3.Secret {
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{
		TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inlineBytes(cert), PrivateKey: inlineBytes(key)},
	}}
}

// trustSecret returns the certificates of authorities, in PEM, as Envoy takes them.
func trustSecret(name string, authorities []byte) *tlsv3.Secret {
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{
		ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inlineBytes(authorities)},
	}}
}

// withSecrets adds the cluster of a source of secrets to a bootstrap, in the form of App
// Mesh's agent.
func withSecrets(socket string) func(map[string]any) {
	return withSecretsAs("static_cluster_sds_unix_socket", socket)
}

// withSecretsAs is withSecrets for a cluster of a name.
func withSecretsAs(cluster, socket string) func(map[string]any) {
	return func(b map[string]any) {
		static := b["static_resources"].(map[string]any)
		clusters, _ := static["clusters"].([]any)
		static["clusters"] = append(clusters, map[string]any{
			"name": cluster, "type": "STATIC", "connect_timeout": "1s",
			"typed_extension_protocol_options": map[string]any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": map[string]any{
				"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"explicit_http_config": map[string]any{"http2_protocol_options": map[string]any{}},
			}},
			"load_assignment": map[string]any{"cluster_name": cluster, "endpoints": []any{map[string]any{
				"lb_endpoints": []any{map[string]any{"endpoint": map[string]any{"address": map[string]any{"pipe": map[string]any{"path": socket}}}}},
			}}},
		})
	}
}

// TestSecretsOfTheWorkload has a listener with its certificate, and what it trusts of its
// clients, from a source of secrets on a socket.
func TestSecretsOfTheWorkload(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualNode.listeners.tls.{certificate.sds.secretName,validation.trust.sds.secretName,validation.subjectAlternativeNames.match.exact}")
	s := newTLSStage(t)
	source, socket := startSecrets(t)
	source.issue(t, s.ca, "target-certificate", meshtest.Leaf{Name: "first", DNS: []string{targetName}})
	source.trust(t, s.ca, "authority")
	s.serveHTTP(strictPort, false, version)
	s.define("", listener(strictPort, "http", `,"tls":{"mode":"STRICT","certificate":{"sds":{"secretName":"target-certificate"}},`+
		`"validation":{"trust":{"sds":{"secretName":"authority"}},"subjectAlternativeNames":{"match":{"exact":["spiffe://test/caller"]}}}}`))
	s.start(withSecrets(socket))

	leaf := meshtest.Leaf{Name: "caller", URIs: []string{"spiffe://test/caller"}}
	caller := s.config(s.ca.ClientCertificate(t, leaf))
	stranger := s.config(s.ca.ClientCertificate(t, meshtest.Leaf{Name: "stranger", URIs: []string{"spiffe://test/stranger"}}))
	next := meshtest.NewAuthority(t)
	ofNext := s.config(next.ClientCertificate(t, leaf))
	s.getTLS(strictPort, caller).want(t, "the caller", http.StatusOK, "HTTP/1.1")
	s.getTLS(strictPort, stranger).refused(t, "a stranger")
	s.getTLS(strictPort, s.config()).refused(t, "nobody")
	s.getTLS(strictPort, ofNext).refused(t, "another authority's")

	s.awaitLeaf(strictPort, caller, "first")
	source.issue(t, s.ca, "target-certificate", meshtest.Leaf{Name: "second", DNS: []string{targetName}})
	s.awaitLeaf(strictPort, caller, "second")
	source.trust(t, next, "authority")
	meshtest.Eventually(t, "the other authority is trusted", func() error { return s.getTLS(strictPort, ofNext).err })
	s.getTLS(strictPort, caller).refused(t, "the caller, whose authority is trusted no more")
}

// An agent that says that it leads to no source of secrets: what needs one is closed, and
// the other ports are served.
func TestNoSourceOfSecrets(t *testing.T) {
	t.Parallel()
	s := newTLSStage(t)
	s.serveHTTP(strictPort, false, version)
	s.serveHTTP(plainPort, false, version)
	s.define("",
		listener(strictPort, "http", `,"tls":{"mode":"STRICT","certificate":{"sds":{"secretName":"target-certificate"}}}`),
		listener(plainPort, "http", ""))
	s.start(func(b map[string]any) { nodeMetadata(b)["secretSource"] = false })
	s.get(false, plainPort, "/").want(t, "the other port", http.StatusOK, "HTTP/1.1")
	s.get(false, strictPort, "/").refused(t, "plain text")
	s.getTLS(strictPort, s.config()).refused(t, "TLS")
}
