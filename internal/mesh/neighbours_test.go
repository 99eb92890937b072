package mesh

import (
	"fmt"
	"strings"
	"testing"
)

// spec decodes a spec of a kind.
func spec[T any](t *testing.T, k Kind, doc string) T {
	t.Helper()
	typed, _, bad := Decode(k, "spec", []byte(doc))
	if len(bad) > 0 {
		t.Fatalf("%s: %v", doc, bad)
	}
	return typed.(T)
}

// listenersDoc is a spec of a node, router or gateway with some listeners, each
// "PROTOCOL:PORT".
func listenersDoc(k Kind, on string) string {
	var all []string
	for _, l := range strings.Fields(on) {
		protocol, port, _ := strings.Cut(l, ":")
		all = append(all, fmt.Sprintf(`{"portMapping":{"port":%s,"protocol":%q}}`, port, protocol))
	}
	doc := `"listeners":[` + strings.Join(all, ",") + `]`
	if k == KindVirtualNode && len(all) > 0 {
		doc += `,"serviceDiscovery":{"dns":{"hostname":"a.local"}}`
	}
	return "{" + doc + "}"
}

// routeDoc is a route of a type with a match on a port, and targets "NODE" or
// "NODE:PORT".
func routeDoc(protocol, port, targets string) string {
	var all []string
	for _, to := range strings.Fields(targets) {
		name, p, ok := strings.Cut(to, ":")
		if ok {
			p = `,"port":` + p
		}
		all = append(all, fmt.Sprintf(`{"virtualNode":%q,"weight":1%s}`, name, p))
	}
	var match []string
	if strings.HasPrefix(protocol, "http") {
		match = append(match, `"prefix":"/"`)
	}
	if port != "" {
		match = append(match, `"port":`+port)
	}
	return fmt.Sprintf(`{"%sRoute":{"match":{%s},"action":{"weightedTargets":[%s]}}}`, protocol, strings.Join(match, ","), strings.Join(all, ","))
}

// gatewayRouteDoc is a gateway route of a type with a match on a port and a target
// port.
func gatewayRouteDoc(protocol, port, target string) string {
	match, to := "", ""
	if port != "" {
		match = `"port":` + port
	}
	if target != "" {
		to = `"port":` + target + ","
	}
	return fmt.Sprintf(`{"%sRoute":{"match":{%s},"action":{"target":{%s"virtualService":{"virtualServiceName":"s"}}}}}`, protocol, match, to)
}

