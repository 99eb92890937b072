package main

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/appmesh/types"
)

// names returns the names in a page of a list.
func names[T any](refs []T, name func(T) *string) []string {
	var all []string
	for _, ref := range refs {
		all = append(all, *name(ref))
	}
	return all
}

// tags makes tags of keys and values in turn.
func tags(pairs ...string) []types.TagRef {
	var all []types.TagRef
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, types.TagRef{Key: aws.String(pairs[i]), Value: aws.String(pairs[i+1])})
	}
	return all
}

func port(number int32, protocol types.PortProtocol) *types.PortMapping {
	return &types.PortMapping{Port: aws.Int32(number), Protocol: protocol}
}

func duration(value int64, unit types.DurationUnit) *types.Duration {
	return &types.Duration{Unit: unit, Value: aws.Int64(value)}
}

// nodeSpec is a node with a member of each union that one can have, and a health check without a port.
func nodeSpec() *types.VirtualNodeSpec {
	return &types.VirtualNodeSpec{
		Listeners: []types.Listener{{
			PortMapping: port(8080, types.PortProtocolHttp),
			HealthCheck: &types.HealthCheckPolicy{
				HealthyThreshold: aws.Int32(2), UnhealthyThreshold: aws.Int32(3), IntervalMillis: aws.Int64(5000), TimeoutMillis: aws.Int64(2000),
				Protocol: types.PortProtocolHttp, Path: aws.String("/up?a=<b>&c"),
			},
			ConnectionPool: &types.VirtualNodeConnectionPoolMemberHttp{
				Value: types.VirtualNodeHttpConnectionPool{MaxConnections: aws.Int32(10), MaxPendingRequests: aws.Int32(20)},
			},
			OutlierDetection: &types.OutlierDetection{
				BaseEjectionDuration: duration(30, types.DurationUnitS), Interval: duration(500, types.DurationUnitMs),
				MaxEjectionPercent: aws.Int32(50), MaxServerErrors: aws.Int64(9007199254740991),
			},
			Timeout: &types.ListenerTimeoutMemberHttp{Value: types.HttpTimeout{
				Idle: duration(0, types.DurationUnitS), PerRequest: &types.Duration{Unit: types.DurationUnitS},
			}},
			Tls: &types.ListenerTls{
				Mode: types.ListenerTlsModePermissive,
				Certificate: &types.ListenerTlsCertificateMemberFile{Value: types.ListenerTlsFileCertificate{
					CertificateChain: aws.String("/cert.pem"), PrivateKey: aws.String("/key.pem"),
				}},
				Validation: &types.ListenerTlsValidationContext{
					Trust: &types.ListenerTlsValidationContextTrustMemberSds{Value: types.TlsValidationContextSdsTrust{SecretName: aws.String("ca")}},
				},
			},
		}},
		ServiceDiscovery: &types.ServiceDiscoveryMemberDns{Value: types.DnsServiceDiscovery{
			Hostname: aws.String("blue.internal"), ResponseType: types.DnsResponseTypeEndpoints, IpPreference: types.IpPreferenceIPv6Preferred,
		}},
		Backends: []types.Backend{&types.BackendMemberVirtualService{Value: types.VirtualServiceBackend{
			VirtualServiceName: aws.String("not-there.local"),
			ClientPolicy: &types.ClientPolicy{Tls: &types.ClientPolicyTls{
				Enforce: aws.Bool(false), Ports: []int32{443, 80},
				Validation: &types.TlsValidationContext{
					Trust: &types.TlsValidationContextTrustMemberFile{Value: types.TlsValidationContextFileTrust{CertificateChain: aws.String("/ca.pem")}},
					SubjectAlternativeNames: &types.SubjectAlternativeNames{
						Match: &types.SubjectAlternativeNameMatchers{Exact: []string{"b.local", "a.local"}},
					},
				},
			}},
		}}},
		Logging: &types.Logging{AccessLog: &types.AccessLogMemberFile{Value: types.FileAccessLog{
			Path: aws.String("/dev/stdout"),
			Format: &types.LoggingFormatMemberJson{Value: []types.JsonFormatRef{
				{Key: aws.String("b"), Value: aws.String("%PROTOCOL%")}, {Key: aws.String("a"), Value: aws.String("ü ✓")},
			}},
		}}},
	}
}

