package main

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/appmesh/types"
)

// configuration is a mesh with every kind and every form of spec, as the provider expands
// it: no zeros but weights, "enforce" and "invert" always, no priority 0, no list that is empty.
// The changed one differs in every resource.
func (w *workspace) configuration(changed bool) []*resource {
	pick := func(a, b string) string {
		if changed {
			return b
		}
		return a
	}
	tags := map[string]string{"team": pick("blue", "green"), "empty": "", pick("old", "new"): "x"}
	one := int64(1)
	if changed {
		one = 2
	}
	all := []*resource{w.mesh(meshConfig(changed), tags)}
	all = append(all, w.nodeConfigs(one, tags)...)
	for _, p := range []types.PortProtocol{types.PortProtocolHttp, types.PortProtocolHttp2, types.PortProtocolGrpc, types.PortProtocolTcp} {
		name := map[types.PortProtocol]string{types.PortProtocolHttp: "router"}[p]
		if name == "" {
			name = string(p)
		}
		listeners := []types.VirtualRouterListener{{PortMapping: port(8080, p)}}
		if changed {
			listeners = append(listeners, types.VirtualRouterListener{PortMapping: port(9090, types.PortProtocolTcp)})
		}
		all = append(all, w.router(name, &types.VirtualRouterSpec{Listeners: listeners}, tags))
	}
	all = append(all, w.routeConfigs(one, tags)...)
	provider := &types.VirtualServiceProviderMemberVirtualRouter{Value: types.VirtualRouterServiceProvider{VirtualRouterName: aws.String(pick("router", "http2"))}}
	byNode := &types.VirtualServiceProviderMemberVirtualNode{Value: types.VirtualNodeServiceProvider{VirtualNodeName: aws.String(pick("grpc", "tcp"))}}
	none := &types.VirtualServiceSpec{}
	if changed {
		none.Provider = byNode
	}
	all = append(all,
		w.service("shop.local", &types.VirtualServiceSpec{Provider: provider}, tags),
		w.service("node.local", &types.VirtualServiceSpec{Provider: byNode}, tags),
		w.service("none.local", none, tags))
	for _, p := range []types.VirtualGatewayPortProtocol{"http", "http2", "grpc"} {
		all = append(all, w.gateway("gate-"+string(p), gatewayConfig(p, int32(one)), tags))
	}
	return append(all,
		w.gatewayRoute("gate-http", "http", &types.GatewayRouteSpec{HttpRoute: httpGatewayConfig(pick("/a/", "/b/"))}, tags),
		w.gatewayRoute("gate-http2", "http2", &types.GatewayRouteSpec{Priority: aws.Int32(int32(one)), Http2Route: hostGatewayConfig(pick("a.example", "b.example"))}, tags),
		w.gatewayRoute("gate-grpc", "grpc", &types.GatewayRouteSpec{GrpcRoute: &types.GrpcGatewayRoute{
			Match:  &types.GrpcGatewayRouteMatch{ServiceName: aws.String(pick("a.Service", "b.Service"))},
			Action: &types.GrpcGatewayRouteAction{Target: target("none.local")},
		}}, tags))
}

func meshConfig(changed bool) *types.MeshSpec {
	if changed {
		return &types.MeshSpec{ServiceDiscovery: &types.MeshServiceDiscovery{IpPreference: types.IpPreferenceIPv4Preferred}, EgressFilter: &types.EgressFilter{Type: types.EgressFilterTypeDropAll}}
	}
	return &types.MeshSpec{EgressFilter: &types.EgressFilter{Type: types.EgressFilterTypeAllowAll}}
}

// health is a health check without a port: the provider leaves that to the service.
func health(p types.PortProtocol, n int64) *types.HealthCheckPolicy {
	return &types.HealthCheckPolicy{
		HealthyThreshold: aws.Int32(2), UnhealthyThreshold: aws.Int32(2), IntervalMillis: aws.Int64(5000 + n), TimeoutMillis: aws.Int64(2000), Protocol: p,
	}
}

