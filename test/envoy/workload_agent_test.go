package envoy

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// TestWorkloadsUnderLoad has agents keep the certificates of both sides, which they renew
// every second, while calls go on, each with a new handshake of the two Envoys, and the root
// is replaced in between: none fails. -edits says how many certificates each is to have had.
func TestWorkloadsUnderLoad(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	bind := meshtest.Address(t)
	frontID := "spiffe://fairlead.internal/000000000001/test/virtualNode/front"
	s.node("cart", nodeSpec(bind, "tcp", fmt.Sprintf(`,"tls":{"mode":"STRICT","certificate":%s,`+
		`"validation":{"trust":{"sds":{"secretName":"fairlead:trust"}},"subjectAlternativeNames":{"match":{"exact":[%q]}}}}`, acmCertificate, frontID)))
	s.provided("cart.local", "cart")
	s.node("front", `{"backends":[{"virtualService":{"virtualServiceName":"cart.local","clientPolicy":{"tls":{`+
		`"certificate":{"sds":{"secretName":"fairlead:workload"}},"validation":{"trust":`+acmAuthority+`}}}}}]}`)
	agent := func(name, bind, app string) *meshtest.Proxy {
		return s.plane.Proxy(t, meshtest.ProxyConfig{
			ARN: meshtest.ARN("test", name), Bind: bind, App: app,
			Env: []string{"FAIRLEAD_API_ENDPOINT=" + s.plane.URL(), "FAIRLEAD_CERTIFICATE_RENEW_SECONDS=1"},
		}).Ready(t)
	}
	cart := agent("cart", bind, meshtest.Serve(t, port, named("cart")))
	front := agent("front", meshtest.Address(t), meshtest.Address(t))
	client := &http.Client{Timeout: deadline, Transport: &http.Transport{DisableKeepAlives: true}}
	call := func(int) (int, string, error) {
		return meshtest.Get(client, fmt.Sprintf("http://%s:%d/", front.Bind, port))
	}
	meshtest.Eventually(t, "both have certificates", func() error {
		status, _, err := call(0)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("answered %d", status)
		}
		return err
	})
	l := startLoad(t, call)
	owner := s.plane.Signed(t)
	// The old root goes when what is below the new one has been shown for a whole round:
	// that a certificate was issued does not say that Envoy has it.
	steps := map[int]string{0: "rotation", 1: "rotation/switch", 3: "rotation/retire"}
	for n := range max(*editCount, 4) {
		for _, x := range []*meshtest.Proxy{cart, front} {
			had := issued(x)
			meshtest.Eventually(t, "another certificate", func() error {
				if issued(x) == had {
					return errors.New(x.Log.String())
				}
				return nil
			})
		}
		if step := steps[n]; step != "" {
			owner.Want(t, http.MethodPut, "/v1/meshes/test/authority/"+step, map[bool]string{true: `{"force":true}`}[n > 0], nil)
			s.agentsHave(owner)
		}
	}
	l.end(t)
}

// issued returns how many certificates an agent has had.
func issued(x *meshtest.Proxy) int {
	return strings.Count(x.Log.String(), `msg="certificate issued"`)
}

// agentsHave waits until both agents have the trust bundle.
func (s *stage) agentsHave(owner *meshtest.Signed) {
	s.t.Helper()
	meshtest.Eventually(s.t, "all agents have the bundle", func() error {
		var out struct {
			Authority struct{ Agents, AgentsCurrent int }
		}
		owner.Want(s.t, http.MethodGet, "/v1/meshes/test/authority", "", &out)
		if a := out.Authority; a.Agents != 2 || a.AgentsCurrent != 2 {
			return fmt.Errorf("%+v", a)
		}
		return nil
	})
}

// An agent and its Envoy that start while the control plane is away have the certificate
// and the trust bundle that they had.
func TestWorkloadRestartsWithoutTheControlPlane(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	bind := meshtest.Address(t)
	s.node("cart", nodeSpec(bind, "http", `,"tls":{"mode":"STRICT","certificate":`+acmCertificate+`}`))
	c := meshtest.ProxyConfig{
		ARN: meshtest.ARN("test", "cart"), Bind: bind, App: meshtest.Serve(t, port, named("cart")),
		Env: []string{"FAIRLEAD_API_ENDPOINT=" + s.plane.URL(), "FAIRLEAD_CACHE_DIR=" + shortDir(t)},
	}
	x := s.plane.Proxy(t, c).Ready(t)
	anchors := s.anchors("test")
	name := "spiffe://fairlead.internal/" + meshtest.Account + "/test/virtualNode/cart"
	answers := func() error {
		_, body, err := meshtest.Get(tlsClient(verifying(anchors, name)), fmt.Sprintf("https://%s:%d/", bind, port))
		if err == nil && body != "cart" {
			err = fmt.Errorf("answered %q", body)
		}
		return err
	}
	meshtest.Eventually(t, "it answers over TLS", answers)
	s.plane.Stop(t)
	x.Kill()
	s.plane.Proxy(t, c).Ready(t)
	meshtest.Eventually(t, "it answers again", answers)
}
