package telemetry

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// span is what all tracers say of a request, as far as the tests look at it.
type span struct {
	trace   string
	service string
	url     string
	status  string
}

// spans are those that a receiver got.
type spans struct {
	t   *testing.T
	mu  sync.Mutex
	got []span
}

func (s *spans) add(more ...span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, more...)
}

// awaitTrace waits until a request was traced by both proxies, in one trace.
func (s *spans) awaitTrace(path, status, front, blue string) {
	s.t.Helper()
	meshtest.Eventually(s.t, "the request to "+path+" is traced by both proxies", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		byService := map[string]map[string]bool{}
		for _, one := range s.got {
			if strings.HasSuffix(one.url, path) && one.status == status {
				if byService[one.service] == nil {
					byService[one.service] = map[string]bool{}
				}
				byService[one.service][one.trace] = true
			}
		}
		for trace := range byService[front] {
			if byService[blue][trace] {
				return nil
			}
		}
		return fmt.Errorf("spans: %v", s.got)
	})
}

// xraySegment is a segment document of X-Ray.
type xraySegment struct {
	Name, ID, Origin string
	TraceID          string  `json:"trace_id"`
	StartTime        float64 `json:"start_time"`
	EndTime          float64 `json:"end_time"`
	AWS              struct {
		AppMesh struct {
			Mesh string `json:"mesh_name"`
			Node string `json:"virtual_node_name"`
		} `json:"app_mesh"`
	} `json:"aws"`
	HTTP struct {
		Request  struct{ Method, URL string }
		Response struct{ Status int }
	}
}

// parseXRay reads a datagram to X-Ray's daemon: a line that names the format, and a
// segment.
func parseXRay(datagram []byte) (xraySegment, error) {
	header, document, ok := strings.Cut(string(datagram), "\n")
	var h struct {
		Format  string
		Version int
	}
	if err := json.Unmarshal([]byte(header), &h); !ok || err != nil || h.Format != "json" || h.Version != 1 {
		return xraySegment{}, fmt.Errorf("the datagram begins with %q, want the header of format json, version 1", header)
	}
	var s xraySegment
	if err := json.Unmarshal([]byte(document), &s); err != nil {
		return xraySegment{}, err
	}
	if len(s.ID) != 16 || !strings.HasPrefix(s.TraceID, "1-") || s.EndTime < s.StartTime || s.StartTime == 0 {
		return xraySegment{}, fmt.Errorf("not a segment: %s", document)
	}
	return s, nil
}