func dns(hostname string) types.ServiceDiscovery {
	return &types.ServiceDiscoveryMemberDns{Value: types.DnsServiceDiscovery{Hostname: aws.String(hostname)}}
}

func backend(name string, policy *types.ClientPolicy) types.Backend {
	return &types.BackendMemberVirtualService{Value: types.VirtualServiceBackend{VirtualServiceName: aws.String(name), ClientPolicy: policy}}
}

func clientPolicy(trust types.TlsValidationContextTrust) *types.ClientPolicy {
	return &types.ClientPolicy{Tls: &types.ClientPolicyTls{
		Enforce: aws.Bool(true), Ports: []int32{9443, 443},
		Certificate: &types.ClientTlsCertificateMemberSds{Value: types.ListenerTlsSdsCertificate{SecretName: aws.String("own")}},
		Validation: &types.TlsValidationContext{
			Trust:                   trust,
			SubjectAlternativeNames: &types.SubjectAlternativeNames{Match: &types.SubjectAlternativeNameMatchers{Exact: []string{"z.local", "a.local"}}},
		},
	}}
}

func (w *workspace) nodeConfigs(n int64, tags map[string]string) []*resource {
	authority := "arn:aws:acm-pca:us-east-1:" + w.Account + ":certificate-authority/1"
	full := func(hostname string) *types.VirtualNodeSpec {
		return &types.VirtualNodeSpec{
			Backends: []types.Backend{
				backend("undeclared.local", clientPolicy(&types.TlsValidationContextTrustMemberAcm{
					Value: types.TlsValidationContextAcmTrust{CertificateAuthorityArns: []string{authority + "2", authority}},
				})),
				backend("another.local", nil),
			},
			BackendDefaults: &types.BackendDefaults{ClientPolicy: &types.ClientPolicy{Tls: &types.ClientPolicyTls{
				Enforce: aws.Bool(false), Validation: &types.TlsValidationContext{
					Trust: &types.TlsValidationContextTrustMemberFile{Value: types.TlsValidationContextFileTrust{CertificateChain: aws.String("/ca.pem")}},
				},
			}}},
			Listeners: []types.Listener{{
				PortMapping: port(8080, types.PortProtocolHttp), HealthCheck: health(types.PortProtocolHttp, n),
				ConnectionPool:   &types.VirtualNodeConnectionPoolMemberHttp{Value: types.VirtualNodeHttpConnectionPool{MaxConnections: aws.Int32(int32(n))}},
				OutlierDetection: &types.OutlierDetection{BaseEjectionDuration: tf(250, "ms"), Interval: tf(10, "s"), MaxEjectionPercent: aws.Int32(0), MaxServerErrors: aws.Int64(5)},
				Timeout:          &types.ListenerTimeoutMemberHttp{Value: types.HttpTimeout{Idle: tf(0, "s"), PerRequest: tf(15, "s")}},
				Tls: &types.ListenerTls{
					Mode:        types.ListenerTlsModeStrict,
					Certificate: &types.ListenerTlsCertificateMemberAcm{Value: types.ListenerTlsAcmCertificate{CertificateArn: aws.String("arn:aws:acm:us-east-1:" + w.Account + ":certificate/1")}},
					Validation: &types.ListenerTlsValidationContext{
						Trust: &types.ListenerTlsValidationContextTrustMemberFile{Value: types.TlsValidationContextFileTrust{CertificateChain: aws.String("/ca.pem")}},
					},
				},
			}},
			Logging: &types.Logging{AccessLog: &types.AccessLogMemberFile{Value: types.FileAccessLog{
				Path: aws.String("/dev/stdout"), Format: &types.LoggingFormatMemberJson{Value: []types.JsonFormatRef{{Key: aws.String("k"), Value: aws.String("v")}}},
			}}},
			ServiceDiscovery: dns(hostname),
		}
	}
	plain := func(p types.PortProtocol, pool types.VirtualNodeConnectionPool, timeout types.ListenerTimeout) *types.VirtualNodeSpec {
		return &types.VirtualNodeSpec{
			Listeners:        []types.Listener{{PortMapping: port(8080, p), ConnectionPool: pool, Timeout: timeout, HealthCheck: health(p, n)}},
			ServiceDiscovery: dns(string(p) + ".internal"),
		}
	}
	empty := &types.VirtualNodeSpec{}
	if n > 1 {
		empty.Logging = &types.Logging{AccessLog: &types.AccessLogMemberFile{Value: types.FileAccessLog{Path: aws.String("/dev/stdout")}}}
	}
	cloudMap := cloudMapSpec()
	cloudMap.ServiceDiscovery.(*types.ServiceDiscoveryMemberAwsCloudMap).Value.Attributes[0].Value = aws.String(string(rune('0' + n)))
	requests := aws.Int32(int32(n))
	return []*resource{
		w.node("blue", full("blue.internal"), tags),
		w.node("green", full("green.internal"), tags),
		w.node("http2", plain("http2", &types.VirtualNodeConnectionPoolMemberHttp2{Value: types.VirtualNodeHttp2ConnectionPool{MaxRequests: requests}},
			&types.ListenerTimeoutMemberHttp2{Value: types.HttpTimeout{Idle: tf(n, "s")}}), tags),
		w.node("grpc", plain("grpc", &types.VirtualNodeConnectionPoolMemberGrpc{Value: types.VirtualNodeGrpcConnectionPool{MaxRequests: requests}},
			&types.ListenerTimeoutMemberGrpc{Value: types.GrpcTimeout{PerRequest: tf(0, "ms")}}), tags),
		w.node("tcp", plain("tcp", &types.VirtualNodeConnectionPoolMemberTcp{Value: types.VirtualNodeTcpConnectionPool{MaxConnections: requests}},
			&types.ListenerTimeoutMemberTcp{Value: types.TcpTimeout{Idle: tf(n, "s")}}), tags),
		w.node("map", cloudMap, tags),
		w.node("empty", empty, tags),
	}
}

