package agent

import (
	"path/filepath"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/common/dns/v3"
	dnsclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	awsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/aws/v3"
	signingv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/aws_request_signing/v3"
	codecv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// xdsClusterName is the name of the control plane's cluster in Envoy's statistics.
const xdsClusterName = "fairlead_xds"

// Times of the connection to the control plane. A connection that does not answer
// is closed after keepaliveTimeout, and a lost one is tried again after a random
// time that grows to reconnectMost.
const (
	connectTimeout    = 5 * time.Second
	keepaliveInterval = 10 * time.Second
	keepaliveTimeout  = 20 * time.Second
	reconnectFirst    = 500 * time.Millisecond
	reconnectMost     = 3 * time.Second
)

// Times of what goes to collectors and to a source of certificates.
const (
	collectorConnectTimeout = time.Second
	collectorTimeout        = 10 * time.Second
)

// adsSource is the one stream that carries all resources. Its authority is what the
// server sees as the host, which is part of the signature.
func adsSource(x XDS) *corev3.ApiConfigSource {
	return &corev3.ApiConfigSource{
		ApiType:             corev3.ApiConfigSource_DELTA_GRPC,
		TransportApiVersion: corev3.ApiVersion_V3,
		GrpcServices: []*corev3.GrpcService{{
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
				ClusterName: xdsClusterName,
				Authority:   authority(x),
				RetryPolicy: &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
					BaseInterval: durationpb.New(reconnectFirst),
					MaxInterval:  durationpb.New(reconnectMost),
				}},
			}},
		}},
		SetNodeOnFirstMessageOnly: true,
	}
}

// authority is what an HTTP/2 server is told that it is called.
func authority(x XDS) string {
	if x.Socket != "" {
		return "localhost"
	}
	return x.Address()
}

// xdsCluster is where the stream goes: HTTP/2, signed, over TLS unless said
// otherwise.
func xdsCluster(x XDS) (*clusterv3.Cluster, error) {
	if x.Socket != "" {
		return socketCluster(xdsClusterName, x.Socket)
	}
	options, err := signedHTTP2(x)
	if err != nil {
		return nil, err
	}
	c := staticCluster(xdsClusterName, x.Host, x.Port)
	c.ConnectTimeout = durationpb.New(connectTimeout)
	c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptions: options}
	if !isLiteral(x.Host) {
		if c.ClusterDiscoveryType, err = strictDNS(); err != nil {
			return nil, err
		}
	}
	if !x.Plaintext {
		if c.TransportSocket, err = tlsSocket(x.Host, x.CAFile, "h2"); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// strictDNS has each address of a name stand for one server, so that replicas share
// the proxies, and asks sooner than usual again when the name cannot be resolved.
func strictDNS() (*clusterv3.Cluster_ClusterType, error) {
	dns, err := anypb.New(&dnsclusterv3.DnsCluster{
		DnsLookupFamily: dnsv3.DnsLookupFamily_V4_PREFERRED,
		DnsFailureRefreshRate: &dnsclusterv3.DnsCluster_RefreshRate{
			BaseInterval: durationpb.New(reconnectFirst),
			MaxInterval:  durationpb.New(reconnectMost),
		},
	})
	return &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{Name: "envoy.cluster.dns", TypedConfig: dns}}, err
}

// httpOptions is the extension in which a cluster says how it speaks HTTP.
const httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// staticCluster is a cluster of one host, an IP address for now.
func staticCluster(name, host string, port int) *clusterv3.Cluster {
	return clusterAt(name, tcpAddress(host, port, false))
}

func clusterAt(name string, address *corev3.Address) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}},
			}}}},
		},
	}
}

// sdsClusterName is the cluster that leads to a workload's own source of certificates,
// in App Mesh's words, which the control plane's resources use.
const sdsClusterName = "static_cluster_sds_unix_socket"

// workloadClusterName is the cluster that leads to the agent's own source of the workload's
// certificate, a contract with the control plane.
const workloadClusterName = "fairlead_workload_sds"

// socketCluster leads to a gRPC server at a Unix socket.
func socketCluster(name, socket string) (*clusterv3.Cluster, error) {
	c := clusterAt(name, pipe(socket, 0))
	c.ConnectTimeout = durationpb.New(collectorConnectTimeout)
	var err error
	c.TypedExtensionProtocolOptions, err = plainHTTP2()
	return c, err
}

// plainHTTP2 has a cluster speak HTTP/2 and nothing else.
func plainHTTP2() (map[string]*anypb.Any, error) {
	options, err := anypb.New(&httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{}},
		}},
	})
	return map[string]*anypb.Any{httpOptions: options}, err
}

// signedHTTP2 is HTTP/2 with keepalive pings and Envoy's own SigV4 signer. The
// signer hashes no payload: a stream has no end to wait for.
func signedHTTP2(x XDS) (*anypb.Any, error) {
	signer, err := httpFilter("envoy.filters.http.aws_request_signing", &signingv3.AwsRequestSigning{
		ServiceName:        x.SigningName,
		Region:             x.Region,
		UseUnsignedPayload: true,
		MatchExcludedHeaders: []*matcherv3.StringMatcher{
			{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "x-envoy"}},
			{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "x-forwarded"}},
			{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "te"}},
			{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "user-agent"}},
		},
		CredentialProvider: credentialProvider(x.Credentials),
	})
	if err != nil {
		return nil, err
	}
	codec, err := httpFilter("envoy.filters.http.upstream_codec", &codecv3.UpstreamCodec{})
	if err != nil {
		return nil, err
	}
	return anypb.New(&httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
				ConnectionKeepalive: &corev3.KeepaliveSettings{
					Interval: durationpb.New(keepaliveInterval),
					Timeout:  durationpb.New(keepaliveTimeout),
				},
			}},
		}},
		HttpFilters: []*hcmv3.HttpFilter{signer, codec},
	})
}

func httpFilter(name string, config proto.Message) (*hcmv3.HttpFilter, error) {
	typed, err := anypb.New(config)
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: typed}}, err
}

// credentialProvider names the one place where Envoy looks for a key. Envoy's usual
// chain would also ask the cloud's metadata service, wait for it, and find keys
// that Fairlead did not issue.
func credentialProvider(c Credentials) *awsv3.AwsCredentialProvider {
	p := &awsv3.AwsCredentialProvider{CustomCredentialProviderChain: true}
	if c.File == "" {
		p.EnvironmentCredentialProvider = &awsv3.EnvironmentCredentialProvider{}
		return p
	}
	p.CredentialsFileProvider = &awsv3.CredentialsFileCredentialProvider{
		Profile: c.Profile,
		CredentialsDataSource: &corev3.DataSource{
			Specifier:        &corev3.DataSource_Filename{Filename: c.File},
			WatchedDirectory: &corev3.WatchedDirectory{Path: filepath.Dir(c.File)},
		},
	}
	return p
}

// tlsSocket checks the server's certificate against the roots and its name or
// address.
func tlsSocket(host, caFile, alpn string) (*corev3.TransportSocket, error) {
	context := &tlsv3.UpstreamTlsContext{Sni: host}
	san := tlsv3.SubjectAltNameMatcher_DNS
	if isLiteral(host) {
		context.Sni, san = "", tlsv3.SubjectAltNameMatcher_IP_ADDRESS
	}
	context.CommonTlsContext = &tlsv3.CommonTlsContext{
		AlpnProtocols: []string{alpn},
		ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa: &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: caFile}},
			MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
				SanType: san,
				Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: host}},
			}},
		}},
	}
	typed, err := anypb.New(context)
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: typed},
	}, err
}
