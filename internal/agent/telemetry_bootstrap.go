package agent

import "net/netip"

// Names of the collectors' clusters. The first two are App Mesh's; the control plane
// is told those of access logs.
const (
	datadogCluster     = "datadog_agent"
	jaegerCluster      = "jaeger"
	otlpTracesCluster  = "fairlead_otlp_traces"
	otlpMetricsCluster = "fairlead_otlp_metrics"
	otlpLogsCluster    = "fairlead_otlp_logs"
	accessLogCluster   = "fairlead_access_log"
)

// collectorClusters lead to those who take traces, metrics and logs.
func collectorClusters(t Telemetry) []message {
	var out []message
	for _, c := range []struct {
		name      string
		collector Collector
	}{
		{t.Tracer.cluster(), t.Tracer.Collector}, {otlpMetricsCluster, t.Metrics.Collector}, {otlpLogsCluster, t.Logs}, {accessLogCluster, t.AccessLog},
	} {
		if c.collector.Set() {
			out = append(out, collectorCluster(c.name, c.collector))
		}
	}
	return out
}

// cluster is the cluster that spans go to.
func (t Tracer) cluster() string {
	switch t.Kind {
	case TracerDatadog:
		return datadogCluster
	case TracerZipkin:
		return jaegerCluster
	}
	return otlpTracesCluster
}

// collectorCluster is where a collector is. Its own requests have nothing to do with
// the mesh.
func collectorCluster(name string, c Collector) message {
	options, alpn := plainHTTP2(), "h2"
	if c.HTTP {
		options, alpn = nil, "http/1.1"
	}
	var tls message
	if c.TLS {
		tls = tlsSocket(c.Host, c.CAFile, alpn)
	}
	return serverCluster(name, c.Host, c.Port, collectorConnectTimeout, options, tls)
}

// tracing is the tracer of all connection managers that trace, nil for none. The field of the
// bootstrap is deprecated in favour of one in each connection manager, which comes
// from the control plane, and is not for it to know; Envoy 1.40 obeys it.
func tracing(t Tracer) message {
	var tracer message
	switch t.Kind {
	case "":
		return nil
	case TracerXRay:
		tracer = xrayTracer(t)
	case TracerDatadog:
		tracer = extension("envoy.tracers.datadog", "envoy.config.trace.v3.DatadogConfig",
			field{"collector_cluster", datadogCluster}, field{"service_name", t.Service})
	case TracerZipkin:
		version := "HTTP_PROTO"
		if t.JSON {
			version = "HTTP_JSON"
		}
		tracer = extension("envoy.tracers.zipkin", "envoy.config.trace.v3.ZipkinConfig",
			field{"collector_cluster", jaegerCluster},
			field{"collector_endpoint", "/api/v2/spans"},
			field{"shared_span_context", new(bool)}, // true where it is not set
			field{"collector_endpoint_version", version})
	case TracerOpenTelemetry:
		tracer = otelTracer(t)
	}
	return message{{"http", tracer}}
}

// xrayTracer is the X-Ray tracer. Its segments say what App Mesh's said; a virtual
// gateway's too call its name virtual_node_name.
func xrayTracer(t Tracer) message {
	var rules message
	switch {
	case t.XRay.RulesManifest != "":
		rules = message{{"filename", t.XRay.RulesManifest}}
	case t.XRay.Rules != "":
		rules = message{{"inline_string", t.XRay.Rules}}
	}
	return extension("envoy.tracers.xray", "envoy.config.trace.v3.XRayConfig",
		field{"daemon_endpoint", udpAddress(t.XRay.Daemon)},
		field{"segment_name", t.Service},
		field{"sampling_rule_manifest", rules},
		field{"segment_fields", message{
			{"origin", "AWS::AppMesh::Proxy"},
			{"aws", map[string]any{"app_mesh": map[string]any{"mesh_name": t.XRay.Mesh, "virtual_node_name": t.XRay.Node}}},
		}})
}

func otelTracer(t Tracer) message {
	return extension("envoy.tracers.opentelemetry", "envoy.config.trace.v3.OpenTelemetryConfig",
		exporter(otlpTracesCluster, t.Collector),
		field{"service_name", t.Service},
		field{"resource_detectors", otelDetectors()},
		field{"sampler", otelSampler(t.Sampler)})
}

// otelSampler is one of OpenTelemetry's samplers; Envoy's share of 0 keeps none.
func otelSampler(s Sampler) message {
	const names, types = "envoy.tracers.opentelemetry.samplers.", "envoy.extensions.tracers.opentelemetry.samplers.v3."
	own := extension(names+"always_on", types+"AlwaysOnSamplerConfig")
	if s.Share < 1 {
		own = extension(names+"trace_id_ratio_based", types+"TraceIdRatioBasedSamplerConfig",
			field{"sampling_percentage", message{{"numerator", perMillion(s.Share)}, {"denominator", "MILLION"}}})
	}
	if !s.Parent {
		return own
	}
	return extension(names+"parent_based", types+"ParentBasedSamplerConfig", field{"wrapped_sampler", own})
}

