package envoy

import (
	"fmt"
	"path"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// sdsCluster is the cluster of a bootstrap that leads to a workload's own source of
// secrets, as App Mesh's agent names it (APPMESH_SDS_SOCKET_PATH).
const sdsCluster = "static_cluster_sds_unix_socket"

// fromSocket tells Envoy to fetch a secret from the workload's own source.
var fromSocket = &corev3.ConfigSource{
	ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
		ApiType: corev3.ApiConfigSource_GRPC, TransportApiVersion: corev3.ApiVersion_V3,
		GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: sdsCluster},
		}}},
	}},
	ResourceApiVersion: corev3.ApiVersion_V3,
}

// certificate returns where Envoy finds a certificate and its key, nil if neither source
// is given or Envoy would refuse it. Of files the secret holds the names only: Envoy reads them itself, and again
// when they are replaced, which it would not do for files named in a listener or cluster.
func (t *translator) certificate(file *mesh.ListenerTlsFileCertificate, sds *mesh.ListenerTlsSdsCertificate) *tlsv3.SdsSecretConfig {
	switch {
	case sds != nil:
		return &tlsv3.SdsSecretConfig{Name: sds.SecretName, SdsConfig: fromSocket}
	case file == nil:
		return nil
	}
	return t.secret(&tlsv3.Secret{
		Name: "certificate:" + file.CertificateChain + ":" + file.PrivateKey,
		Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: fileSource(file.CertificateChain),
			PrivateKey:       fileSource(file.PrivateKey),
			WatchedDirectory: t.watched(file.CertificateChain),
		}},
	})
}

// trust returns where Envoy finds the certificates that a peer's must be signed by, nil
// if neither source is given or Envoy would refuse it.
func (t *translator) trust(file *mesh.TlsValidationContextFileTrust, sds *mesh.TlsValidationContextSdsTrust) *tlsv3.SdsSecretConfig {
	switch {
	case sds != nil:
		return &tlsv3.SdsSecretConfig{Name: sds.SecretName, SdsConfig: fromSocket}
	case file == nil:
		return nil
	}
	return t.secret(&tlsv3.Secret{
		Name: "trust:" + file.CertificateChain,
		Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa:        fileSource(file.CertificateChain),
			WatchedDirectory: t.watched(file.CertificateChain),
		}},
	})
}

// secret emits a secret, once, and returns where Envoy finds it; nil, with a problem of
// the node, if Envoy would refuse it.
func (t *translator) secret(s *tlsv3.Secret) *tlsv3.SdsSecretConfig {
	if !t.secrets[s.Name] {
		if !t.valid(s, t.self(), "", fmt.Sprintf("secret %q", s.Name)) {
			return nil
		}
		t.secrets[s.Name] = true
		t.emit(TypeSecret, s.Name, s)
	}
	return &tlsv3.SdsSecretConfig{Name: s.Name, SdsConfig: fromADS}
}

// watched returns the directory that is watched for a file: the agent's, or else the
// file's own, where a new file must be moved over the old one to be noticed.
func (t *translator) watched(file string) *corev3.WatchedDirectory {
	if t.profile.ReloadDir != "" {
		return &corev3.WatchedDirectory{Path: t.profile.ReloadDir}
	}
	return &corev3.WatchedDirectory{Path: path.Dir(file)}
}

func fileSource(name string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: name}}
}
