package main

import (
	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/service/appmesh"
)

// tags makes tags of keys and values in turn.
func tags(pairs ...string) []*appmesh.TagRef {
	var all []*appmesh.TagRef
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, &appmesh.TagRef{Key: aws.String(pairs[i]), Value: aws.String(pairs[i+1])})
	}
	return all
}

func port(number int64, protocol string) *appmesh.PortMapping {
	return &appmesh.PortMapping{Port: aws.Int64(number), Protocol: aws.String(protocol)}
}

func duration(value int64, unit string) *appmesh.Duration {
	return &appmesh.Duration{Unit: aws.String(unit), Value: aws.Int64(value)}
}

// nodeSpec is a node with a member of each union that one can have, and a health check without a port.
func nodeSpec() *appmesh.VirtualNodeSpec {
	return &appmesh.VirtualNodeSpec{
		Listeners: []*appmesh.Listener{{
			PortMapping: port(8080, "http"),
			HealthCheck: &appmesh.HealthCheckPolicy{
				HealthyThreshold: aws.Int64(2), UnhealthyThreshold: aws.Int64(3), IntervalMillis: aws.Int64(5000), TimeoutMillis: aws.Int64(2000),
				Protocol: aws.String("http"), Path: aws.String("/up?a=<b>&c"),
			},
			ConnectionPool: &appmesh.VirtualNodeConnectionPool{
				Http: &appmesh.VirtualNodeHttpConnectionPool{MaxConnections: aws.Int64(10), MaxPendingRequests: aws.Int64(20)},
			},
			OutlierDetection: &appmesh.OutlierDetection{
				BaseEjectionDuration: duration(30, "s"), Interval: duration(500, "ms"),
				MaxEjectionPercent: aws.Int64(50), MaxServerErrors: aws.Int64(9007199254740991), // the largest that this SDK reads rightly
			},
			Timeout: &appmesh.ListenerTimeout{Http: &appmesh.HttpTimeout{
				Idle: duration(0, "s"), PerRequest: &appmesh.Duration{Unit: aws.String("s")},
			}},
			Tls: &appmesh.ListenerTls{
				Mode: aws.String(appmesh.ListenerTlsModePermissive),
				Certificate: &appmesh.ListenerTlsCertificate{File: &appmesh.ListenerTlsFileCertificate{
					CertificateChain: aws.String("/cert.pem"), PrivateKey: aws.String("/key.pem"),
				}},
				Validation: &appmesh.ListenerTlsValidationContext{Trust: &appmesh.ListenerTlsValidationContextTrust{
					Sds: &appmesh.TlsValidationContextSdsTrust{SecretName: aws.String("ca")},
				}},
			},
		}},
		ServiceDiscovery: &appmesh.ServiceDiscovery{Dns: &appmesh.DnsServiceDiscovery{
			Hostname: aws.String("blue.internal"), ResponseType: aws.String(appmesh.DnsResponseTypeEndpoints),
			IpPreference: aws.String(appmesh.IpPreferenceIpv6Preferred),
		}},
		Backends: []*appmesh.Backend{{VirtualService: &appmesh.VirtualServiceBackend{
			VirtualServiceName: aws.String("not-there.local"),
			ClientPolicy: &appmesh.ClientPolicy{Tls: &appmesh.ClientPolicyTls{
				Enforce: aws.Bool(false), Ports: aws.Int64Slice([]int64{443, 80}),
				Validation: &appmesh.TlsValidationContext{
					Trust: &appmesh.TlsValidationContextTrust{File: &appmesh.TlsValidationContextFileTrust{CertificateChain: aws.String("/ca.pem")}},
					SubjectAlternativeNames: &appmesh.SubjectAlternativeNames{
						Match: &appmesh.SubjectAlternativeNameMatchers{Exact: aws.StringSlice([]string{"b.local", "a.local"})},
					},
				},
			}},
		}}},
		Logging: &appmesh.Logging{AccessLog: &appmesh.AccessLog{File: &appmesh.FileAccessLog{
			Path: aws.String("/dev/stdout"),
			Format: &appmesh.LoggingFormat{Json: []*appmesh.JsonFormatRef{
				{Key: aws.String("b"), Value: aws.String("%PROTOCOL%")}, {Key: aws.String("a"), Value: aws.String("ü ✓")},
			}},
		}}},
	}
}