func TestXRay(t *testing.T) {
	t.Parallel()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got := &spans{t: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 64<<10)
		for {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			s, err := parseXRay(b[:n])
			if err != nil {
				t.Error(err)
				continue
			}
			if s.Origin != "AWS::AppMesh::Proxy" || s.AWS.AppMesh.Mesh != "test" || s.Name != "test/"+s.AWS.AppMesh.Node {
				t.Errorf("segment %+v does not say which node it is of", s)
			}
			got.add(span{trace: s.TraceID, service: s.Name, url: s.HTTP.Request.URL, status: fmt.Sprint(s.HTTP.Response.Status)})
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	s := newStage(t, "ENABLE_ENVOY_XRAY_TRACING=1", "XRAY_SAMPLING_RATE=1", "AWS_XRAY_DAEMON_ADDRESS="+conn.LocalAddr().String())
	s.get("/missing", 404)
	got.awaitTrace("/missing", "404", "test/front", "test/blue")
}

// collect runs a receiver of spans over HTTP, which decodes a body.
func collect(t *testing.T, path, contentType string, decode func([]byte) ([]span, error)) (got *spans, port string) {
	t.Helper()
	got = &spans{t: t}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path != path || !strings.HasPrefix(r.Header.Get("Content-Type"), contentType) {
			w.WriteHeader(http.StatusNotFound) // Datadog's tracer asks for other things too
			return
		}
		more, err := decode(body)
		if err != nil {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		got.add(more...)
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte("{}"))
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	_, port = hostPort(t, l.Addr())
	return got, port
}

func TestZipkinJSON(t *testing.T) {
	t.Parallel()
	got, port := collect(t, "/api/v2/spans", "application/json", func(b []byte) ([]span, error) {
		var raw []struct {
			TraceID       string `json:"traceId"`
			LocalEndpoint struct{ ServiceName string }
			Tags          map[string]string
		}
		if err := json.Unmarshal(b, &raw); err != nil {
			return nil, err
		}
		var out []span
		for _, r := range raw {
			out = append(out, span{r.TraceID, r.LocalEndpoint.ServiceName, r.Tags["http.url"], r.Tags["http.status_code"]})
		}
		return out, nil
	})
	s := newStage(t, "ENABLE_ENVOY_JAEGER_TRACING=1", "JAEGER_TRACER_VERSION=JSON", "JAEGER_TRACER_PORT="+port)
	s.get("/missing", 404)
	got.awaitTrace("/missing", "404", meshtest.ARN("test", "front"), meshtest.ARN("test", "blue"))
}

func TestZipkinProto(t *testing.T) {
	t.Parallel()
	got, port := collect(t, "/api/v2/spans", "application/x-protobuf", zipkinProto)
	s := newStage(t, "ENABLE_ENVOY_JAEGER_TRACING=1", "JAEGER_TRACER_PORT="+port)
	s.get("/missing", 404)
	got.awaitTrace("/missing", "404", meshtest.ARN("test", "front"), meshtest.ARN("test", "blue"))
}

// zipkinProto reads zipkin.proto3.ListOfSpans: its field 1 is a span, whose fields are
// 1 trace_id, 8 local_endpoint (1 service_name) and 11 tags (1 key, 2 value).
func zipkinProto(b []byte) ([]span, error) {
	var out []span
	err := eachField(b, func(n protowire.Number, raw []byte) error {
		if n != 1 {
			return nil
		}
		var s span
		err := eachField(raw, func(n protowire.Number, raw []byte) error {
			switch n {
			case 1:
				s.trace = fmt.Sprintf("%x", raw)
			case 8:
				return eachField(raw, func(n protowire.Number, raw []byte) error {
					if n == 1 {
						s.service = string(raw)
					}
					return nil
				})
			case 11:
				pair := map[protowire.Number]string{}
				if err := eachField(raw, func(n protowire.Number, raw []byte) error { pair[n] = string(raw); return nil }); err != nil {
					return err
				}
				switch pair[1] {
				case "http.url":
					s.url = pair[2]
				case "http.status_code":
					s.status = pair[2]
				}
			}
			return nil
		})
		out = append(out, s)
		return err
	})
	return out, err
}

// eachField calls f with each field of a message that has bytes.
func eachField(b []byte, f func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		n, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		length := protowire.ConsumeFieldValue(n, kind, b)
		if length < 0 {
			return protowire.ParseError(length)
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(b)
			if err := f(n, value); err != nil {
				return err
			}
		}
		b = b[length:]
	}
	return nil
}

func TestDatadog(t *testing.T) {
	t.Parallel()
	got, port := collect(t, "/v0.4/traces", "application/msgpack", func(b []byte) ([]span, error) {
		value, rest, err := readMsgpack(b)
		if err != nil || len(rest) > 0 {
			return nil, fmt.Errorf("%d bytes are left over, %w", len(rest), err)
		}
		var out []span
		for _, trace := range value.([]any) {
			for _, one := range trace.([]any) {
				s := one.(map[string]any)
				meta, _ := s["meta"].(map[string]any)
				out = append(out, span{fmt.Sprint(s["trace_id"]), fmt.Sprint(s["service"]), fmt.Sprint(meta["http.url"]), fmt.Sprint(meta["http.status_code"])})
			}
		}
		return out, nil
	})
	s := newStage(t, "ENABLE_ENVOY_DATADOG_TRACING=1", "DATADOG_TRACER_PORT="+port)
	s.get("/missing", 404)
	got.awaitTrace("/missing", "404", "envoy-test/front", "envoy-test/blue")
}