// targets are weights as the provider sends them, also where they are 0.
func targets(n int64, names ...string) []types.WeightedTarget {
	weights := []int32{100, 0}
	var all []types.WeightedTarget
	for i, name := range names {
		all = append(all, types.WeightedTarget{VirtualNode: aws.String(name), Weight: weights[(int64(i)+n+1)%2]})
	}
	return all
}

func (w *workspace) routeConfigs(n int64, tags map[string]string) []*resource {
	// A router with two listeners wants to know the port; with one, a port is allowed.
	at := aws.Int32(8080)
	http := &types.RouteSpec{Priority: aws.Int32(int32(n)), HttpRoute: &types.HttpRoute{
		Action: &types.HttpRouteAction{WeightedTargets: targets(n, "blue", "green")},
		Match: &types.HttpRouteMatch{
			Prefix: aws.String("/"), Method: types.HttpMethodGet, Scheme: types.HttpSchemeHttp, Port: at,
			Headers: []types.HttpRouteHeader{
				{Name: aws.String("X-Testing1"), Invert: aws.Bool(true), Match: &types.HeaderMatchMethodMemberRange{Value: types.MatchRange{Start: aws.Int64(2), End: aws.Int64(7)}}},
				{Name: aws.String("X-Testing2"), Invert: aws.Bool(false)},
				{Name: aws.String("a"), Invert: aws.Bool(false), Match: &types.HeaderMatchMethodMemberSuffix{Value: "s"}},
			},
			QueryParameters: []types.HttpQueryParameter{{Name: aws.String("z")}, {Name: aws.String("a"), Match: &types.QueryParameterMatch{Exact: aws.String("x")}}},
		},
		RetryPolicy: &types.HttpRetryPolicy{
			MaxRetries: aws.Int64(0), PerRetryTimeout: tf(15, "s"), HttpRetryEvents: []string{"server-error", "gateway-error"},
			TcpRetryEvents: []types.TcpRetryPolicyEvent{"connection-error"},
		},
		Timeout: &types.HttpTimeout{Idle: tf(0, "ms"), PerRequest: tf(n, "s")},
	}}
	http2 := &types.RouteSpec{Http2Route: &types.HttpRoute{
		Action: &types.HttpRouteAction{WeightedTargets: targets(n, "http2")},
		Match:  &types.HttpRouteMatch{Path: &types.HttpPathMatch{Exact: aws.String("/exact")}, Port: at},
	}}
	http2.Http2Route.Action.WeightedTargets[0].Weight = int32(n)
	grpc := &types.RouteSpec{GrpcRoute: &types.GrpcRoute{
		Action: &types.GrpcRouteAction{WeightedTargets: []types.WeightedTarget{{VirtualNode: aws.String("grpc"), Weight: int32(n), Port: at}}},
		Match:  &types.GrpcRouteMatch{Port: at},
		RetryPolicy: &types.GrpcRetryPolicy{
			MaxRetries: aws.Int64(1), PerRetryTimeout: tf(250, "ms"), GrpcRetryEvents: []types.GrpcRetryPolicyEvent{"unavailable", "cancelled"},
			HttpRetryEvents: []string{"client-error"},
		},
	}}
	methods := &types.RouteSpec{Priority: aws.Int32(7), GrpcRoute: &types.GrpcRoute{
		Action: &types.GrpcRouteAction{WeightedTargets: []types.WeightedTarget{{VirtualNode: aws.String("grpc"), Weight: int32(n)}}},
		Match: &types.GrpcRouteMatch{
			ServiceName: aws.String("a.B"), MethodName: aws.String("C"), Port: at,
			Metadata: []types.GrpcRouteMetadata{
				{Name: aws.String("myMetadata"), Invert: aws.Bool(true), Match: &types.GrpcRouteMetadataMatchMethodMemberRegex{Value: "^a.*"}},
				{Name: aws.String("b"), Invert: aws.Bool(false)},
			},
		},
	}}
	tcp := &types.RouteSpec{TcpRoute: &types.TcpRoute{
		Action:  &types.TcpRouteAction{WeightedTargets: []types.WeightedTarget{{VirtualNode: aws.String("tcp"), Weight: int32(n)}}},
		Match:   &types.TcpRouteMatch{Port: at},
		Timeout: &types.TcpTimeout{Idle: tf(0, "s")},
	}}
	return []*resource{
		w.route("router", "http", http, tags), w.route("http2", "http2", http2, tags), w.route("grpc", "grpc", grpc, tags),
		w.route("grpc", "methods", methods, tags), w.route("tcp", "tcp", tcp, tags),
	}
}