func wantViolations(t *testing.T, bad Violations, want string) {
	t.Helper()
	got := ""
	if len(bad) > 0 {
		got = bad.Error()
	}
	for _, v := range bad {
		if !v.Rule {
			t.Errorf("%v is not marked as a rule's", v)
		}
	}
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestCheckRoute(t *testing.T) {
	t.Parallel()
	const severalText = "spec.%sRoute.match.port is required: Route must define a port match criteria if the Virtual Router has multiple listeners; allowed are 80, 81"
	for _, c := range []struct{ protocol, port, targets, router, n, want string }{
		{protocol: "http", targets: "n", router: "", n: ""},
		{protocol: "tcp", port: "7", targets: "n:9", router: "", n: ""},
		{protocol: "http", targets: "n", router: "http:80", n: "http:8080"},
		{protocol: "http", port: "80", targets: "n:8080", router: "http:80", n: "http:8080"},
		{protocol: "http2", port: "81", targets: "n:8081", router: "http:80 http2:81", n: "http:8080 http2:8081"},
		{protocol: "http", targets: "absent:4", router: "http:80"},
		{protocol: "http", targets: "n", router: "http:80 http2:81", want: fmt.Sprintf(severalText, "http")},
		{protocol: "http2", targets: "n", router: "http:80 http2:81", want: fmt.Sprintf(severalText, "http2")},
		{protocol: "grpc", targets: "n", router: "grpc:80 http2:81", want: fmt.Sprintf(severalText, "grpc")},
		{protocol: "tcp", targets: "n", router: "tcp:80 http2:81", want: fmt.Sprintf(severalText, "tcp")},
		{
			protocol: "http", port: "82", targets: "n", router: "http:80 http:81",
			want: "spec.httpRoute.match.port must be the port of a listener of the Virtual Router, allowed are 80, 81, 82 was given",
		},
		{
			protocol: "http", port: "81", targets: "n", router: "http:80",
			want: "spec.httpRoute.match.port must be the port of a listener of the Virtual Router, allowed are 80, 81 was given",
		},
		{
			protocol: "tcp", targets: "n", router: "http:80",
			want: "spec.tcpRoute does not fit the Virtual Router, whose listener on port 80 has protocol http: allowed is httpRoute",
		},
		{
			protocol: "http", port: "81", targets: "n", router: "http:80 grpc:81",
			want: "spec.httpRoute does not fit the Virtual Router, whose listener on port 81 has protocol grpc: allowed is grpcRoute",
		},
		{
			protocol: "http", targets: "n:1 n", router: "http:80", n: "http:1 http:2",
			want: `spec.httpRoute.action.weightedTargets[1].port is required, as virtual node "n" has several listeners: allowed are 1, 2`,
		},
		{
			protocol: "http", targets: "n:3", router: "http:80", n: "http:1 http:2",
			want: `spec.httpRoute.action.weightedTargets[0].port must be the port of a listener of virtual node "n", allowed are 1, 2, 3 was given`,
		},
		{
			protocol: "http", targets: "n", router: "", n: "grpc:1",
			want: `spec.httpRoute.action.weightedTargets[0] must lead to a listener with protocol http, which httpRoute is for; that of virtual node "n" on port 1 has protocol grpc`,
		},
		{
			protocol: "tcp", targets: "n:2", router: "http:80", n: "tcp:1 http:2",
			want: "spec.tcpRoute does not fit the Virtual Router, whose listener on port 80 has protocol http: allowed is httpRoute; " +
				`spec.tcpRoute.action.weightedTargets[0] must lead to a listener with protocol tcp, which tcpRoute is for; that of virtual node "n" on port 2 has protocol http`,
		},
	} {
		route := spec[*RouteSpec](t, KindRoute, routeDoc(c.protocol, c.port, c.targets))
		router := spec[*VirtualRouterSpec](t, KindVirtualRouter, listenersDoc(KindVirtualRouter, c.router))
		nodes := map[string]*VirtualNodeSpec{"n": spec[*VirtualNodeSpec](t, KindVirtualNode, listenersDoc(KindVirtualNode, c.n))}
		wantViolations(t, CheckRoute("spec", route, router, nodes), c.want)
	}
	wantViolations(t, CheckRoute("spec", &RouteSpec{HttpRoute: &HttpRoute{Action: &HttpRouteAction{}}}, &VirtualRouterSpec{}, nil), "")
	wantViolations(t, CheckRoute("spec", &RouteSpec{}, &VirtualRouterSpec{}, nil), "")
}

func TestCheckGatewayRoute(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ protocol, port, target, gateway, provider, want string }{
		{protocol: "http", gateway: "", provider: ""},
		{protocol: "http", port: "1", target: "2", gateway: "", provider: ""},
		{protocol: "http", gateway: "http:80", provider: "http:1"},
		{protocol: "grpc", port: "81", target: "2", gateway: "http:80 grpc:81", provider: "http:1 grpc:2"},
		{protocol: "http", gateway: "http:80", provider: "grpc:1"},
		{
			protocol: "http", gateway: "http:80 grpc:81",
			want: "spec.httpRoute.match.port is required: Gateway Route must define a port match criteria if the Virtual Gateway has multiple listeners; allowed are 80, 81",
		},
		{
			protocol: "http2", port: "8", gateway: "http2:80",
			want: "spec.http2Route.match.port must be the port of a listener of the Virtual Gateway, allowed are 80, 8 was given",
		},
		{
			protocol: "http2", gateway: "http:80",
			want: "spec.http2Route does not fit the Virtual Gateway, whose listener on port 80 has protocol http: allowed is httpRoute",
		},
		{
			protocol: "http", gateway: "http:80", provider: "http:1 http:2",
			want: "spec.httpRoute.action.target.port is required, as the virtual service's provider virtualRouter/r has several listeners: allowed are 1, 2",
		},
		{
			protocol: "http", target: "3", gateway: "http:80", provider: "http:1",
			want: "spec.httpRoute.action.target.port must be the port of a listener of the virtual service's provider virtualRouter/r, allowed are 1, 3 was given",
		},
	} {
		route := spec[*GatewayRouteSpec](t, KindGatewayRoute, gatewayRouteDoc(c.protocol, c.port, c.target))
		gateway := spec[*VirtualGatewaySpec](t, KindVirtualGateway, listenersDoc(KindVirtualGateway, c.gateway))
		router := spec[*VirtualRouterSpec](t, KindVirtualRouter, listenersDoc(KindVirtualRouter, c.provider))
		wantViolations(t, CheckGatewayRoute("spec", route, gateway, router, Key{Kind: KindVirtualRouter, Name: "r"}), c.want)
		wantViolations(t, CheckGatewayRoute("spec", route, &VirtualGatewaySpec{}, nil, Key{}), "")
	}
}

