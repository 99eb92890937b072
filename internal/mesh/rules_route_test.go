package mesh_test

import "github.com/fairlead-mesh/fairlead/internal/mesh"

const target = `"action":{"weightedTargets":[{"virtualNode":"a","weight":1}]}`

func httpRoute(more string) string { return `{"httpRoute":{` + target + `,` + more + `}}` }

func grpcRoute(more string) string { return `{"grpcRoute":{` + target + `,` + more + `}}` }

const retry = `"maxRetries":0,"perRetryTimeout":{"unit":"s"}`

var routeRules = []ruleCase{
	{"http", mesh.KindRoute, httpRoute(`"match":{"prefix":"/"}`), nil},
	{"http with port", mesh.KindRoute, httpRoute(`"match":{"prefix":"/","port":8080}`), nil},
	{"presence of a header", mesh.KindRoute, httpRoute(`"match":{"prefix":"/","headers":[{"name":"X-Testing1","invert":true}]}`), nil},
	{"grpc empty match", mesh.KindRoute, grpcRoute(`"match":{}`), nil},
	{"tcp without match", mesh.KindRoute, `{"tcpRoute":{` + target + `}}`, nil},
	{"tcp empty match", mesh.KindRoute, tcpRoute(`"match":{}`), nil},
	{"zero weight beside another", mesh.KindRoute, `{"tcpRoute":{"action":{"weightedTargets":[{"virtualNode":"a","weight":99},{"virtualNode":"b","weight":0}]}}}`, nil},
	{"weights above 100 in sum", mesh.KindRoute, `{"tcpRoute":{"action":{"weightedTargets":[{"virtualNode":"a","weight":100},{"virtualNode":"b","weight":100}]}}}`, nil},
	{"target twice", mesh.KindRoute, `{"tcpRoute":{"action":{"weightedTargets":[{"virtualNode":"a","weight":1,"port":80},{"virtualNode":"a","weight":1,"port":81}]}}}`, nil},
	{"no type", mesh.KindRoute, `{"priority":3}`, []string{"spec must have exactly one of grpcRoute, http2Route, httpRoute, tcpRoute, 0 were given"}},
	{
		"two types", mesh.KindRoute, `{"tcpRoute":{` + target + `},"grpcRoute":{` + target + `,"match":{}}}`,
		[]string{"spec must have exactly one of grpcRoute, http2Route, httpRoute, tcpRoute, 2 were given"},
	},
	{
		"no weight", mesh.KindRoute, `{"http2Route":{"action":{"weightedTargets":[{"virtualNode":"a","weight":0}]},"match":{"prefix":"/"}}}`,
		[]string{"spec.http2Route.action.weightedTargets must have a target with a weight above 0"},
	},
	{
		"impossible target", mesh.KindRoute, `{"tcpRoute":{"action":{"weightedTargets":[{"virtualNode":"a/b","weight":1}]}}}`,
		[]string{`spec.tcpRoute.action.weightedTargets[0].virtualNode "a/b" is not allowed: 1 to 255 letters, digits, dots, hyphens and underscores`},
	},
	{"neither prefix nor path", mesh.KindRoute, httpRoute(`"match":{"method":"GET"}`), []string{"spec.httpRoute.match must have exactly one of path, prefix, 0 were given"}},
	{
		"prefix and path", mesh.KindRoute, httpRoute(`"match":{"prefix":"/","path":{"exact":"/x"}}`),
		[]string{"spec.httpRoute.match must have exactly one of path, prefix, 2 were given"},
	},
	{"prefix without slash", mesh.KindRoute, httpRoute(`"match":{"prefix":"x"}`), []string{`spec.httpRoute.match.prefix must begin with "/", "x" was given`}},
	{"empty path match", mesh.KindRoute, httpRoute(`"match":{"path":{}}`), []string{"spec.httpRoute.match.path must have exactly one of exact, regex, 0 were given"}},
	{
		"exact and regex", mesh.KindRoute, httpRoute(`"match":{"path":{"exact":"/x","regex":"/.*"}}`),
		[]string{"spec.httpRoute.match.path must have exactly one of exact, regex, 2 were given"},
	},
	{
		"bad expression", mesh.KindRoute, httpRoute(`"match":{"path":{"regex":"/(a"}}`),
		[]string{"spec.httpRoute.match.path.regex must be a valid RE2 expression, \"/(a\" was given: error parsing regexp: missing closing ): `/(a`"},
	},
	{"range", mesh.KindRoute, httpRoute(`"match":{"prefix":"/","headers":[{"name":"h","match":{"range":{"start":2,"end":7}}}]}`), nil},
	{
		"empty range", mesh.KindRoute, httpRoute(`"match":{"prefix":"/","headers":[{"name":"g"},{"name":"h","match":{"range":{"start":7,"end":7}}}]}`),
		[]string{"spec.httpRoute.match.headers[1].match.range must have a start below its end, start 7 and end 7 were given"},
	},
	{
		"empty metadata range", mesh.KindRoute, grpcRoute(`"match":{"metadata":[{"name":"h","match":{"range":{"start":8,"end":7}}}]}`),
		[]string{"spec.grpcRoute.match.metadata[0].match.range must have a start below its end, start 8 and end 7 were given"},
	},
	{
		"method without service", mesh.KindRoute, grpcRoute(`"match":{"methodName":"Get"}`),
		[]string{"spec.grpcRoute.match.serviceName is required with methodName"},
	},
	{"retries", mesh.KindRoute, httpRoute(`"match":{"prefix":"/"},"retryPolicy":{` + retry + `,"httpRetryEvents":["client-error","gateway-error","server-error","stream-error"]}`), nil},
	{"tcp event only", mesh.KindRoute, httpRoute(`"match":{"prefix":"/"},"retryPolicy":{` + retry + `,"tcpRetryEvents":["connection-error"]}`), nil},
	{"grpc event only", mesh.KindRoute, grpcRoute(`"match":{},"retryPolicy":{` + retry + `,"grpcRetryEvents":["cancelled"]}`), nil},
	{
		"no event", mesh.KindRoute, httpRoute(`"match":{"prefix":"/"},"retryPolicy":{` + retry + `}`),
		[]string{"spec.httpRoute.retryPolicy must name at least one event in httpRetryEvents, tcpRetryEvents"},
	},
	{
		"no grpc event", mesh.KindRoute, grpcRoute(`"match":{},"retryPolicy":{` + retry + `}`),
		[]string{"spec.grpcRoute.retryPolicy must name at least one event in grpcRetryEvents, httpRetryEvents, tcpRetryEvents"},
	},
	{
		"unknown event", mesh.KindRoute, httpRoute(`"match":{"prefix":"/"},"retryPolicy":{` + retry + `,"httpRetryEvents":["server-error","503"]}`),
		[]string{`spec.httpRoute.retryPolicy.httpRetryEvents[1] must be one of client-error, gateway-error, server-error, stream-error, "503" was given`},
	},
}

