package envoy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// TestTLSBetweenEnvoys has two Envoys speak TLS with one another, in each mode of the
// listener and with each kind of policy, and mutual TLS. The application behind them
// takes plain text only.
func TestTLSBetweenEnvoys(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	ca, strangers, dir := meshtest.NewAuthority(t), meshtest.NewAuthority(t), t.TempDir()
	names := newZone(t, 0)
	mine := ca.WriteLeaf(t, dir, "front", meshtest.Leaf{Name: "front", DNS: []string{"front.test"}})
	trust := func(a *meshtest.Authority) string {
		return fmt.Sprintf(`"validation":{"trust":{"file":{"certificateChain":%q}}}`, a.File)
	}
	certificate := func(f meshtest.Files) string {
		return fmt.Sprintf(`"certificate":{"file":{"certificateChain":%q,"privateKey":%q}}`, f.Cert, f.Key)
	}
	rows := []struct {
		name, policy, mode, clients string
		status                      int
	}{
		{"permissive-none", "", "PERMISSIVE", "", 200},
		{"strict-none", "", "STRICT", "", 200},
		{"strict-policy", trust(ca), "STRICT", "", 200},
		{"strict-not-enforced", `"enforce":false,` + trust(ca), "STRICT", "", 200},
		{"strict-stranger", trust(strangers), "STRICT", "", 503},
		{"mutual", trust(ca) + "," + certificate(mine), "STRICT", "," + trust(ca), 200},
		{"mutual-without", trust(ca), "STRICT", "," + trust(ca), 503},
		{"disabled-enforced", trust(ca), "DISABLED", "", 503},
		{"disabled-not-enforced", `"enforce":false,` + trust(ca), "DISABLED", "", 200},
	}
	var backends []string
	for _, r := range rows {
		host := r.name + ".test"
		files := ca.WriteLeaf(t, dir, r.name, meshtest.Leaf{Name: r.name, DNS: []string{host}})
		bind := meshtest.Address(t)
		names.set(host, bind)
		s.node(r.name, nodeSpec(host, "http", fmt.Sprintf(`,"tls":{"mode":%q,%s%s}`, r.mode, certificate(files), r.clients)))
		s.plane.Proxy(t, meshtest.ProxyConfig{ARN: meshtest.ARN("test", r.name), Bind: bind, App: meshtest.Serve(t, port, named(r.name))}).Ready(t)
		s.provided(r.name, r.name)
		policy := ""
		if r.policy != "" {
			policy = `,"clientPolicy":{"tls":{` + r.policy + `}}`
		}
		backends = append(backends, fmt.Sprintf(`{"virtualService":{"virtualServiceName":%q%s}}`, r.name, policy))
	}
	s.node("front", `{"backends":[`+strings.Join(backends, ",")+`]}`)
	s.startFrontWith(meshtest.ProxyConfig{ARN: meshtest.ARN("test", "front"), Bind: meshtest.Address(t), App: meshtest.Address(t)}, names.resolver)
	for _, r := range rows {
		status, body, err := meshtest.Get(s.http, fmt.Sprintf("http://%s:%d/", r.name, port))
		if err != nil || status != r.status || status == http.StatusOK && body != r.name {
			t.Errorf("%s: %d %q %v, want %d", r.name, status, body, err, r.status)
		}
	}
}