func TestCheckListeners(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ routes, router, want string }{
		{routes: "http http:80", router: "http:80"},
		{routes: "http", router: "http:81"},
		{routes: "http:80 tcp:81", router: "tcp:81 http:80"},
		{
			routes: "http http:80 tcp grpc http2 http tcp", router: "http:80 http:81",
			want: "spec.listeners must not be several yet: All Routes for this Virtual Router must define a port match before adding multiple listeners to this Virtual Router. " +
				"6 Route(s) are missing port. Listing up to 5 route names: [r0, r2, r3, r4, r5]",
		},
		{
			routes: "http http:80 http:80", router: "",
			want: "spec.listeners must have a listener with protocol http, which 1 Route(s) of this Virtual Router use. Listing up to 5 route names: [r0]; " +
				"spec.listeners must have a listener with protocol http on port 80, which 2 Route(s) of this Virtual Router use. Listing up to 5 route names: [r1, r2]",
		},
		{
			routes: "http:80 http:81", router: "grpc:80 http:81",
			want: "spec.listeners must have a listener with protocol http on port 80, which 1 Route(s) of this Virtual Router use. Listing up to 5 route names: [r0]",
		},
	} {
		var routes []Route
		var gatewayRoutes []GatewayRoute
		for i, r := range strings.Fields(c.routes) {
			protocol, port, _ := strings.Cut(r, ":")
			routes = append(routes, Route{fmt.Sprintf("r%d", i), spec[*RouteSpec](t, KindRoute, routeDoc(protocol, port, "n"))})
			if protocol != "tcp" {
				gatewayRoutes = append(gatewayRoutes, GatewayRoute{fmt.Sprintf("r%d", i), spec[*GatewayRouteSpec](t, KindGatewayRoute, gatewayRouteDoc(protocol, port, ""))})
			}
		}
		router := spec[*VirtualRouterSpec](t, KindVirtualRouter, listenersDoc(KindVirtualRouter, c.router))
		wantViolations(t, CheckRouterListeners("spec", router, routes), c.want)
		if strings.Contains(c.routes, "tcp") {
			continue
		}
		gateway := spec[*VirtualGatewaySpec](t, KindVirtualGateway, listenersDoc(KindVirtualGateway, c.router))
		want := strings.NewReplacer("Virtual Router", "Virtual Gateway", "Route", "Gateway Route", "route names", "gateway route names").Replace(c.want)
		wantViolations(t, CheckGatewayListeners("spec", gateway, gatewayRoutes), want)
	}
}