func cloudMapSpec() *appmesh.VirtualNodeSpec {
	return &appmesh.VirtualNodeSpec{
		Listeners: []*appmesh.Listener{{PortMapping: port(8080, "http")}},
		ServiceDiscovery: &appmesh.ServiceDiscovery{AwsCloudMap: &appmesh.AwsCloudMapServiceDiscovery{
			NamespaceName: aws.String("shop"), ServiceName: aws.String("green"),
			Attributes: []*appmesh.AwsCloudMapInstanceAttribute{{Key: aws.String("stack"), Value: aws.String("two words")}},
		}},
	}
}

func routeSpec() *appmesh.RouteSpec {
	return &appmesh.RouteSpec{
		Priority: aws.Int64(1000),
		HttpRoute: &appmesh.HttpRoute{
			Match: &appmesh.HttpRouteMatch{
				Path: &appmesh.HttpPathMatch{Regex: aws.String("/a/[0-9]+<&>")}, Method: aws.String("POST"), Scheme: aws.String("https"),
				Headers: []*appmesh.HttpRouteHeader{
					{Name: aws.String("X-Range"), Invert: aws.Bool(false), Match: &appmesh.HeaderMatchMethod{
						Range: &appmesh.MatchRange{Start: aws.Int64(-1), End: aws.Int64(7)},
					}},
					{Name: aws.String("x-present")},
					{Name: aws.String("x-prefix"), Invert: aws.Bool(true), Match: &appmesh.HeaderMatchMethod{Prefix: aws.String("p")}},
				},
				QueryParameters: []*appmesh.HttpQueryParameter{{Name: aws.String("q"), Match: &appmesh.QueryParameterMatch{Exact: aws.String("1")}}},
			},
			Action: &appmesh.HttpRouteAction{WeightedTargets: []*appmesh.WeightedTarget{
				{VirtualNode: aws.String("blue"), Weight: aws.Int64(90), Port: aws.Int64(8080)},
				{VirtualNode: aws.String("green"), Weight: aws.Int64(10)},
			}},
			RetryPolicy: &appmesh.HttpRetryPolicy{
				MaxRetries: aws.Int64(0), PerRetryTimeout: duration(250, "ms"),
				HttpRetryEvents: aws.StringSlice([]string{"server-error", "client-error"}), TcpRetryEvents: aws.StringSlice([]string{"connection-error"}),
			},
			Timeout: &appmesh.HttpTimeout{PerRequest: duration(15, "s")},
		},
	}
}

func gatewaySpec() *appmesh.VirtualGatewaySpec {
	return &appmesh.VirtualGatewaySpec{
		Listeners: []*appmesh.VirtualGatewayListener{{
			PortMapping:    &appmesh.VirtualGatewayPortMapping{Port: aws.Int64(8443), Protocol: aws.String("http")},
			ConnectionPool: &appmesh.VirtualGatewayConnectionPool{Http: &appmesh.VirtualGatewayHttpConnectionPool{MaxConnections: aws.Int64(5)}},
			Tls: &appmesh.VirtualGatewayListenerTls{
				Mode: aws.String(appmesh.VirtualGatewayListenerTlsModeStrict),
				Certificate: &appmesh.VirtualGatewayListenerTlsCertificate{
					Sds: &appmesh.VirtualGatewayListenerTlsSdsCertificate{SecretName: aws.String("own")},
				},
			},
		}},
		Logging: &appmesh.VirtualGatewayLogging{AccessLog: &appmesh.VirtualGatewayAccessLog{File: &appmesh.VirtualGatewayFileAccessLog{
			Path: aws.String("/dev/stdout"), Format: &appmesh.LoggingFormat{Text: aws.String("%START_TIME%\n")},
		}}},
	}
}

func gatewayRouteSpec() *appmesh.GatewayRouteSpec {
	return &appmesh.GatewayRouteSpec{HttpRoute: &appmesh.HttpGatewayRoute{
		Match: &appmesh.HttpGatewayRouteMatch{Prefix: aws.String("/shop/")},
		Action: &appmesh.HttpGatewayRouteAction{
			Target: &appmesh.GatewayRouteTarget{VirtualService: &appmesh.GatewayRouteVirtualService{VirtualServiceName: aws.String("shop.local")}},
			Rewrite: &appmesh.HttpGatewayRouteRewrite{
				Hostname: &appmesh.GatewayRouteHostnameRewrite{DefaultTargetHostname: aws.String(appmesh.DefaultGatewayRouteRewriteDisabled)},
				Prefix:   &appmesh.HttpGatewayRoutePrefixRewrite{Value: aws.String("/")},
			},
		},
	}}
}
