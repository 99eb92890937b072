package envoy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// The ports of the listeners in these tests.
const (
	httpPort  = 8080
	http2Port = 8081
	grpcPort  = 50051
	tcpPort   = 9000
)

// rpc is a gRPC application that sends back what it gets.
type rpc struct {
	grpc_testing.UnimplementedTestServiceServer
	// hold, unless nil, is called with each unary call before it is answered.
	hold func(context.Context)
}

func (r *rpc) UnaryCall(ctx context.Context, in *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	if r.hold != nil {
		r.hold(ctx)
	}
	if in.GetResponseStatus() != nil {
		return nil, status.Error(codes.Code(in.GetResponseStatus().GetCode()), in.GetResponseStatus().GetMessage())
	}
	return &grpc_testing.SimpleResponse{Payload: in.GetPayload()}, nil
}

func (r *rpc) FullDuplexCall(stream grpc.BidiStreamingServer[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse]) error {
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&grpc_testing.StreamingOutputCallResponse{Payload: in.GetPayload()}); err != nil {
			return err
		}
	}
}

// StreamingOutputCall answers with one message, and says nothing more until its client
// is gone.
func (r *rpc) StreamingOutputCall(in *grpc_testing.StreamingOutputCallRequest, stream grpc.ServerStreamingServer[grpc_testing.StreamingOutputCallResponse]) error {
	if err := stream.Send(&grpc_testing.StreamingOutputCallResponse{Payload: in.GetPayload()}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

func (r *rpc) StreamingInputCall(stream grpc.ClientStreamingServer[grpc_testing.StreamingInputCallRequest, grpc_testing.StreamingInputCallResponse]) error {
	size := 0
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&grpc_testing.StreamingInputCallResponse{AggregatedPayloadSize: int32(size)})
		}
		if err != nil {
			return err
		}
		size += len(in.GetPayload().GetBody())
	}
}

func payload(text string) *grpc_testing.Payload { return &grpc_testing.Payload{Body: []byte(text)} }

// version is an application that answers with the protocol that it was spoken to in.
var version = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })

// echoMessages sends back what messages come over a WebSocket.
func echoMessages(c *websocket.Conn) {
	for {
		var message string
		if websocket.Message.Receive(c, &message) != nil || websocket.Message.Send(c, message) != nil {
			return
		}
	}
}

// TestListenerProtocols has a node with a listener of each protocol, at one time.
func TestListenerProtocols(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualNode.listeners.portMapping.{port,protocol}")
	s := newInbound(t)
	mux := http.NewServeMux()
	mux.Handle("/", version)
	mux.Handle("/socket", websocket.Handler(echoMessages))
	s.serveHTTP(httpPort, false, mux)
	s.serveHTTP(http2Port, true, version)
	s.serveGRPC(grpcPort, &rpc{})
	s.serveTCP(tcpPort, echo)
	s.define("", listener(tcpPort, "tcp", ""), listener(httpPort, "http", ""), listener(http2Port, "http2", ""), listener(grpcPort, "grpc", ""))
	s.start(nil)

	t.Run("http", func(t *testing.T) {
		for _, http2 := range []bool{false, true} { // the client's; the application speaks what its listener says
			status, body, err := meshtest.Get(client(http2), "http://"+s.at(httpPort)+"/")
			if err != nil || status != http.StatusOK || body != "HTTP/1.1" {
				t.Errorf("http, client in HTTP/2 %t: %d %q %v", http2, status, body, err)
			}
			status, body, err = meshtest.Get(client(http2), "http://"+s.at(http2Port)+"/")
			if err != nil || status != http.StatusOK || body != "HTTP/2.0" {
				t.Errorf("http2, client in HTTP/2 %t: %d %q %v", http2, status, body, err)
			}
		}
	})
	t.Run("websocket", func(t *testing.T) { s.in(t).websocket(t) })
	t.Run("grpc", func(t *testing.T) { rpcs(t, s.in(t).callGRPC(grpcPort, nil)) })
	t.Run("tcp", func(t *testing.T) { s.in(t).largeEcho(t) })
	t.Run("statistics", func(t *testing.T) {
		s := s.in(t)
		s.awaitStat("http.ingress.http.8080.downstream_rq_2xx", 2)
		s.awaitStat("http.ingress.http2.8081.downstream_rq_2xx", 2)
		s.awaitStat("cluster.cds_ingress_test_target_tcp_9000.upstream_cx_total", 1)
		s.awaitStat("tcp.ingress.tcp.9000.downstream_cx_total", 1)
		s.awaitStat("cluster.cds_ingress_test_target_grpc_50051.upstream_rq_total", 4)
	})
}

