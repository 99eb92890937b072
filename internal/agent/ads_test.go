package agent

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// adsServer is a small control plane: it notes who came and serves fixed resources.
type adsServer struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	streams   chan adsStream                              // each stream's beginning
	resources map[string]proto.Message                    // by name
	build     func(*corev3.Node) map[string]proto.Message // when set, makes resources of who came first
	refuse    error                                       // when set, the answer to every stream
	think     time.Duration                               // how long before that answer

	mu    sync.Mutex
	close chan struct{} // closed when the streams that there are end
}

// adsStream is what came first on a stream.
type adsStream struct {
	header  metadata.MD
	request *discoveryv3.DeltaDiscoveryRequest
}

func newADS() *adsServer {
	return &adsServer{streams: make(chan adsStream, 100), close: make(chan struct{})}
}

// drop ends the streams that there are, as a control plane does that restarts.
func (s *adsServer) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.close)
	s.close = make(chan struct{})
}

// closing returns what is closed when a stream that begins now ends.
func (s *adsServer) closing() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.close
}

// serve starts the server on a listener and stops it with the test, or by the
// function returned.
func (s *adsServer) serve(t *testing.T, l net.Listener, secure *tls.Config) (stop func()) {
	t.Helper()
	options := []grpc.ServerOption{grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second})}
	if secure != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(secure)))
	}
	g := grpc.NewServer(options...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := g.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("serving ADS: %v", err)
		}
	}()
	stop = func() { g.Stop(); <-served }
	t.Cleanup(stop)
	return stop
}

// next returns the next stream's beginning.
func (s *adsServer) next(t *testing.T) adsStream {
	t.Helper()
	select {
	case st := <-s.streams:
		return st
	case <-time.After(waitTime):
		t.Fatal("no stream came")
		return adsStream{}
	}
}

func (s *adsServer) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	closing := s.closing()
	ended := make(chan error, 1)
	go func() { ended <- s.converse(stream) }() // ends when the stream has
	select {
	case <-closing:
		return status.Error(codes.Unavailable, "the server restarts")
	case err := <-ended:
		return err
	}
}

func (s *adsServer) converse(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	header, _ := metadata.FromIncomingContext(stream.Context())
	answered := map[string]bool{}
	for first := true; ; first = false {
		request, err := stream.Recv()
		if err != nil {
			return nil // the client went away
		}
		if first {
			if s.build != nil && s.resources == nil {
				s.resources = s.build(request.GetNode())
			}
			s.streams <- adsStream{header, request}
		}
		if s.refuse != nil {
			<-time.After(s.think)
			return s.refuse
		}
		if url := request.GetTypeUrl(); !answered[url] {
			answered[url] = true
			if err := stream.Send(s.answer(url)); err != nil {
				return nil
			}
		}
	}
}

func (s *adsServer) answer(url string) *discoveryv3.DeltaDiscoveryResponse {
	out := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: url, Nonce: "1"}
	for name, message := range s.resources {
		if packed, err := anypb.New(message); err == nil && packed.TypeUrl == url {
			out.Resources = append(out.Resources, &discoveryv3.Resource{Name: name, Version: "1", Resource: packed})
		}
	}
	return out
}

var authorizationForm = regexp.MustCompile(
	`^AWS4-HMAC-SHA256 Credential=([A-Z0-9]+)/([0-9]{8})/([a-z0-9-]+)/([a-z]+)/aws4_request, SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})$`)

// checkSignature computes the stream's SigV4 signature from what arrived and compares.
func checkSignature(t *testing.T, header metadata.MD, key, secret, region string) {
	t.Helper()
	one := func(name string) string { return strings.Join(header.Get(name), ",") }
	m := authorizationForm.FindStringSubmatch(one("authorization"))
	if m == nil {
		t.Fatalf("authorization is %q", one("authorization"))
	}
	if got := []string{m[1], m[3], m[4]}; !slices.Equal(got, []string{key, region, "appmesh"}) {
		t.Errorf("credential scope %v, want %s, %s, appmesh", got, key, region)
	}
	if date := one("x-amz-date"); !strings.HasPrefix(date, m[2]+"T") || one("x-amz-content-sha256") != "UNSIGNED-PAYLOAD" {
		t.Errorf("x-amz-date %q, x-amz-content-sha256 %q", date, one("x-amz-content-sha256"))
	}
	for _, name := range []string{"host", "x-amz-content-sha256", "x-amz-date"} {
		if !slices.Contains(strings.Split(m[5], ";"), name) {
			t.Errorf("%s is not among the signed headers %s", name, m[5])
		}
	}
	canonical := "POST\n/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources\n\n"
	for name := range strings.SplitSeq(m[5], ";") {
		value := one(name)
		if name == "host" {
			value = one(":authority")
		}
		canonical += name + ":" + value + "\n"
	}
	canonical += "\n" + m[5] + "\nUNSIGNED-PAYLOAD"
	digest := sha256.Sum256([]byte(canonical))
	scope := m[2] + "/" + region + "/appmesh/aws4_request"
	toSign := "AWS4-HMAC-SHA256\n" + one("x-amz-date") + "\n" + scope + "\n" + hex.EncodeToString(digest[:])
	signing := []byte("AWS4" + secret)
	for _, part := range []string{m[2], region, "appmesh", "aws4_request", toSign} {
		h := hmac.New(sha256.New, signing)
		h.Write([]byte(part))
		signing = h.Sum(nil)
	}
	if want := hex.EncodeToString(signing); m[6] != want {
		t.Errorf("signature %s, want %s, canonical request:\n%s", m[6], want, canonical)
	}
}

// proxyTo is a listener at ip:15000 that passes everything to an application on
// loopback.
func proxyTo(t *testing.T, ip, applicationPort string) map[string]proto.Message {
	t.Helper()
	port, err := strconv.Atoi(applicationPort)
	if err != nil {
		t.Fatal(err)
	}
	router, err := anypb.New(&routerv3.Router{})
	if err != nil {
		t.Fatal(err)
	}
	manager, err := anypb.New(&hcmv3.HttpConnectionManager{
		StatPrefix: "ingress",
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			VirtualHosts: []*routev3.VirtualHost{{Name: "all", Domains: []string{"*"}, Routes: []*routev3.Route{{
				Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
				Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "application"}}},
			}}}},
		}},
		HttpFilters: []*hcmv3.HttpFilter{{Name: "envoy.filters.http.router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]proto.Message{
		"application": &clusterv3.Cluster{Name: "application", LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: "application",
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: typedAddress("127.0.0.1", port)}},
			}}}},
		}},
		"ingress": &listenerv3.Listener{Name: "ingress", Address: typedAddress(ip, ingressPort), FilterChains: []*listenerv3.FilterChain{{
			Filters: []*listenerv3.Filter{{Name: "http", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: manager}}},
		}}},
	}
}

func typedAddress(ip string, port int) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}
