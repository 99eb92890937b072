package envoy

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// shortLog is an access log format that says what became of a request.
const shortLog = `{"text":"%REQ(:PATH)% %RESPONSE_CODE% flags=%RESPONSE_FLAGS% %UPSTREAM_CLUSTER%\n"}`

// gate holds requests until it is opened.
type gate struct {
	arrived chan struct{}
	opened  chan struct{}
	once    sync.Once
}

func newGate() *gate { return &gate{arrived: make(chan struct{}, 100), opened: make(chan struct{})} }

func (g *gate) open() { g.once.Do(func() { close(g.opened) }) }

func (g *gate) hold(ctx context.Context) {
	g.arrived <- struct{}{}
	select {
	case <-g.opened:
	case <-ctx.Done():
	}
}

// await waits until a request is held.
func (g *gate) await(t *testing.T) {
	t.Helper()
	select {
	case <-g.arrived:
	case <-time.After(deadline):
		t.Fatal("no request has arrived")
	}
}

// ServeHTTP holds requests for /hold; of /stall it sends the beginning of an answer
// first. All others it answers at once.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/stall" {
		_, _ = io.WriteString(w, "begin")
		_ = http.NewResponseController(w).Flush()
	}
	if r.URL.Path != "/" {
		g.hold(r.Context())
	}
	_, _ = io.WriteString(w, "ok")
}

// result is how a call ended.
type result struct {
	status int
	body   string
	err    error
}

// get calls one of the Envoy's listeners and tells how it ended.
func (s *inboundStage) get(http2 bool, port int, path string) result {
	status, body, err := meshtest.Get(client(http2), "http://"+s.at(port)+path)
	return result{status, body, err}
}

// later does so while the test goes on.
func (s *inboundStage) later(http2 bool, port int, path string) <-chan result {
	out := make(chan result, 1)
	go func() { out <- s.get(http2, port, path) }()
	return out
}

func (r result) want(t *testing.T, what string, status int, body string) {
	t.Helper()
	if r.err != nil || r.status != status || body != "" && r.body != body {
		t.Errorf("%s: %d %q %v, want %d %q", what, r.status, r.body, r.err, status, body)
	}
}

func TestConnectionPools(t *testing.T) {
	t.Parallel()
	covers(t,
		"VirtualNode.listeners.connectionPool.http.{maxConnections,maxPendingRequests}",
		"VirtualNode.listeners.connectionPool.{http2.maxRequests,grpc.maxRequests,tcp.maxConnections}",
	)
	s := newInbound(t)
	one, two, three := newGate(), newGate(), newGate()
	s.serveHTTP(httpPort, false, one)
	s.serveHTTP(http2Port, true, two)
	s.serveGRPC(grpcPort, &rpc{hold: three.hold})
	s.serveTCP(tcpPort, echo)
	s.define(shortLog,
		listener(httpPort, "http", `,"connectionPool":{"http":{"maxConnections":1,"maxPendingRequests":1}}`),
		listener(http2Port, "http2", `,"connectionPool":{"http2":{"maxRequests":1}}`),
		listener(grpcPort, "grpc", `,"connectionPool":{"grpc":{"maxRequests":1}}`),
		listener(tcpPort, "tcp", `,"connectionPool":{"tcp":{"maxConnections":1}}`))
	s.start(nil)
	t.Cleanup(func() { one.open(); two.open(); three.open() })

	t.Run("http", func(t *testing.T) {
		s := s.in(t)
		first := s.later(false, httpPort, "/hold")
		one.await(t)
		second := s.later(false, httpPort, "/hold")
		s.awaitStat("cluster.cds_ingress_test_target_http_8080.upstream_rq_pending_active", 1)
		s.get(false, httpPort, "/third").want(t, "the third request", http.StatusServiceUnavailable, "")
		s.logged("/third 503 flags=UO cds_ingress_test_target_http_8080")
		one.open()
		(<-first).want(t, "the first request", http.StatusOK, "ok")
		(<-second).want(t, "the second request", http.StatusOK, "ok")
	})
	t.Run("http2", func(t *testing.T) {
		s := s.in(t)
		first := s.later(true, http2Port, "/hold")
		two.await(t)
		s.get(true, http2Port, "/second").want(t, "the second request", http.StatusServiceUnavailable, "")
		s.logged("/second 503 flags=UO cds_ingress_test_target_http2_8081")
		two.open()
		(<-first).want(t, "the first request", http.StatusOK, "ok")
	})
	t.Run("grpc", func(t *testing.T) {
		s := s.in(t)
		client, ctx := s.callGRPC(grpcPort, nil), limited(t)
		first := make(chan error, 1)
		go func() {
			_, err := client.UnaryCall(ctx, &grpc_testing.SimpleRequest{})
			first <- err
		}()
		three.await(t)
		if _, err := client.UnaryCall(ctx, &grpc_testing.SimpleRequest{}); status.Code(err) != codes.Unavailable {
			t.Errorf("the second call ended with %v", err)
		}
		s.logged("/grpc.testing.TestService/UnaryCall 200 flags=UO cds_ingress_test_target_grpc_50051")
		three.open()
		if err := <-first; err != nil {
			t.Errorf("the first call ended with %v", err)
		}
	})
	t.Run("tcp", func(t *testing.T) { s.in(t).tcpPool(t) })
}

