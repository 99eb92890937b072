package telemetry

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// statsdMetric is one line of statsd's format: NAME:VALUE|TYPE, with DogStatsD's
// |#TAG:VALUE,… behind it.
type statsdMetric struct {
	name, value, kind string
	tags              map[string]string
}

func parseStatsd(line string) (statsdMetric, error) {
	bad := fmt.Errorf("%q is not a line of statsd", line)
	parts := strings.Split(line, "|")
	colon := strings.LastIndexByte(parts[0], ':')
	if colon < 1 || len(parts) < 2 || len(parts) > 3 {
		return statsdMetric{}, bad
	}
	m := statsdMetric{name: parts[0][:colon], value: parts[0][colon+1:], kind: parts[1], tags: map[string]string{}}
	if _, err := strconv.ParseFloat(m.value, 64); err != nil {
		return statsdMetric{}, bad
	}
	if m.kind != "c" && m.kind != "g" && m.kind != "ms" && m.kind != "h" {
		return statsdMetric{}, bad
	}
	if len(parts) == 3 {
		tags, ok := strings.CutPrefix(parts[2], "#")
		if !ok {
			return statsdMetric{}, bad
		}
		for tag := range strings.SplitSeq(tags, ",") {
			name, value, _ := strings.Cut(tag, ":")
			m.tags[name] = value
		}
	}
	return m, nil
}

// statsdServer receives datagrams of statsd.
type statsdServer struct {
	t    *testing.T
	mu   sync.Mutex
	got  []statsdMetric
	addr net.Addr
}

func newStatsd(t *testing.T, network, address string) *statsdServer {
	t.Helper()
	conn, err := net.ListenPacket(network, address)
	if err != nil {
		t.Fatal(err)
	}
	s := &statsdServer{t: t, addr: conn.LocalAddr()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 64<<10)
		for {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			for line := range strings.SplitSeq(strings.TrimSpace(string(b[:n])), "\n") {
				m, err := parseStatsd(line)
				if err != nil {
					t.Error(err)
					continue
				}
				s.mu.Lock()
				s.got = append(s.got, m)
				s.mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return s
}

// sum returns the sum of a counter's values, of those that have the tags.
func (s *statsdServer) sum(name string, tags map[string]string) (sum float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.got {
		if m.name != name {
			continue
		}
		fits := true
		for k, v := range tags {
			fits = fits && m.tags[k] == v
		}
		if fits {
			v, _ := strconv.ParseFloat(m.value, 64)
			sum += v
		}
	}
	return sum
}

// await waits until a counter has reached a value.
func (s *statsdServer) await(name string, tags map[string]string, want float64) {
	s.t.Helper()
	meshtest.Eventually(s.t, fmt.Sprintf("%s %v is %v", name, tags, want), func() error {
		if got := s.sum(name, tags); got != want {
			return fmt.Errorf("it is %v", got)
		}
		return nil
	})
}

func hostPort(t *testing.T, a net.Addr) (host, port string) {
	t.Helper()
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

// Plain statsd has no tags: the names are Envoy's.
func TestStatsd(t *testing.T) {
	t.Parallel()
	server := newStatsd(t, "udp", "127.0.0.1:0")
	_, port := hostPort(t, server.addr)
	s := newStage(t, "FAIRLEAD_ENABLE_STATSD=1", "STATSD_PORT="+port)
	for range 3 {
		s.get("/", 200)
	}
	s.get("/missing", 404)
	server.await("envoy.cluster.cds_egress_test_blue_http_8080.upstream_rq_404", nil, 1)
	server.await("envoy.http.egress.downstream_rq_4xx", nil, 1)
}

// DogStatsD carries tags; App Mesh's name the mesh and the node.
func TestDogStatsd(t *testing.T) {
	t.Parallel()
	server := newStatsd(t, "udp", "127.0.0.1:0")
	host, port := hostPort(t, server.addr)
	s := newStage(t, "ENABLE_ENVOY_DOG_STATSD=1", "STATSD_ADDRESS="+host, "STATSD_PORT="+port, "ENABLE_ENVOY_STATS_TAGS=1")
	s.get("/missing", 404)
	server.await("envoy.cluster.upstream_rq", map[string]string{
		"appmesh.mesh": "test", "appmesh.virtual_node": "front", "envoy.cluster_name": "cds_egress_test_blue_http_8080", "envoy.response_code": "404",
	}, 1)
	server.await("envoy.cluster.upstream_rq", map[string]string{"appmesh.virtual_node": "blue", "envoy.response_code": "404"}, 1)
}

func TestDogStatsdSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "dsd.sock")
	server := newStatsd(t, "unixgram", path)
	s := newStage(t, "ENABLE_ENVOY_DOG_STATSD=1", "STATSD_SOCKET_PATH="+path)
	s.get("/missing", 404)
	server.await("envoy.cluster.upstream_rq", map[string]string{"envoy.cluster_name": "cds_egress_test_blue_http_8080", "envoy.response_code": "404"}, 1)
}
