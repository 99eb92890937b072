package mesh_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

const (
	warnTLS    = `"tls":{"mode":"STRICT","certificate":{"sds":{"secretName":"c"}},"validation":{"trust":{"sds":{"secretName":"fairlead:trust"}}}}`
	warnHealth = `"healthCheck":{"protocol":"http","path":"/ping","healthyThreshold":2,"unhealthyThreshold":2,"timeoutMillis":2000,"intervalMillis":5000}`
)

// TestAccessWarnings holds which access policies are warned of, in a mesh whose gateway leads
// to a node with health checks and mutual TLS; another node has none.
func TestAccessWarnings(t *testing.T) {
	t.Parallel()
	const closed = `{"target":{"mesh":{}},"action":{"access":{"default":"closed"}}}`
	access := func(target, rest, action string) string {
		return `{"target":` + target + rest + `,"action":{"access":{` + action + `}}}`
	}
	const onMesh, onNode, onPlain, allow, deny = `{"mesh":{}}`, `{"virtualNode":{"virtualNodeName":"cart"}}`, `{"virtualNode":{"virtualNodeName":"plain"}}`, `"rule":"allow"`, `"rule":"deny"`
	const health = "policy/b match refuses the health checks of virtualNode/cart port 8080 (GET /ping): its callers take it for down"
	for _, c := range []struct {
		name, a, b string
		want       []string
	}{
		{"closed", closed, "", []string{"policy/a action.access.default locks out virtualGateway/edge, whose routes lead to virtualNode/cart: no policy allows it to call port 8080"}},
		{"closed, over", `{"target":{"mesh":{}},"notAfter":"2020-01-01T00:00:00Z","action":{"access":{"default":"closed"}}}`, "", nil},
		{"tried", access(onMesh, "", `"default":"closed","dryRun":true`), "", nil},
		{"the gateway is allowed", closed, access(onNode, `,"from":[{"virtualGateway":"edge"}]`, allow), nil},
		{"its account is", closed, access(onNode, `,"from":[{"account":"000000000001"}]`, allow), nil},
		{"its name is", closed, access(onNode, `,"from":[{"spiffeId":"spiffe://fairlead.internal/000000000001/shop/virtualGateway/edge"}]`, allow), nil},
		{"all are", closed, access(onNode, ``, allow), nil},
		{
			"another is", closed, access(onNode, `,"from":[{"virtualGateway":"other"},{"virtualNode":"edge"}]`, allow),
			[]string{"policy/a action.access.default locks out virtualGateway/edge, whose routes lead to virtualNode/cart: no policy allows it to call port 8080"},
		},
		{"it is denied", access(onMesh, `,"from":[{"virtualGateway":"edge"}]`, deny), "", []string{
			"policy/a action.access.rule locks out virtualGateway/edge, whose routes lead to virtualNode/cart port 8080",
			"policy/a from[0].virtualGateway cannot be proven at virtualNode/plain port 8080, whose clients show no such certificate (tls.validation.trust.sds.secretName \"fairlead:trust\"), and denies everybody there (and so at 1 more)",
		}},
		{"some of its requests are", access(onNode, `,"from":[{"virtualGateway":"edge"}],"match":{"prefix":"/admin"}`, deny), "", nil},
		{"health checks are not", closed, access(onNode, `,"match":{"prefix":"/api"}`, allow), []string{health}},
		{"health checks are", closed, access(onNode, `,"match":{"prefix":"/p","method":"GET"}`, allow), nil},
		{"by an expression", closed, access(onNode, `,"match":{"path":{"regex":"/p.*"}}`, allow), nil},
		{"health checks are denied", "", access(onNode, `,"match":{"method":"GET"}`, deny), []string{health}},
		{"nothing is closed", "", access(onPlain, ``, allow), []string{"policy/b action.access.rule changes nothing as long as no default is closed where it holds"}},
		{"something else is", access(onNode, "", `"default":"closed"`), access(onPlain, ``, allow), []string{
			"policy/a action.access.default locks out virtualGateway/edge, whose routes lead to virtualNode/cart: no policy allows it to call port 8080",
			"policy/b action.access.rule changes nothing as long as no default is closed where it holds",
		}},
		{"a gateway's", access(`{"virtualGateway":{"virtualGatewayName":"edge"}}`, "", `"default":"closed"`), access(`{"gatewayRoute":{"virtualGatewayName":"edge","gatewayRouteName":"all"}}`, `,"from":[{"account":"000000000001"}]`, allow), []string{
			"policy/b from[0].account cannot be proven at virtualGateway/edge port 80, whose clients show no such certificate (tls.validation.trust.sds.secretName \"fairlead:trust\"), and allows nobody there",
		}},
		{"what goes out", access(`{"virtualService":{"virtualServiceName":"cart.local"}}`, "", `"default":"closed"`), access(`{"virtualRouter":{"virtualRouterName":"cart"}}`, ``, allow), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			objects := map[mesh.Key]string{
				{Kind: mesh.KindVirtualNode, Name: "cart"}:                 `{"serviceDiscovery":{"dns":{"hostname":"c"}},"listeners":[{"portMapping":{"port":8080,"protocol":"http"},` + warnTLS + `,` + warnHealth + `}]}`,
				{Kind: mesh.KindVirtualNode, Name: "plain"}:                `{"serviceDiscovery":{"dns":{"hostname":"p"}},"listeners":[{"portMapping":{"port":8080,"protocol":"http"}},{"portMapping":{"port":8081,"protocol":"http"}}]}`,
				{Kind: mesh.KindVirtualGateway, Name: "edge"}:              `{"listeners":[{"portMapping":{"port":80,"protocol":"http"}}]}`,
				{Kind: mesh.KindVirtualRouter, Name: "cart"}:               `{"listeners":[{"portMapping":{"port":80,"protocol":"http"}}]}`,
				{Kind: mesh.KindRoute, Parent: "cart", Name: "all"}:        `{"httpRoute":{"match":{"prefix":"/"},"action":{"weightedTargets":[{"virtualNode":"cart","weight":1}]}}}`,
				{Kind: mesh.KindVirtualService, Name: "cart.local"}:        `{"provider":{"virtualRouter":{"virtualRouterName":"cart"}}}`,
				{Kind: mesh.KindGatewayRoute, Parent: "edge", Name: "all"}: `{"httpRoute":{"match":{"prefix":"/"},"action":{"target":{"virtualService":{"virtualServiceName":"cart.local"}}}}}`,
			}
			for name, spec := range map[string]string{"a": c.a, "b": c.b} {
				if spec != "" {
					objects[mesh.Key{Kind: mesh.KindPolicy, Name: name}] = spec
				}
			}
			var got []string
			for _, w := range mesh.AccessWarnings(warnSnapshot(t, objects), time.Now()) {
				got = append(got, w.Policy.String()+" "+w.Field+" "+w.Message)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func warnSnapshot(t *testing.T, objects map[mesh.Key]string) *mesh.Snapshot {
	t.Helper()
	edit := mesh.NewSnapshot(mesh.MeshID{Account: "000000000001", Region: "us-east-1", Name: "shop"}).Edit()
	for key, text := range objects {
		spec, err := mesh.ParseSpec(key.Kind, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		edit.Put(mesh.NewItem(key, 1, func() *mesh.Content { return &mesh.Content{ResourceOwner: "000000000001", Spec: spec} }))
	}
	return edit.Done(1)
}