// retarget returns a route with one node in the place of another.
func retarget(spec *types.RouteSpec, from, to string) *types.RouteSpec {
	if spec.HttpRoute == nil {
		return spec
	}
	changed, route := *spec, *spec.HttpRoute
	route.Action = &types.HttpRouteAction{}
	for _, t := range spec.HttpRoute.Action.WeightedTargets {
		if *t.VirtualNode == from {
			t.VirtualNode = &to
		}
		route.Action.WeightedTargets = append(route.Action.WeightedTargets, t)
	}
	changed.HttpRoute = &route
	return &changed
}

// routeOf returns the resource of a route with another spec.
func (w *workspace) routeOf(r *resource, spec *types.RouteSpec) *resource {
	changed := *r
	changed.spec = spec
	return &changed
}

func gatewayConfig(p types.VirtualGatewayPortProtocol, n int32) *types.VirtualGatewaySpec {
	pools := map[types.VirtualGatewayPortProtocol]types.VirtualGatewayConnectionPool{
		"http": &types.VirtualGatewayConnectionPoolMemberHttp{Value: types.VirtualGatewayHttpConnectionPool{
			MaxConnections: aws.Int32(n), MaxPendingRequests: aws.Int32(16),
		}},
		"http2": &types.VirtualGatewayConnectionPoolMemberHttp2{Value: types.VirtualGatewayHttp2ConnectionPool{MaxRequests: aws.Int32(n)}},
		"grpc":  &types.VirtualGatewayConnectionPoolMemberGrpc{Value: types.VirtualGatewayGrpcConnectionPool{MaxRequests: aws.Int32(n)}},
	}
	return &types.VirtualGatewaySpec{
		Listeners: []types.VirtualGatewayListener{{
			PortMapping: &types.VirtualGatewayPortMapping{Port: aws.Int32(8080), Protocol: p}, ConnectionPool: pools[p],
			HealthCheck: &types.VirtualGatewayHealthCheckPolicy{
				HealthyThreshold: aws.Int32(3), UnhealthyThreshold: aws.Int32(3), IntervalMillis: aws.Int64(7000), TimeoutMillis: aws.Int64(3000), Protocol: p,
			},
			Tls: &types.VirtualGatewayListenerTls{
				Mode: types.VirtualGatewayListenerTlsModePermissive,
				Certificate: &types.VirtualGatewayListenerTlsCertificateMemberFile{Value: types.VirtualGatewayListenerTlsFileCertificate{
					CertificateChain: aws.String("/cert.pem"), PrivateKey: aws.String("/key.pem"),
				}},
			},
		}},
		BackendDefaults: &types.VirtualGatewayBackendDefaults{ClientPolicy: &types.VirtualGatewayClientPolicy{Tls: &types.VirtualGatewayClientPolicyTls{
			Enforce: aws.Bool(true), Ports: []int32{8443, 443}, Validation: &types.VirtualGatewayTlsValidationContext{
				Trust: &types.VirtualGatewayTlsValidationContextTrustMemberSds{Value: types.VirtualGatewayTlsValidationContextSdsTrust{SecretName: aws.String("ca")}},
			},
		}}},
		Logging: &types.VirtualGatewayLogging{AccessLog: &types.VirtualGatewayAccessLogMemberFile{Value: types.VirtualGatewayFileAccessLog{Path: aws.String("/dev/stdout")}}},
	}
}

