package telemetry

import (
	"fmt"
	"net"
	"sync"
	"testing"

	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// alsServer is Envoy's access log service.
type alsServer struct {
	alsv3.UnimplementedAccessLogServiceServer
	mu  sync.Mutex
	got []string // "LOG NODE STATUS PATH"
}

// StreamAccessLogs takes one proxy's stream; only the first message says whose it is.
func (s *alsServer) StreamAccessLogs(stream alsv3.AccessLogService_StreamAccessLogsServer) error {
	var who *alsv3.StreamAccessLogsMessage_Identifier
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil // the proxy went away
		}
		if m.Identifier != nil {
			who = m.Identifier
		}
		s.mu.Lock()
		for _, e := range m.GetHttpLogs().GetLogEntry() {
			s.got = append(s.got, fmt.Sprintf("%s %s %d %s", who.GetLogName(), who.GetNode().GetId(), e.GetResponse().GetResponseCode().GetValue(), e.GetRequest().GetPath()))
		}
		s.mu.Unlock()
	}
}

func TestAccessLogService(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	als := &alsServer{}
	g := grpc.NewServer()
	alsv3.RegisterAccessLogServiceServer(g, als)
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-done })
	s := newStage(t, "FAIRLEAD_ACCESS_LOG_ENDPOINT=http://"+l.Addr().String(), "FAIRLEAD_ACCESS_LOG_NAME=audit")
	s.get("/missing", 404)
	for _, node := range []string{"front", "blue"} {
		want := "audit " + meshtest.ARN("test", node) + " 404 /missing"
		meshtest.Eventually(t, "the log has "+want, func() error {
			als.mu.Lock()
			defer als.mu.Unlock()
			for _, got := range als.got {
				if got == want {
					return nil
				}
			}
			return fmt.Errorf("it has %v", als.got)
		})
	}
}