func cloudMapSpec() *types.VirtualNodeSpec {
	return &types.VirtualNodeSpec{
		Listeners: []types.Listener{{PortMapping: port(8080, types.PortProtocolHttp)}},
		ServiceDiscovery: &types.ServiceDiscoveryMemberAwsCloudMap{Value: types.AwsCloudMapServiceDiscovery{
			NamespaceName: aws.String("shop"), ServiceName: aws.String("green"),
			Attributes: []types.AwsCloudMapInstanceAttribute{{Key: aws.String("stack"), Value: aws.String("two words")}},
		}},
	}
}

func routeSpec() *types.RouteSpec {
	return &types.RouteSpec{
		Priority: aws.Int32(1000),
		HttpRoute: &types.HttpRoute{
			Match: &types.HttpRouteMatch{
				Path: &types.HttpPathMatch{Regex: aws.String("/a/[0-9]+<&>")}, Method: types.HttpMethodPost, Scheme: types.HttpSchemeHttps,
				Headers: []types.HttpRouteHeader{
					{Name: aws.String("X-Range"), Invert: aws.Bool(false), Match: &types.HeaderMatchMethodMemberRange{
						Value: types.MatchRange{Start: aws.Int64(-1), End: aws.Int64(7)},
					}},
					{Name: aws.String("x-present")},
					{Name: aws.String("x-prefix"), Invert: aws.Bool(true), Match: &types.HeaderMatchMethodMemberPrefix{Value: "p"}},
				},
				QueryParameters: []types.HttpQueryParameter{{Name: aws.String("q"), Match: &types.QueryParameterMatch{Exact: aws.String("1")}}},
			},
			Action: &types.HttpRouteAction{WeightedTargets: []types.WeightedTarget{
				{VirtualNode: aws.String("blue"), Weight: 90, Port: aws.Int32(8080)},
				{VirtualNode: aws.String("green"), Weight: 10},
			}},
			RetryPolicy: &types.HttpRetryPolicy{
				MaxRetries: aws.Int64(0), PerRetryTimeout: duration(250, types.DurationUnitMs),
				HttpRetryEvents: []string{"server-error", "client-error"}, TcpRetryEvents: []types.TcpRetryPolicyEvent{types.TcpRetryPolicyEventConnectionError},
			},
			Timeout: &types.HttpTimeout{PerRequest: duration(15, types.DurationUnitS)},
		},
	}
}

func gatewaySpec() *types.VirtualGatewaySpec {
	return &types.VirtualGatewaySpec{
		Listeners: []types.VirtualGatewayListener{{
			PortMapping:    &types.VirtualGatewayPortMapping{Port: aws.Int32(8443), Protocol: types.VirtualGatewayPortProtocolHttp},
			ConnectionPool: &types.VirtualGatewayConnectionPoolMemberHttp{Value: types.VirtualGatewayHttpConnectionPool{MaxConnections: aws.Int32(5)}},
			Tls: &types.VirtualGatewayListenerTls{
				Mode: types.VirtualGatewayListenerTlsModeStrict,
				Certificate: &types.VirtualGatewayListenerTlsCertificateMemberSds{
					Value: types.VirtualGatewayListenerTlsSdsCertificate{SecretName: aws.String("own")},
				},
			},
		}},
		Logging: &types.VirtualGatewayLogging{AccessLog: &types.VirtualGatewayAccessLogMemberFile{Value: types.VirtualGatewayFileAccessLog{
			Path: aws.String("/dev/stdout"), Format: &types.LoggingFormatMemberText{Value: "%START_TIME%\n"},
		}}},
	}
}

func gatewayRouteSpec() *types.GatewayRouteSpec {
	return &types.GatewayRouteSpec{HttpRoute: &types.HttpGatewayRoute{
		Match: &types.HttpGatewayRouteMatch{Prefix: aws.String("/shop/")},
		Action: &types.HttpGatewayRouteAction{
			Target: &types.GatewayRouteTarget{VirtualService: &types.GatewayRouteVirtualService{VirtualServiceName: aws.String("shop.local")}},
			Rewrite: &types.HttpGatewayRouteRewrite{
				Hostname: &types.GatewayRouteHostnameRewrite{DefaultTargetHostname: types.DefaultGatewayRouteRewriteDisabled},
				Prefix:   &types.HttpGatewayRoutePrefixRewrite{Value: aws.String("/")},
			},
		},
	}}
}
