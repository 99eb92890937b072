// Command receivers is what telemetry is sent to in tests: the OpenTelemetry
// collector's own receiver for OTLP, and Prometheus's own scraper. It writes what it
// got to standard output, a line of JSON each, until its standard input ends.
//
// It is a module of its own, because the collector and Prometheus bring more along
// than all of Fairlead.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
)

func main() {
	address := flag.String("address", "", "IP address to take OTLP on: gRPC at port 4317, HTTP at 4318")
	target := flag.String("scrape", "", "host:port that Prometheus scrapes, at /stats/prometheus")
	flag.Parse()
	if err := run(*address, *target); err != nil {
		fmt.Fprintln(os.Stderr, "receivers:", err)
		os.Exit(1)
	}
}

func run(address, target string) error {
	ctx := context.Background()
	out := &lines{}
	if address != "" {
		stop, err := receiveOTLP(ctx, address, out)
		if err != nil {
			return fmt.Errorf("starting the collector's receiver: %w", err)
		}
		defer stop()
	}
	if target != "" {
		stop, err := scrapeMetrics(target, out)
		if err != nil {
			return fmt.Errorf("starting Prometheus's scraper: %w", err)
		}
		defer stop()
	}
	if err := out.write("ready", json.RawMessage(`true`)); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// lines writes what was received, one at a time.
type lines struct{ mu sync.Mutex }

func (l *lines) write(signal string, data json.RawMessage) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"signal": signal, "data": data})
}

// receiveOTLP runs the collector's receiver.
func receiveOTLP(ctx context.Context, address string, out *lines) (stop func(), err error) {
	factory := otlpreceiver.NewFactory()
	cfg := factory.CreateDefaultConfig()
	if err := confmap.NewFromStringMap(map[string]any{"protocols": map[string]any{
		"grpc": map[string]any{"endpoint": address + ":4317"},
		"http": map[string]any{"endpoint": address + ":4318"},
	}}).Unmarshal(cfg); err != nil {
		return nil, err
	}
	set := receiver.Settings{ID: component.NewID(factory.Type()), TelemetrySettings: componenttest.NewNopTelemetrySettings()}
	traces, err1 := consumer.NewTraces(func(_ context.Context, t ptrace.Traces) error {
		b, err := (&ptrace.JSONMarshaler{}).MarshalTraces(t)
		return errors.Join(err, out.write("traces", b))
	})
	metrics, err2 := consumer.NewMetrics(func(_ context.Context, m pmetric.Metrics) error {
		b, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(m)
		return errors.Join(err, out.write("metrics", b))
	})
	logs, err3 := consumer.NewLogs(func(_ context.Context, l plog.Logs) error {
		b, err := (&plog.JSONMarshaler{}).MarshalLogs(l)
		return errors.Join(err, out.write("logs", b))
	})
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	// The three share one receiver: it starts with the first.
	t, err1 := factory.CreateTraces(ctx, set, cfg, traces)
	m, err2 := factory.CreateMetrics(ctx, set, cfg, metrics)
	l, err3 := factory.CreateLogs(ctx, set, cfg, logs)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	for _, c := range []component.Component{t, m, l} {
		if err := c.Start(ctx, componenttest.NewNopHost()); err != nil {
			return nil, err
		}
	}
	return func() { _ = t.Shutdown(ctx) }, nil
}

// scrapeMetrics runs Prometheus's scraper.
func scrapeMetrics(target string, out *lines) (stop func(), err error) {
	logger := promslog.New(&promslog.Config{Writer: os.Stderr})
	manager, err := scrape.NewManager(&scrape.Options{DiscoveryReloadOnStartup: true}, logger, nil, nil, samples{out}, prometheus.NewRegistry())
	if err != nil {
		return nil, err
	}
	const text = "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs: [{job_name: envoy, metrics_path: /stats/prometheus, static_configs: [{targets: []}]}]\n"
	cfg, err := config.Load(text, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	if err := manager.ApplyConfig(cfg); err != nil {
		return nil, err
	}
	groups := make(chan map[string][]*targetgroup.Group, 1)
	groups <- map[string][]*targetgroup.Group{"envoy": {{Targets: []model.LabelSet{{"__address__": model.LabelValue(target)}}}}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = manager.Run(groups)
	}()
	return func() { manager.Stop(); <-done }, nil
}

// samples is where Prometheus stores what it scraped.
type samples struct{ out *lines }

// AppenderV2 returns an appender.
func (s samples) AppenderV2(context.Context) storage.AppenderV2 { return &appender{out: s.out} }

// appender takes the samples of one scrape.
type appender struct {
	out  *lines
	held []json.RawMessage
}

// Append notes one sample.
func (a *appender) Append(_ storage.SeriesRef, ls labels.Labels, _, _ int64, v float64, _ *histogram.Histogram, _ *histogram.FloatHistogram, _ storage.AppendV2Options) (storage.SeriesRef, error) {
	if v != v { // marks the end of a series; JSON has no NaN
		return 0, nil
	}
	b, err := json.Marshal(map[string]any{"labels": ls.Map(), "value": fmt.Sprint(v)})
	a.held = append(a.held, b)
	return 0, err
}

// Commit writes the samples.
func (a *appender) Commit() error {
	b, err := json.Marshal(a.held)
	return errors.Join(err, a.out.write("scrape", b))
}

// Rollback forgets the samples.
func (a *appender) Rollback() error { return nil }
