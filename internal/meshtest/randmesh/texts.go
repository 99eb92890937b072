package randmesh

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
)

// texts are what makes sense as the text of a member, by structure and name, and what is
// odd there. All else is text.
var texts = map[string]func(*generator) string{
	"HttpRouteMatch.prefix":                (*generator).path,
	"HttpGatewayRouteMatch.prefix":         (*generator).path,
	"HttpPathMatch.exact":                  (*generator).path,
	"HttpPathMatch.regex":                  (*generator).expr,
	"HttpGatewayRoutePathRewrite.exact":    (*generator).path,
	"HealthCheckPolicy.path":               (*generator).path,
	"VirtualGatewayHealthCheckPolicy.path": (*generator).path,
	"HttpGatewayRoutePrefixRewrite.value":  func(g *generator) string { return pick(g, "/", "/a/", "/a b/", "/ü/", "//", "/%41/") },

	"HttpRouteHeader.name":               (*generator).header,
	"HttpGatewayRouteHeader.name":        (*generator).header,
	"GrpcRouteMetadata.name":             (*generator).header,
	"GrpcGatewayRouteMetadata.name":      (*generator).header,
	"HeaderMatchMethod.regex":            (*generator).expr,
	"GrpcRouteMetadataMatchMethod.regex": (*generator).expr,
	"GrpcMetadataMatchMethod.regex":      (*generator).expr,

	"GrpcRouteMatch.serviceName":        (*generator).rpc,
	"GrpcRouteMatch.methodName":         (*generator).rpc,
	"GrpcGatewayRouteMatch.serviceName": (*generator).rpc,
	"GatewayRouteHostnameMatch.exact":   (*generator).host,
	"GatewayRouteHostnameMatch.suffix":  func(g *generator) string { return pick(g, ".", "", ".", "*.") + g.host() },
	"HttpRetryPolicy.httpRetryEvents":   (*generator).httpEvent,
	"GrpcRetryPolicy.httpRetryEvents":   (*generator).httpEvent,

	"DnsServiceDiscovery.hostname":     (*generator).found,
	"FileAccessLog.path":               (*generator).log,
	"VirtualGatewayFileAccessLog.path": (*generator).log,
	"LoggingFormat.text":               func(g *generator) string { return g.format() + g.format() },
	"JsonFormatRef.value":              (*generator).format,

	"TlsValidationContextFileTrust.certificateChain":               (*generator).authority,
	"VirtualGatewayTlsValidationContextFileTrust.certificateChain": (*generator).authority,
	"TlsValidationContextSdsTrust.secretName":                      (*generator).sdsTrust,
	"VirtualGatewayTlsValidationContextSdsTrust.secretName":        (*generator).sdsTrust,
	"ListenerTlsSdsCertificate.secretName":                         (*generator).sdsCertificate,
	"VirtualGatewayListenerTlsSdsCertificate.secretName":           (*generator).sdsCertificate,
	"SubjectAlternativeNameMatchers.exact":                         (*generator).host,
}

// text is odd in one of four cases, as are the others: a spec with too many odd values
// tests the first of them only.
func (g *generator) text() string {
	if g.IntN(4) > 0 {
		return pick(g, "a", "b c", "x-1")
	}
	return pick(g, "/", "", " ", "*", "ü", "a\nb", "a\x00b", "%", "%%", "\\", "x=y&z", "🌊", strings.Repeat("\x00", 255), strings.Repeat("ß", 100))
}

func (g *generator) expr() string {
	if g.IntN(4) > 0 {
		return pick(g, "a", "/.*", `/[^/]+/\d{1,3}`)
	}
	return pick(g, "[a-z]{200}", "(a{0,100}){9}", "é+", `\x{263a}`, `\pL`, `\p{Greek}{9}`, `(?i)ß`, `\x00`, "(?P<n>a)", "(?<n>a)", "(?U)a+", `\z`, "a|",
		`\Qa(\E`, ".{0,300}", ".{0,90}", "[^/]{400}", "(?:(?:a?){20}){20}", "[^/]{90}", "^$", `[[:^alpha:]]`, "(?s).")
}

func (g *generator) path() string {
	if g.IntN(4) > 0 {
		return pick(g, "/", "/a", "/a/b/", "/a/b")
	}
	return pick(g, "", "a", "/a?b", "/#", "/\n", "/ü", "//", "/%2F", "*", "/..", "/a/../b", "/"+strings.Repeat("a", 254))
}

func (g *generator) header() string {
	if g.IntN(4) > 0 {
		return pick(g, "a", "Host", "x-b", "content-type", "User-Agent")
	}
	return pick(g, ":path", ":authority", "a b", "x-ü", "a\n", "a:", "\x00")
}

func (g *generator) rpc() string {
	if g.IntN(4) > 0 {
		return pick(g, "shop.Cart", "Get", "grpc.health.v1.Health")
	}
	return pick(g, "", "/", "a/b", "ü", "a b", "shop.", "a?b", "*", "a\x00")
}