// otelDetectors has Envoy take the resource attributes from its environment, where
// the agent puts them.
func otelDetectors() []message {
	return []message{extension("envoy.tracers.opentelemetry.resource_detectors.environment",
		"envoy.extensions.tracers.opentelemetry.resource_detectors.v3.EnvironmentResourceDetectorConfig")}
}

// exporter says how OTLP goes to a collector.
func exporter(cluster string, c Collector) field {
	if c.HTTP {
		return field{"http_service", message{{"http_uri", message{
			{"uri", c.uri()}, {"cluster", cluster}, {"timeout", duration(collectorTimeout)},
		}}}}
	}
	return field{"grpc_service", message{
		{"envoy_grpc", message{{"cluster_name", cluster}}},
		{"timeout", duration(collectorTimeout)},
	}}
}

// Regular expressions of App Mesh's agent, which give its tags to what a node with
// several listeners calls ingress.PROTOCOL.PORT.
const (
	protocolTag = `.*?\.ingress\.((\w+?)\.)[0-9]+?\.(.+?)$`
	portTag     = `.*?\.ingress\.\w+?\.(([0-9]+?)\.)(.+?)$`
	routesTag   = `.*?\.ingress\.\w+?\.[0-9]+?\.rds\.((.*?)\.)(.+?)$`
	limitTag    = `^((connection_limit)\.)fairlead\.appmesh\.`
	activeTag   = `^connection_limit\.fairlead\.appmesh\.ActiveConnectionCount(\.(active_connections))$`
)

// flushInterval is how often sinks are sent statistics, "" for Envoy's own.
func flushInterval(s Stats) string {
	if s.FlushInterval == 0 {
		return ""
	}
	return duration(s.FlushInterval)
}

// statsConfig has the tags of statistics, unless the user's own file has them.
func statsConfig(s Stats, r Resource) message {
	if s.Own {
		return nil
	}
	return message{{"stats_tags", statsTags(s, r)}}
}

// statsTags are the tags of statistics beside Envoy's own.
func statsTags(s Stats, r Resource) []message {
	mesh, kind, name := r.parts()
	snake, camel := "virtual_node", "VirtualNode"
	if kind == "virtualGateway" {
		snake, camel = "virtual_gateway", "VirtualGateway"
	}
	var out []message
	if s.Tags {
		out = append(out, fixedTag("appmesh.mesh", mesh), fixedTag("appmesh."+snake, name))
	}
	if s.Aggregate {
		out = append(out, regexTag("fairlead.source", limitTag), regexTag("fairlead.gauge", activeTag),
			fixedTag("Mesh", mesh), fixedTag(camel, name))
	}
	return append(out,
		regexTag("appmesh.listener_protocol", protocolTag), regexTag("appmesh.listener_port", portTag), regexTag("envoy_rds_route_config", routesTag))
}

func fixedTag(name, value string) message {
	return message{{"tag_name", name}, {"fixed_value", value}}
}

func regexTag(name, regex string) message { return message{{"tag_name", name}, {"regex", regex}} }

// statsSinks are where statistics are sent.
func statsSinks(t Telemetry) []message {
	var out []message
	if t.Stats.DogStatsD {
		datagram := ""
		if t.Stats.Socket != "" {
			// Linux holds ten datagrams for a socket, and what comes on top is lost: one
			// statistic in each, as over UDP, would be hundreds at a time.
			datagram = "8192"
		}
		out = append(out, extension("envoy.stat_sinks.dog_statsd", "envoy.config.metrics.v3.DogStatsdSink",
			field{"address", statsdAddress(t.Stats)}, field{"max_bytes_per_datagram", datagram}))
	}
	if t.Stats.StatsD {
		out = append(out, extension("envoy.stat_sinks.statsd", "envoy.config.metrics.v3.StatsdSink", field{"address", statsdAddress(t.Stats)}))
	}
	if t.Metrics.Set() {
		out = append(out, extension("envoy.stat_sinks.open_telemetry", "envoy.extensions.stat_sinks.open_telemetry.v3.SinkConfig",
			exporter(otlpMetricsCluster, t.Metrics.Collector),
			field{"resource_detectors", otelDetectors()},
			field{"report_counters_as_deltas", t.Metrics.Delta},
			field{"report_histograms_as_deltas", t.Metrics.Delta},
			field{"prefix", "envoy"}))
	}
	return out
}

func statsdAddress(s Stats) message {
	if s.Socket != "" {
		return pipe(s.Socket, 0)
	}
	return message{{"socket_address", udpAddress(s.Address)}}
}

func udpAddress(a netip.AddrPort) message {
	return message{{"protocol", "UDP"}, {"address", a.Addr().String()}, {"port_value", a.Port()}}
}

// isLiteral reports whether a host is an IP address.
func isLiteral(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}