const gatewayTarget = `"target":{"virtualService":{"virtualServiceName":"a.local"}}`

func gatewayRoute(kind, match, more string) string {
	return `{"` + kind + `":{"action":{` + gatewayTarget + more + `},"match":` + match + `}}`
}

var gatewayRouteRules = []ruleCase{
	{"prefix", mesh.KindGatewayRoute, gatewayRoute("httpRoute", `{"prefix":"/"}`, ""), nil},
	{"hostname alone", mesh.KindGatewayRoute, gatewayRoute("http2Route", `{"hostname":{"exact":"test.example.com"}}`, ""), nil},
	{"port alone", mesh.KindGatewayRoute, gatewayRoute("httpRoute", `{"port":8080}`, ""), nil},
	{"nothing", mesh.KindGatewayRoute, gatewayRoute("httpRoute", `{}`, ""), nil},
	{"grpc service", mesh.KindGatewayRoute, gatewayRoute("grpcRoute", `{"serviceName":"test1","port":8080}`, ""), nil},
	{"grpc nothing", mesh.KindGatewayRoute, gatewayRoute("grpcRoute", `{}`, ""), nil},
	{"no type", mesh.KindGatewayRoute, `{}`, []string{"spec must have exactly one of grpcRoute, http2Route, httpRoute, 0 were given"}},
	{
		"prefix and path", mesh.KindGatewayRoute, gatewayRoute("httpRoute", `{"prefix":"/","path":{"exact":"/x"}}`, ""),
		[]string{"spec.httpRoute.match must have at most one of path, prefix, 2 were given"},
	},
	{
		"prefix without slash", mesh.KindGatewayRoute, gatewayRoute("httpRoute", `{"prefix":"users"}`, ""),
		[]string{`spec.httpRoute.match.prefix must begin with "/", "users" was given`},
	},
	{
		"hostname twice", mesh.KindGatewayRoute, gatewayRoute("httpRoute", `{"hostname":{"exact":"a","suffix":".b"}}`, ""),
		[]string{"spec.httpRoute.match.hostname must have exactly one of exact, suffix, 2 were given"},
	},
	{
		"empty hostname", mesh.KindGatewayRoute, gatewayRoute("grpcRoute", `{"hostname":{}}`, ""),
		[]string{"spec.grpcRoute.match.hostname must have exactly one of exact, suffix, 0 were given"},
	},
	{
		"reserved prefix", mesh.KindGatewayRoute, gatewayRoute("httpRoute", `{"prefix":"/aws-appmesh-x"}`, ""),
		[]string{`spec.httpRoute.match.prefix must not begin with /aws-app-mesh or /aws-appmesh, which is reserved, "/aws-appmesh-x" was given`},
	},
	{
		"reserved service", mesh.KindGatewayRoute, gatewayRoute("grpcRoute", `{"serviceName":"aws.app-mesh.v1"}`, ""),
		[]string{`spec.grpcRoute.match.serviceName must not begin with aws.app-mesh or aws.appmesh, which is reserved, "aws.app-mesh.v1" was given`},
	},
	{
		"empty ranges", mesh.KindGatewayRoute, gatewayRoute("grpcRoute", `{"metadata":[{"name":"m","match":{"range":{"start":1,"end":0}}}]}`, ""),
		[]string{"spec.grpcRoute.match.metadata[0].match.range must have a start below its end, start 1 and end 0 were given"},
	},
	{
		"bad header expression", mesh.KindGatewayRoute, gatewayRoute("http2Route", `{"headers":[{"name":"m","match":{"regex":"*"}}]}`, ""),
		[]string{"spec.http2Route.match.headers[0].match.regex must be a valid RE2 expression, \"*\" was given: error parsing regexp: missing argument to repetition operator: `*`"},
	},
	{
		"impossible service", mesh.KindGatewayRoute, `{"httpRoute":{"action":{"target":{"virtualService":{"virtualServiceName":"a\u0000b"}}},"match":{"prefix":"/"}}}`,
		[]string{`spec.httpRoute.action.target.virtualService.virtualServiceName "a\x00b" is not allowed: 1 to 255 printable characters`},
	},
	{"rewrite", mesh.KindGatewayRoute, gatewayRoute("httpRoute", `{"prefix":"/"}`, `,"rewrite":{"hostname":{"defaultTargetHostname":"DISABLED"},"prefix":{"defaultPrefix":"DISABLED"}}`), nil},
	{"rewritten path", mesh.KindGatewayRoute, gatewayRoute("httpRoute", `{"hostname":{"suffix":".x"}}`, `,"rewrite":{"path":{"exact":"/x"}}`), nil},
	{"rewritten prefix", mesh.KindGatewayRoute, gatewayRoute("httpRoute", `{"prefix":"/a/"}`, `,"rewrite":{"prefix":{"value":"/x/"}}`), nil},
	{
		"rewrites both", mesh.KindGatewayRoute, gatewayRoute("httpRoute", `{"prefix":"/a"}`, `,"rewrite":{"path":{"exact":"/x"},"prefix":{"value":"/x","defaultPrefix":"ENABLED"}}`),
		[]string{
			"spec.httpRoute.action.rewrite must have at most one of path, prefix, 2 were given",
			"spec.httpRoute.action.rewrite.prefix must have at most one of defaultPrefix, value, 2 were given",
			`spec.httpRoute.action.rewrite.prefix.value must begin and end with "/", "/x" was given`,
		},
	},
}
