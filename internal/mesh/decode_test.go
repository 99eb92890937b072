package mesh_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// bothCases breach the model and the rules beyond it at once. All is reported, but
// no rule concludes anything from what the model has refused.
var bothCases = []ruleCase{
	{
		"beside each other", mesh.KindVirtualNode,
		`{"listeners":[{"portMapping":{"port":0,"protocol":"http"},"connectionPool":{"tcp":{"maxConnections":1}}},{"portMapping":{"port":70000,"protocol":"tcp"}}],"backends":[{"virtualService":{"virtualServiceName":"a"}},{"virtualService":{"virtualServiceName":"a"}}]}`,
		[]string{
			"spec.listeners[0].portMapping.port must be a whole number from 1 to 65535, 0 was given",
			"spec.listeners[1].portMapping.port must be a whole number from 1 to 65535, 70000 was given",
			"spec.serviceDiscovery is required when there are listeners",
			"spec.listeners[0].connectionPool must have the member http, the listener's protocol, tcp was given",
			`spec.backends[1].virtualService.virtualServiceName must differ from the other backends, "a" is also spec.backends[0]'s`,
		},
	},
	{
		"in the elements of a list that is too long", mesh.KindRoute,
		`{"tcpRoute":{"action":{"weightedTargets":[` + strings.Repeat(`{"virtualNode":"a/b","weight":0},`, 10) + `{"virtualNode":1,"weight":0}]}}}`,
		append([]string{
			"spec.tcpRoute.action.weightedTargets must have 1 to 10 members, 11 were given",
			"spec.tcpRoute.action.weightedTargets[10].virtualNode must be a string, the number 1 was given",
		}, impossibleTargets(10)...),
	},
	{
		"weights that are not known", mesh.KindRoute, `{"tcpRoute":{"action":{"weightedTargets":[{"virtualNode":"a","weight":"x"},{"virtualNode":"b/c"}]}}}`,
		[]string{
			`spec.tcpRoute.action.weightedTargets[0].weight must be a whole number, the string "x" was given`,
			"spec.tcpRoute.action.weightedTargets[1].weight is required",
			`spec.tcpRoute.action.weightedTargets[1].virtualNode "b/c" is not allowed: 1 to 255 letters, digits, dots, hyphens and underscores`,
		},
	},
	{
		"protocol that is not known", mesh.KindVirtualNode,
		`{"listeners":[{"portMapping":{"port":1,"protocol":"udp"},"timeout":{"tcp":{}},"connectionPool":{"http":{"maxConnections":1}},"healthCheck":{"protocol":"http","port":2,` + checks + `}}],` + dns + `}`,
		[]string{
			`spec.listeners[0].portMapping.protocol must be one of http, tcp, http2, grpc, "udp" was given`,
			"spec.listeners[0].healthCheck.port must be the listener's port 1 or absent, 2 was given",
		},
	},
	{
		"no port mapping", mesh.KindVirtualGateway, `{"listeners":[{"healthCheck":{"protocol":"http","port":2,` + checks + `},"connectionPool":{"grpc":{"maxRequests":1}}},{}]}`,
		[]string{"spec.listeners[0].portMapping is required", "spec.listeners[1].portMapping is required"},
	},
	{
		"listeners that are not known", mesh.KindVirtualNode, `{"listeners":"x",` + dns + `}`,
		[]string{`spec.listeners must be a list, the string "x" was given`},
	},
	{
		"empty and null members of lists", mesh.KindVirtualNode, `{"backends":[{},null,{"virtualService":{"virtualServiceName":5}},{"virtualService":{"virtualServiceName":""}}]}`,
		[]string{
			"spec.backends[0] must have exactly one of virtualService, 0 were given",
			"spec.backends[1] must not be null",
			"spec.backends[2].virtualService.virtualServiceName must be a string, the number 5 was given",
			`spec.backends[3].virtualService.virtualServiceName "" is not allowed: 1 to 255 printable characters`,
		},
	},
	{
		"range and events that are not known", mesh.KindRoute,
		httpRoute(`"match":{"prefix":"x","headers":[{"name":"h","match":{"range":{"start":5,"end":1.5}}}]},"retryPolicy":{"perRetryTimeout":{},"httpRetryEvents":[]}`),
		[]string{
			"spec.httpRoute.match.headers[0].match.range.end must be a whole number of 64 bits, 1.5 was given",
			"spec.httpRoute.retryPolicy.httpRetryEvents must have 1 to 25 members, 0 were given",
			"spec.httpRoute.retryPolicy.maxRetries is required",
			`spec.httpRoute.match.prefix must begin with "/", "x" was given`,
		},
	},
	{
		"two types, one of them not known", mesh.KindGatewayRoute, `{"httpRoute":7,"grpcRoute":{"match":{"hostname":{}}}}`,
		[]string{
			"spec.grpcRoute.action is required",
			"spec.httpRoute must be an object, the number 7 was given",
			"spec must have exactly one of grpcRoute, http2Route, httpRoute, 2 were given",
			"spec.grpcRoute.match.hostname must have exactly one of exact, suffix, 0 were given",
		},
	},
}

func impossibleTargets(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = `spec.tcpRoute.action.weightedTargets[` + string(rune('0'+i)) + `].virtualNode "a/b" is not allowed: 1 to 255 letters, digits, dots, hyphens and underscores`
	}
	return out
}

// TestViolationsInOrder holds that an error tells those of the model first, wherever
// they were found.
func TestViolationsInOrder(t *testing.T) {
	t.Parallel()
	v := mesh.Violations{{Path: "a", Message: "1", Rule: true}, {Path: "b", Message: "2"}, {Path: "c", Message: "3", Rule: true}, {Path: "d", Message: "4"}}
	if diff := cmp.Diff("b 2; d 4; a 1; c 3", v.Error()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	many := make(mesh.Violations, 25)
	for i := range many {
		many[i] = mesh.Violation{Path: "p", Message: "m", Rule: i < 20}
	}
	if got := many.Error(); strings.Count(got, "p m") != 20 || !strings.HasSuffix(got, "; and 5 more") {
		t.Errorf("25 violations are told as %q", got)
	}
}
