package agent

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReadTelemetry(t *testing.T) {
	t.Parallel()
	local := func(port int, path string) Collector {
		return Collector{Host: "127.0.0.1", Port: port, HTTP: path != "", Path: path}
	}
	daemon := netip.MustParseAddrPort("127.0.0.1:2000")
	usual := XRay{Daemon: daemon, Mesh: "shop", Node: "cart"}
	all := Sampler{Parent: true, Share: 1}
	statsd := netip.MustParseAddrPort("127.0.0.1:8125")
	cases := map[string]struct {
		set  vars
		want func(*Telemetry)
	}{
		"X-Ray": {vars{"ENABLE_ENVOY_XRAY_TRACING": "1"}, func(t *Telemetry) {
			t.Tracer = Tracer{Kind: TracerXRay, Service: "shop/cart", XRay: usual}
		}},
		"X-Ray's name and port": {vars{"ENABLE_ENVOY_XRAY_TRACING": "true", "XRAY_SEGMENT_NAME": "x", "XRAY_DAEMON_PORT": "3000"}, func(t *Telemetry) {
			t.Tracer = Tracer{Kind: TracerXRay, Service: "x", XRay: usual}
			t.Tracer.XRay.Daemon = netip.MustParseAddrPort("127.0.0.1:3000")
		}},
		"X-Ray's address": {vars{"ENABLE_ENVOY_XRAY_TRACING": "1", "AWS_XRAY_DAEMON_ADDRESS": "10.0.0.1:2001", "XRAY_DAEMON_PORT": "3000"}, func(t *Telemetry) {
			t.Tracer = Tracer{Kind: TracerXRay, Service: "shop/cart", XRay: usual}
			t.Tracer.XRay.Daemon = netip.MustParseAddrPort("10.0.0.1:2001")
		}},
		"X-Ray's address without a port": {vars{"ENABLE_ENVOY_XRAY_TRACING": "1", "AWS_XRAY_DAEMON_ADDRESS": "fd00::1", "XRAY_DAEMON_PORT": "3000"}, func(t *Telemetry) {
			t.Tracer = Tracer{Kind: TracerXRay, Service: "shop/cart", XRay: usual}
			t.Tracer.XRay.Daemon = netip.MustParseAddrPort("[fd00::1]:3000")
		}},
		"X-Ray's usual rate needs no rules": {vars{"ENABLE_ENVOY_XRAY_TRACING": "1", "XRAY_SAMPLING_RATE": "0.0501"}, func(t *Telemetry) {
			t.Tracer = Tracer{Kind: TracerXRay, Service: "shop/cart", XRay: usual}
		}},
		"X-Ray's rate": {vars{"ENABLE_ENVOY_XRAY_TRACING": "1", "XRAY_SAMPLING_RATE": "1"}, func(t *Telemetry) {
			t.Tracer = Tracer{Kind: TracerXRay, Service: "shop/cart", XRay: usual}
			t.Tracer.XRay.Rules = `{"version":2,"default":{"fixed_target":1,"rate":1},"rules":[]}`
		}},
		"X-Ray's manifest wins over the rate": {vars{"ENABLE_ENVOY_XRAY_TRACING": "1", "XRAY_SAMPLING_RATE": "1", "XRAY_SAMPLING_RULE_MANIFEST": "/r"}, func(t *Telemetry) {
			t.Tracer = Tracer{Kind: TracerXRay, Service: "shop/cart", XRay: usual}
			t.Tracer.XRay.RulesManifest = "/r"
		}},
		"Datadog": {vars{"ENABLE_ENVOY_DATADOG_TRACING": "1"}, func(t *Telemetry) {
			t.Tracer = Tracer{Kind: TracerDatadog, Service: "envoy-shop/cart", Collector: Collector{Host: "127.0.0.1", Port: 8126, HTTP: true}}
		}},
		"Datadog elsewhere": {vars{"ENABLE_ENVOY_DATADOG_TRACING": "1", "DATADOG_TRACER_ADDRESS": "dd.local", "DATADOG_TRACER_PORT": "1", "DD_SERVICE": "s"}, func(t *Telemetry) {
			t.Tracer = Tracer{Kind: TracerDatadog, Service: "s", Collector: Collector{Host: "dd.local", Port: 1, HTTP: true}}
		}},
		"Jaeger": {vars{"ENABLE_ENVOY_JAEGER_TRACING": "1"}, func(t *Telemetry) {
			t.Tracer = Tracer{Kind: TracerZipkin, Collector: Collector{Host: "127.0.0.1", Port: 9411, HTTP: true}}
		}},
		"Jaeger in JSON": {vars{"ENABLE_ENVOY_JAEGER_TRACING": "1", "JAEGER_TRACER_ADDRESS": "::1", "JAEGER_TRACER_PORT": "9412", "JAEGER_TRACER_VERSION": "json"}, func(t *Telemetry) {
			t.Tracer = Tracer{Kind: TracerZipkin, JSON: true, Collector: Collector{Host: "::1", Port: 9412, HTTP: true}}
		}},
		"OpenTelemetry": {vars{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, func(t *Telemetry) {
			t.Tracer = Tracer{Kind: TracerOpenTelemetry, Service: "shop/cart", Collector: local(4318, "/v1/traces"), Sampler: all}
			t.Metrics.Collector, t.Logs = local(4318, "/v1/metrics"), local(4318, "/v1/logs")
		}},
		"OpenTelemetry by gRPC": {vars{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, func(t *Telemetry) {
			t.Tracer = Tracer{Kind: TracerOpenTelemetry, Service: "shop/cart", Collector: local(4317, ""), Sampler: all}
			t.Metrics.Collector, t.Logs = local(4317, ""), local(4317, "")
		}},
		"OpenTelemetry's parts": {vars{
			"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:2/own",
			"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta", "ENABLE_ENVOY_JAEGER_TRACING": "1",
		}, func(t *Telemetry) {
			t.Tracer = Tracer{Kind: TracerZipkin, Collector: Collector{Host: "127.0.0.1", Port: 9411, HTTP: true}}
			t.Metrics, t.Logs = OTLPMetrics{Collector: local(2, "/own"), Delta: true}, local(1, "")
		}},
		"OpenTelemetry off": {vars{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}, func(*Telemetry) {}},
		"OpenTelemetry's names": {vars{"OTEL_RESOURCE_ATTRIBUTES": "team=shop, service.name=by attribute,a=b=c,"}, func(t *Telemetry) {
			t.Attributes = "service.name=by attribute,team=shop,a=b=c"
		}},
		"OTEL_SERVICE_NAME is the stronger": {vars{"OTEL_SERVICE_NAME": "own", "OTEL_RESOURCE_ATTRIBUTES": "service.name=x"}, func(t *Telemetry) {
			t.Attributes = "service.name=own"
		}},
		"OpenTelemetry over TLS": {vars{
			"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://Collector.Example.com", "OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca", "OTEL_TRACES_SAMPLER": "always_off",
		}, func(t *Telemetry) {
			t.Tracer = Tracer{
				Kind: TracerOpenTelemetry, Service: "shop/cart", Sampler: Sampler{},
				Collector: Collector{Host: "collector.example.com", Port: 4318, TLS: true, CAFile: "/ca", HTTP: true, Path: "/"},
			}
		}},
		"DogStatsD": {vars{"ENABLE_ENVOY_DOG_STATSD": "1"}, func(t *Telemetry) { t.Stats.DogStatsD, t.Stats.Address = true, statsd }},
		"statsd": {vars{"FAIRLEAD_ENABLE_STATSD": "1", "STATSD_ADDRESS": "10.0.0.1", "STATSD_PORT": "1"}, func(t *Telemetry) {
			t.Stats.StatsD, t.Stats.Address = true, netip.MustParseAddrPort("10.0.0.1:1")
		}},
		"statsd's socket": {vars{"FAIRLEAD_ENABLE_STATSD": "1", "STATSD_SOCKET_PATH": "/s"}, func(t *Telemetry) {
			t.Stats.StatsD, t.Stats.Address, t.Stats.Socket = true, statsd, "/s"
		}},
		"own files go before the switches": {vars{
			"ENABLE_ENVOY_XRAY_TRACING": "1", "ENABLE_ENVOY_DATADOG_TRACING": "1", "ENVOY_TRACING_CFG_FILE": "/t",
			"ENABLE_ENVOY_DOG_STATSD": "1", "ENVOY_STATS_SINKS_CFG_FILE": "/s", "ENVOY_STATS_CONFIG_FILE": "/c",
		}, func(t *Telemetry) { t.Stats.Own, t.Stats.Address = true, statsd }},
		"tags, metrics and interval": {vars{"ENABLE_ENVOY_STATS_TAGS": "1", "APPMESH_METRIC_EXTENSION_VERSION": "1", "ENVOY_STATS_FLUSH_INTERVAL": "10s"}, func(t *Telemetry) {
			t.Stats.Tags, t.Stats.Aggregate, t.Stats.FlushInterval = true, true, 10*time.Second
		}},
		"access log": {vars{"FAIRLEAD_ACCESS_LOG_ENDPOINT": "https://als.local:9001/", "FAIRLEAD_ACCESS_LOG_CA_FILE": "/ca", "FAIRLEAD_ACCESS_LOG_NAME": "n"}, func(t *Telemetry) {
			t.AccessLog, t.LogName = Collector{Host: "als.local", Port: 9001, TLS: true, CAFile: "/ca"}, "n"
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := Telemetry{LogName: "shop/cart", Attributes: "service.name=shop/cart"}
			c.want(&want)
			got, _, err := ReadSettings(base().with(c.set).lookup)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got.Telemetry, compareAddr); diff != "" {
				t.Errorf("telemetry differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadTelemetryRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		set  vars
		says []string
	}{
		"two tracers":         {vars{"ENABLE_ENVOY_XRAY_TRACING": "1", "ENABLE_ENVOY_JAEGER_TRACING": "1"}, []string{"ENABLE_ENVOY_XRAY_TRACING and ENABLE_ENVOY_JAEGER_TRACING", "one tracer"}},
		"OpenTelemetry too":   {vars{"ENABLE_ENVOY_DATADOG_TRACING": "1", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1"}, []string{"ENABLE_ENVOY_DATADOG_TRACING", "OTEL_TRACES_EXPORTER=none"}},
		"X-Ray by name":       {vars{"ENABLE_ENVOY_XRAY_TRACING": "1", "AWS_XRAY_DAEMON_ADDRESS": "xray:2000"}, []string{`AWS_XRAY_DAEMON_ADDRESS is "xray:2000", allowed is an IP address`}},
		"X-Ray port":          {vars{"ENABLE_ENVOY_XRAY_TRACING": "1", "XRAY_DAEMON_PORT": "0"}, []string{"XRAY_DAEMON_PORT", "1 to 65535"}},
		"X-Ray rate":          {vars{"ENABLE_ENVOY_XRAY_TRACING": "1", "XRAY_SAMPLING_RATE": "5"}, []string{`XRAY_SAMPLING_RATE is "5", allowed are decimals from 0 to 1`}},
		"X-Ray rate NaN":      {vars{"ENABLE_ENVOY_XRAY_TRACING": "1", "XRAY_SAMPLING_RATE": "NaN"}, []string{"XRAY_SAMPLING_RATE"}},
		"X-Ray maybe":         {vars{"ENABLE_ENVOY_XRAY_TRACING": "maybe"}, []string{`ENABLE_ENVOY_XRAY_TRACING is "maybe", allowed are 1, true, 0 and false`}},
		"Datadog host":        {vars{"ENABLE_ENVOY_DATADOG_TRACING": "1", "DATADOG_TRACER_ADDRESS": "a b"}, []string{`DATADOG_TRACER_ADDRESS is "a b"`}},
		"Jaeger version":      {vars{"ENABLE_ENVOY_JAEGER_TRACING": "1", "JAEGER_TRACER_VERSION": "thrift"}, []string{`JAEGER_TRACER_VERSION is "thrift", allowed are proto, json`}},
		"statsd by name":      {vars{"ENABLE_ENVOY_DOG_STATSD": "1", "STATSD_ADDRESS": "statsd"}, []string{`STATSD_ADDRESS is "statsd"`, "resolves no name"}},
		"two statsd":          {vars{"ENABLE_ENVOY_DOG_STATSD": "1", "FAIRLEAD_ENABLE_STATSD": "1"}, []string{"FAIRLEAD_ENABLE_STATSD", "allowed is one"}},
		"statsd socket":       {vars{"ENABLE_ENVOY_DOG_STATSD": "1", "STATSD_SOCKET_PATH": "s"}, []string{`STATSD_SOCKET_PATH is "s", allowed is an absolute path`}},
		"interval":            {vars{"ENVOY_STATS_FLUSH_INTERVAL": "5"}, []string{`ENVOY_STATS_FLUSH_INTERVAL is "5", allowed are times from 1ms to 4m59s`}},
		"interval too long":   {vars{"ENVOY_STATS_FLUSH_INTERVAL": "5m"}, []string{"ENVOY_STATS_FLUSH_INTERVAL"}},
		"metrics version":     {vars{"APPMESH_METRIC_EXTENSION_VERSION": "2"}, []string{`APPMESH_METRIC_EXTENSION_VERSION is "2", allowed are 0, 1`}},
		"collector":           {vars{"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4317"}, []string{"OTEL_EXPORTER_OTLP_ENDPOINT is not the address of a collector", "http://127.0.0.1:4317"}},
		"collector and user":  {vars{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:secret-nobody-uses@h:1"}, []string{"OTEL_EXPORTER_OTLP_ENDPOINT holds a user or password"}},
		"collector's port":    {vars{"FAIRLEAD_ACCESS_LOG_ENDPOINT": "http://h"}, []string{"FAIRLEAD_ACCESS_LOG_ENDPOINT names no port"}},
		"access log's path":   {vars{"FAIRLEAD_ACCESS_LOG_ENDPOINT": "http://h:1/x"}, []string{`FAIRLEAD_ACCESS_LOG_ENDPOINT has the path "/x"`}},
		"protocol":            {vars{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, []string{`OTEL_EXPORTER_OTLP_PROTOCOL is "http/json", allowed are grpc, http/protobuf`}},
		"exporter":            {vars{"OTEL_LOGS_EXPORTER": "console"}, []string{`OTEL_LOGS_EXPORTER is "console", allowed are otlp, none`}},
		"sampler":             {vars{"OTEL_TRACES_SAMPLER": "jaeger_remote"}, []string{"OTEL_TRACES_SAMPLER", "traceidratio"}},
		"sampler's argument":  {vars{"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "-1"}, []string{`OTEL_TRACES_SAMPLER_ARG is "-1"`}},
		"attributes":          {vars{"OTEL_RESOURCE_ATTRIBUTES": "team"}, []string{`OTEL_RESOURCE_ATTRIBUTES holds "team"`, "pairs"}},
		"service with commas": {vars{"OTEL_SERVICE_NAME": "a,b"}, []string{`OTEL_SERVICE_NAME is "a,b"`}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := ReadSettings(base().with(c.set).lookup)
			checkRefusal(t, err, c.says...)
		})
	}
}

func TestXRayRules(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"version":2,"default":{"fixed_target":1,"rate":0.5}}`: "",
		`{"version":1,"default":{"fixed_target":1,"rate":0.5}}`: "version is 1, allowed is 2",
		`{"version":2}`:                                         "default is missing",
		`{"version":2,"default":{"rate":0.5}}`:                  "default: fixed_target",
		`{"version":2,"default":{"fixed_target":1,"rate":1.5}}`: "default: rate",
		`{"version":2,"default":{"fixed_target":1,"rate":1},"rules":[{"fixed_target":1,"rate":1}]}`:                            "rules[0]: host",
		`{"version":2,"default":{"fixed_target":1,"rate":1},"rules":[{"host":"*","http_method":"*","url_path":"/","rate":1}]}`: "rules[0]: fixed_target",
		`nonsense`: "not JSON",
	} {
		file := filepath.Join(t.TempDir(), "rules.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, _, err := ReadSettings(base().with(vars{"FAIRLEAD_XDS_PLAINTEXT": "insecure", "ENABLE_ENVOY_XRAY_TRACING": "1", "XRAY_SAMPLING_RULE_MANIFEST": file}).lookup)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Resolve()
		if want != "" {
			checkRefusal(t, err, "XRAY_SAMPLING_RULE_MANIFEST", want)
		} else if err != nil {
			t.Error(err)
		}
	}
}

// Files of the user's own are merged by App Mesh's rules.
func TestOverlays(t *testing.T) {
	t.Parallel()
	const tracing = "tracing: {http: {name: x}}\n"
	cases := map[string]struct {
		files vars // by variable: what stands in the file
		set   vars
		says  string // "": merged
		has   string // in the bootstrap then
	}{
		"other parts":            {vars{tracingFile: tracing + "stats_flush_interval: 7s\n"}, nil, "", `"stats_flush_interval": "7s"`},
		"both spellings":         {vars{statsFile: "stats_config: {}\nstatsConfig: {}\n"}, nil, "stats_config is there in both spellings, as statsConfig too", ""},
		"camel case":             {vars{statsFile: "statsConfig: {use_all_default_tags: false}\n"}, nil, "", `"use_all_default_tags": false`},
		"two tracers":            {vars{tracingFile: tracing, statsFile: tracing}, nil, "tracing is there twice", ""},
		"tracer beside a switch": {vars{resourcesFile: tracing}, vars{"ENABLE_ENVOY_XRAY_TRACING": "1"}, "tracing is there twice", ""},
		"tags beside ours":       {vars{resourcesFile: "stats_config: {}\n"}, nil, "stats_config is there twice", ""},
		"sinks grow":             {vars{sinksFile: "stats_sinks: [{name: a}]\n", resourcesFile: "stats_sinks: [{name: b}]\n"}, nil, "", `"name": "b"`},
		"clusters grow":          {vars{resourcesFile: "staticResources: {clusters: [{name: c}]}\n"}, nil, "", `"name": "fairlead_xds"`},
		"no sinks":               {vars{sinksFile: tracing}, nil, "has no stats_sinks", ""},
		"empty":                  {vars{tracingFile: "\n"}, nil, "the file is empty", ""},
		"empty resources":        {vars{resourcesFile: "# none\n"}, nil, "", `"name": "fairlead_xds"`},
		"not YAML":               {vars{tracingFile: "a: [\n"}, nil, "decoding YAML", ""},
		"not an object":          {vars{tracingFile: "- a\n"}, nil, "decoding YAML", ""},
		"not a list":             {vars{sinksFile: "stats_sinks: {}\n"}, nil, "a list is expected", ""},
		"other resources":        {vars{resourcesFile: "static_resources: {routes: []}\n"}, nil, "static_resources.routes is not known", ""},
		"the agent's part":       {vars{tracingFile: "admin: {}\n"}, nil, "admin is for the agent to say", ""},
		"number as a name":       {vars{tracingFile: "tracing: {1: 2}\n"}, nil, "what JSON cannot", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := base().with(vars{"FAIRLEAD_XDS_PLAINTEXT": "insecure"}).with(c.set)
			for variable, text := range c.files {
				v[variable] = filepath.Join(t.TempDir(), variable)
				if err := os.WriteFile(v[variable], []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s, _, err := ReadSettings(v.lookup)
			if err != nil {
				t.Fatal(err)
			}
			s, err = s.Resolve()
			var text []byte
			if err == nil {
				text, err = BootstrapText(s)
			}
			if c.says != "" {
				checkRefusal(t, err, c.says)
			} else if err != nil || !strings.Contains(string(text), c.has) {
				t.Errorf("%v, bootstrap without %s:\n%s", err, c.has, text)
			}
		})
	}
	_, err := loadOverlays(map[string]string{sinksFile: "/nowhere/x"})
	checkRefusal(t, err, sinksFile, "/nowhere/x")
}
