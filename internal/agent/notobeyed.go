package agent

// Warning is a variable that is set and has no effect yet.
type Warning struct {
	Variable string
	Effect   string // what therefore does not happen
}

// Variables of App Mesh's agent that are not obeyed yet: something beside the traffic is
// missing.
var (
	warnedValues = []Warning{
		{"APPNET_AGENT_ADMIN_MODE", "the agent serves no status; ask Envoy's admin interface"},
		{"APPNET_ENVOY_LOG_DESTINATION", "logs go to standard output and standard error"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "collectors are sent no headers of yours; a collector beside Envoy can add them"},
		{"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "collectors are sent no headers of yours; a collector beside Envoy can add them"},
		{"OTEL_EXPORTER_OTLP_METRICS_HEADERS", "collectors are sent no headers of yours; a collector beside Envoy can add them"},
		{"OTEL_EXPORTER_OTLP_LOGS_HEADERS", "collectors are sent no headers of yours; a collector beside Envoy can add them"},
		{"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "Envoy shows collectors no certificate"},
		{"APPNET_CONTAINER_IP_MAPPING", "Service Connect is not supported"},
		{"APPNET_LISTENER_PORT_MAPPING", "Service Connect is not supported"},
	}
	warnedSwitches = []Warning{
		{"ENABLE_STATS_SNAPSHOT", "there is no statistics snapshot"},
		{"APPMESH_PREVIEW", "there is no preview channel; endpoint and signing name stay"},
	}
)

// warn returns what is set and has no effect.
func (e *env) warn() []Warning {
	var out []Warning
	for _, w := range warnedValues {
		if e.text(w.Variable, "") != "" {
			out = append(out, w)
		}
	}
	for _, w := range warnedSwitches {
		if e.yes(w.Variable, false) {
			out = append(out, w)
		}
	}
	if n := e.integer("APPNET_ENVOY_RESTART_COUNT", 0, 0, 10); n != 0 {
		out = append(out, Warning{"APPNET_ENVOY_RESTART_COUNT", "Envoy is not started again: when it ends, the agent ends"})
	}
	if !e.yes("DISABLE_HOT_RESTART", true) {
		out = append(out, Warning{"DISABLE_HOT_RESTART", "hot restart stays off"})
	}
	return out
}
