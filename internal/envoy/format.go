package envoy

import (
	"fmt"
	"regexp"
	"strings"
)

// command is a command of a format: %NAME%, %NAME(ARGUMENT)% or %NAME(ARGUMENT):LENGTH%.
var command = regexp.MustCompile(`^%([A-Z0-9_]+)(?:\((.*?)\))?(:[0-9]{1,9})?%`)

// argument is what a command takes.
type argument struct {
	pattern *regexp.Regexp // of the argument; a missing one is the empty text
	length  bool           // a length may follow
}

// The arguments that commands take.
var (
	takesNothing  = argument{pattern: regexp.MustCompile(`^$`)}
	takesTime     = argument{pattern: regexp.MustCompile(`^[ -~]*$`)}
	takesHeader   = argument{pattern: regexp.MustCompile("^:?[A-Za-z0-9!#$&'*+.^_`|~-]+(\\?:?[A-Za-z0-9!#$&'*+.^_`|~-]+)?$"), length: true}
	takesMetadata = argument{pattern: regexp.MustCompile(`^[A-Za-z0-9._/-]+(:[A-Za-z0-9._/-]+)*\*?$`), length: true}
	takesCluster  = argument{pattern: regexp.MustCompile(takesMetadata.pattern.String())}
	takesState    = argument{pattern: regexp.MustCompile(`^[A-Za-z0-9._/-]+(:(PLAIN|TYPED|FIELD:[A-Za-z0-9._/-]+))?$`), length: true}
	takesName     = argument{pattern: regexp.MustCompile(`^[A-Za-z0-9._~-]+$`), length: true}
	takesStatus   = argument{pattern: regexp.MustCompile(`^(CAMEL_STRING|SNAKE_STRING|NUMBER)?$`)}
	takesSpaces   = argument{pattern: regexp.MustCompile(`^(ALLOW_WHITESPACES)?$`)}
	takesPath     = argument{pattern: regexp.MustCompile(`^(WQ|NQ)?$`), length: true}
	takesAnyOf    = argument{pattern: regexp.MustCompile(`^(DYNAMIC|CLUSTER|ROUTE|UPSTREAM_HOST|LISTENER|VIRTUAL_HOST):[A-Za-z0-9._/-]+(:[A-Za-z0-9._/-]+)*$`), length: true}
	takesPoints   = argument{pattern: regexp.MustCompile(`^[A-Z0-9_]+:[A-Z0-9_]+:(ms|us|ns)$`)}
)

