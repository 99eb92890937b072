package envoy

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"testing"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/randmesh"
)

// secretSource is a workload's own source of secrets, such as SPIRE's agent is, as far as
// an Envoy asks it.
type secretSource struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer

	secrets map[string]randmesh.Secret
}

// serveRandomSecrets runs a source of secrets until the test ends, and returns the path of its
// socket.
func serveRandomSecrets(t *testing.T, secrets map[string]randmesh.Secret) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sds.sock")
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	secretv3.RegisterSecretDiscoveryServiceServer(g, &secretSource{secrets: secrets})
	go func() { _ = g.Serve(lis) }()
	t.Cleanup(g.Stop)
	return path
}

// secretsCluster is the cluster of a bootstrap that leads to a source of secrets.
func secretsCluster(socket string) map[string]any {
	return map[string]any{
		"name": "static_cluster_sds_unix_socket", "type": "STATIC", "connect_timeout": "1s",
		"typed_extension_protocol_options": map[string]any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": map[string]any{
				"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"explicit_http_config": map[string]any{"http2_protocol_options": map[string]any{}},
			},
		},
		"load_assignment": map[string]any{
			"cluster_name": "static_cluster_sds_unix_socket",
			"endpoints": []any{map[string]any{"lb_endpoints": []any{map[string]any{
				"endpoint": map[string]any{"address": map[string]any{"pipe": map[string]any{"path": socket}}},
			}}}},
		},
	}
}

// StreamSecrets answers what is asked for, once.
func (s *secretSource) StreamSecrets(g secretv3.SecretDiscoveryService_StreamSecretsServer) error {
	var sent []string
	for n := 0; ; n++ {
		req, err := g.Recv()
		if err != nil {
			return err
		}
		if slices.Equal(sent, req.ResourceNames) {
			continue // an acknowledgement
		}
		sent = req.ResourceNames
		resp := &discoveryv3.DiscoveryResponse{VersionInfo: fmt.Sprint(n), Nonce: fmt.Sprint(n), TypeUrl: envoy.TypeSecret.URL()}
		for _, name := range req.ResourceNames {
			secret, ok := s.secrets[name]
			if !ok {
				continue
			}
			body, err := anypb.New(secretOf(name, secret))
			if err != nil {
				return err
			}
			resp.Resources = append(resp.Resources, body)
		}
		if err := g.Send(resp); err != nil {
			return err
		}
	}
}

// secretOf returns a secret as Envoy takes it.
func secretOf(name string, s randmesh.Secret) *tlsv3.Secret {
	if s.Key == nil {
		return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{
			ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inlineBytes(s.Certificate)},
		}}
	}
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{
		TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inlineBytes(s.Certificate), PrivateKey: inlineBytes(s.Key)},
	}}
}