func (g *generator) host() string {
	if g.IntN(4) > 0 {
		return pick(g, "shop.test", "a.shop.test", "SHOP.test", "test")
	}
	return pick(g, "*", "*.test", "shop.test.", "shop.test:80", "10.0.0.1", "[::1]", "ü.test", "a b", "a/b", "a..b", ".a", "a\nb", "xn--tda.test")
}

func (g *generator) httpEvent() string {
	return pick(g, "server-error", "gateway-error", "client-error", "stream-error")
}

// found returns where a virtual node is looked for.
func (g *generator) found() string {
	if g.IntN(4) > 0 && len(g.Hosts) > 0 {
		return pick(g, g.Hosts...)
	}
	return pick(g, "127.0.0.1", "127.1", "::1", "fe80::1%1", "a b", "", "ü", "a:80", "x..y", strings.Repeat("a", 300), "a.b.", "-", "0x7f.1")
}

// log returns a file that Envoy can write to, or no file.
func (g *generator) log() string {
	return pick(g, "/dev/stdout", "/dev/null", filepath.Join(g.Dir, "access.log"), pick(g, "/dev/stderr", "/a\x00b"))
}

func (g *generator) format() string {
	return pick(g, "%REQ(a)%", "%START_TIME(%s)%\n", "%TRAILER(a?b):9%", "100%%", "%PROTOCOL% %RESPONSE_FLAGS%",
		pick(g, "%", "%FOO%", "%REQ(a b)%", "%PROTOCOL%%", "%DURATION(1)%", "é\x00", "%FILTER_STATE(a:b)%", "%START_TIME", "%REQ()%", "%CEL(1)%"))
}

// How many files, and secrets of a workload's own, there are of each sort.
const secrets = 3

func (g *generator) authority() string {
	return filepath.Join(g.Dir, fmt.Sprintf("ca-%d.pem", g.IntN(secrets)))
}

func (g *generator) sdsCertificate() string {
	return pick(g, "", "certificate-0", "certificate-1", "certificate-2")
}

func (g *generator) sdsTrust() string { return pick(g, "trust-0", "trust-1", "trust-2") }

// fix makes what the model allows of a structure into what the rules between its members
// do.
func (g *generator) fix(shape string, o object) {
	switch shape {
	case "ListenerTlsFileCertificate", "VirtualGatewayListenerTlsFileCertificate":
		g.fixFiles(o)
	case "HttpRouteMatch":
		g.one(o, "path", "prefix")
		g.some(o, shape, "path", "prefix")
	case "HttpPathMatch":
		g.one(o, "exact", "regex")
		g.some(o, shape, "exact", "regex")
	case "GatewayRouteHostnameMatch":
		g.one(o, "exact", "suffix")
		g.some(o, shape, "exact", "suffix")
	case "HttpGatewayRouteMatch", "HttpGatewayRouteRewrite":
		g.one(o, "path", "prefix")
	case "HttpGatewayRoutePrefixRewrite":
		g.one(o, "defaultPrefix", "value")
	case "HttpRetryPolicy":
		g.some(o, shape, "httpRetryEvents", "tcpRetryEvents")
	case "GrpcRetryPolicy":
		g.some(o, shape, "grpcRetryEvents", "httpRetryEvents", "tcpRetryEvents")
	case "GrpcRouteMatch":
		if o["methodName"] != nil {
			o["serviceName"] = g.rpc()
		}
	case "MatchRange":
		start := pick(g, math.MinInt64, -1, 0, 1, g.Int64N(1000))
		o["start"], o["end"] = start, pick(g, start+1, start+1+g.Int64N(1000), math.MaxInt64)
	case "PolicyMatch":
		g.one(o, "path", "prefix")
		g.some(o, shape, "headers", "method", "path", "prefix")
	case "FaultAction":
		g.some(o, shape, "abort", "delay", "responseRate")
	case "FaultAbort":
		g.one(o, "grpcStatus", "httpStatus")
		g.some(o, shape, "grpcStatus", "httpStatus")
	case "Duration":
		if o["value"] != nil {
			o["value"] = pick(g, 0, 1, 15, 1500, math.MaxInt64, 315576000001, g.Int64N(100000))
		}
	}
}

// fixFiles names a certificate and the key that belongs to it.
func (g *generator) fixFiles(o object) {
	n := g.IntN(secrets)
	o["certificateChain"] = filepath.Join(g.Dir, fmt.Sprintf("certificate-%d.pem", n))
	o["privateKey"] = filepath.Join(g.Dir, fmt.Sprintf("key-%d.pem", n))
}

// one leaves at most one of two members.
func (g *generator) one(o object, a, b string) {
	if o[a] != nil && o[b] != nil {
		delete(o, pick(g, a, b))
	}
}

// some makes one of the members if none is there.
func (g *generator) some(o object, shape string, names ...string) {
	for _, n := range names {
		if o[n] != nil {
			return
		}
	}
	n := pick(g, names...)
	o[n] = g.member(shape, member(shape, n))
}
