package agent

import (
	"math"
	"net/url"
	"strings"
)

// OTLPMetrics is where statistics go as OpenTelemetry's metrics.
type OTLPMetrics struct {
	Collector
	Delta bool // counters and histograms are sent as what was added
}

// otlp is what the variables of OpenTelemetry say.
type otlp struct {
	traces, logs Collector
	metrics      OTLPMetrics
	service      string
	attributes   string
	sampler      Sampler
}

// Sampler says which new traces are kept.
type Sampler struct {
	Parent bool    // what the caller decided holds; else it means nothing
	Share  float64 // of the traces that begin here, 0 to 1
}

// Ports and paths of OTLP, from its specification.
const (
	otlpGRPCPort = 4317
	otlpHTTPPort = 4318
)

// readOTLP reads the variables of OpenTelemetry, with its defaults. An endpoint for
// one of traces, metrics and logs goes before the one for all.
func readOTLP(e *env, r Resource) otlp {
	o := otlp{service: e.text("OTEL_SERVICE_NAME", r.title()), sampler: readSampler(e)}
	o.attributes = readAttributes(e, &o.service)
	if e.yes("OTEL_SDK_DISABLED", false) {
		return o
	}
	o.traces = readSignal(e, "TRACES")
	o.metrics.Collector = readSignal(e, "METRICS")
	o.logs = readSignal(e, "LOGS")
	o.metrics.Delta = e.oneOf("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative", "cumulative", "delta") == "delta"
	return o
}

// readSignal reads where traces, metrics or logs go.
func readSignal(e *env, signal string) Collector {
	const general = "OTEL_EXPORTER_OTLP_"
	if e.oneOf("OTEL_"+signal+"_EXPORTER", "otlp", "otlp", "none") == "none" {
		return Collector{}
	}
	byAll := e.oneOf(general+"PROTOCOL", "http/protobuf", "grpc", "http/protobuf")
	http := e.oneOf(general+signal+"_PROTOCOL", byAll, "grpc", "http/protobuf") == "http/protobuf"
	port := otlpGRPCPort
	if http {
		port = otlpHTTPPort
	}
	own := general + signal + "_ENDPOINT"
	c := e.collector(own, port)
	if !c.Set() {
		if c = e.collector(general+"ENDPOINT", port); !c.Set() {
			return Collector{}
		}
		c.Path = strings.TrimSuffix(c.Path, "/") + "/v1/" + strings.ToLower(signal)
	}
	c.HTTP = http
	switch {
	case !http:
		c.Path = ""
	case c.Path == "":
		c.Path = "/"
	}
	if c.TLS {
		c.CAFile = e.text(general+signal+"_CERTIFICATE", e.text(general+"CERTIFICATE", ""))
	}
	return c
}

// readAttributes reads the resource attributes and puts the service's name among
// them. OTEL_SERVICE_NAME goes before the attribute.
func readAttributes(e *env, service *string) string {
	const name = "OTEL_RESOURCE_ATTRIBUTES"
	var kept []string
	for pair := range strings.SplitSeq(e.text(name, ""), ",") {
		key, value, ok := strings.Cut(pair, "=")
		key = strings.TrimSpace(key)
		switch {
		case strings.TrimSpace(pair) == "":
			continue
		case !ok || key == "":
			e.refuse("%s holds %q, allowed are pairs such as team=shop,deployment.environment=test", name, pair)
			return ""
		case key == "service.name":
			if text, err := url.PathUnescape(strings.TrimSpace(value)); err == nil && e.text("OTEL_SERVICE_NAME", "") == "" {
				*service = text
			}
			continue
		}
		kept = append(kept, key+"="+strings.TrimSpace(value))
	}
	if strings.Contains(*service, ",") {
		e.refuse("OTEL_SERVICE_NAME is %q, allowed is a name without a comma", *service)
	}
	// Envoy takes the values as they are: it does not decode what is escaped.
	return strings.Join(append([]string{"service.name=" + *service}, kept...), ",")
}

// readSampler reads which traces are kept.
func readSampler(e *env) Sampler {
	const name, argument = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
	kind := e.oneOf(name, "parentbased_always_on",
		"always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio")
	s := Sampler{Parent: strings.HasPrefix(kind, "parentbased_"), Share: 1}
	switch {
	case strings.HasSuffix(kind, "always_off"):
		s.Share = 0
	case strings.HasSuffix(kind, "traceidratio"):
		s.Share = e.fraction(argument, 1)
	}
	return s
}

// perMillion is a share in the unit in which Envoy takes it.
func perMillion(share float64) uint32 { return uint32(math.Round(share * 1_000_000)) }
