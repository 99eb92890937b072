package envoy

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// Envoys differ in what they can do: in the fields that their version knows, and in
// the extensions that they were built with. A field that is unknown and an extension
// that is not there cost a whole resource, or are passed over in silence. So this file
// is the one place that says what our resources ask of an Envoy, and everything else
// asks it.

// Features is a set of what an Envoy may be without.
type Features uint16

// What an Envoy may be without.
const (
	fileLogs          Features = 1 << iota // access logs in files
	grpcLogs                               // access logs by Envoy's own gRPC service
	otelLogs                               // access logs as OpenTelemetry's log records
	logResources                           // their resource attributes, from the proxy's environment
	aggregateMetrics                       // App Mesh's metrics
	metricScopes                           // their prefix as a scope, no longer as stat_prefix
	internalListeners                      // a gateway's second pass
	otherHosts                             // retries that prefer a host not tried before
	faults                                 // faults on purpose
	requestAccess                          // who may ask what
	connectionAccess                       // who may connect
	stdoutLogs                             // access logs on the standard output
	requestLimits                          // so many requests in a time
	requestQuotas                          // so many requests over all proxies
)

// The extensions that an Envoy may be without.
const (
	fileLogger      = "envoy.access_loggers.file"
	grpcLogger      = "envoy.access_loggers.http_grpc"
	stdoutLogger    = "envoy.access_loggers.stdout"
	otelLogger      = "envoy.access_loggers.open_telemetry"
	envDetector     = "envoy.tracers.opentelemetry.resource_detectors.environment"
	statsLogger     = "envoy.access_loggers.stats"
	celFilter       = "envoy.access_loggers.extension_filters.cel"
	connectionLimit = "envoy.filters.network.connection_limit"
	internalBoot    = "envoy.bootstrap.internal_listener"
	internalSocket  = "envoy.transport_sockets.internal_upstream"
	rawSocket       = "envoy.transport_sockets.raw_buffer"
	faultExtension  = "envoy.filters.http.fault"

	requestAccessExtension    = "envoy.filters.http.rbac"
	connectionAccessExtension = "envoy.filters.network.rbac"
	limitExtension            = "envoy.filters.http.local_ratelimit"
	keyExtension              = "envoy.filters.http.header_mutation"
	quotaExtension            = "envoy.filters.http.rate_limit_quota"
	delegateExtension         = "envoy.filters.http.match_delegate"
	headerInput               = "envoy.matching.inputs.request_headers"

	previousHosts    = "envoy.retry_host_predicates.previous_hosts"
	originalDstName  = "envoy.filters.listener.original_dst"
	tlsInspectorName = "envoy.filters.listener.tls_inspector"
	managerName      = "envoy.filters.network.http_connection_manager"
	routerName       = "envoy.filters.http.router"
	tcpProxyName     = "envoy.filters.network.tcp_proxy"
	closingName      = "envoy.filters.network.direct_response"
	tlsSocket        = "envoy.transport_sockets.tls"
)

// oldestMinor is the oldest Envoy 1.x that is tested. An Envoy of no known version is
// taken for one.
const oldestMinor = 37

// essential are the extensions without which no mesh can be served.
var essential = []string{managerName, routerName, tcpProxyName, closingName, tlsInspectorName, tlsSocket}

// feature says which Envoys have a feature.
type feature struct {
	bit        Features
	minor      uint32   // the first Envoy 1.x, 0 for all that are supported
	extensions []string // all are needed
	// missed says what is missed without the feature, where a proxy's settings have asked
	// for it; "" where nothing is, or a place of its own tells.
	missed string
}

