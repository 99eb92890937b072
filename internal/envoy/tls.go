package envoy

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// clientTLS returns the TLS policy that a node's client policies set for a backend,
// with its path in the node's spec; nil if they set none. A backend's policy without
// TLS says nothing about TLS: the node's default holds.
func (t *translator) clientTLS(s *mesh.Service) (policy *mesh.ClientPolicyTls, field string) {
	if s.Policy != nil && s.Policy.Tls != nil {
		return s.Policy.Tls, t.backendField(s.Name) + ".clientPolicy.tls"
	}
	if tls := t.backendDefaults(); tls != nil {
		return tls, "backendDefaults.clientPolicy.tls"
	}
	return nil, ""
}

// backendDefaults returns the TLS policy that holds for backends without one of their
// own, nil for none.
func (t *translator) backendDefaults() *mesh.ClientPolicyTls {
	if t.view.Gateway != nil {
		return gatewayClientTLS(t.view.Gateway.BackendDefaults)
	}
	d := t.view.Node.BackendDefaults
	if d == nil || d.ClientPolicy == nil {
		return nil
	}
	return d.ClientPolicy.Tls
}

// unserved returns why TLS to a target cannot be served, or "". The calls are then
// answered with 503: what must be encrypted is never sent in plain text, and a
// certificate that must be verified is never taken on trust.
func (t *translator) unserved(use upstreamUse, g *target) string {
	if use.policy == nil {
		if !g.verified() || t.profile.Workloads {
			return ""
		}
		return fmt.Sprintf("the listener of virtual node %q on port %d has a certificate of AWS Certificate Manager, which clients must verify: %s", g.node, g.port, noWorkloads)
	}
	if reason := t.noSecrets(use); reason != "" {
		return reason
	}
	field := use.field + ".validation.trust"
	v := use.policy.Validation
	switch {
	case v == nil || v.Trust == nil || v.Trust.File == nil && v.Trust.Sds == nil && v.Trust.Acm == nil:
		t.problem(t.self(), field, "the policy says nobody whose certificates are trusted: what needs TLS is answered with 503 and never sent in plain text")
		return "its certificate cannot be verified"
	case v.Trust.Acm != nil && !slices.ContainsFunc(v.Trust.Acm.CertificateAuthorityArns, isARN):
		t.problem(t.self(), field+".acm.certificateAuthorityArns", "no ARN of an authority is among them: what needs TLS is answered with 503 and never sent in plain text")
		return "its certificate cannot be verified"
	case v.Trust.Acm != nil && !t.profile.Workloads:
		t.problem(t.self(), field+".acm", "an authority of AWS Certificate Manager stands for the trust bundle of the mesh, and %s: what needs TLS is answered with 503 and never sent in plain text", noWorkloads)
		return "its certificate cannot be verified"
	case v.Trust.File != nil && !validFile(v.Trust.File.CertificateChain):
		t.problem(t.self(), field+".file.certificateChain", "%q is not the name of a file: what needs TLS is answered with 503 and never sent in plain text", v.Trust.File.CertificateChain)
		return "its certificate cannot be verified"
	}
	if c := use.policy.Certificate; c != nil && c.File != nil && (!validFile(c.File.CertificateChain) || !validFile(c.File.PrivateKey)) {
		t.problem(t.self(), use.field+".certificate.file", "%q and %q are not both names of files: what needs TLS is answered with 503 and never sent in plain text", c.File.CertificateChain, c.File.PrivateKey)
		return "the client's certificate cannot be read"
	}
	return ""
}

// verified reports whether clients without a policy verify a target: one whose listener
// has a certificate of ACM, as App Mesh has it.
func (g *target) verified() bool {
	tls := g.spec.Listeners[g.listener].Tls
	return tls != nil && tls.Certificate != nil && tls.Certificate.Acm != nil
}

// noSecrets returns why a policy that needs a source of secrets cannot be served by a
// proxy that has none, or "": Envoy would refuse the cluster.
func (t *translator) noSecrets(use upstreamUse) string {
	reason := ""
	if v := use.policy.Validation; v != nil && v.Trust != nil && v.Trust.Sds != nil {
		reason = t.secretLacking(v.Trust.Sds.SecretName)
	}
	if c := use.policy.Certificate; reason == "" && c != nil && c.Sds != nil {
		reason = t.secretLacking(c.Sds.SecretName)
	}
	if reason == "" {
		return ""
	}
	t.problem(t.self(), use.field, "%s: what needs TLS is answered with 503 and never sent in plain text", reason)
	return "its certificate cannot be verified"
}

// isARN reports whether a text is an ARN. Which certificate or authority of ACM one names does not
// matter: it stands for the workload's own, or for the mesh's.
func isARN(s string) bool { return strings.HasPrefix(s, "arn:") }