func TestCheckUnported(t *testing.T) {
	t.Parallel()
	node := spec[*VirtualNodeSpec](t, KindVirtualNode, listenersDoc(KindVirtualNode, "http:1 http:2"))
	routes := []Key{{Kind: KindRoute, Parent: "r", Name: "x"}}
	wantViolations(t, CheckUnported("spec", node, nil, nil), "")
	wantViolations(t, CheckUnported("spec", node, routes, nil), "spec.listeners must not be several yet: "+
		"All Routes that target this Virtual Node must define a port before adding multiple listeners to this Virtual Node. 1 Route(s) are missing port. Listing up to 5 route names: [r/x]")
	wantViolations(t, CheckUnported("spec", &VirtualRouterSpec{}, nil, routes), "spec.listeners must not be several yet: "+
		"All Gateway Routes to a Virtual Service that this Virtual Router provides must define a target port before adding multiple listeners to this Virtual Router. "+
		"1 Gateway Route(s) are missing port. Listing up to 5 gateway route names: [r/x]")
	service := spec[*VirtualServiceSpec](t, KindVirtualService, `{"provider":{"virtualNode":{"virtualNodeName":"n"}}}`)
	wantViolations(t, CheckProvider("spec", service, nil), "")
	wantViolations(t, CheckProvider("spec", service, routes), "spec.provider.virtualNode.virtualNodeName must have one listener only: "+
		"All Gateway Routes to this Virtual Service must define a target port before its provider has multiple listeners. "+
		"1 Gateway Route(s) are missing port. Listing up to 5 gateway route names: [r/x]")
}

func TestListenersOfSpecs(t *testing.T) {
	t.Parallel()
	node := func(on string) any {
		return spec[*VirtualNodeSpec](t, KindVirtualNode, listenersDoc(KindVirtualNode, on))
	}
	if !SameListeners(node("http:1 grpc:2"), node("grpc:2 http:1")) || SameListeners(node("http:1"), node("tcp:1")) || SameListeners(node("http:1"), node("")) {
		t.Error("listeners are not told apart by port and protocol alone")
	}
	if SeveralListeners(node("http:1")) || !SeveralListeners(node("http:1 tcp:2")) || SeveralListeners(&VirtualRouterSpec{Listeners: []VirtualRouterListener{{}, {}}}) {
		t.Error("listeners are not counted")
	}
	route := spec[*RouteSpec](t, KindRoute, routeDoc("http", "", "a:1 b c:1 c"))
	for name, want := range map[string]bool{"a": true, "b": false, "c": false, "d": true} {
		if got := NamesPort(route, Key{Kind: KindVirtualNode, Name: name}); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if NamesPort(spec[*GatewayRouteSpec](t, KindGatewayRoute, gatewayRouteDoc("http", "", "")), Key{}) || !NamesPort(spec[*GatewayRouteSpec](t, KindGatewayRoute, gatewayRouteDoc("http", "", "1")), Key{}) || !NamesPort(&GatewayRouteSpec{}, Key{}) {
		t.Error("a gateway route's target port")
	}
}

func TestDependents(t *testing.T) {
	t.Parallel()
	m := MeshID{Account: "000000000001", Region: "us-east-1", Name: "m"}
	arn := "arn:aws:appmesh:us-east-1:000000000001:mesh/m/virtualService/"
	node := &VirtualNodeSpec{}
	for _, b := range []string{"a", arn + "a", arn + "b", "arn:aws:appmesh:us-east-1:000000000002:mesh/m@000000000001/virtualService/c", strings.Replace(arn, "mesh/m", "mesh/x", 1) + "a"} {
		node.Backends = append(node.Backends, Backend{VirtualService: &VirtualServiceBackend{VirtualServiceName: b}})
	}
	keys, foreign := Dependents(m, node)
	if got, want := fmt.Sprint(keys, foreign), "[virtualService/a virtualService/b virtualService/c] [arn:aws:appmesh:us-east-1:000000000001:mesh/x/virtualService/a]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
