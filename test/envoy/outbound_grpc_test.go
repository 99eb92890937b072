package envoy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop/grpc_testing"
	grpcmetadata "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// grpcApp is an application that says its name, fails as its callers ask, and streams.
type grpcApp struct {
	grpc_testing.UnimplementedTestServiceServer
	name   string
	health *health.Server

	mu   sync.Mutex
	seen map[string]int // calls with a key
}

// serveGRPC runs an application with the standard health service until the test ends.
func serveGRPC(t *testing.T, name string) (*grpcApp, string) {
	t.Helper()
	a := &grpcApp{name: name, health: health.NewServer(), seen: map[string]int{}}
	addr := meshtest.Address(t)
	l := listen(t, addr, port)
	srv := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(srv, a)
	healthgrpc.RegisterHealthServer(srv, a.health)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	return a, addr
}

// EmptyCall tells the name in a header.
func (a *grpcApp) EmptyCall(ctx context.Context, _ *grpc_testing.Empty) (*grpc_testing.Empty, error) {
	return &grpc_testing.Empty{}, grpc.SetHeader(ctx, grpcmetadata.Pairs("name", a.name))
}

// UnaryCall tells the name and which attempt this is of the calls with one key. All but
// the last of the attempts that the caller asks for fail with a status, or hang.
func (a *grpcApp) UnaryCall(ctx context.Context, _ *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	md, _ := grpcmetadata.FromIncomingContext(ctx)
	get := func(name string) string { return strings.Join(md.Get(name), "") }
	a.mu.Lock()
	a.seen[get("key")]++
	attempt := a.seen[get("key")]
	a.mu.Unlock()
	if want := get("attempts"); want != "" && fmt.Sprint(attempt) < want {
		if get("code") == "hang" {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		var code codes.Code
		if err := code.UnmarshalJSON([]byte(`"` + get("code") + `"`)); err != nil {
			return nil, err
		}
		return nil, status.Error(code, "as asked")
	}
	return &grpc_testing.SimpleResponse{Username: fmt.Sprintf("%s %d", a.name, attempt)}, nil
}

// FullDuplexCall answers each message with one of the size that it asks for.
func (a *grpcApp) FullDuplexCall(stream grpc_testing.TestService_FullDuplexCallServer) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		size := req.GetResponseParameters()[0].GetSize()
		if err := stream.Send(&grpc_testing.StreamingOutputCallResponse{Payload: &grpc_testing.Payload{Body: make([]byte, size)}}); err != nil {
			return err
		}
	}
}

