package mesh_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// ruleCase is a spec that passes the model's limits, and the breaches of the
// cross-field rules in it: none for a spec that must be accepted.
type ruleCase struct {
	name string
	kind mesh.Kind
	spec string
	want []string
}

func TestRules(t *testing.T) {
	t.Parallel()
	for _, cases := range [][]ruleCase{nodeRules, listenerRules, routeRules, gatewayRouteRules, bothCases} {
		for _, c := range cases {
			t.Run(c.kind.String()+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				spec, stored, bad := mesh.Decode(c.kind, "spec", []byte(c.spec))
				var got []string
				for _, v := range bad {
					got = append(got, v.String())
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Fatalf("violations (-want +got):\n%s", diff)
				}
				if (spec == nil) != (len(c.want) > 0) || (stored == nil) != (len(c.want) > 0) {
					t.Errorf("Decode gave spec %v and document %s", spec, stored)
				}
			})
		}
	}
}

const dns = `"serviceDiscovery":{"dns":{"hostname":"a.local"}}`

var nodeRules = []ruleCase{
	{"empty", mesh.KindVirtualNode, `{}`, nil},
	{"empty lists", mesh.KindVirtualNode, `{"backends":[],"listeners":[]}`, nil},
	{"listener and discovery", mesh.KindVirtualNode, `{"listeners":[{"portMapping":{"port":8080,"protocol":"http"}}],` + dns + `}`, nil},
	{
		"listener without discovery", mesh.KindVirtualNode, `{"listeners":[{"portMapping":{"port":8080,"protocol":"http"}}]}`,
		[]string{"spec.serviceDiscovery is required when there are listeners"},
	},
	{
		"discovery without listener", mesh.KindVirtualNode, `{` + dns + `}`,
		[]string{"spec.serviceDiscovery is allowed only with a listener, none was given"},
	},
	{"backends", mesh.KindVirtualNode, `{"backends":[{"virtualService":{"virtualServiceName":"a.local"}},{"virtualService":{"virtualServiceName":"b.local"}}]}`, nil},
	{
		"backend twice", mesh.KindVirtualNode, `{"backends":[{"virtualService":{"virtualServiceName":"a"}},{"virtualService":{"virtualServiceName":"b"}},{"virtualService":{"virtualServiceName":"a"}}]}`,
		[]string{`spec.backends[2].virtualService.virtualServiceName must differ from the other backends, "a" is also spec.backends[0]'s`},
	},
	{
		"backend twice, once by ARN", mesh.KindVirtualNode, `{"backends":[{"virtualService":{"virtualServiceName":"a"}},{"virtualService":{"virtualServiceName":"arn:aws:appmesh:us-east-1:000000000001:mesh/m/virtualService/a"}}]}`,
		[]string{`spec.backends[1].virtualService.virtualServiceName must differ from the other backends, "a" is also spec.backends[0]'s`},
	},
	{
		"backend without a name", mesh.KindVirtualNode, `{"backends":[{"virtualService":{"virtualServiceName":""}}]}`,
		[]string{`spec.backends[0].virtualService.virtualServiceName "" is not allowed: 1 to 255 printable characters`},
	},
	{"no provider", mesh.KindVirtualService, `{}`, nil},
	{"node provider", mesh.KindVirtualService, `{"provider":{"virtualNode":{"virtualNodeName":"n_ns"}}}`, nil},
	{
		"impossible node provider", mesh.KindVirtualService, `{"provider":{"virtualNode":{"virtualNodeName":"a/b"}}}`,
		[]string{`spec.provider.virtualNode.virtualNodeName "a/b" is not allowed: 1 to 255 letters, digits, dots, hyphens and underscores`},
	},
	{
		"impossible router provider", mesh.KindVirtualService, `{"provider":{"virtualRouter":{"virtualRouterName":"a b"}}}`,
		[]string{`spec.provider.virtualRouter.virtualRouterName "a b" is not allowed: 1 to 255 letters, digits, dots, hyphens and underscores`},
	},
}

func listener(port, protocol, more string) string {
	return `{"listeners":[{"portMapping":{"port":` + port + `,"protocol":"` + protocol + `"}` + more + `}],` + dns + `}`
}

func gatewayListener(more string) string {
	return `{"listeners":[{"portMapping":{"port":80,"protocol":"http"}` + more + `}]}`
}

const checks = `"healthyThreshold":2,"intervalMillis":5000,"timeoutMillis":2000,"unhealthyThreshold":2`

