package telemetry

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// received is what the collector and Prometheus got.
type received struct {
	t   *testing.T
	mu  sync.Mutex
	got map[string][]string // by signal: JSON
}

// receive runs the collector's receiver on an address, and Prometheus's scraper of a
// target, "" for none.
func receive(t *testing.T, address, target string) *received {
	t.Helper()
	meshtest.EnvoyPath(t)
	binary, err := meshtest.Program("test/telemetry/receivers")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-address", address, "-scrape", target)
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := &received{t: t, got: map[string][]string{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		scan := bufio.NewScanner(out)
		scan.Buffer(nil, 64<<20)
		for scan.Scan() {
			var line struct {
				Signal string
				Data   json.RawMessage
			}
			if err := json.Unmarshal(scan.Bytes(), &line); err != nil {
				t.Errorf("the receivers wrote %q: %v", scan.Text(), err)
				return
			}
			r.mu.Lock()
			r.got[line.Signal] = append(r.got[line.Signal], string(line.Data))
			r.mu.Unlock()
		}
	}()
	t.Cleanup(func() { in.Close(); <-done; _ = cmd.Wait() })
	r.await("ready", "that the receivers listen", func(string) bool { return true })
	return r
}

// await waits until something that came fits.
func (r *received) await(signal, what string, fits func(data string) bool) {
	r.t.Helper()
	meshtest.Eventually(r.t, signal+": "+what, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, data := range r.got[signal] {
			if fits(data) {
				return nil
			}
		}
		return fmt.Errorf("%d came, none of them fits", len(r.got[signal]))
	})
}

func contains(parts ...string) func(string) bool {
	return func(data string) bool {
		for _, p := range parts {
			if !strings.Contains(data, p) {
				return false
			}
		}
		return true
	}
}

// OpenTelemetry, all three of it, by gRPC and by HTTP, to the collector.
func TestOpenTelemetry(t *testing.T) {
	t.Parallel()
	for protocol, port := range map[string]string{"grpc": "4317", "http/protobuf": "4318"} {
		t.Run(strings.ReplaceAll(protocol, "/", " "), func(t *testing.T) {
			t.Parallel()
			address := meshtest.Address(t)
			r := receive(t, address, "")
			minor, metrics := meshtest.EnvoyMinor(t), "OTEL_METRICS_EXPORTER=otlp"
			if minor < 38 && protocol != "grpc" { // the agent refuses it
				metrics = "OTEL_METRICS_EXPORTER=none"
			}
			s := newStage(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+address+":"+port, "OTEL_EXPORTER_OTLP_PROTOCOL="+protocol,
				"OTEL_RESOURCE_ATTRIBUTES=team=shop", metrics)
			s.get("/missing", 404)
			for _, node := range []string{"front", "blue"} {
				resource := contains(`"test/`+node+`"`, `"service.name"`, `"team"`, `"shop"`)
				r.await("traces", "a span of "+node, func(data string) bool { return resource(data) && contains("/missing", `"404"`)(data) })
				if metrics == "OTEL_METRICS_EXPORTER=otlp" {
					r.await("metrics", "requests of "+node, func(data string) bool {
						return resource(data) && contains(`"envoy.cluster.upstream_rq"`, `"404"`)(data)
					})
				}
				if minor < 40 { // records have the name alone
					resource = contains(`"test/`+node+`"`, `"service.name"`)
				}
				r.await("logs", "a record of "+node, func(data string) bool { return resource(data) && contains("logRecords")(data) })
			}
		})
	}
}

// Of new traces, the share that is asked for: none here, and all where the caller has
// decided for it.
func TestOpenTelemetrySampler(t *testing.T) {
	t.Parallel()
	address := meshtest.Address(t)
	r := receive(t, address, "")
	s := newStage(t, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://"+address+":4318/v1/traces",
		"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0")
	s.get("/unsampled", 200)
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	status, _, err := meshtest.Get(s.http, url("/sampled"), "traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	if err != nil || status != 200 {
		t.Fatal(status, err)
	}
	r.await("traces", "the trace that the caller began", contains("/sampled", trace))
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, data := range r.got["traces"] {
		if strings.Contains(data, "/unsampled") {
			t.Errorf("a trace that nobody asked for: %s", data)
		}
	}
}

// sample is one of Prometheus's.
type sample struct {
	Labels map[string]string
	Value  string
}

// App Mesh's aggregate metrics, as Prometheus has them from Envoy's admin interface.
func TestAggregateMetrics(t *testing.T) {
	t.Parallel()
	s := newStage(t, "APPMESH_METRIC_EXTENSION_VERSION=1")
	s.get("/", 200)
	s.get("/missing", 404)
	status, _, err := meshtest.Get(s.http, "http://stranger.local/") // answered without a target
	if err != nil || status != 404 {
		t.Fatal(status, err)
	}
	// What counts as gRPC is said by the content type.
	if status, _, err := meshtest.Get(s.http, url("/missing"), "content-type", "application/grpc"); err != nil || status != 404 {
		t.Fatal(status, err)
	}
	target := map[string]string{"Mesh": "test", "VirtualNode": "front", "TargetVirtualNode": "blue", "TargetVirtualService": service}
	node := map[string]string{"Mesh": "test", "VirtualNode": "blue"}
	front := receive(t, "", s.front.Bind+":9901")
	front.awaitSample("envoy_appmesh_HTTPCode_Target_4XX_Count", target, "2")
	front.awaitSample("envoy_appmesh_HTTPCode_Target_2XX_Count", target, "2") // with the first, which waited for the mesh
	front.awaitSample("envoy_appmesh_RequestCountPerTarget", target, "4")
	front.awaitSample("envoy_appmesh_TargetResponseTime_count", target, "4")
	front.awaitSample("envoy_appmesh_TargetProcessedBytes", target, "some")
	blue := receive(t, "", s.blue.Bind+":9901")
	blue.awaitSample("envoy_appmesh_RequestCount", node, "4")
	blue.awaitSample("envoy_appmesh_GrpcRequestCount", node, "1")
	blue.awaitSample("envoy_appmesh_ProcessedBytes", node, "some")
	blue.awaitSample("envoy_appmesh_ActiveConnectionCount", node, "1")
	s.front.Kill()
	blue.awaitSample("envoy_appmesh_ActiveConnectionCount", node, "0")
	blue.awaitSample("envoy_appmesh_NewConnectionCount", node, "1")
	for _, data := range front.got["scrape"] {
		if strings.Contains(data, `"TargetVirtualNode":""`) {
			t.Errorf("something is counted that had no target: %s", data)
		}
	}
}

// awaitSample waits until Prometheus has a sample with a value, "some" for any but 0.
func (r *received) awaitSample(name string, labels map[string]string, want string) {
	r.t.Helper()
	last := "none"
	meshtest.Eventually(r.t, fmt.Sprintf("%s%v is %s", name, labels, want), func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, data := range r.got["scrape"][max(0, len(r.got["scrape"])-1):] {
			var samples []sample
			if err := json.Unmarshal([]byte(data), &samples); err != nil {
				return err
			}
			for _, s := range samples {
				if s.Labels["__name__"] == name && within(labels, s.Labels) {
					last = s.Value
					if s.Value == want || want == "some" && s.Value != "0" {
						return nil
					}
				}
			}
		}
		return fmt.Errorf("it is %s after %d scrapes", last, len(r.got["scrape"]))
	})
}

// within reports whether all of some labels are among others.
func within(some, all map[string]string) bool {
	for k, v := range some {
		if all[k] != v {
			return false
		}
	}
	return true
}