// grpcCaller returns a client of the service that calls through front's Envoy.
func (s *stage) grpcCaller() *grpc.ClientConn {
	s.t.Helper()
	c, err := grpc.NewClient("passthrough:///"+s.front.Bind+":15001", grpc.WithAuthority(fmt.Sprintf("%s:%d", service, port)),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// grpcStage is a stage with two applications, blue and green, and the service behind a
// router for gRPC.
func grpcStage(t *testing.T) (s *stage, blue, green *grpcApp) {
	t.Helper()
	s = newStage(t)
	blue, blueAt := serveGRPC(t, "blue")
	green, greenAt := serveGRPC(t, "green")
	s.node("blue", nodeSpec(blueAt, "grpc", ""))
	s.node("green", nodeSpec(greenAt, "grpc", ""))
	s.routed("grpc")
	return s, blue, green
}

// call makes a unary call and returns who answered it at which attempt; metadata are
// names and values in turn.
func call(ctx context.Context, c *grpc.ClientConn, md ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 14*time.Second)
	defer cancel()
	r, err := grpc_testing.NewTestServiceClient(c).UnaryCall(grpcmetadata.AppendToOutgoingContext(ctx, md...), &grpc_testing.SimpleRequest{})
	return r.GetUsername(), err
}

func awaitGRPC(t *testing.T, c *grpc.ClientConn) {
	t.Helper()
	meshtest.Eventually(t, "the service answers", func() error {
		_, err := call(t.Context(), c)
		return err
	})
}

func TestGRPCRoutes(t *testing.T) {
	t.Parallel()
	covers(t,
		"Route.grpcRoute.match.{serviceName,methodName,metadata.name,metadata.invert}",
		"Route.grpcRoute.match.metadata.match.{exact,prefix,suffix,regex,range}",
	)
	s, blue, _ := grpcStage(t)
	blue.health.Shutdown() // so that an answer tells which of the two was asked
	s.addRoute("a-all", "grpcRoute", `{}`, "", "blue", 1)
	s.addRoute("b-service", "grpcRoute", `{"serviceName":"grpc.health.v1.Health"}`, "", "green", 1)
	s.addRoute("c-method", "grpcRoute", `{"serviceName":"grpc.testing.TestService","methodName":"EmptyCall"}`, "", "green", 1)
	forms := []struct{ name, match, meets, fails string }{
		{"exact", `"match":{"exact":"a-value"}`, "a-value", "a"},
		{"prefix", `"match":{"prefix":"a-"}`, "a-value", "b"},
		{"suffix", `"match":{"suffix":"-value"}`, "a-value", "b"},
		{"regex", `"match":{"regex":"a-[a-z]+"}`, "a-value", "a-1"},
		{"range", `"match":{"range":{"start":1,"end":10}}`, "1", "10"},
	}
	for _, f := range forms {
		s.addRoute("m-"+f.name, "grpcRoute", fmt.Sprintf(`{"metadata":[{"name":"is-%s",%s}]}`, f.name, f.match), "", "green", 1)
		s.addRoute("n-"+f.name, "grpcRoute", fmt.Sprintf(`{"metadata":[{"name":"not-%s","invert":true,%s}]}`, f.name, f.match), "", "green", 1)
	}
	s.addRoute("present", "grpcRoute", `{"metadata":[{"name":"there"}]}`, "", "green", 1)
	s.caller()
	c := s.grpcCaller()
	awaitGRPC(t, c)
	check := func(want string, md ...string) {
		t.Helper()
		if got, err := call(t.Context(), c, md...); err != nil || !strings.HasPrefix(got, want+" ") {
			t.Errorf("a call with %v: %q %v, want %s", md, got, err, want)
		}
	}
	check("blue")
	for _, f := range forms {
		check("green", "is-"+f.name, f.meets)
		check("blue", "is-"+f.name, f.fails)
		check("blue", "not-"+f.name, f.meets)
		check("green", "not-"+f.name, f.fails)
	}
	check("green", "there", "x")
	var header grpcmetadata.MD
	if _, err := grpc_testing.NewTestServiceClient(c).EmptyCall(t.Context(), &grpc_testing.Empty{}, grpc.Header(&header)); err != nil || strings.Join(header.Get("name"), "") != "green" {
		t.Errorf("a call of the method: %v %v, want green", header, err)
	}
	if r, err := healthgrpc.NewHealthClient(c).Check(t.Context(), &healthgrpc.HealthCheckRequest{}); err != nil || r.Status != healthgrpc.HealthCheckResponse_SERVING {
		t.Errorf("a call of the other service: %v %v, want green's answer", r, err)
	}
}

// A stream through two thousand messages in both directions, and its orderly end.
func TestGRPCStreams(t *testing.T) {
	t.Parallel()
	s, _, _ := grpcStage(t)
	s.addRoute("all", "grpcRoute", `{}`, `,"timeout":{"perRequest":{"unit":"s","value":0}}`, "blue", 1)
	s.caller()
	c := s.grpcCaller()
	awaitGRPC(t, c)
	stream, err := grpc_testing.NewTestServiceClient(c).FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{ResponseParameters: []*grpc_testing.ResponseParameters{{Size: int32(i)}}}); err != nil {
			t.Fatal(err)
		}
		r, err := stream.Recv()
		if err != nil || len(r.GetPayload().GetBody()) != i {
			t.Fatalf("message %d: %d bytes, %v", i, len(r.GetPayload().GetBody()), err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
}

func TestGRPCRetries(t *testing.T) {
	t.Parallel()
	covers(t, "Route.grpcRoute.retryPolicy.{grpcRetryEvents,maxRetries,perRetryTimeout}", "Route.grpcRoute.timeout.{perRequest,idle}")
	s, blue, _ := grpcStage(t)
	events := map[string]string{
		"cancelled": "CANCELLED", "deadline-exceeded": "DEADLINE_EXCEEDED", "internal": "INTERNAL",
		"resource-exhausted": "RESOURCE_EXHAUSTED", "unavailable": "UNAVAILABLE",
	}
	for event := range events {
		s.addRoute(event, "grpcRoute", fmt.Sprintf(`{"metadata":[{"name":"route","match":{"exact":%q}}]}`, event),
			fmt.Sprintf(`,"retryPolicy":{"maxRetries":2,"perRetryTimeout":{"unit":"s","value":5},"grpcRetryEvents":[%q]}`, event), "blue", 1)
	}
	s.addRoute("slow", "grpcRoute", `{"metadata":[{"name":"route","match":{"exact":"slow"}}]}`,
		`,"retryPolicy":{"maxRetries":1,"perRetryTimeout":{"unit":"ms","value":500},"httpRetryEvents":["gateway-error"],"grpcRetryEvents":["unavailable"]}`, "blue", 1)
	s.addRoute("timeout", "grpcRoute", `{"metadata":[{"name":"route","match":{"exact":"timeout"}}]}`,
		`,"timeout":{"perRequest":{"unit":"ms","value":500}}`, "blue", 1)
	s.addRoute("idle", "grpcRoute", `{"metadata":[{"name":"route","match":{"exact":"idle"}}]}`,
		`,"timeout":{"perRequest":{"unit":"s","value":0},"idle":{"unit":"ms","value":500}}`, "blue", 1)
	s.addRoute("all", "grpcRoute", `{}`, "", "blue", 1)
	s.caller()
	c := s.grpcCaller()
	awaitGRPC(t, c)
	for event, code := range events {
		if got, err := call(t.Context(), c, "route", event, "key", event, "attempts", "3", "code", code); err != nil || got != "blue 3" {
			t.Errorf("two retries on %s: %q %v, want the third attempt", event, got, err)
		}
		other := "INTERNAL"
		if event == "internal" {
			other = "UNAVAILABLE"
		}
		if got, err := call(t.Context(), c, "route", event, "key", "not "+event, "attempts", "2", "code", other); err == nil {
			t.Errorf("a retry on %s took %s for it: %q", event, other, got)
		}
	}
	// What is tried again where nothing is asked.
	if got, err := call(t.Context(), c, "key", "default", "attempts", "3", "code", "UNAVAILABLE"); err != nil || got != "blue 3" {
		t.Errorf("the default retries: %q %v, want the third attempt", got, err)
	}
	if got, err := call(t.Context(), c, "route", "slow", "key", "slow", "attempts", "2", "code", "hang"); err != nil || got != "blue 2" {
		t.Errorf("a retry of a call that hangs: %q %v, want the second attempt", got, err)
	}
	// It is the route that ends these, not the caller's own deadline, whose words are others.
	for route, words := range map[string]string{"timeout": "upstream request timeout", "idle": "stream timeout"} {
		got, err := call(t.Context(), c, "route", route, "key", route, "attempts", "9", "code", "hang")
		if code := status.Code(err); code != codes.Unavailable && code != codes.DeadlineExceeded || !strings.Contains(err.Error(), words) {
			t.Errorf("a call over the route's %s: %q %v, want %q", route, got, err, words)
		}
		blue.mu.Lock()
		if n := blue.seen[route]; n != 1 {
			t.Errorf("a call over the route's %s came %d times, want once", route, n)
		}
		blue.mu.Unlock()
	}
}