// validFile reports whether a text can be the name of a file.
func validFile(name string) bool { return name != "" && !strings.ContainsFunc(name, unicode.IsControl) }

// upstreamTLS returns how a client speaks TLS to a target. It returns nil, and notes a
// problem of the node, if Envoy would refuse it.
func (t *translator) upstreamTLS(use upstreamUse, g *target) *corev3.TransportSocket {
	names := serverNames(use.policy, g)
	common := &tlsv3.CommonTlsContext{AlpnProtocols: offered(g.spoken())}
	if trust := t.trustOf(use, g); trust != nil {
		common.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: expectedNames(names)},
				ValidationContextSdsSecretConfig: trust,
			},
		}
	}
	if use.policy != nil {
		if c := use.policy.Certificate; c != nil && (c.File != nil || c.Sds != nil) {
			secret := t.certificate(c.File, c.Sds)
			if secret == nil {
				return nil
			}
			common.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{secret}
		}
	}
	config := &tlsv3.UpstreamTlsContext{CommonTlsContext: common, Sni: serverNameIndication(names, g)}
	packed := t.packed(config, t.self(), use.field, "TLS to backends")
	if packed == nil {
		return nil
	}
	return &corev3.TransportSocket{
		Name:       tlsSocket,
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: packed},
	}
}

// trustOf returns where a client finds what it trusts of a target, nil where it does not
// verify the target.
func (t *translator) trustOf(use upstreamUse, g *target) *tlsv3.SdsSecretConfig {
	if use.policy == nil {
		if g.verified() {
			return t.trustSecret()
		}
		return nil
	}
	trust := use.policy.Validation.Trust
	if trust.Acm != nil {
		return t.trustSecret()
	}
	return t.trust(trust.File, trust.Sds)
}

// serverNames returns the subject alternative names of which a target's certificate must
// have one: those that a policy lists, else the name that the target is found by.
func serverNames(policy *mesh.ClientPolicyTls, g *target) []string {
	if policy != nil && policy.Validation.SubjectAlternativeNames != nil {
		if m := policy.Validation.SubjectAlternativeNames.Match; m != nil && len(m.Exact) > 0 {
			return m.Exact
		}
	}
	return []string{g.host()}
}

// host returns the name that a target is found by: its host name, or SERVICE.NAMESPACE
// in AWS Cloud Map.
func (g *target) host() string {
	d := g.spec.ServiceDiscovery
	if d.Dns != nil {
		return strings.TrimSuffix(d.Dns.Hostname, ".")
	}
	return d.AwsCloudMap.ServiceName + "." + d.AwsCloudMap.NamespaceName
}

// serverNameIndication returns the name that a client asks a server for: the first of
// the names that its certificate must have that can be a host's, else the one that the
// target is found by; "" where that is an address.
func serverNameIndication(names []string, g *target) string {
	for _, name := range append(slices.Clone(names), g.host()) {
		if _, literal := literalAddress(name); !literal && validHost(name) {
			return strings.TrimSuffix(name, ".")
		}
	}
	return ""
}

// expectedNames returns matchers for subject alternative names: URIs, addresses and host
// names.
func expectedNames(names []string) []*tlsv3.SubjectAltNameMatcher {
	out := make([]*tlsv3.SubjectAltNameMatcher, 0, len(names))
	for _, name := range names {
		kind := tlsv3.SubjectAltNameMatcher_DNS
		if _, literal := literalAddress(name); literal {
			kind = tlsv3.SubjectAltNameMatcher_IP_ADDRESS
		} else if strings.IndexByte(name, ':') >= 0 {
			kind = tlsv3.SubjectAltNameMatcher_URI
		}
		out = append(out, &tlsv3.SubjectAltNameMatcher{SanType: kind, Matcher: exactly(name)})
	}
	return out
}

// offered returns the protocols that a client offers to a listener of a protocol.
func offered(protocol string) []string {
	switch protocol {
	case protoHTTP:
		return []string{"http/1.1"}
	case protoHTTP2, protoGRPC:
		return []string{"h2"}
	}
	return nil
}

// backendField returns the path of a backend in the node's spec.
func (t *translator) backendField(service string) string {
	if t.backends == nil {
		t.backends = make(map[string]int, len(t.view.Node.Backends))
		for i, b := range t.view.Node.Backends {
			name := b.VirtualService.VirtualServiceName
			if strings.HasPrefix(name, "arn:") {
				if id, _, err := mesh.ParseARN(name, "", ""); err == nil {
					name = id.Name
				}
			}
			if _, ok := t.backends[name]; !ok {
				t.backends[name] = i
			}
		}
	}
	if i, ok := t.backends[service]; ok {
		return fmt.Sprintf("backends[%d].virtualService", i)
	}
	return "backends"
}