func (s *inboundStage) tcpPool(t *testing.T) {
	t.Helper()
	first := s.dial(tcpPort)
	if got, err := ask(first, "one"); err != nil || got != "one" {
		t.Fatalf("the first connection: %q %v", got, err)
	}
	if got, err := ask(s.dial(tcpPort), "two"); err == nil {
		t.Errorf("the second connection got %q", got)
	}
	s.logged("flags=UO", "cds_ingress_test_target_tcp_9000")
	if got, err := ask(first, "three"); err != nil || got != "three" {
		t.Errorf("the first connection: %q %v", got, err)
	}
	_ = first.Close()
	meshtest.Eventually(t, "there is room again", func() error {
		_, err := ask(s.dial(tcpPort), "four")
		return err
	})
}

// defaultPort is that of a listener for http that asks for no timeout.
const defaultPort = 8083

func TestListenerRequestTimeouts(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualNode.listeners.timeout.{http,http2,grpc}.perRequest")
	s := newInbound(t)
	const offPort, rpcOffPort = 8082, 50052
	g, held, off := newGate(), newGate(), newGate()
	mux := http.NewServeMux()
	mux.Handle("/", g)
	mux.Handle("/socket", websocket.Handler(echoMessages))
	s.serveHTTP(httpPort, false, mux)
	s.serveHTTP(defaultPort, false, g)
	s.serveHTTP(offPort, false, off)
	s.serveHTTP(http2Port, true, g)
	s.serveGRPC(grpcPort, &rpc{hold: held.hold})
	s.serveGRPC(rpcOffPort, &rpc{hold: held.hold})
	soon, never := `{"perRequest":{"unit":"ms","value":500}}`, `{"perRequest":{"unit":"s","value":0}}`
	s.define(shortLog,
		listener(httpPort, "http", `,"timeout":{"http":`+soon+`}`),
		listener(http2Port, "http2", `,"timeout":{"http2":`+soon+`}`),
		listener(grpcPort, "grpc", `,"timeout":{"grpc":`+soon+`}`),
		listener(offPort, "http", `,"timeout":{"http":`+never+`}`),
		listener(rpcOffPort, "grpc", `,"timeout":{"grpc":`+never+`}`),
		listener(defaultPort, "http", ""))
	s.start(nil)
	t.Cleanup(func() { g.open(); held.open(); off.open() })

	t.Run("at work", func(t *testing.T) {
		t.Run("http", func(t *testing.T) {
			t.Parallel()
			s := s.in(t)
			s.soon(t, false, httpPort)
			s.logged("/hold 504 flags=UT cds_ingress_test_target_http_8080")
		})
		t.Run("http2", func(t *testing.T) {
			t.Parallel()
			s := s.in(t)
			s.soon(t, true, http2Port)
			s.logged("/hold 504 flags=UT cds_ingress_test_target_http2_8081")
		})
		t.Run("grpc", func(t *testing.T) { t.Parallel(); s.in(t).rpcTimeouts(t) })
		t.Run("websocket", func(t *testing.T) { t.Parallel(); s.in(t).socketOutlives(t, "/hold") })
		// What is not asked for is 15 s; 0 is longer than that, for it is none.
		t.Run("default and off", func(t *testing.T) {
			t.Parallel()
			s := s.in(t)
			open := s.later(false, offPort, "/forever")
			rpcOpen, err := s.callGRPC(rpcOffPort, nil).StreamingOutputCall(limited(t), &grpc_testing.StreamingOutputCallRequest{})
			if err != nil {
				t.Fatal(err)
			}
			s.get(false, defaultPort, "/default").want(t, "a request without a timeout asked for", http.StatusGatewayTimeout, "")
			s.logged("/default 504 flags=UT")
			stillOpen(t, open)
			if _, err := rpcOpen.Recv(); err != nil { // its first message; the stream is alive
				t.Errorf("a call without a timeout ended: %v", err)
			}
			s.awaitStat("cluster.cds_ingress_test_target_grpc_50052.upstream_rq_active", 1)
			off.open()
			(<-open).want(t, "a request without a timeout", http.StatusOK, "ok")
		})
	})
}