func target(service string) *types.GatewayRouteTarget {
	return &types.GatewayRouteTarget{VirtualService: &types.GatewayRouteVirtualService{VirtualServiceName: aws.String(service)}}
}

func httpGatewayConfig(value string) *types.HttpGatewayRoute {
	return &types.HttpGatewayRoute{
		Match: &types.HttpGatewayRouteMatch{
			Prefix: aws.String("/shop/"), Port: aws.Int32(8080), Method: types.HttpMethodPut,
			Headers: []types.HttpGatewayRouteHeader{{Name: aws.String("X-B"), Invert: aws.Bool(false)}, {Name: aws.String("X-A"), Invert: aws.Bool(true)}},
		},
		Action: &types.HttpGatewayRouteAction{
			// The router behind the service gets a second listener, and the port must be told by then.
			Target:  &types.GatewayRouteTarget{VirtualService: target("shop.local").VirtualService, Port: aws.Int32(8080)},
			Rewrite: &types.HttpGatewayRouteRewrite{Prefix: &types.HttpGatewayRoutePrefixRewrite{Value: aws.String(value)}},
		},
	}
}

func hostGatewayConfig(host string) *types.HttpGatewayRoute {
	return &types.HttpGatewayRoute{
		Match: &types.HttpGatewayRouteMatch{Hostname: &types.GatewayRouteHostnameMatch{Exact: aws.String(host)}},
		Action: &types.HttpGatewayRouteAction{
			Target:  target("node.local"),
			Rewrite: &types.HttpGatewayRouteRewrite{Hostname: &types.GatewayRouteHostnameRewrite{DefaultTargetHostname: types.DefaultGatewayRouteRewriteEnabled}},
		},
	}
}
