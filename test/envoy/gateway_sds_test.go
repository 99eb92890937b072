package envoy

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// secureGateway is the spec of the gateway of TestGatewaySecretsAndPolicies: a listener
// whose clients are known by a secret, one whose clients are known by a file, and one in
// plain text; policy is that of the way to backends.
func secureGateway(trusted, policy string) string {
	certificate := `"certificate":{"sds":{"secretName":"door"}}`
	return fmt.Sprintf(`{"listeners":[%s,%s,%s],"backendDefaults":{"clientPolicy":{"tls":{%s}}}}`,
		listener(strictPort, "http", `,"tls":{"mode":"STRICT",`+certificate+`,"validation":{"trust":{"sds":{"secretName":"authority"}},"subjectAlternativeNames":{"match":{"exact":["spiffe://test/caller"]}}}}`),
		listener(permissivePort, "http", fmt.Sprintf(`,"tls":{"mode":"STRICT",%s,"validation":{"trust":{"file":{"certificateChain":%q}}}}`, certificate, trusted)),
		listener(httpPort, "http", ""), policy)
}

// A gateway has certificates and authorities from a source of secrets, both ways, knows
// its clients, and asks for TLS to backends as far as its policy does.
func TestGatewaySecretsAndPolicies(t *testing.T) {
	t.Parallel()
	covers(t,
		"VirtualGateway.listeners.tls.certificate.sds.secretName",
		"VirtualGateway.listeners.tls.validation.{trust.sds.secretName,trust.file.certificateChain,subjectAlternativeNames.match.exact}",
		"VirtualGateway.backendDefaults.clientPolicy.tls.{certificate.sds.secretName,validation.trust.sds.secretName}",
		"VirtualGateway.backendDefaults.clientPolicy.tls.{enforce,ports}",
	)
	s := newStage(t)
	ca, others := meshtest.NewAuthority(t), meshtest.NewAuthority(t)
	source, socket := startSecrets(t)
	source.issue(t, ca, "door", meshtest.Leaf{Name: "door", DNS: []string{"door.test"}})
	source.issue(t, ca, "me", meshtest.Leaf{Name: "edge"})
	source.trust(t, ca, "authority")
	for name, a := range map[string]*meshtest.Authority{"blue": ca, "stranger": others} {
		s.plane.Node(t, "test", name, serveOutbound(t, a, meshtest.Leaf{Name: name, DNS: []string{"blue.test"}}, tls.VerifyClientCertIfGiven), port)
		s.leadsTo(name+".local", name)
	}
	names := `"subjectAlternativeNames":{"match":{"exact":["blue.test"]}}`
	c := s.defineGateway(secureGateway(others.File, `"validation":{"trust":{"sds":{"secretName":"authority"}},`+names+`},"certificate":{"sds":{"secretName":"me"}}`))
	for _, p := range []int{httpPort, strictPort, permissivePort} {
		s.gatewayRoute(fmt.Sprint("on-", p), atPort(`{"prefix":"/"}`, p), "blue.local", "")
	}
	s.gatewayRoute("stranger", atPort(`{"prefix":"/stranger"}`, httpPort), "stranger.local", "")
	d := s.startGateway(s.bootstrapped(c, withSecrets(socket)))

	d.await("GET a /", "tls sni=blue.test alpn=http/1.1 peer=edge")
	d.wants(map[string]any{"GET a /stranger": http.StatusServiceUnavailable})
	d.knowsItsClients(ca, others)

	policy := func(more string) string {
		return fmt.Sprintf(`%s"validation":{"trust":{"file":{"certificateChain":%q}},%s}`, more, ca.File, names)
	}
	for _, step := range []struct{ more, want string }{
		{`"enforce":false,`, "plain"},
		{fmt.Sprintf(`"ports":[1,%d],`, port), "tls sni=blue.test alpn=http/1.1 peer=nobody"},
		{`"ports":[1],`, "plain"},
	} {
		s.plane.Put(t, "/meshes/test/virtualGateways/edge", `{"spec":`+secureGateway(others.File, policy(step.more))+`}`)
		d.await("GET a /", step.want)
	}
}

// knowsItsClients shows whom the listeners of secureGateway let in.
func (d *door) knowsItsClients(ca, others *meshtest.Authority) {
	d.t.Helper()
	caller := meshtest.Leaf{Name: "caller", URIs: []string{"spiffe://test/caller"}}
	stranger := meshtest.Leaf{Name: "stranger", URIs: []string{"spiffe://test/stranger"}}
	for _, c := range []struct {
		who     string
		port    int
		by      *meshtest.Authority
		leaf    meshtest.Leaf
		allowed bool
	}{
		{"the caller", strictPort, ca, caller, true},
		{"another name", strictPort, ca, stranger, false},
		{"another authority's", strictPort, others, caller, false},
		{"one that the file trusts", permissivePort, others, stranger, true},
		{"one that the file does not trust", permissivePort, ca, caller, false},
	} {
		config := &tls.Config{
			RootCAs: ca.Pool, ServerName: "door.test", MinVersion: tls.VersionTLS12,
			Certificates: []tls.Certificate{c.by.ClientCertificate(d.t, c.leaf)},
		}
		client := &http.Client{Timeout: deadline, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
		status, body, err := meshtest.Get(client, fmt.Sprintf("https://%s:%d/", d.proxy.Bind, c.port))
		if allowed := err == nil && status == http.StatusOK; allowed != c.allowed {
			d.t.Errorf("%s at port %d: %d %q %v, want it let in: %t", c.who, c.port, status, body, err, c.allowed)
		}
	}
}
