package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"unicode/utf8"
)

// BootstrapText makes the text of Envoy's bootstrap of resolved settings, as JSON: our
// own, and the parts that the user's files bring. It looks at nothing else: equal
// settings give equal bytes. There is no key in it.
func BootstrapText(s Settings) ([]byte, error) {
	if !utf8.ValidString(s.ReloadDir) {
		return nil, fmt.Errorf("TMPDIR leads to %q, allowed are folders whose names are UTF-8", s.ReloadDir)
	}
	raw, err := json.Marshal(bootstrap(s))
	if err != nil {
		return nil, fmt.Errorf("encoding the bootstrap: %w", err)
	}
	var text bytes.Buffer
	if err := json.Indent(&text, raw, "", "  "); err != nil {
		return nil, fmt.Errorf("encoding the bootstrap: %w", err)
	}
	text.WriteByte('\n')
	return merged(text.Bytes(), s.Overlays)
}

// bootstrap is our own part of Envoy's bootstrap.
func bootstrap(s Settings) message {
	ads := message{
		{"ads", message{}},
		{"initial_fetch_timeout", duration(s.XDS.FetchTimeout)},
		{"resource_api_version", "V3"},
	}
	return message{
		{"node", message{
			{"id", s.Resource.ARN},
			{"cluster", s.Cluster},
			{"metadata", nodeMetadata(s)},
			{"locality", locality(s)},
		}},
		{"static_resources", message{{"clusters", clusters(s)}}},
		{"dynamic_resources", message{
			{"lds_config", ads},
			{"cds_config", ads},
			{"ads_config", adsSource(s.reached())},
		}},
		{"cluster_manager", message{{"outlier_detection", message{{"event_log_path", s.OutlierLog}}}}},
		{"stats_sinks", statsSinks(s.Telemetry)},
		{"stats_config", statsConfig(s.Telemetry.Stats, s.Resource)},
		{"stats_flush_interval", flushInterval(s.Telemetry.Stats)},
		{"tracing", tracing(s.Telemetry.Tracer)},
		{"layered_runtime", message{{"layers", []message{
			{{"name", "static_layer_0"}, {"static_layer", staticRuntime(s)}},
			{{"name", "admin_layer"}, {"admin_layer", message{}}}, // what the admin interface can change
		}}}},
		{"admin", adminInterface(s.Admin)},
		// Listeners may be internal ones.
		{"bootstrap_extensions", []message{
			extension("envoy.bootstrap.internal_listener", "envoy.extensions.bootstrap.internal_listener.v3.InternalListener"),
		}},
	}
}

// clusters are all that Envoy knows before it has asked the control plane.
func clusters(s Settings) []message {
	out := []message{xdsCluster(s.reached())}
	if s.SDSSocket != "" {
		out = append(out, socketCluster(sdsClusterName, s.SDSSocket))
	}
	if s.WorkloadSocket != "" {
		out = append(out, socketCluster(workloadClusterName, s.WorkloadSocket))
	}
	return append(out, collectorClusters(s.Telemetry)...)
}

// nodeMetadata says how this Envoy is placed and what its bootstrap lets it do, in the
// form that the control plane reads. Without an address the application is on
// loopback.
func nodeMetadata(s Settings) map[string]any {
	m := map[string]any{"placement": "redirected", "internalListeners": true}
	if s.Placement.Bound() {
		m["placement"] = "bound"
		m["bindAddress"] = s.Placement.Bind.String()
	}
	// By which the control plane has Envoy report for quotas.
	m["discovery"] = map[string]any{"cluster": xdsClusterName, "authority": authority(s.reached())}
	s.Placement.Explicit.metadata(m)
	if s.Placement.Application.IsValid() {
		m["applicationAddress"] = s.Placement.Application.String()
	}
	if s.ReloadDir != "" {
		m["reloadDirectory"] = s.ReloadDir
	}
	if s.WorkloadSocket != "" {
		m["workloadCertificates"] = true
	}
	if s.Names.Port != 0 {
		m["dnsPort"] = s.Names.filterPort()
	}
	if s.ClientCertificate != "" {
		m["clientCertificate"] = s.ClientCertificate
	}
	if s.traces() {
		m["tracing"] = true
	}
	if logs := s.Telemetry.logMetadata(); len(logs) > 0 {
		m["accessLogs"] = logs
	}
	all := map[string]any{"fairlead": m, "aws.appmesh.static_runtime": staticRuntime(s)}
	maps.Copy(all, s.Platform.Metadata)
	if s.Telemetry.Stats.Aggregate {
		all["aws.appmesh.metric_filter"] = map[string]any{"level": "1"}
	}
	return all
}

// locality says in which zone this Envoy is; nil where it is not known.
func locality(s Settings) message {
	if s.Platform.Zone == "" {
		return nil
	}
	return message{{"region", s.XDS.Region}, {"zone", s.Platform.Zone}}
}

// traces reports whether the bootstrap has a tracer.
func (s Settings) traces() bool {
	return s.Telemetry.Tracer.Kind != "" ||
		slices.ContainsFunc(s.Overlays, func(o Overlay) bool { return o.Content["tracing"] != nil })
}

// logMetadata says which clusters access logs go to.
func (t Telemetry) logMetadata() map[string]any {
	logs := map[string]any{}
	if t.AccessLog.Set() {
		logs["grpc"] = map[string]any{"cluster": accessLogCluster, "logName": t.LogName}
	}
	if t.Logs.Set() {
		m := map[string]any{"cluster": otlpLogsCluster, "logName": t.LogName}
		if t.Logs.HTTP {
			m["uri"] = t.Logs.uri()
		}
		logs["openTelemetry"] = m
	}
	return logs
}

// staticRuntime holds App Mesh's settings that Envoy still knows. The others were guards of
// changes that Envoy has made for good, and it complains of them.
func staticRuntime(s Settings) map[string]any {
	static := map[string]any{
		// Parts of a bootstrap that users bring may be older than their Envoy.
		"envoy.features.enable_all_deprecated_features": true,
		"re2.max_program_size.error_level":              1000,
	}
	if s.RequestsPerIOCycle > 0 {
		static["http.max_requests_per_io_cycle"] = s.RequestsPerIOCycle
	}
	return static
}

func adminInterface(a Admin) message {
	address := socketAddress(a.Address, a.Port)
	if a.Socket != "" {
		address = pipe(a.Socket, 0o600)
	}
	var logs []message
	if a.AccessLog != "" {
		logs = []message{
			extension("envoy.access_loggers.file", "envoy.extensions.access_loggers.file.v3.FileAccessLog", field{"path", a.AccessLog}),
		}
	}
	return message{{"access_log", logs}, {"address", address}}
}

// socketAddress makes a TCP address. The unspecified IPv6 address takes IPv4 too.
func socketAddress(a netip.Addr, port int) message {
	return message{{"socket_address", message{
		{"address", a.String()},
		{"port_value", port},
		{"ipv4_compat", a == netip.IPv6Unspecified()},
	}}}
}

func tcpAddress(host string, port int) message {
	return message{{"socket_address", message{{"address", host}, {"port_value", port}}}}
}

// pipe makes the address of a Unix socket; mode 0 leaves it to what is there.
func pipe(path string, mode uint32) message {
	return message{{"pipe", message{{"path", path}, {"mode", mode}}}}
}
