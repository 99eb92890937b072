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

// The contract with agents that serve their workload's certificate and the trust bundle of
// its mesh by SDS on a Unix socket (docs/design/workloads.md): the cluster of the bootstrap
// that leads there, and the names of the secrets.
const (
	workloadCluster = "fairlead_workload_sds"
	// WorkloadSecret is the workload's certificate with its key.
	WorkloadSecret = "workload"
)

// TrustSecret returns the name of the secret that is the trust bundle of a mesh. Agents ask
// the control plane for it by the same name.
func TrustSecret(m mesh.MeshID) string { return "trust:" + m.Account + "/" + m.Name }

// What the API calls these two where it wants the name of a secret (sds.secretName), for
// what App Mesh has no certificate of ACM: certificates that clients show, and what
// listeners trust.
const (
	ownCertificate = "fairlead:workload"
	ownTrust       = "fairlead:trust"
)

// fromSocket tells Envoy to fetch a secret from the workload's own source, fromAgent from
// its agent.
var (
	fromSocket = secretsFrom(sdsCluster)
	fromAgent  = secretsFrom(workloadCluster)
)

func secretsFrom(cluster string) *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
			ApiType: corev3.ApiConfigSource_GRPC, TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: cluster},
			}}},
		}},
		ResourceApiVersion: corev3.ApiVersion_V3,
	}
}

// workloadSecret returns where Envoy finds the workload's certificate.
func workloadSecret() *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: WorkloadSecret, SdsConfig: fromAgent}
}

// trustSecret returns where Envoy finds the trust bundle of the mesh.
func (t *translator) trustSecret() *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: TrustSecret(t.view.Mesh), SdsConfig: fromAgent}
}

// fromSDS returns where Envoy finds a secret that the API names.
func (t *translator) fromSDS(name string) *tlsv3.SdsSecretConfig {
	switch name {
	case ownCertificate:
		return workloadSecret()
	case ownTrust:
		return t.trustSecret()
	}
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: fromSocket}
}

// What keeps a proxy from having secrets, as problems word it.
const (
	noSource    = "this proxy has no source of secrets (its agent's APPMESH_SDS_SOCKET_PATH)"
	noWorkloads = "this proxy's agent does not serve workload certificates"
)

// secretLacking returns why a proxy cannot have a secret that the API names, or "": Envoy would
// refuse what refers to a source that its bootstrap does not have.
func (t *translator) secretLacking(name string) string {
	own := name == ownCertificate || name == ownTrust
	switch {
	case own && !t.profile.Workloads:
		return noWorkloads
	case !own && t.profile.NoSecretSource:
		return noSource
	}
	return ""
}

// certificate returns where Envoy finds a certificate and its key, nil if neither source
// is given or Envoy would refuse it. Of files the secret holds the names only: Envoy reads them itself, and again
// when they are replaced, which it would not do for files named in a listener or cluster.
func (t *translator) certificate(file *mesh.ListenerTlsFileCertificate, sds *mesh.ListenerTlsSdsCertificate) *tlsv3.SdsSecretConfig {
	switch {
	case sds != nil:
		return t.fromSDS(sds.SecretName)
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
		return t.fromSDS(sds.SecretName)
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
	if t.cluster != nil {
		t.cluster.secrets = append(t.cluster.secrets, s)
	}
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
