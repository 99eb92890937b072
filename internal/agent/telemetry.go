package agent

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
)

// Telemetry is where Envoy's traces, statistics and access logs go beside its admin
// interface and the log files that a virtual node names.
type Telemetry struct {
	Tracer Tracer
	Stats  Stats
	// Metrics is where statistics go as OpenTelemetry's metrics.
	Metrics OTLPMetrics
	// Logs is where access logs go as OpenTelemetry's records; the zero value is
	// nowhere.
	Logs Collector
	// AccessLog is where access logs go by Envoy's own service; the zero value is
	// nowhere.
	AccessLog Collector
	// LogName is the name that access logs are sent with.
	LogName string
	// Attributes are the resource attributes of all that OpenTelemetry is sent, in
	// the form of OTEL_RESOURCE_ATTRIBUTES; Envoy finds them in its environment.
	Attributes string
}

// Collector is a service that takes traces, metrics or logs.
type Collector struct {
	Host   string // DNS name or IP address; "" for none
	Port   int
	TLS    bool
	CAFile string // with TLS: PEM file of the roots; "" until Resolve finds the system's
	HTTP   bool   // records are posted to Path; else they go by gRPC
	Path   string // with HTTP
}

// Set reports whether there is a collector.
func (c Collector) Set() bool { return c.Host != "" }

// address returns host:port.
func (c Collector) address() string { return XDS{Host: c.Host, Port: c.Port}.Address() }

// uri returns where records are posted.
func (c Collector) uri() string {
	scheme := "http://"
	if c.TLS {
		scheme = "https://"
	}
	return scheme + c.address() + c.Path
}

func readTelemetry(e *env, r Resource, files map[string]string) Telemetry {
	o := readOTLP(e, r)
	return Telemetry{
		Tracer:     readTracer(e, r, o, files[tracingFile] != ""),
		Stats:      readStats(e, files),
		Metrics:    o.metrics,
		Logs:       o.logs,
		AccessLog:  readAccessLog(e),
		LogName:    e.text("FAIRLEAD_ACCESS_LOG_NAME", r.title()),
		Attributes: o.attributes,
	}
}

// readAccessLog reads where access logs go by gRPC.
func readAccessLog(e *env) Collector {
	c := e.collector("FAIRLEAD_ACCESS_LOG_ENDPOINT", 0)
	if c.Path != "" && c.Path != "/" {
		e.refuse("FAIRLEAD_ACCESS_LOG_ENDPOINT has the path %q, allowed is a URL without one, for example http://127.0.0.1:9001", c.Path)
	}
	c.Path = ""
	if c.TLS {
		c.CAFile = e.text("FAIRLEAD_ACCESS_LOG_CA_FILE", "")
	}
	return c
}

// collector reads the URL of a collector. Port is that of one that names none, 0 if
// one must.
func (e *env) collector(name string, port int) Collector {
	v := e.text(name, "")
	if v == "" {
		return Collector{}
	}
	const form = "allowed is a URL such as http://127.0.0.1:4317 or https://collector.example.com:4318"
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !validHost(u.Hostname()) || u.RawQuery != "" || u.Fragment != "" {
		// A URL may hold a password, so it is not shown.
		e.refuse("%s is not the address of a collector, %s", name, form)
		return Collector{}
	}
	if u.User != nil {
		e.refuse("%s holds a user or password, which cannot be sent, %s", name, form)
		return Collector{}
	}
	if p := u.Port(); p != "" {
		port, err = strconv.Atoi(p)
		if err != nil {
			port = 0
		}
	}
	if port < 1 || port > 65535 {
		e.refuse("%s names no port from 1 to 65535, %s", name, form)
		return Collector{}
	}
	return Collector{Host: plainHost(u.Hostname()), Port: port, TLS: u.Scheme == "https", Path: u.EscapedPath()}
}

// plainHost is a host in the form in which a certificate names it.
func plainHost(host string) string {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.String()
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// duration reads a length of time from low to high.
func (e *env) duration(name string, low, high time.Duration) time.Duration {
	v := e.text(name, "")
	if v == "" {
		return 0
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < low || d > high {
		e.refuse("%s is %q, allowed are times from %v to %v, for example 10s", name, v, low, high)
		return 0
	}
	return d
}

// absolute reads the path of a file or socket.
func (e *env) absolute(name string) string {
	v := e.text(name, "")
	if v != "" && !path.IsAbs(v) {
		e.refuse("%s is %q, allowed is an absolute path", name, v)
		return ""
	}
	return v
}

// host reads a DNS name or an IP address.
func (e *env) host(name, fallback string) string {
	v := e.text(name, fallback)
	if !validHost(v) {
		e.refuse("%s is %q, allowed is a host name or an IP address", name, v)
		return fallback
	}
	return plainHost(v)
}

// literal reads the IP address of a host, for what Envoy does not resolve.
func (e *env) literal(name string) netip.Addr {
	v := e.text(name, "127.0.0.1")
	a, err := netip.ParseAddr(v)
	if err != nil || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
		e.refuse("%s is %q, allowed is an IP address: Envoy resolves no name here", name, v)
		return loopback4
	}
	return a.Unmap()
}

// fraction reads a number from 0 to 1.
func (e *env) fraction(name string, fallback float64) float64 {
	v := e.text(name, "")
	if v == "" {
		return fallback
	}
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || !(f >= 0 && f <= 1) {
		e.refuse("%s is %q, allowed are decimals from 0 to 1, for example 0.05", name, v)
		return fallback
	}
	return f
}

// resolve fills in the roots of a collector that is reached by TLS.
func (c Collector) resolve(variable string) (Collector, error) {
	if !c.TLS {
		return c, nil
	}
	roots, err := findRoots(c.CAFile, rootFiles, variable)
	if err != nil {
		return c, fmt.Errorf("looking for the roots to trust a collector by: %w", err)
	}
	c.CAFile = roots
	return c, nil
}

// resolve looks at the files that telemetry needs.
func (t Telemetry) resolve() (Telemetry, error) {
	const otlpRoots = "OTEL_EXPORTER_OTLP_CERTIFICATE"
	for _, c := range []struct {
		collector *Collector
		variable  string
	}{
		{&t.Tracer.Collector, otlpRoots}, {&t.Metrics.Collector, otlpRoots}, {&t.Logs, otlpRoots}, {&t.AccessLog, "FAIRLEAD_ACCESS_LOG_CA_FILE"},
	} {
		var err error
		if *c.collector, err = c.collector.resolve(c.variable); err != nil {
			return t, err
		}
	}
	return t, t.Tracer.check()
}
