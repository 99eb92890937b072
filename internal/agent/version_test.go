package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What depends on Envoy's version is found before Envoy starts, and Envoy is asked for its
// version only then.
func TestCheckVersion(t *testing.T) {
	t.Parallel()
	const collector = "http://127.0.0.1:4318"
	for name, c := range map[string]struct {
		env        vars
		version    string
		asks       bool
		fails, log string
	}{
		"no telemetry":           {vars{}, "1.37.0", false, "", ""},
		"metrics by HTTP":        {vars{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": collector}, "1.37.0", true, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL is http/protobuf, allowed with Envoy 1.37.0 is grpc", ""},
		"all signals by HTTP":    {vars{"OTEL_EXPORTER_OTLP_ENDPOINT": collector}, "1.37.2", true, "allowed with Envoy 1.37.2 is grpc", ""},
		"metrics by HTTP, newer": {vars{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": collector}, "1.38.0", true, "", ""},
		"metrics by gRPC":        {vars{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": collector, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "1.37.0", false, "", ""},
		"logs":                   {vars{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": collector}, "1.39.3", false, "", ""},
		"named logs":             {vars{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": collector, "OTEL_SERVICE_NAME": "cart"}, "1.39.3", true, "", "envoy=1.39.3 first=1.40 service.name=shop/cart"},
		"named logs, newer":      {vars{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": collector, "OTEL_SERVICE_NAME": "cart"}, "1.40.0", true, "", ""},
		"another's version":      {vars{"OTEL_EXPORTER_OTLP_ENDPOINT": collector}, "2.0.0", true, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			asked := filepath.Join(dir, "asked")
			envoy := filepath.Join(dir, "envoy")
			if err := os.WriteFile(envoy, []byte("#!/bin/sh\ntouch '"+asked+"'\necho 'envoy  version: 0a1b/"+c.version+"/Clean/RELEASE/x'\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			env := vars{
				"APPMESH_RESOURCE_ARN": "mesh/shop/virtualNode/cart", "FAIRLEAD_XDS_ENDPOINT": "127.0.0.1:1", "FAIRLEAD_XDS_PLAINTEXT": "1",
				"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "S",
			}
			for k, v := range c.env {
				env[k] = v
			}
			s, _, err := ReadSettings(env.lookup)
			if err != nil {
				t.Fatal(err)
			}
			var log strings.Builder
			err = checkVersion(t.Context(), RunConfig{Settings: s, Envoy: envoy, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%v, want %q", err, c.fails)
			}
			if (log.Len() > 0) != (c.log != "") || !strings.Contains(log.String(), c.log) {
				t.Errorf("logged %q, want %q", log.String(), c.log)
			}
			if _, err := os.Stat(asked); (err == nil) != c.asks {
				t.Errorf("Envoy was asked for its version: %v", err == nil)
			}
		})
	}
}
