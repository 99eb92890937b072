//go:build linux

package redirected

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// spec returns the spec of a node with one listener that is found by its name.
func spec(name, protocol string) string {
	return fmt.Sprintf(`{"listeners":[{"portMapping":{"port":%d,"protocol":%q}}],"serviceDiscovery":{"dns":{"hostname":%q}}}`, port, protocol, name)
}

// routed defines the service behind a router that speaks a protocol, with routes by name.
func (s *stage) routed(protocol string, routes map[string]string) {
	s.t.Helper()
	s.plane.Put(s.t, "/meshes/test/virtualRouters", fmt.Sprintf(`{"virtualRouterName":"colour","spec":{"listeners":[{"portMapping":{"port":%d,"protocol":%q}}]}}`, port, protocol))
	for name, route := range routes {
		s.plane.Put(s.t, "/meshes/test/virtualRouter/colour/routes", fmt.Sprintf(`{"routeName":%q,"spec":%s}`, name, route))
	}
	s.plane.Put(s.t, "/meshes/test/virtualServices", `{"virtualServiceName":"`+service+`","spec":{"provider":{"virtualRouter":{"virtualRouterName":"colour"}}}}`)
}

// HTTP/2 without TLS, from the application to the application: one connection, many
// streams, bodies in both directions at once, and trailers.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	s := newStage(t, `{}`)
	s.node("blue", spec("blue", "http2"))
	blue, proxy := s.start("blue", port)
	blue.Serve(port, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "x-length")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		n, _ := io.Copy(w, r.Body)
		fmt.Fprint(w, r.Proto, " ", r.Host)
		w.Header().Set("x-length", fmt.Sprint(n))
	}))
	s.routed("http2", map[string]string{"all": `{"http2Route":{"match":{"prefix":"/"},"action":{"weightedTargets":[{"virtualNode":"blue","weight":1}]}}}`})
	s.serviceName("other.test.local")
	s.caller(service)
	proxy.Ready(t)
	calls := http2Client(s.front)
	await(t, calls, serviceURL, http.StatusOK, "HTTP/2.0 colour.test.local:8080")

	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			sent := strings.Repeat(fmt.Sprint(i, " "), 20000)
			resp, err := calls.Post(serviceURL, "text/plain", strings.NewReader(sent))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil || resp.ProtoMajor != 2 || string(b) != sent+"HTTP/2.0 colour.test.local:8080" || resp.Trailer.Get("x-length") != fmt.Sprint(len(sent)) {
				t.Errorf("stream %d: %s, %d bytes, trailer %v: %v", i, resp.Proto, len(b), resp.Trailer, err)
			}
		})
	}
	wg.Wait()
	if n := count(t, s.proxy, "http.egress.downstream_cx_http2_total"); n == 0 {
		t.Error("front's Envoy was not spoken to in HTTP/2")
	}
	want(t, calls, "http://other.test.local:8080/", http.StatusNotFound, "other.test.local:8080 is not a backend")
}

// http2Client calls from a host in HTTP/2 without TLS and without asking first.
func http2Client(from *meshtest.Host) *http.Client {
	c := from.HTTP("tcp")
	transport := c.Transport.(*http.Transport)
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetUnencryptedHTTP2(true)
	return c
}

// tester is a gRPC server that says who it is.
type tester struct {
	testgrpc.UnimplementedTestServiceServer
	name string
}

func (x *tester) UnaryCall(ctx context.Context, r *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	if r.ResponseStatus != nil {
		return nil, status.Error(codes.Code(r.ResponseStatus.Code), r.ResponseStatus.Message)
	}
	if err := grpc.SetTrailer(ctx, metadata.Pairs("x-server", x.name)); err != nil {
		return nil, err
	}
	return &testgrpc.SimpleResponse{Payload: r.Payload, ServerId: x.name}, nil
}

func (x *tester) StreamingOutputCall(r *testgrpc.StreamingOutputCallRequest, out grpc.ServerStreamingServer[testgrpc.StreamingOutputCallResponse]) error {
	for _, p := range r.ResponseParameters {
		if err := out.Send(&testgrpc.StreamingOutputCallResponse{Payload: &testgrpc.Payload{Body: make([]byte, p.Size)}}); err != nil {
			return err
		}
	}
	return nil
}

func (x *tester) StreamingInputCall(in grpc.ClientStreamingServer[testgrpc.StreamingInputCallRequest, testgrpc.StreamingInputCallResponse]) error {
	total := int32(0)
	for {
		r, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return in.SendAndClose(&testgrpc.StreamingInputCallResponse{AggregatedPayloadSize: total})
		}
		if err != nil {
			return err
		}
		total += int32(len(r.Payload.GetBody()))
	}
}

func (x *tester) FullDuplexCall(both grpc.BidiStreamingServer[testgrpc.StreamingOutputCallRequest, testgrpc.StreamingOutputCallResponse]) error {
	for {
		r, err := both.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := both.Send(&testgrpc.StreamingOutputCallResponse{Payload: r.Payload}); err != nil {
			return err
		}
	}
}