// commands are the commands that every supported Envoy knows without an extension.
var commands = formatCommands(map[string]argument{
	"REQ": takesHeader, "RESP": takesHeader, "TRAILER": takesHeader,
	"START_TIME": takesTime, "START_TIME_LOCAL": takesTime, "EMIT_TIME": takesTime, "EMIT_TIME_LOCAL": takesTime,
	"DOWNSTREAM_PEER_CERT_V_START": takesTime, "DOWNSTREAM_PEER_CERT_V_END": takesTime,
	"UPSTREAM_PEER_CERT_V_START": takesTime, "UPSTREAM_PEER_CERT_V_END": takesTime,
	"DYNAMIC_METADATA": takesMetadata, "CLUSTER_METADATA": takesCluster, "UPSTREAM_METADATA": takesCluster, "METADATA": takesAnyOf,
	"FILTER_STATE": takesState, "UPSTREAM_FILTER_STATE": takesState,
	"ENVIRONMENT": takesName, "QUERY_PARAM": takesName,
	"GRPC_STATUS": takesStatus, "RESPONSE_CODE_DETAILS": takesSpaces, "PATH": takesPath, "COMMON_DURATION": takesPoints,
}, `
	ACCESS_LOG_TYPE BYTES_RECEIVED BYTES_RETRANSMITTED BYTES_SENT CONNECTION_ID CONNECTION_TERMINATION_DETAILS CUSTOM_FLAGS
	DURATION FILTER_CHAIN_NAME GRPC_STATUS_NUMBER HOSTNAME LOCAL_REPLY_BODY PACKETS_RETRANSMITTED PROTOCOL
	REQUESTED_SERVER_NAME REQUEST_DURATION REQUEST_HEADERS_BYTES REQUEST_TX_DURATION RESPONSE_CODE RESPONSE_DURATION
	RESPONSE_FLAGS RESPONSE_FLAGS_LONG RESPONSE_HEADERS_BYTES RESPONSE_TRAILERS_BYTES RESPONSE_TX_DURATION
	ROUNDTRIP_DURATION ROUTE_NAME STREAM_ID TLS_JA3_FINGERPRINT TLS_JA4_FINGERPRINT TRACE_ID UNIQUE_ID VIRTUAL_CLUSTER_NAME

	DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT
	DOWNSTREAM_DIRECT_LOCAL_ADDRESS DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT DOWNSTREAM_DIRECT_LOCAL_PORT
	DOWNSTREAM_DIRECT_REMOTE_ADDRESS DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT DOWNSTREAM_DIRECT_REMOTE_PORT
	DOWNSTREAM_HANDSHAKE_DURATION DOWNSTREAM_HEADER_BYTES_RECEIVED DOWNSTREAM_HEADER_BYTES_SENT
	DOWNSTREAM_LOCAL_ADDRESS DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT DOWNSTREAM_LOCAL_PORT
	DOWNSTREAM_LOCAL_DNS_SAN DOWNSTREAM_LOCAL_EMAIL_SAN DOWNSTREAM_LOCAL_IP_SAN DOWNSTREAM_LOCAL_SUBJECT DOWNSTREAM_LOCAL_URI_SAN
	DOWNSTREAM_PEER_CERT DOWNSTREAM_PEER_DNS_SAN DOWNSTREAM_PEER_EMAIL_SAN DOWNSTREAM_PEER_FINGERPRINT_1
	DOWNSTREAM_PEER_FINGERPRINT_256 DOWNSTREAM_PEER_IP_SAN DOWNSTREAM_PEER_ISSUER DOWNSTREAM_PEER_SERIAL
	DOWNSTREAM_PEER_SUBJECT DOWNSTREAM_PEER_URI_SAN DOWNSTREAM_REMOTE_ADDRESS DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT
	DOWNSTREAM_REMOTE_PORT DOWNSTREAM_TLS_CIPHER DOWNSTREAM_TLS_SESSION_ID DOWNSTREAM_TLS_VERSION
	DOWNSTREAM_TRANSPORT_FAILURE_REASON DOWNSTREAM_WIRE_BYTES_RECEIVED DOWNSTREAM_WIRE_BYTES_SENT

	UPSTREAM_CLUSTER UPSTREAM_CLUSTER_RAW UPSTREAM_CONNECTION_ID UPSTREAM_CONNECTION_POOL_READY_DURATION
	UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT
	UPSTREAM_HEADER_BYTES_RECEIVED UPSTREAM_HEADER_BYTES_SENT UPSTREAM_HOST UPSTREAM_HOST_NAME UPSTREAM_HOST_NAME_WITHOUT_PORT
	UPSTREAM_LOCAL_ADDRESS UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT UPSTREAM_LOCAL_DNS_SAN UPSTREAM_LOCAL_IP_SAN
	UPSTREAM_LOCAL_PORT UPSTREAM_LOCAL_URI_SAN UPSTREAM_PEER_CERT UPSTREAM_PEER_DNS_SAN UPSTREAM_PEER_IP_SAN
	UPSTREAM_PEER_ISSUER UPSTREAM_PEER_SUBJECT UPSTREAM_PEER_URI_SAN UPSTREAM_PROTOCOL UPSTREAM_REMOTE_ADDRESS
	UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT UPSTREAM_REMOTE_PORT UPSTREAM_REQUEST_ATTEMPT_COUNT UPSTREAM_TLS_CIPHER
	UPSTREAM_TLS_SESSION_ID UPSTREAM_TLS_VERSION UPSTREAM_TRANSPORT_FAILURE_REASON UPSTREAM_WIRE_BYTES_RECEIVED
	UPSTREAM_WIRE_BYTES_SENT`)

// formatCommands adds the commands that take nothing to those that do.
func formatCommands(with map[string]argument, without string) map[string]argument {
	for _, name := range strings.Fields(without) {
		with[name] = takesNothing
	}
	return with
}

// checkFormat reports why Envoy would refuse an access log's format. Envoy would
// refuse the whole listener for it.
func checkFormat(format string) error {
	for rest := format; ; {
		at := strings.IndexByte(rest, '%')
		if at < 0 {
			return nil
		}
		rest = rest[at:]
		if strings.HasPrefix(rest, "%%") {
			rest = rest[2:]
			continue
		}
		m := command.FindStringSubmatch(rest)
		if m == nil {
			return fmt.Errorf("the format has a %% that begins no command, at %s (a percent sign itself is %%%%)", excerpt(rest))
		}
		arg, ok := commands[m[1]]
		if !ok {
			return fmt.Errorf("the format has the command %s, which not every supported Envoy knows", excerpt(m[0]))
		}
		if !arg.pattern.MatchString(m[2]) || m[3] != "" && !arg.length {
			return fmt.Errorf("the format has the command %s with an argument that it does not take", excerpt(m[0]))
		}
		rest = rest[len(m[0]):]
	}
}

// excerpt quotes the beginning of a text.
func excerpt(s string) string {
	const most = 40
	if len(s) > most {
		return fmt.Sprintf("%q…", strings.ToValidUTF8(s[:most], ""))
	}
	return fmt.Sprintf("%q", s)
}
