package meshtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
)

// adsMethod is the full name of a discovery method, without its last part.
const adsMethod = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"

// SignStream returns a context whose outgoing metadata is signed as Envoy's
// aws_request_signing filter signs the opening of a stream.
func SignStream(ctx context.Context, c aws.Credentials, authority, method string) (context.Context, error) {
	return signCall(ctx, c, authority, adsMethod+method)
}

// signCall is SignStream for any method, by its full name.
func signCall(ctx context.Context, c aws.Credentials, authority, method string) (context.Context, error) {
	const unsigned = "UNSIGNED-PAYLOAD"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+authority+method, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("content-type", "application/grpc")
	req.Header.Set("x-amz-content-sha256", unsigned)
	if err := v4.NewSigner().SignHTTP(ctx, c, req, unsigned, "appmesh", Region, time.Now()); err != nil {
		return nil, err
	}
	for _, name := range []string{"authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"} {
		if v := req.Header.Get(name); v != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, name, v)
		}
	}
	return ctx, nil
}

// Delta is a light delta ADS client: it subscribes as Envoy does, acknowledges, and
// keeps what it was given.
type Delta struct {
	// Refuse decides whether a response is refused, and why; nil accepts all. It is
	// set before the first response can come.
	Refuse func(envoy.Type, *discoveryv3.DeltaDiscoveryResponse) string
	// Answered is told of each response right after it was answered. It is set before
	// the first response can come.
	Answered func(envoy.Type, *discoveryv3.DeltaDiscoveryResponse)

	stream grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]
	conn   *grpc.ClientConn
	sendMu sync.Mutex

	mu        sync.Mutex
	resources map[envoy.Type]map[string]*discoveryv3.Resource
	responses []*discoveryv3.DeltaDiscoveryResponse
	changed   chan struct{} // closed and replaced with every response
	err       error
	done      chan struct{}
}

// OpenDelta opens a delta stream as the proxy of a node, signed by the given
// credentials, and sends nothing yet but the node with the first Subscribe.
func OpenDelta(ctx context.Context, addr string, c aws.Credentials) (*Delta, error) {
	return openDelta(ctx, addr, c, insecure.NewCredentials())
}

func openDelta(ctx context.Context, addr string, c aws.Credentials, transport credentials.TransportCredentials) (*Delta, error) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(transport))
	if err != nil {
		return nil, err
	}
	ctx, err = SignStream(ctx, c, addr, "DeltaAggregatedResources")
	if err != nil {
		return nil, err
	}
	return DeltaOver(ctx, conn)
}

// DeltaOver opens a delta stream on a connection, which ends with it, and signs nothing.
func DeltaOver(ctx context.Context, conn *grpc.ClientConn) (*Delta, error) {
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return nil, err
	}
	return &Delta{
		stream: stream, conn: conn, resources: map[envoy.Type]map[string]*discoveryv3.Resource{},
		changed: make(chan struct{}), done: make(chan struct{}),
	}, nil
}

// Delta opens a delta stream of a node that subscribes to clusters and listeners, and
// to each route configuration that a listener names, until the test ends.
func (p *Plane) Delta(t testing.TB, node *corev3.Node) *Delta {
	t.Helper()
	d, err := openDelta(t.Context(), p.Addrs.XDS, p.Creds, p.Transport())
	if err != nil {
		t.Fatalf("opening a delta stream: %v", err)
	}
	t.Cleanup(d.Close)
	if err := d.Begin(node, nil); err != nil {
		t.Fatalf("subscribing: %v", err)
	}
	return d
}

// Begin subscribes to clusters and listeners; have holds versions that the proxy brings
// along from an earlier stream.
func (d *Delta) Begin(node *corev3.Node, have map[envoy.Type]map[string]string) error {
	for _, t := range []envoy.Type{envoy.TypeCluster, envoy.TypeListener} {
		req := &discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: t.URL(), InitialResourceVersions: have[t]}
		if err := d.Send(req); errors.Is(err, io.EOF) {
			break // the stream was refused already: receive finds out why
		} else if err != nil {
			return err
		}
		node = nil
	}
	go d.receive()
	return nil
}

// Follow begins with a request of the test's own, for what is not clusters and listeners
// first.
func (d *Delta) Follow(first *discoveryv3.DeltaDiscoveryRequest) error {
	go d.receive()
	return d.Send(first)
}