func (s *inboundStage) websocket(t *testing.T) {
	t.Helper()
	c, err := websocket.Dial("ws://"+s.at(httpPort)+"/socket", "", "http://origin")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, text := range []string{"one", strings.Repeat("x", 100_000)} {
		var got string
		if err := websocket.Message.Send(c, text); err != nil {
			t.Fatal(err)
		}
		if err := websocket.Message.Receive(c, &got); err != nil || got != text {
			t.Fatalf("%d bytes came back, %v", len(got), err)
		}
	}
}

// rpcs makes a call of each kind: four in all.
func rpcs(t *testing.T, client grpc_testing.TestServiceClient) {
	t.Helper()
	ctx := limited(t)
	out, err := client.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: payload("hello")})
	if err != nil || string(out.GetPayload().GetBody()) != "hello" {
		t.Errorf("unary: %v %v", out, err)
	}
	_, err = client.UnaryCall(ctx, &grpc_testing.SimpleRequest{ResponseStatus: &grpc_testing.EchoStatus{Code: int32(codes.DataLoss), Message: "lost"}})
	if status.Code(err) != codes.DataLoss || status.Convert(err).Message() != "lost" {
		t.Errorf("a status came back as %v", err)
	}
	both, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		roundTrip(t, both, fmt.Sprint(i))
	}
	if err := both.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := both.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("a stream of both sides ended with %v", err)
	}
	up, err := client.StreamingInputCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := up.Send(&grpc_testing.StreamingInputCallRequest{Payload: payload(strings.Repeat("x", 10_000))}); err != nil {
			t.Fatal(err)
		}
	}
	if in, err := up.CloseAndRecv(); err != nil || in.GetAggregatedPayloadSize() != 1_000_000 {
		t.Errorf("a stream of the client's: %v %v", in, err)
	}
}

type duplex = grpc.BidiStreamingClient[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse]

// roundTrip sends a message over a stream and waits for it to come back.
func roundTrip(t *testing.T, stream duplex, text string) {
	t.Helper()
	if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload(text)}); err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil || string(got.GetPayload().GetBody()) != text {
		t.Fatalf("%q came back as %v %v", text, got, err)
	}
}

// largeEcho sends 4 MiB over TCP and closes its side; all must come back, and then the
// end.
func (s *inboundStage) largeEcho(t *testing.T) {
	t.Helper()
	c := s.dial(tcpPort)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	go func() {
		_, _ = c.Write(sent)
		_ = c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes came back, %v", len(got), len(sent), err)
	}
}

// A listener serves on while others come and go beside it: a long connection outlives
// that.
func TestListenersComeAndGo(t *testing.T) {
	t.Parallel()
	s := newInbound(t)
	s.serveTCP(tcpPort, echo)
	s.serveHTTP(httpPort, false, version)
	s.define("", listener(tcpPort, "tcp", ""), listener(grpcPort, "grpc", ""))
	s.start(nil)
	c := s.dial(tcpPort)
	if got, err := ask(c, "before"); err != nil || got != "before" {
		t.Fatalf("%q %v", got, err)
	}
	s.define("", listener(tcpPort, "tcp", ""), listener(grpcPort, "grpc", ""), listener(httpPort, "http", ""))
	meshtest.Eventually(t, "the new listener serves", func() error {
		status, body, err := meshtest.Get(client(false), "http://"+s.at(httpPort)+"/")
		if err == nil && status != http.StatusOK {
			return fmt.Errorf("%d %q", status, body)
		}
		return err
	})
	s.define("", listener(tcpPort, "tcp", ""), listener(grpcPort, "grpc", ""))
	meshtest.Eventually(t, "the new listener is gone", func() error {
		c, err := net.Dial("tcp", s.at(httpPort))
		if err != nil {
			return nil
		}
		_ = c.Close()
		return errors.New("it takes connections")
	})
	if got, err := ask(c, "after"); err != nil || got != "after" {
		t.Errorf("the old connection: %q %v", got, err)
	}
	if got, err := ask(s.dial(tcpPort), "after"); err != nil || got != "after" {
		t.Errorf("a new connection: %q %v", got, err)
	}
}