// grpcApp adds a host with a gRPC server behind an Envoy.
func (s *stage) grpcApp(name string) {
	s.t.Helper()
	s.node(name, spec(name, "grpc"))
	h, proxy := s.start(name, port)
	server := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(server, &tester{name: name})
	l := h.Listen(":8080")
	go func() { _ = server.Serve(l) }()
	s.t.Cleanup(server.Stop)
	proxy.Ready(s.t)
}

// gRPC's own client and server, through two Envoys: a call, streams in either direction
// and in both, statuses, trailers, and routes by service, method and metadata.
func TestGRPC(t *testing.T) {
	t.Parallel()
	s := newStage(t, `{}`)
	s.grpcApp("blue")
	s.grpcApp("green")
	route := func(priority int, match, node string) string {
		return fmt.Sprintf(`{"priority":%d,"grpcRoute":{"match":%s,"action":{"weightedTargets":[{"virtualNode":%q,"weight":1}]}}}`, priority, match, node)
	}
	const svc = `"serviceName":"grpc.testing.TestService"`
	s.routed("grpc", map[string]string{
		"all":      route(30, `{`+svc+`}`, "blue"),
		"method":   route(20, `{`+svc+`,"methodName":"EmptyCall"}`, "green"),
		"metadata": route(10, `{`+svc+`,"metadata":[{"name":"x-colour","match":{"exact":"green"}}]}`, "green"),
	})
	s.caller(service)
	client := s.grpcClient(service)
	meshtest.Eventually(t, "a call is answered", func() error { return unary(t.Context(), client, "blue") })

	if err := unary(metadata.AppendToOutgoingContext(t.Context(), "x-colour", "green"), client, "green"); err != nil {
		t.Errorf("a call with metadata: %v", err)
	}
	// green's server has no such method, blue's neither; the route shows in who says so.
	before := count(t, s.proxy, "cluster.cds_egress_test_green_grpc_8080.upstream_rq_total")
	if _, err := client.EmptyCall(t.Context(), &testgrpc.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("a method that the server has not: %v", err)
	}
	if n := count(t, s.proxy, "cluster.cds_egress_test_green_grpc_8080.upstream_rq_total"); n != before+1 {
		t.Errorf("green got %d calls of the method, want 1", n-before)
	}
	_, err := client.UnaryCall(t.Context(), &testgrpc.SimpleRequest{ResponseStatus: &testgrpc.EchoStatus{Code: int32(codes.FailedPrecondition), Message: "not today"}})
	if status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != "not today" {
		t.Errorf("a status of the server's: %v", err)
	}
	t.Run("streams", func(t *testing.T) { streams(t, client) })
	// A host that is no backend is refused, and named, as a gRPC client reads it.
	_, err = s.grpcClient("other.test.local").UnaryCall(t.Context(), &testgrpc.SimpleRequest{})
	if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "other.test.local:8080 is not a backend") {
		t.Errorf("a host that is no backend: %v", err)
	}
}

// grpcClient returns a client on front of a service that it calls by a name.
func (s *stage) grpcClient(name string) testgrpc.TestServiceClient {
	s.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+name+":8080", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return s.front.Dial(ctx, "tcp", service+":8080")
	}))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return testgrpc.NewTestServiceClient(conn)
}

// unary makes a call that a server must answer, with what was sent and a trailer.
func unary(ctx context.Context, client testgrpc.TestServiceClient, server string) error {
	var trailer metadata.MD
	body := strings.Repeat("x", 100_000)
	r, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: &testgrpc.Payload{Body: []byte(body)}}, grpc.Trailer(&trailer))
	if err != nil {
		return err
	}
	if r.ServerId != server || string(r.Payload.Body) != body || strings.Join(trailer.Get("x-server"), "") != server {
		return fmt.Errorf("%s answers with %d bytes and trailer %v", r.ServerId, len(r.Payload.GetBody()), trailer)
	}
	return nil
}

func streams(t *testing.T, client testgrpc.TestServiceClient) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	request := &testgrpc.StreamingOutputCallRequest{}
	for range 100 {
		request.ResponseParameters = append(request.ResponseParameters, &testgrpc.ResponseParameters{Size: 10_000})
	}
	out, err := client.StreamingOutputCall(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		r, err := out.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("after %d messages: %v", n, err)
		}
		n += len(r.Payload.Body)
	}
	if n != 1_000_000 {
		t.Errorf("the server's stream had %d bytes, want 1000000", n)
	}
	in, err := client.StreamingInputCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := in.Send(&testgrpc.StreamingInputCallRequest{Payload: &testgrpc.Payload{Body: make([]byte, 10_000)}}); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := in.CloseAndRecv(); err != nil || r.AggregatedPayloadSize != 1_000_000 {
		t.Errorf("the client's stream had %d bytes %v", r.GetAggregatedPayloadSize(), err)
	}
	both, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 { // in turn, so that nothing on the way may hold a message back
		sent := fmt.Sprint("message ", i)
		if err := both.Send(&testgrpc.StreamingOutputCallRequest{Payload: &testgrpc.Payload{Body: []byte(sent)}}); err != nil {
			t.Fatal(err)
		}
		if r, err := both.Recv(); err != nil || string(r.Payload.Body) != sent {
			t.Fatalf("message %d came back as %q %v", i, r.GetPayload().GetBody(), err)
		}
	}
	_ = both.CloseSend()
	if _, err := both.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the end of both streams: %v", err)
	}
}
