package envoy

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// The TLS modes of listeners, as the API spells them.
const (
	tlsStrict     = "STRICT"
	tlsPermissive = "PERMISSIVE"
	tlsDisabled   = "DISABLED"
)

// How Envoy calls what a connection turns out to carry.
const (
	overTLS   = "tls"
	plainText = "raw_buffer"
)

// listenerChains returns the filter chains of a listener: one, or in mode PERMISSIVE
// one for TLS and one for plain text. With byPort they take the connections made to
// the listener's port only. ok is false if the listener asks for TLS that cannot be
// served; then it must stay closed.
func (t *translator) listenerChains(l *mesh.Listener, field string, filters []*listenerv3.Filter, byPort bool) (chains []*listenerv3.FilterChain, ok bool) {
	tls, ok := t.downstreamTLS(l, field)
	if !ok {
		return nil, false
	}
	if tls == nil || l.Tls.Mode != tlsPermissive {
		return []*listenerv3.FilterChain{{FilterChainMatch: chainMatch(l, byPort, ""), Filters: filters, TransportSocket: tls}}, true
	}
	return []*listenerv3.FilterChain{
		{FilterChainMatch: chainMatch(l, byPort, plainText), Filters: filters},
		{FilterChainMatch: chainMatch(l, byPort, overTLS), Filters: filters, TransportSocket: tls},
	}, true
}

// chainMatch returns what a filter chain of a listener takes, nil for everything.
func chainMatch(l *mesh.Listener, byPort bool, transport string) *listenerv3.FilterChainMatch {
	if !byPort && transport == "" {
		return nil
	}
	m := &listenerv3.FilterChainMatch{TransportProtocol: transport}
	if byPort {
		m.DestinationPort = wrapperspb.UInt32(uint32(l.PortMapping.Port))
	}
	return m
}

// downstreamTLS returns how a listener takes TLS, nil if it does not ask for any. ok is
// false, and a problem says why, if it asks for TLS that cannot be served: then it must
// stay closed, for it is never served in plain text. field is the listener's path.
func (t *translator) downstreamTLS(l *mesh.Listener, field string) (socket *corev3.TransportSocket, ok bool) {
	if l.Tls == nil || l.Tls.Mode == tlsDisabled {
		return nil, true
	}
	if l.Tls.Mode != tlsStrict && l.Tls.Mode != tlsPermissive {
		t.problem(t.self(), field+".tls.mode", "%q is not a mode, allowed are STRICT, PERMISSIVE and DISABLED: port %d is closed", l.Tls.Mode, l.PortMapping.Port)
		return nil, false
	}
	certificate := t.listenerCertificate(l, field+".tls.certificate")
	if certificate == nil {
		return nil, false
	}
	context := &tlsv3.DownstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
		AlpnProtocols:                  listenerALPN[l.PortMapping.Protocol],
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{certificate},
	}}
	if l.Tls.Validation != nil {
		if !t.validateClients(context, l, field+".tls.validation") {
			return nil, false
		}
	}
	if !t.valid(context, t.self(), field+".tls", "the listener") {
		return nil, false
	}
	packed, err := pack(context)
	if err != nil {
		t.problem(t.self(), field+".tls", "the listener is left out: %v", err)
		return nil, false
	}
	return &corev3.TransportSocket{
		Name:       tlsSocket,
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: packed},
	}, true
}

// listenerALPN are the protocols that listeners of each protocol choose from when a client
// offers some, the best first. A listener that speaks http2 takes HTTP/1.1 too, as it
// does in plain text: the health checks of load balancers speak it. Of gRPC there is no
// other form, and what is carried by TCP is not known.
var listenerALPN = map[string][]string{
	protoHTTP:  {"http/1.1"},
	protoHTTP2: {"h2", "http/1.1"},
	protoGRPC:  {"h2"},
}

// listenerCertificate returns where Envoy finds a listener's certificate, nil if it
// cannot have it.
func (t *translator) listenerCertificate(l *mesh.Listener, field string) *tlsv3.SdsSecretConfig {
	c, port := l.Tls.Certificate, l.PortMapping.Port
	switch {
	case c == nil || c.Acm == nil && c.File == nil && c.Sds == nil:
		t.problem(t.self(), field, "the listener asks for TLS and has no certificate: port %d is closed", port)
		return nil
	case c.Acm != nil && !isARN(c.Acm.CertificateArn):
		t.problem(t.self(), field+".acm.certificateArn", "%q is not an ARN and names no certificate: port %d is closed", c.Acm.CertificateArn, port)
		return nil
	case c.Acm != nil && !t.profile.Workloads:
		t.problem(t.self(), field+".acm.certificateArn",
			"a certificate of ACM stands for the workload's own, and %s: port %d is closed, it is never served in plain text", noWorkloads, port)
		return nil
	case c.Acm != nil:
		return workloadSecret()
	case c.Sds != nil && t.secretLacking(c.Sds.SecretName) != "":
		t.problem(t.self(), field+".sds", "%s: port %d is closed", t.secretLacking(c.Sds.SecretName), port)
		return nil
	}
	config := t.certificate(c.File, c.Sds)
	if config == nil {
		t.problem(t.self(), field, "Envoy would refuse the certificate: port %d is closed", port)
	}
	return config
}

// validateClients has a listener ask its clients for certificates, and reports whether
// it can.
func (t *translator) validateClients(context *tlsv3.DownstreamTlsContext, l *mesh.Listener, field string) bool {
	v, port := l.Tls.Validation, l.PortMapping.Port
	switch {
	case v.Trust == nil || v.Trust.File == nil && v.Trust.Sds == nil:
		t.problem(t.self(), field+".trust", "it is not said whose certificates are trusted: port %d is closed", port)
		return false
	case v.Trust.Sds != nil && t.secretLacking(v.Trust.Sds.SecretName) != "":
		t.problem(t.self(), field+".trust.sds", "%s: port %d is closed", t.secretLacking(v.Trust.Sds.SecretName), port)
		return false
	}
	trust := t.trust(v.Trust.File, v.Trust.Sds)
	if trust == nil {
		t.problem(t.self(), field+".trust", "Envoy would refuse what is trusted: port %d is closed", port)
		return false
	}
	context.RequireClientCertificate = wrapperspb.Bool(true)
	if v.SubjectAlternativeNames == nil {
		context.CommonTlsContext.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig{ValidationContextSdsSecretConfig: trust}
		return true
	}
	names := v.SubjectAlternativeNames.Match
	if names == nil || len(names.Exact) == 0 {
		t.problem(t.self(), field+".subjectAlternativeNames.match.exact", "no name is allowed: port %d is closed", port)
		return false
	}
	context.CommonTlsContext.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{
		CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: expectedNames(names.Exact)},
			ValidationContextSdsSecretConfig: trust,
		},
	}
	return true
}
