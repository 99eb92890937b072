package agent

// Warning is a variable that is set and has no effect yet.
type Warning struct {
	Variable string
	Effect   string // what therefore does not happen
}

// Variables of App Mesh's agent that are not obeyed yet. Where silence would change
// what Envoy serves or whom it trusts, the start is refused; where something beside
// the traffic is missing, a warning says so.
var (
	refusedFiles = [][2]string{
		{"ENVOY_RESOURCES_CONFIG_FILE", "adding static resources is not supported yet; put the whole bootstrap into ENVOY_CONFIG_FILE, or unset it"},
		{"APPMESH_SDS_SOCKET_PATH", "certificates from a socket are not supported yet; unset it"},
	}
	refusedSwitches = [][2]string{
		{"APPNET_ENABLE_RELAY_MODE_FOR_XDS", "the relay is not supported yet; set FAIRLEAD_XDS_ENDPOINT to host:port and unset it"},
	}
	warnedValues = []Warning{
		{"ENVOY_TRACING_CFG_FILE", "no traces are sent"},
		{"ENVOY_STATS_CONFIG_FILE", "Envoy's own statistics settings stay"},
		{"ENVOY_STATS_SINKS_CFG_FILE", "no statistics are sent; read them from Envoy's admin interface"},
		{"ENVOY_STATS_FLUSH_INTERVAL", "Envoy's own interval of 5 seconds stays"},
		{"APPMESH_METRIC_EXTENSION_VERSION", "the metrics extension is off"},
		{"APPNET_AGENT_ADMIN_MODE", "the agent serves no status; ask Envoy's admin interface"},
		{"APPNET_ENVOY_LOG_DESTINATION", "logs go to standard output and standard error"},
		{"APPNET_CONTAINER_IP_MAPPING", "Service Connect is not supported"},
		{"APPNET_LISTENER_PORT_MAPPING", "Service Connect is not supported"},
	}
	warnedSwitches = []Warning{
		{"ENABLE_ENVOY_XRAY_TRACING", "no traces are sent"},
		{"ENABLE_ENVOY_DATADOG_TRACING", "no traces are sent"},
		{"ENABLE_ENVOY_JAEGER_TRACING", "no traces are sent"},
		{"ENABLE_ENVOY_STATS_TAGS", "statistics carry no appmesh tags"},
		{"ENABLE_ENVOY_DOG_STATSD", "no statistics are sent; read them from Envoy's admin interface"},
		{"ENABLE_STATS_SNAPSHOT", "there is no statistics snapshot"},
		{"APPMESH_PREVIEW", "there is no preview channel; endpoint and signing name stay"},
	}
)

// refuseBootstrap refuses what would have to stand in the bootstrap that we write.
func (e *env) refuseBootstrap() {
	for _, v := range refusedFiles {
		if e.text(v[0], "") != "" {
			e.refuse("%s is set, but %s", v[0], v[1])
		}
	}
	for _, v := range refusedSwitches {
		if e.yes(v[0], false) {
			e.refuse("%s is on, but %s", v[0], v[1])
		}
	}
}

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