var listenerRules = []ruleCase{
	{"http pool", mesh.KindVirtualNode, listener("80", "http", `,"connectionPool":{"http":{"maxConnections":8,"maxPendingRequests":16}}`), nil},
	{"tcp pool", mesh.KindVirtualNode, listener("80", "tcp", `,"connectionPool":{"tcp":{"maxConnections":4}}`), nil},
	{
		"pool of another protocol", mesh.KindVirtualNode, listener("80", "http2", `,"connectionPool":{"http":{"maxConnections":4}}`),
		[]string{"spec.listeners[0].connectionPool must have the member http2, the listener's protocol, http was given"},
	},
	{
		"grpc pool on tcp", mesh.KindVirtualNode, listener("80", "tcp", `,"connectionPool":{"grpc":{"maxRequests":4}}`),
		[]string{"spec.listeners[0].connectionPool must have the member tcp, the listener's protocol, grpc was given"},
	},
	{"tcp timeout", mesh.KindVirtualNode, listener("80", "tcp", `,"timeout":{"tcp":{"idle":{"unit":"ms","value":250000}}}`), nil},
	{"timeout without value", mesh.KindVirtualNode, listener("80", "http", `,"timeout":{"http":{"perRequest":{"unit":"s"}}}`), nil},
	{
		"timeout of another protocol", mesh.KindVirtualNode, listener("80", "grpc", `,"timeout":{"http2":{}}`),
		[]string{"spec.listeners[0].timeout must have the member grpc, the listener's protocol, http2 was given"},
	},
	{"health check of another protocol", mesh.KindVirtualNode, listener("80", "grpc", `,"healthCheck":{"protocol":"http2","path":"/ping",`+checks+`}`), nil},
	{"health check's port", mesh.KindVirtualNode, listener("8081", "http", `,"healthCheck":{"protocol":"tcp","port":8081,`+checks+`}`), nil},
	{
		"health check on another port", mesh.KindVirtualNode, listener("80", "http", `,"healthCheck":{"protocol":"http","port":81,`+checks+`}`),
		[]string{"spec.listeners[0].healthCheck.port must be the listener's port 80 or absent, 81 was given"},
	},
	{
		"everything at once", mesh.KindVirtualNode,
		`{"listeners":[{"portMapping":{"port":80,"protocol":"http"}},{"portMapping":{"port":80,"protocol":"tcp"},"connectionPool":{"http":{"maxConnections":1}},"timeout":{"http":{}}}]}`,
		[]string{
			"spec.serviceDiscovery is required when there are listeners",
			"spec.listeners[1].portMapping.port must differ from the other listeners' ports, 80 is also spec.listeners[0]'s",
			"spec.listeners[1].connectionPool must have the member tcp, the listener's protocol, http was given",
			"spec.listeners[1].timeout must have the member tcp, the listener's protocol, http was given",
		},
	},
	{"no listener", mesh.KindVirtualRouter, `{}`, nil},
	{"two listeners", mesh.KindVirtualRouter, `{"listeners":[{"portMapping":{"port":80,"protocol":"http"}},{"portMapping":{"port":81,"protocol":"http"}}]}`, nil},
	{
		"port twice", mesh.KindVirtualRouter, `{"listeners":[{"portMapping":{"port":80,"protocol":"http"}},{"portMapping":{"port":80,"protocol":"grpc"}}]}`,
		[]string{"spec.listeners[1].portMapping.port must differ from the other listeners' ports, 80 is also spec.listeners[0]'s"},
	},
	{"listener", mesh.KindVirtualGateway, gatewayListener(`,"connectionPool":{"http":{"maxConnections":1}},"healthCheck":{"protocol":"grpc",` + checks + `}`), nil},
	{
		"pool and check", mesh.KindVirtualGateway, gatewayListener(`,"connectionPool":{"grpc":{"maxRequests":1}},"healthCheck":{"protocol":"http","port":8080,` + checks + `}`),
		[]string{
			"spec.listeners[0].connectionPool must have the member http, the listener's protocol, grpc was given",
			"spec.listeners[0].healthCheck.port must be the listener's port 80 or absent, 8080 was given",
		},
	},
	{
		"port twice", mesh.KindVirtualGateway, `{"listeners":[{"portMapping":{"port":80,"protocol":"http"}},{"portMapping":{"port":80,"protocol":"http2"},"connectionPool":{"http2":{"maxRequests":1}}}]}`,
		[]string{"spec.listeners[1].portMapping.port must differ from the other listeners' ports, 80 is also spec.listeners[0]'s"},
	},
}

// TestDecodeEchoes holds the two defaults that are written back, and that nothing
// else is.
func TestDecodeEchoes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		kind       mesh.Kind
		spec, want string
	}{
		{"mesh", mesh.KindMesh, `{}`, `{"egressFilter":{"type":"DROP_ALL"}}`},
		{"mesh with a filter", mesh.KindMesh, `{"egressFilter":{"type":"ALLOW_ALL"}}`, `{"egressFilter":{"type":"ALLOW_ALL"}}`},
		{"unknown and null", mesh.KindVirtualNode, `{"backends":[],"logging":null,"future":1}`, `{"backends":[]}`},
		{"health check", mesh.KindVirtualGateway, gatewayListener(`,"healthCheck":{"protocol":"http",` + checks + `}`), gatewayListener(`,"healthCheck":{"protocol":"http","port":80,` + checks + `}`)},
		{"no value is not 0", mesh.KindRoute, tcpRoute(`"timeout":{"idle":{"unit":"s"}}`), tcpRoute(`"timeout":{"idle":{"unit":"s"}}`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, stored, bad := mesh.Decode(c.kind, "spec", []byte(c.spec))
			if len(bad) > 0 {
				t.Fatal(bad)
			}
			var got, want any
			if err := json.Unmarshal(stored, &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(c.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("stored document (-want +got):\n%s", diff)
			}
		})
	}
}

func tcpRoute(more string) string {
	return strings.Replace(`{"tcpRoute":{"action":{"weightedTargets":[{"virtualNode":"a","weight":1}]},MORE}}`, "MORE", more, 1)
}