// features is held against Envoys of all supported versions by "make test-versions".
var features = []feature{
	{bit: fileLogs, extensions: []string{fileLogger}},
	{bit: grpcLogs, extensions: []string{grpcLogger}, missed: "the access log is not sent to the gRPC service"},
	{bit: otelLogs, extensions: []string{otelLogger}, missed: "the access log is not sent to OpenTelemetry's collector"},
	{bit: logResources, minor: 40, extensions: []string{envDetector}},
	{bit: aggregateMetrics, extensions: []string{statsLogger, celFilter, connectionLimit}, missed: "the aggregate metrics are not kept"},
	{bit: metricScopes, minor: 39},
	{bit: internalListeners, extensions: []string{internalBoot, internalSocket, rawSocket}},
	{bit: otherHosts, extensions: []string{previousHosts}},
	{bit: faults, extensions: []string{faultExtension}},
	{bit: requestAccess, extensions: []string{requestAccessExtension}},
	{bit: connectionAccess, extensions: []string{connectionAccessExtension}},
	{bit: stdoutLogs, extensions: []string{stdoutLogger}},
	{bit: requestLimits, extensions: []string{limitExtension, keyExtension}},
	{bit: requestQuotas, extensions: []string{quotaExtension, delegateExtension, keyExtension, headerInput}},
}

// envoyOf returns what a proxy's Envoy can do. One that lists no extensions is taken to
// have those of a stock Envoy. It is an error to list some and to lack an essential one.
func envoyOf(node *corev3.Node, bound bool) (Features, error) {
	needed := essential
	if !bound {
		needed = slices.Concat([]string{originalDstName}, essential)
	}
	listed := map[string]bool{}
	for _, e := range node.GetExtensions() {
		listed[e.GetName()] = listed[e.GetName()] || !e.GetDisabled()
	}
	has := func(name string) bool { return len(listed) == 0 || listed[name] }
	for _, name := range needed {
		if !has(name) {
			return 0, fmt.Errorf("node.extensions is without %s, an Envoy must have %s", name, strings.Join(needed, ", "))
		}
	}
	var out Features
	minor := minorOf(node)
	for _, f := range features {
		ok := minor >= f.minor
		for _, name := range f.extensions {
			ok = ok && has(name)
		}
		if ok {
			out |= f.bit
		}
	}
	return out, nil
}

// minorOf returns which Envoy 1.x a proxy is. What calls itself otherwise than Envoy
// counts its versions otherwise.
func minorOf(node *corev3.Node) uint32 {
	v := node.GetUserAgentBuildVersion().GetVersion()
	switch {
	case v == nil || cmp.Or(node.GetUserAgentName(), "envoy") != "envoy" || v.GetMajorNumber() == 0:
		return oldestMinor
	case v.GetMajorNumber() > 1:
		return math.MaxUint32
	}
	return v.GetMinorNumber()
}

// fit limits a profile to what the proxy's Envoy can do. What the proxy would not get
// anyway does not count as lacking, so that Envoys of several versions share resources
// wherever they are the same. metrics says that the proxy asks for aggregate metrics.
func (p *Profile) fit(have Features, metrics bool) {
	want := fileLogs | otherHosts | faults | requestAccess | connectionAccess | stdoutLogs | requestLimits
	if p.Discovery.Cluster != "" {
		want |= requestQuotas
	}
	if p.Logs.GRPC.Cluster != "" {
		want |= grpcLogs
	}
	if p.Logs.OpenTelemetry.Cluster != "" {
		want |= otelLogs
		if have&otelLogs != 0 {
			want |= logResources
		}
	}
	if metrics {
		want |= aggregateMetrics
	}
	p.Lacks = want &^ have
	p.Internal = p.Internal && have&internalListeners != 0
	switch {
	case !metrics || p.Lacks&aggregateMetrics != 0:
		p.Metrics = MetricsOff
	case have&metricScopes != 0:
		p.Metrics = MetricsScoped
	default:
		p.Metrics = MetricsPrefixed
	}
}

// lacks reports whether the proxy's Envoy is without a feature.
func (t *translator) lacks(f Features) bool { return t.profile.Lacks&f != 0 }

// missed notes what the proxy's settings ask for and its Envoy cannot do.
func (t *translator) missed() {
	for _, f := range features {
		if f.missed != "" && t.lacks(f.bit) {
			t.problem(t.self(), "", "%s: the proxy's Envoy was built without %s", f.missed, strings.Join(f.extensions, " or "))
		}
	}
}
