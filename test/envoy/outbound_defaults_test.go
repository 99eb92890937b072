package envoy

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// openPort is that of a target that takes no TLS, or takes it as well.
const openPort = 8081

// TestTLSDefaults has nodes with the same backends, none of which has a policy of its own.
// The defaults of the first hold for one port and list names; those of the second come
// from the workload's source of secrets and are not enforced; those of the third trust an
// authority of ACM, which nothing can be verified by.
func TestTLSDefaults(t *testing.T) {
	t.Parallel()
	covers(t,
		"VirtualNode.backendDefaults.clientPolicy.tls.{enforce,ports}",
		"VirtualNode.backendDefaults.clientPolicy.tls.certificate.{file.certificateChain,file.privateKey,sds.secretName}",
		"VirtualNode.backendDefaults.clientPolicy.tls.validation.{subjectAlternativeNames.match.exact,trust.file.certificateChain,trust.sds.secretName}",
	)
	s := newStage(t)
	ca, strangers := meshtest.NewAuthority(t), meshtest.NewAuthority(t)
	mine := ca.WriteLeaf(t, t.TempDir(), "files", meshtest.Leaf{Name: "files"})
	source, socket := startSecrets(t)
	source.issue(t, ca, "mine", meshtest.Leaf{Name: "secrets"})
	source.trust(t, ca, "authority")
	names := newZone(t, 0)
	target := func(name string, port int, by *meshtest.Authority, clients tls.ClientAuthType, tls string, inCertificate ...string) {
		host := name + ".test"
		names.set(host, serveOutboundOn(t, port, by, meshtest.Leaf{Name: name, DNS: append(inCertificate, host)}, clients))
		s.node(name, fmt.Sprintf(`{"listeners":[{"portMapping":{"port":%d,"protocol":"http"}%s}],"serviceDiscovery":{"dns":{"hostname":%q}}}`, port, tls, host))
		s.provided(name, name)
	}
	const strict = `,"tls":{"mode":"STRICT","certificate":{"file":{"certificateChain":"/c","privateKey":"/k"}}}`
	target("sealed", port, ca, tls.RequireAndVerifyClientCert, strict, "backends.test")
	target("unlisted", port, ca, tls.NoClientCert, strict)
	target("stranger", port, strangers, tls.NoClientCert, strict, "backends.test")
	target("open", openPort, ca, tls.NoClientCert, "", "backends.test")

	for _, c := range []struct {
		name, policy string
		want         map[string]string // what each target sees, "" for 503
	}{
		{
			"files", fmt.Sprintf(`"ports":[%d],"certificate":{"file":{"certificateChain":%q,"privateKey":%q}},`+
				`"validation":{"trust":{"file":{"certificateChain":%q}},"subjectAlternativeNames":{"match":{"exact":["backends.test"]}}}`, port, mine.Cert, mine.Key, ca.File),
			map[string]string{"sealed": "tls sni=backends.test alpn=http/1.1 peer=files", "unlisted": "", "stranger": "", "open": "plain"},
		},
		{
			"secrets", `"enforce":false,"certificate":{"sds":{"secretName":"mine"}},"validation":{"trust":{"sds":{"secretName":"authority"}}}`,
			map[string]string{
				"sealed": "tls sni=sealed.test alpn=http/1.1 peer=secrets", "unlisted": "tls sni=unlisted.test alpn=http/1.1 peer=nobody", "stranger": "", "open": "plain",
			},
		},
		{
			"authority", `"validation":{"trust":{"acm":{"certificateAuthorityArns":["arn:aws:acm-pca:us-east-1:000000000001:certificate-authority/x"]}}}`,
			map[string]string{"sealed": "", "unlisted": "", "stranger": "", "open": ""},
		},
	} {
		backends := strings.TrimSuffix(meshtest.NodeSpec("", 0, "sealed", "unlisted", "stranger", "open"), "}")
		s.node(c.name, backends+`,"backendDefaults":{"clientPolicy":{"tls":{`+c.policy+`}}}}`)
		s.startFrontWith(meshtest.ProxyConfig{ARN: meshtest.ARN("test", c.name), Bind: meshtest.Address(t), App: meshtest.Address(t)},
			func(b map[string]any) { names.resolver(b); withSecrets(socket)(b) })
		for name, want := range c.want {
			status, body, err := meshtest.Get(s.http, "http://"+name+"/")
			if refused := want == ""; err != nil || refused != (status == http.StatusServiceUnavailable) || !refused && body != want {
				t.Errorf("%s calls %s: %d %q %v, want %q", c.name, name, status, body, err, want)
			}
		}
	}
}
