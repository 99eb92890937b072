package envoy

import (
	"fmt"
	"slices"
	"strings"

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

// mustEncrypt reports whether calls of a service through a port may be made with TLS
// only, and notes it as a problem: TLS is not served yet, and what must be encrypted
// is never sent in plain text. A policy may hold for some ports only; since App Mesh
// does not say whose ports are meant, the service's and its targets' both count.
func (t *translator) mustEncrypt(s *mesh.Service, port uint32) bool {
	policy, field := t.clientTLS(s)
	if policy == nil || policy.Enforce != nil && !*policy.Enforce {
		return false
	}
	if len(policy.Ports) > 0 && !slices.Contains(policy.Ports, int64(port)) {
		return false
	}
	t.problem(t.self(), field, "TLS to backends %s: what it is enforced for is answered with 503 and never sent in plain text", notServed)
	return true
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