// Send sends one request.
func (d *Delta) Send(req *discoveryv3.DeltaDiscoveryRequest) error {
	d.sendMu.Lock()
	defer d.sendMu.Unlock()
	return d.stream.Send(req)
}

// Close ends the stream.
func (d *Delta) Close() { _ = d.conn.Close() }

func (d *Delta) receive() {
	defer close(d.done)
	for {
		resp, err := d.stream.Recv()
		if err == nil {
			err = d.take(resp)
		}
		if errors.Is(err, io.EOF) { // from a send to a stream that has ended: Recv tells why
			_, err = d.stream.Recv()
		}
		if err != nil {
			d.mu.Lock()
			d.err = err
			close(d.changed)
			d.changed = make(chan struct{})
			d.mu.Unlock()
			return
		}
	}
}

// take subscribes to what a response refers to, answers it and keeps it. Envoy too asks for
// the routes of a listener before it acknowledges that.
func (d *Delta) take(resp *discoveryv3.DeltaDiscoveryResponse) error {
	t, ok := envoy.ParseType(resp.GetTypeUrl())
	if !ok {
		return fmt.Errorf("a response of unknown type %q", resp.GetTypeUrl())
	}
	answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()}
	if d.Refuse != nil {
		if why := d.Refuse(t, resp); why != "" {
			answer.ErrorDetail = &statuspb.Status{Code: 3, Message: why}
		}
	}
	accepted := answer.ErrorDetail == nil
	if routes := routesOf(t, resp); accepted && len(routes) > 0 {
		if err := d.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: envoy.TypeRoute.URL(), ResourceNamesSubscribe: routes}); err != nil {
			return err
		}
	}
	if err := d.Send(answer); err != nil {
		return err
	}
	if d.Answered != nil {
		d.Answered(t, resp)
	}
	d.keep(t, resp, accepted)
	return nil
}

// keep stores a response.
func (d *Delta) keep(t envoy.Type, resp *discoveryv3.DeltaDiscoveryResponse, accepted bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.responses = append(d.responses, resp)
	if accepted {
		if d.resources[t] == nil {
			d.resources[t] = map[string]*discoveryv3.Resource{}
		}
		for _, r := range resp.GetResources() {
			d.resources[t][r.GetName()] = r
		}
		for _, name := range resp.GetRemovedResources() {
			delete(d.resources[t], name)
		}
	}
	close(d.changed)
	d.changed = make(chan struct{})
}

// routesOf returns the route configurations that the listeners of a response name.
func routesOf(t envoy.Type, resp *discoveryv3.DeltaDiscoveryResponse) (routes []string) {
	if t != envoy.TypeListener {
		return nil
	}
	for _, r := range resp.GetResources() {
		routes = append(routes, routeNames(r)...)
	}
	return routes
}

// routeNames finds the route configurations that an encoded listener names, by App
// Mesh's naming.
func routeNames(r *discoveryv3.Resource) []string {
	var names []string
	for _, word := range strings.FieldsFunc(string(r.GetResource().GetValue()), func(c rune) bool {
		return c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z')
	}) {
		if strings.HasPrefix(word, "rds_") {
			names = append(names, word)
		}
	}
	return names
}

// Resources returns what the client holds of a type, by name.
func (d *Delta) Resources(t envoy.Type) map[string]*discoveryv3.Resource {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string]*discoveryv3.Resource{}
	for name, r := range d.resources[t] {
		out[name] = r
	}
	return out
}

// Versions returns the version of each resource that the client holds.
func (d *Delta) Versions() map[envoy.Type]map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[envoy.Type]map[string]string{}
	for t, resources := range d.resources {
		out[t] = map[string]string{}
		for name, r := range resources {
			out[t][name] = r.GetVersion()
		}
	}
	return out
}

// Responses returns all responses so far.
func (d *Delta) Responses() []*discoveryv3.DeltaDiscoveryResponse {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*discoveryv3.DeltaDiscoveryResponse(nil), d.responses...)
}

// Err returns why the stream ended, or nil.
func (d *Delta) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// Await waits until ok holds of what the client has, and fails the test if the stream
// ends before or it takes too long.
func (d *Delta) Await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(wait)
	for {
		d.mu.Lock()
		changed, err := d.changed, d.err
		d.mu.Unlock()
		if ok() {
			return
		}
		if err != nil {
			t.Fatalf("the stream ended before %s: %v", what, err)
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("waited %s for %s", wait, what)
		}
	}
}
