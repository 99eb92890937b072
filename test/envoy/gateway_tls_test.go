package envoy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// A gateway's listeners ask for TLS as a node's do, and its backend defaults hold for
// the services that its routes lead to.
func TestGatewayTLS(t *testing.T) {
	t.Parallel()
	covers(t,
		"VirtualGateway.listeners.tls.{mode,certificate.file.certificateChain,certificate.file.privateKey}",
		"VirtualGateway.backendDefaults.clientPolicy.tls.certificate.file.{certificateChain,privateKey}",
		"VirtualGateway.backendDefaults.clientPolicy.tls.validation.{trust.file.certificateChain,subjectAlternativeNames.match.exact}",
	)
	s := newStage(t)
	ca, dir := meshtest.NewAuthority(t), t.TempDir()
	door := ca.WriteLeaf(t, dir, "door", meshtest.Leaf{Name: "door", DNS: []string{"door.test"}})
	mine := ca.WriteLeaf(t, dir, "edge", meshtest.Leaf{Name: "edge"})
	app := serveOutbound(t, ca, meshtest.Leaf{Name: "blue", DNS: []string{"blue.test"}}, tls.RequireAndVerifyClientCert)
	s.plane.Node(t, "test", "blue", app, port)
	s.leadsTo("blue.local", "blue")
	asks := func(mode string) string {
		return fmt.Sprintf(`"tls":{"mode":%q,"certificate":{"file":{"certificateChain":%q,"privateKey":%q}}}`, mode, door.Cert, door.Key)
	}
	d := s.gateway(fmt.Sprintf(`{"listeners":[{"portMapping":{"port":8080,"protocol":"http"},%s},{"portMapping":{"port":8081,"protocol":"http"},%s}],`+
		`"backendDefaults":{"clientPolicy":{"tls":{"validation":{"trust":{"file":{"certificateChain":%q}},"subjectAlternativeNames":{"match":{"exact":["blue.test"]}}},`+
		`"certificate":{"file":{"certificateChain":%q,"privateKey":%q}}}}}}`, asks("STRICT"), asks("PERMISSIVE"), ca.File, mine.Cert, mine.Key))
	for _, p := range []int{8080, 8081} {
		s.gatewayRoute(fmt.Sprint("on-", p), fmt.Sprintf(`{"prefix":"/","port":%d}`, p), "blue.local", "")
	}
	config := &tls.Config{RootCAs: ca.Pool, ServerName: "door.test", MinVersion: tls.VersionTLS12}
	client := &http.Client{Timeout: deadline, Transport: &http.Transport{TLSClientConfig: config}}
	const want = "tls sni=blue.test alpn=http/1.1 peer=edge"
	for _, p := range []int{8080, 8081} {
		meshtest.Eventually(t, fmt.Sprintf("port %d answers over TLS", p), func() error {
			status, body, err := meshtest.Get(client, fmt.Sprintf("https://%s:%d/", d.proxy.Bind, p))
			if err == nil && body != want {
				err = fmt.Errorf("answered %d %q", status, body)
			}
			return err
		})
	}
	if status, body, err := meshtest.Get(d.client, fmt.Sprintf("http://%s:8081/", d.proxy.Bind)); err != nil || body != want {
		t.Errorf("plain text on a PERMISSIVE listener: %d %q %v", status, body, err)
	}
	if status, body, err := meshtest.Get(d.client, fmt.Sprintf("http://%s:8080/", d.proxy.Bind)); err == nil {
		t.Errorf("plain text on a STRICT listener: %d %q, want no answer", status, body)
	}
}

// Calls and streams of gRPC go through a gateway, in one pass and in two.
func TestGatewayGRPC(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	_, addr := serveGRPC(t, "blue")
	s.plane.Put(t, "/meshes/test/virtualNodes", fmt.Sprintf(
		`{"virtualNodeName":"blue","spec":{"listeners":[{"portMapping":{"port":%d,"protocol":"grpc"}}],"serviceDiscovery":{"dns":{"hostname":%q}}}}`, port, addr))
	s.plane.Put(t, "/meshes/test/virtualRouters", `{"virtualRouterName":"calls","spec":{"listeners":[{"portMapping":{"port":80,"protocol":"grpc"}}]}}`)
	route := func(name, match string) {
		s.plane.Put(t, "/meshes/test/virtualRouter/calls/routes", fmt.Sprintf(`{"routeName":%q,"spec":{"grpcRoute":{"match":%s,"action":{"weightedTargets":[{"virtualNode":"blue","weight":1}]},`+
			`"retryPolicy":{"maxRetries":2,"perRetryTimeout":{"unit":"s","value":15},"grpcRetryEvents":["unavailable"]}}}}`, name, match))
	}
	route("all", `{"serviceName":"grpc.testing.TestService"}`)
	s.plane.Put(t, "/meshes/test/virtualServices", `{"virtualServiceName":"calls.local","spec":{"provider":{"virtualRouter":{"virtualRouterName":"calls"}}}}`)
	d := s.startGateway(s.defineGateway(onPort("grpc")))
	s.plane.Put(t, "/meshes/test/virtualGateway/edge/gatewayRoutes",
		`{"gatewayRouteName":"calls","spec":`+gatewayRouteSpec("grpcRoute", `{"serviceName":"grpc.testing.TestService"}`, "calls.local", "")+`}`)
	conn, err := grpc.NewClient(fmt.Sprintf("%s:%d", d.proxy.Bind, port), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	api := grpc_testing.NewTestServiceClient(conn)
	for _, passes := range []string{"one", "two"} {
		meshtest.Eventually(t, "a call goes through in "+passes, func() error {
			_, err := api.EmptyCall(t.Context(), &grpc_testing.Empty{})
			return err
		})
		ctx := metadata.AppendToOutgoingContext(t.Context(), "key", passes, "attempts", "3", "code", "UNAVAILABLE")
		if r, err := api.UnaryCall(ctx, &grpc_testing.SimpleRequest{}); err != nil || r.Username != "blue 3" {
			t.Errorf("%s: a call with 2 retries: %v %v, want the third attempt's answer", passes, r, err)
		}
		streamThrough(t, api)
		if passes == "two" {
			break
		}
		// A condition on a header that the gateway sets needs a second pass.
		route("forwarded", `{"metadata":[{"name":"x-forwarded-host","match":{"prefix":"127."}}]}`)
		s.plane.Delete(t, "/meshes/test/virtualRouter/calls/routes/all")
		meshtest.Eventually(t, "calls take two passes", func() error {
			stats, err := d.proxy.Admin("/stats?filter=cluster.cds_internal_test_calls.local_80.upstream_rq_total")
			if _, callErr := api.EmptyCall(t.Context(), &grpc_testing.Empty{}); err == nil && (callErr != nil || !strings.Contains(stats, ": ") || strings.HasSuffix(stats, ": 0")) {
				err = fmt.Errorf("%q %w", stats, callErr)
			}
			return err
		})
	}
}

// streamThrough sends messages both ways on one stream.
func streamThrough(t *testing.T, api grpc_testing.TestServiceClient) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	stream, err := api.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for size := range int32(5) {
		if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{ResponseParameters: []*grpc_testing.ResponseParameters{{Size: 1000 * size}}}); err != nil {
			t.Fatal(err)
		}
		if r, err := stream.Recv(); err != nil || len(r.GetPayload().GetBody()) != int(1000*size) {
			t.Fatalf("a stream's answer: %d bytes, %v; want %d", len(r.GetPayload().GetBody()), err, 1000*size)
		}
	}
}
