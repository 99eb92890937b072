package agent

// Warning is a variable that is set and has no effect.
type Warning struct {
	Variable string
	Effect   string // what therefore does not happen, or what was meant
}

// Variables of App Mesh's agent that are not obeyed, yet or for good: something beside the
// traffic is missing, and a warning says so.
var (
	warnedValues = []Warning{
		{"OTEL_EXPORTER_OTLP_HEADERS", "collectors are sent no headers of yours; a collector beside Envoy can add them"},
		{"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "collectors are sent no headers of yours; a collector beside Envoy can add them"},
		{"OTEL_EXPORTER_OTLP_METRICS_HEADERS", "collectors are sent no headers of yours; a collector beside Envoy can add them"},
		{"OTEL_EXPORTER_OTLP_LOGS_HEADERS", "collectors are sent no headers of yours; a collector beside Envoy can add them"},
		{"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "Envoy shows collectors no certificate"},
		{"APPNET_CONTAINER_IP_MAPPING", "Service Connect is not supported"},
		{"APPNET_LISTENER_PORT_MAPPING", "Service Connect is not supported"},
	}
	warnedSwitches = []Warning{
		{"APPMESH_PREVIEW", "there is no preview channel; endpoint and signing name stay"},
		{"APPMESH_DUALSTACK_ENDPOINT", "the endpoint is the one in FAIRLEAD_XDS_ENDPOINT; a name with addresses of both families does"},
		{"APPMESH_FIPS_ENDPOINT", "the endpoint is the one in FAIRLEAD_XDS_ENDPOINT"},
		{"ENVOY_USE_HTTP_CLIENT_TO_FETCH_AWS_CREDENTIALS", "Envoy fetches no credentials of AWS's"},
	}
	// warnedOff are on unless switched off, and can be switched off no more: Envoy has made
	// up its mind for good.
	warnedOff = []Warning{
		{"DISABLE_HOT_RESTART", "hot restart stays off"},
		{"APPMESH_SET_TRACING_DECISION", "Envoy goes on writing its decision to trace into x-request-id"},
		{"ENVOY_NO_EXTENSION_LOOKUP_BY_NAME", "Envoy goes on taking extensions by their type only"},
		{"ENVOY_ENABLE_TCP_POOL_IDLE_TIMEOUT", "idle connections of TCP pools go on being closed after 10 minutes"},
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
	for _, w := range warnedOff {
		if !e.yes(w.Variable, true) {
			out = append(out, w)
		}
	}
	return out
}
