package agent

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/fairlead-mesh/fairlead/internal/envoybin"
)

// The first Envoys 1.x that can do what not all supported ones can.
const (
	minorMetricsByHTTP = 38 // statistics as OpenTelemetry's metrics by HTTP
	minorLogResources  = 40 // log records with the resource attributes of the environment
)

// checkVersion compares what the settings ask for with what the Envoy can do, where that
// depends on its version. The error names the variable; what only costs a detail is a
// warning. An Envoy that does not say its version is left to judge for itself.
func checkVersion(ctx context.Context, cfg RunConfig) error {
	s := cfg.Settings
	byHTTP := s.Telemetry.Metrics.Set() && s.Telemetry.Metrics.HTTP
	named := s.Telemetry.Logs.Set() && s.Telemetry.Attributes != "service.name="+s.Resource.title()
	if s.ConfigFile != "" || !byHTTP && !named {
		return nil
	}
	version, err := envoybin.Version(ctx, cfg.Envoy)
	if err != nil {
		return err
	}
	minor, known := envoybin.Minor(version)
	switch {
	case !known:
	case byHTTP && minor < minorMetricsByHTTP:
		return fmt.Errorf("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL is http/protobuf, allowed with Envoy %s is grpc: Envoy 1.%d is the first that sends metrics by HTTP",
			version, minorMetricsByHTTP)
	case named && minor < minorLogResources:
		cfg.Logger.Warn("log records go without OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, which the log of this Envoy does not know",
			slog.String("envoy", version), slog.String("first", fmt.Sprintf("1.%d", minorLogResources)), slog.String("service.name", s.Resource.title()))
	}
	return nil
}