// soon shows that a listener ends a slow request after the time that it asks for: two of
// them, one after the other, end before a request does that began earlier where nothing is
// asked for.
func (s *inboundStage) soon(t *testing.T, http2 bool, port int) {
	t.Helper()
	s.get(http2, port, "/").want(t, "a quick request", http.StatusOK, "ok")
	early := s.later(false, defaultPort, "/early")
	for range 2 {
		s.get(http2, port, "/hold").want(t, "a slow request", http.StatusGatewayTimeout, "")
	}
	stillOpen(t, early)
}

// stillOpen fails the test if a request has ended.
func stillOpen(t *testing.T, open <-chan result) {
	t.Helper()
	select {
	case r := <-open:
		t.Fatalf("a request ended that should be open still: %v", r)
	default:
	}
}

// rpcTimeouts shows which calls a per-request timeout ends: those whose client has said
// everything.
func (s *inboundStage) rpcTimeouts(t *testing.T) {
	t.Helper()
	client, ctx := s.callGRPC(grpcPort, nil), limited(t)
	early := s.later(false, defaultPort, "/early")
	both, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, both, "before")
	down, err := client.StreamingOutputCall(ctx, &grpc_testing.StreamingOutputCallRequest{Payload: payload("first")})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := down.Recv(); err != nil || string(first.GetPayload().GetBody()) != "first" {
		t.Errorf("the first message of a stream: %v %v", first, err)
	}
	if _, err := down.Recv(); err == nil || ctx.Err() != nil {
		t.Errorf("a stream of the server's ended with %v", err)
	}
	if _, err := client.UnaryCall(ctx, &grpc_testing.SimpleRequest{}); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("a slow call ended with %v", err)
	}
	// Both of those have lasted for as long as a request may, and this for longer.
	roundTrip(t, both, "after")
	stillOpen(t, early)
}

// socketOutlives shows that a WebSocket outlives a request that is ended by a timeout.
func (s *inboundStage) socketOutlives(t *testing.T, path string) {
	t.Helper()
	c, err := websocket.Dial("ws://"+s.at(httpPort)+"/socket", "", "http://origin")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.get(false, httpPort, path).want(t, "a slow request", http.StatusGatewayTimeout, "")
	var got string
	if err := websocket.Message.Send(c, "still here"); err != nil {
		t.Fatal(err)
	}
	if err := websocket.Message.Receive(c, &got); err != nil || got != "still here" {
		t.Errorf("%q came back, %v", got, err)
	}
}
