package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// TracerKind is a kind of tracer; "" is none.
type TracerKind string

// The kinds of tracers.
const (
	TracerXRay          TracerKind = "xray"
	TracerDatadog       TracerKind = "datadog"
	TracerZipkin        TracerKind = "zipkin"
	TracerOpenTelemetry TracerKind = "opentelemetry"
)

// Tracer is what makes spans of requests, and where it sends them.
type Tracer struct {
	Kind      TracerKind
	Service   string    // name of the segments or spans' service
	Collector Collector // all kinds but X-Ray
	JSON      bool      // Zipkin: JSON in place of protobuf
	XRay      XRay
	Sampler   Sampler // OpenTelemetry
}

// XRay is what is X-Ray's own.
type XRay struct {
	Daemon        netip.AddrPort // UDP
	Mesh, Node    string         // metadata of the segments
	Rules         string         // sampling rules as JSON; "" for a file or the tracer's own
	RulesManifest string         // file of sampling rules; "" for none
}

// The switches of the tracers.
const (
	xraySwitch    = "ENABLE_ENVOY_XRAY_TRACING"
	datadogSwitch = "ENABLE_ENVOY_DATADOG_TRACING"
	jaegerSwitch  = "ENABLE_ENVOY_JAEGER_TRACING"
)

// readTracer reads the one tracer. A file of the user's own goes before all.
func readTracer(e *env, r Resource, o otlp, ownFile bool) Tracer {
	var on []string
	var t Tracer
	if e.yes(xraySwitch, false) {
		on = append(on, xraySwitch)
		t = readXRay(e, r)
	}
	if e.yes(datadogSwitch, false) {
		on = append(on, datadogSwitch)
		t = Tracer{
			Kind: TracerDatadog, Service: e.text("DD_SERVICE", "envoy-"+r.title()),
			Collector: Collector{Host: e.host("DATADOG_TRACER_ADDRESS", "127.0.0.1"), Port: e.integer("DATADOG_TRACER_PORT", 8126, 1, 65535), HTTP: true},
		}
	}
	if e.yes(jaegerSwitch, false) {
		on = append(on, jaegerSwitch)
		t = Tracer{
			Kind: TracerZipkin, JSON: e.oneOf("JAEGER_TRACER_VERSION", "proto", "proto", "json") == "json",
			Collector: Collector{Host: e.host("JAEGER_TRACER_ADDRESS", "127.0.0.1"), Port: e.integer("JAEGER_TRACER_PORT", 9411, 1, 65535), HTTP: true},
		}
	}
	if o.traces.Set() {
		on = append(on, "OTEL_EXPORTER_OTLP_ENDPOINT for traces")
		t = Tracer{Kind: TracerOpenTelemetry, Service: o.service, Collector: o.traces, Sampler: o.sampler}
	}
	switch {
	case ownFile:
		return Tracer{}
	case len(on) > 1:
		e.refuse("%s are on, allowed is one tracer; OTEL_TRACES_EXPORTER=none keeps OpenTelemetry's other parts", strings.Join(on, " and "))
	}
	return t
}

func readXRay(e *env, r Resource) Tracer {
	mesh, _, name := r.parts()
	t := Tracer{Kind: TracerXRay, Service: e.text("XRAY_SEGMENT_NAME", r.title())}
	t.XRay = XRay{Daemon: readXRayDaemon(e), Mesh: mesh, Node: name, RulesManifest: e.text("XRAY_SAMPLING_RULE_MANIFEST", "")}
	rate := math.Round(e.fraction("XRAY_SAMPLING_RATE", xrayRate)*100) / 100
	if t.XRay.RulesManifest == "" && rate != xrayRate {
		t.XRay.Rules = fmt.Sprintf(`{"version":2,"default":{"fixed_target":1,"rate":%s},"rules":[]}`, strconv.FormatFloat(rate, 'f', -1, 64))
	}
	return t
}

// xrayRate is the share of requests that the X-Ray tracer samples by itself, beside
// one a second.
const xrayRate = 0.05

// readXRayDaemon reads where the daemon is. A port in the address goes before that of
// its own variable.
func readXRayDaemon(e *env) netip.AddrPort {
	const name = "AWS_XRAY_DAEMON_ADDRESS"
	port := uint16(e.integer("XRAY_DAEMON_PORT", 2000, 1, 65535))
	v := e.text(name, "127.0.0.1")
	if a, err := netip.ParseAddr(v); err == nil && a.Zone() == "" {
		return netip.AddrPortFrom(a.Unmap(), port)
	}
	if host, p, err := net.SplitHostPort(v); err == nil {
		a, err := netip.ParseAddr(host)
		n, perr := strconv.ParseUint(p, 10, 16)
		if err == nil && perr == nil && n > 0 && a.Zone() == "" {
			return netip.AddrPortFrom(a.Unmap(), uint16(n))
		}
	}
	e.refuse("%s is %q, allowed is an IP address with or without a port, for example 127.0.0.1:2000", name, v)
	return netip.AddrPort{}
}

// check looks at the file of sampling rules: a tracer that cannot read it would go by
// its own rules and not say so.
func (t Tracer) check() error {
	file := t.XRay.RulesManifest
	if t.Kind != TracerXRay || file == "" {
		return nil
	}
	b, err := os.ReadFile(file)
	if err == nil {
		err = checkXRayRules(b)
	}
	if err != nil {
		return fmt.Errorf("reading XRAY_SAMPLING_RULE_MANIFEST %s: %w", file, err)
	}
	return nil
}

// xrayRule is one rule of a manifest. Pointers tell what is missing.
type xrayRule struct {
	Host, Method, URLPath string
	FixedTarget           *int64
	Rate                  *float64
}

// UnmarshalJSON reads a rule by the names of the manifest's format.
func (r *xrayRule) UnmarshalJSON(b []byte) error {
	var raw struct {
		Host        string   `json:"host"`
		Method      string   `json:"http_method"`
		URLPath     string   `json:"url_path"`
		FixedTarget *int64   `json:"fixed_target"`
		Rate        *float64 `json:"rate"`
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	*r = xrayRule{raw.Host, raw.Method, raw.URLPath, raw.FixedTarget, raw.Rate}
	return nil
}

func (r xrayRule) check() error {
	switch {
	case r.FixedTarget == nil || *r.FixedTarget < 0:
		return errors.New("fixed_target must be a whole number from 0 on")
	case r.Rate == nil || *r.Rate < 0 || *r.Rate > 1:
		return errors.New("rate must be a number from 0 to 1")
	}
	return nil
}

// checkXRayRules checks a manifest of version 2, the only one that Envoy reads.
func checkXRayRules(b []byte) error {
	var m struct {
		Version int        `json:"version"`
		Default *xrayRule  `json:"default"`
		Rules   []xrayRule `json:"rules"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("the file is not JSON of the form of sampling rules: %w", err)
	}
	switch {
	case m.Version != 2:
		return fmt.Errorf("version is %d, allowed is 2", m.Version)
	case m.Default == nil:
		return errors.New("default is missing")
	}
	if err := m.Default.check(); err != nil {
		return fmt.Errorf("default: %w", err)
	}
	for i, r := range m.Rules {
		if r.Host == "" || r.Method == "" || r.URLPath == "" {
			return fmt.Errorf("rules[%d]: host, http_method and url_path must be set", i)
		}
		if err := r.check(); err != nil {
			return fmt.Errorf("rules[%d]: %w", i, err)
		}
	}
	return nil
}
