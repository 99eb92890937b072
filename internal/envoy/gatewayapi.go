package envoy

import "github.com/fairlead-mesh/fairlead/internal/mesh"

// The API has types of their own for what a gateway's listeners, logs and client
// policies are, with the same members as a virtual node's. Here, and nowhere else, they
// become the node's, so that both are translated by the same code.

// gatewayListener returns a gateway's listener as a node's.
func gatewayListener(l *mesh.VirtualGatewayListener) *mesh.Listener {
	return &mesh.Listener{
		PortMapping:    (*mesh.PortMapping)(l.PortMapping),
		HealthCheck:    (*mesh.HealthCheckPolicy)(l.HealthCheck),
		ConnectionPool: gatewayPool(l.ConnectionPool),
		Tls:            gatewayListenerTLS(l.Tls),
	}
}

func gatewayPool(p *mesh.VirtualGatewayConnectionPool) *mesh.VirtualNodeConnectionPool {
	if p == nil {
		return nil
	}
	return &mesh.VirtualNodeConnectionPool{
		Grpc:  (*mesh.VirtualNodeGrpcConnectionPool)(p.Grpc),
		Http:  (*mesh.VirtualNodeHttpConnectionPool)(p.Http),
		Http2: (*mesh.VirtualNodeHttp2ConnectionPool)(p.Http2),
	}
}

func gatewayListenerTLS(s *mesh.VirtualGatewayListenerTls) *mesh.ListenerTls {
	if s == nil {
		return nil
	}
	out := &mesh.ListenerTls{Mode: s.Mode}
	if c := s.Certificate; c != nil {
		out.Certificate = &mesh.ListenerTlsCertificate{
			Acm:  (*mesh.ListenerTlsAcmCertificate)(c.Acm),
			File: (*mesh.ListenerTlsFileCertificate)(c.File),
			Sds:  (*mesh.ListenerTlsSdsCertificate)(c.Sds),
		}
	}
	if v := s.Validation; v != nil {
		out.Validation = &mesh.ListenerTlsValidationContext{SubjectAlternativeNames: v.SubjectAlternativeNames}
		if v.Trust != nil {
			out.Validation.Trust = &mesh.ListenerTlsValidationContextTrust{
				File: (*mesh.TlsValidationContextFileTrust)(v.Trust.File),
				Sds:  (*mesh.TlsValidationContextSdsTrust)(v.Trust.Sds),
			}
		}
	}
	return out
}

// gatewayLogging returns a gateway's logging as a node's.
func gatewayLogging(l *mesh.VirtualGatewayLogging) *mesh.Logging {
	if l == nil || l.AccessLog == nil {
		return nil
	}
	return &mesh.Logging{AccessLog: &mesh.AccessLog{File: (*mesh.FileAccessLog)(l.AccessLog.File)}}
}

// gatewayClientTLS returns the TLS policy of a gateway's backend defaults as a node's,
// nil for none.
func gatewayClientTLS(d *mesh.VirtualGatewayBackendDefaults) *mesh.ClientPolicyTls {
	if d == nil || d.ClientPolicy == nil || d.ClientPolicy.Tls == nil {
		return nil
	}
	s := d.ClientPolicy.Tls
	out := &mesh.ClientPolicyTls{Enforce: s.Enforce, Ports: s.Ports}
	if c := s.Certificate; c != nil {
		out.Certificate = &mesh.ClientTlsCertificate{
			File: (*mesh.ListenerTlsFileCertificate)(c.File),
			Sds:  (*mesh.ListenerTlsSdsCertificate)(c.Sds),
		}
	}
	if v := s.Validation; v != nil {
		out.Validation = &mesh.TlsValidationContext{SubjectAlternativeNames: v.SubjectAlternativeNames}
		if v.Trust != nil {
			out.Validation.Trust = &mesh.TlsValidationContextTrust{
				Acm:  (*mesh.TlsValidationContextAcmTrust)(v.Trust.Acm),
				File: (*mesh.TlsValidationContextFileTrust)(v.Trust.File),
				Sds:  (*mesh.TlsValidationContextSdsTrust)(v.Trust.Sds),
			}
		}
	}
	return out
}
