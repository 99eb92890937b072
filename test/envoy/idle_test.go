package envoy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	"google.golang.org/grpc/interop/grpc_testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// TestListenerIdleTimeouts has listeners that end what is silent for two seconds, beside
// listeners that end nothing. What is silent is ended, what talks is not.
func TestListenerIdleTimeouts(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualNode.listeners.timeout.{http,http2,grpc,tcp}.idle")
	s := newInbound(t)
	const tcpOffPort = 9001
	g := newGate()
	mux := http.NewServeMux()
	mux.Handle("/", g)
	mux.Handle("/socket", websocket.Handler(echoMessages))
	s.serveHTTP(httpPort, false, mux)
	s.serveHTTP(http2Port, true, g)
	s.serveGRPC(grpcPort, &rpc{})
	s.serveTCP(tcpPort, echo)
	s.serveTCP(tcpOffPort, echo)
	const idle = `"idle":{"unit":"s","value":2}`
	s.define(shortLog,
		listener(httpPort, "http", `,"timeout":{"http":{"perRequest":{"unit":"s","value":0},`+idle+`}}`),
		listener(http2Port, "http2", `,"timeout":{"http2":{"perRequest":{"unit":"s","value":0},`+idle+`}}`),
		listener(grpcPort, "grpc", `,"timeout":{"grpc":{"perRequest":{"unit":"s","value":0},`+idle+`}}`),
		listener(tcpPort, "tcp", `,"timeout":{"tcp":{`+idle+`}}`),
		listener(tcpOffPort, "tcp", `,"timeout":{"tcp":{"idle":{"unit":"s","value":0}}}`))
	s.start(nil)
	t.Cleanup(g.open)

	t.Run("at work", func(t *testing.T) {
		t.Run("http", func(t *testing.T) { t.Parallel(); s.in(t).stalledAnswer(t, false, httpPort) })
		t.Run("http2", func(t *testing.T) { t.Parallel(); s.in(t).stalledAnswer(t, true, http2Port) })
		t.Run("grpc", func(t *testing.T) { t.Parallel(); s.in(t).idleStreams(t) })
		t.Run("websocket", func(t *testing.T) { t.Parallel(); s.in(t).idleSockets(t) })
		t.Run("tcp", func(t *testing.T) { t.Parallel(); s.in(t).idleConnections(t, tcpOffPort) })
	})
}

// stalledAnswer has an answer that begins and then stops.
func (s *inboundStage) stalledAnswer(t *testing.T, http2 bool, port int) {
	t.Helper()
	r := s.get(http2, port, "/stall")
	if r.err == nil || r.body != "begin" {
		t.Errorf("an answer that stops: %q %v", r.body, r.err)
	}
	cluster := "cds_ingress_test_target_http_8080"
	if http2 {
		cluster = "cds_ingress_test_target_http2_8081"
	}
	s.logged("/stall 200 flags=SI " + cluster)
	// One that has not begun is answered for.
	s.get(http2, port, "/hold").want(t, "no answer", http.StatusGatewayTimeout, "")
	s.logged("/hold 504 flags=SI " + cluster)
}

// whileTalking calls talk every 100 ms until done is closed, and once more after that.
func whileTalking(t *testing.T, done <-chan struct{}, talk func() error) {
	t.Helper()
	tick, end := time.NewTicker(100*time.Millisecond), time.NewTimer(deadline)
	defer tick.Stop()
	defer end.Stop()
	for over := false; ; {
		if err := talk(); err != nil {
			t.Errorf("what talks was ended: %v", err)
			return
		}
		if over {
			return
		}
		select {
		case <-tick.C:
		case <-done:
			over = true
		case <-end.C:
			t.Error("what is silent was not ended")
			return
		}
	}
}

func (s *inboundStage) idleStreams(t *testing.T) {
	t.Helper()
	client, ctx := s.callGRPC(grpcPort, nil), limited(t)
	busy, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	silent, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if _, err := silent.Recv(); err == nil || errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a silent stream ended with %v", err)
		}
	}()
	whileTalking(t, ended, func() error {
		if err := busy.Send(&grpc_testing.StreamingOutputCallRequest{}); err != nil {
			return err
		}
		_, err := busy.Recv()
		return err
	})
	s.logged("/grpc.testing.TestService/FullDuplexCall", "flags=SI")
}

func (s *inboundStage) idleSockets(t *testing.T) {
	t.Helper()
	open := func() *websocket.Conn {
		c, err := websocket.Dial("ws://"+s.at(httpPort)+"/socket", "", "http://origin")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	busy, silent := open(), open()
	whileTalking(t, closed(silent), func() error {
		var got string
		if err := websocket.Message.Send(busy, "x"); err != nil {
			return err
		}
		return websocket.Message.Receive(busy, &got)
	})
	s.logged("/socket 101 flags=SI")
}

// closed returns a channel that is closed once a connection's other side has ended it.
func closed(c net.Conn) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, c)
	}()
	return done
}

func (s *inboundStage) idleConnections(t *testing.T, offPort int) {
	t.Helper()
	busy, silent, never := s.dial(tcpPort), s.dial(tcpPort), s.dial(offPort)
	for _, c := range []net.Conn{silent, never} {
		if _, err := ask(c, "hello"); err != nil {
			t.Fatal(err)
		}
	}
	whileTalking(t, closed(silent), func() error {
		_, err := ask(busy, "x")
		return err
	})
	if got, err := ask(never, "still here"); err != nil || got != "still here" {
		t.Errorf("a connection without a timeout: %q %v", got, err)
	}
	s.awaitStat("tcp.ingress.tcp.9000.idle_timeout", 1)
	meshtest.Eventually(t, "the busy connection is the one that is left", func() error {
		s.awaitStat("tcp.ingress.tcp.9000.downstream_cx_total", 2)
		return nil
	})
}
