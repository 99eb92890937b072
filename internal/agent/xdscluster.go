package agent

import (
	"path/filepath"
	"time"
)

// xdsClusterName is the name of the control plane's cluster in Envoy's statistics.
const xdsClusterName = "fairlead_xds"

// proxyHeader tells the control plane, on each stream, which proxy of its virtual node it is; it
// is a contract. proxyVariable is the environment variable in which Envoy finds that.
const (
	proxyHeader   = "x-fairlead-proxy"
	proxyVariable = "FAIRLEAD_PROXY_ID"
)

// Times of the connection to the control plane. A connection that does not answer
// a ping is closed after keepaliveTimeout: as the kernel tries again after 6.4 s and then
// after 12.8, a network that is back is noticed within 4 s. A lost one is tried again after a random
// time that grows to reconnectMost.
const (
	connectTimeout    = 5 * time.Second
	keepaliveInterval = 10 * time.Second
	keepaliveTimeout  = 10 * time.Second
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
func adsSource(x XDS) message {
	return message{
		{"api_type", "DELTA_GRPC"},
		{"transport_api_version", "V3"},
		{"grpc_services", []message{{
			{"envoy_grpc", message{
				{"cluster_name", xdsClusterName},
				{"authority", authority(x)},
				{"retry_policy", message{{"retry_back_off", reconnect()}}},
			}},
		}}},
		{"set_node_on_first_message_only", true},
	}
}

// reconnect is the rhythm in which Envoy tries again.
func reconnect() message {
	return message{{"base_interval", duration(reconnectFirst)}, {"max_interval", duration(reconnectMost)}}
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
func xdsCluster(x XDS) message {
	if x.Socket != "" {
		return socketClusterWith(xdsClusterName, x.Socket, http2(message{}, ownName(), codec()))
	}
	var tls message
	if !x.Plaintext {
		tls = tlsSocket(x.Host, x.CAFile, "h2")
	}
	return serverCluster(xdsClusterName, x.Host, x.Port, connectTimeout, signedHTTP2(x), tls)
}

// serverCluster leads to a host, a name or an IP address. Without options it speaks HTTP/1.1, and
// without a transport socket in plaintext.
func serverCluster(name, host string, port int, connect time.Duration, options, tls message) message {
	return append(discovery(name, host),
		field{"connect_timeout", duration(connect)},
		field{"load_assignment", assignment(name, tcpAddress(host, port))},
		field{"typed_extension_protocol_options", options},
		field{"transport_socket", tls})
}

// discovery begins a cluster with its name and how its hosts are found. Each address of a name
// stands for one server, so that replicas share the proxies; a name that cannot be resolved
// is asked for again sooner than usual.
func discovery(name, host string) message {
	if isLiteral(host) {
		return message{{"name", name}, {"type", "STATIC"}}
	}
	return message{{"name", name}, {"cluster_type", extension("envoy.cluster.dns", "envoy.extensions.clusters.dns.v3.DnsCluster",
		field{"dns_failure_refresh_rate", reconnect()},
		field{"dns_lookup_family", "V4_PREFERRED"},
	)}}
}

// assignment has a cluster know one host.
func assignment(cluster string, address message) message {
	return message{
		{"cluster_name", cluster},
		{"endpoints", []message{{{"lb_endpoints", []message{{{"endpoint", message{{"address", address}}}}}}}}},
	}
}

// sdsClusterName is the cluster that leads to a workload's own source of certificates,
// in App Mesh's words, which the control plane's resources use.
const sdsClusterName = "static_cluster_sds_unix_socket"

// workloadClusterName is the cluster that leads to the agent's own source of the workload's
// certificate, a contract with the control plane.
const workloadClusterName = "fairlead_workload_sds"

// socketCluster leads to a gRPC server at a Unix socket.
func socketCluster(name, socket string) message { return socketClusterWith(name, socket, plainHTTP2()) }

// socketClusterWith does so with options of its own.
func socketClusterWith(name, socket string, options message) message {
	return message{
		{"name", name},
		{"type", "STATIC"},
		{"connect_timeout", duration(collectorConnectTimeout)},
		{"load_assignment", assignment(name, pipe(socket, 0))},
		{"typed_extension_protocol_options", options},
	}
}

// httpOptions is the extension in which a cluster says how it speaks HTTP.
const httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// http2 has a cluster speak HTTP/2 and nothing else.
func http2(options message, filters ...message) message {
	return message{{httpOptions, typed(httpOptions,
		field{"explicit_http_config", message{{"http2_protocol_options", options}}},
		field{"http_filters", filters},
	)}}
}

func plainHTTP2() message { return http2(message{}) }

// signedHTTP2 is HTTP/2 with keepalive pings and Envoy's own SigV4 signer. The
// signer hashes no payload: a stream has no end to wait for.
func signedHTTP2(x XDS) message {
	keepalive := message{{"interval", duration(keepaliveInterval)}, {"timeout", duration(keepaliveTimeout)}}
	signer := extension("envoy.filters.http.aws_request_signing", "envoy.extensions.filters.http.aws_request_signing.v3.AwsRequestSigning",
		field{"service_name", x.SigningName},
		field{"region", x.Region},
		field{"use_unsigned_payload", true},
		field{"match_excluded_headers", []message{
			{{"prefix", "x-envoy"}}, {{"prefix", "x-forwarded"}}, {{"exact", "te"}}, {{"exact", "user-agent"}},
		}},
		field{"credential_provider", credentialProvider(x.Credentials)},
	)
	return http2(message{{"connection_keepalive", keepalive}}, ownName(), signer, codec())
}

// ownName tells which proxy it is of its virtual node: that stays when it opens another stream.
func ownName() message {
	return extension("envoy.filters.http.header_mutation", "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
		field{"mutations", message{{"request_mutations", []message{{{"append", message{
			{"header", message{{"key", proxyHeader}, {"value", "%ENVIRONMENT(" + proxyVariable + ")%"}}},
			{"append_action", "OVERWRITE_IF_EXISTS_OR_ADD"},
		}}}}}}})
}

// codec ends a list of filters.
func codec() message {
	return extension("envoy.filters.http.upstream_codec", "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec")
}

// credentialProvider names the one place where Envoy looks for a key. Envoy's usual
// chain would also ask the cloud's metadata service, wait for it, and find keys
// that Fairlead did not issue.
func credentialProvider(c Credentials) message {
	chain := field{"custom_credential_provider_chain", true}
	if c.File == "" {
		return message{chain, {"environment_credential_provider", message{}}}
	}
	return message{{"credentials_file_provider", message{
		{"credentials_data_source", message{
			{"filename", c.File},
			{"watched_directory", message{{"path", filepath.Dir(c.File)}}},
		}},
		{"profile", c.Profile},
	}}, chain}
}

// tlsSocket checks the server's certificate against the roots and its name or
// address.
func tlsSocket(host, caFile, alpn string) message {
	sni, kind := host, "DNS"
	if isLiteral(host) {
		sni, kind = "", "IP_ADDRESS"
	}
	return extension("envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
		field{"common_tls_context", message{
			{"validation_context", message{
				{"trusted_ca", message{{"filename", caFile}}},
				{"match_typed_subject_alt_names", []message{{{"san_type", kind}, {"matcher", message{{"exact", host}}}}}},
			}},
			{"alpn_protocols", []string{alpn}},
		}},
		field{"sni", sni},
	)
}
