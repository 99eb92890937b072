package meshtest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
)

// Bundles is a light client of the Secret Discovery Service, as an agent is one: it asks
// for secrets by name, acknowledges, and keeps what it was given last.
type Bundles struct {
	// Refuse has every response refused with these words, if there are any. It is set before
	// Begin.
	Refuse string

	conn   *grpc.ClientConn
	stream grpc.BidiStreamingClient[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]

	mu      sync.Mutex
	secrets map[string]*tlsv3.Secret
	version string
	err     error
	changed chan struct{} // closed and replaced with every response, and at the end
}

// OpenBundles opens a stream that is signed by the given credentials, and sends nothing yet.
func OpenBundles(ctx context.Context, addr string, c aws.Credentials) (*Bundles, error) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	if ctx, err = signCall(ctx, c, addr, secretv3.SecretDiscoveryService_StreamSecrets_FullMethodName); err != nil {
		return nil, err
	}
	return BundlesOver(ctx, conn)
}

// BundlesOver opens a stream on a connection, which ends with it, and signs nothing.
func BundlesOver(ctx context.Context, conn *grpc.ClientConn) (*Bundles, error) {
	stream, err := secretv3.NewSecretDiscoveryServiceClient(conn).StreamSecrets(ctx)
	if err != nil {
		return nil, err
	}
	return &Bundles{conn: conn, stream: stream, changed: make(chan struct{})}, nil
}

// Begin asks for secrets as the agent of a node.
func (b *Bundles) Begin(node string, names ...string) {
	req := &discoveryv3.DiscoveryRequest{Node: &corev3.Node{Id: node}, TypeUrl: envoy.TypeSecret.URL(), ResourceNames: names}
	_ = b.stream.Send(req) // if the stream was refused already, receive finds out why
	go b.receive(names)
}

func (b *Bundles) receive(names []string) {
	for {
		resp, err := b.stream.Recv()
		secrets := map[string]*tlsv3.Secret{}
		for _, r := range resp.GetResources() {
			s := new(tlsv3.Secret)
			if err == nil {
				err = r.UnmarshalTo(s)
			}
			secrets[s.GetName()] = s
		}
		// Sent before it can be seen, so that who sees a response may count on the answer.
		if err == nil {
			req := &discoveryv3.DiscoveryRequest{
				TypeUrl: resp.GetTypeUrl(), ResourceNames: names, VersionInfo: resp.GetVersionInfo(), ResponseNonce: resp.GetNonce(),
			}
			if b.Refuse != "" {
				req.ErrorDetail = &statuspb.Status{Code: 3, Message: b.Refuse}
			}
			_ = b.stream.Send(req) // the next Recv says what is wrong
		}
		b.mu.Lock()
		b.secrets, b.version, b.err = secrets, resp.GetVersionInfo(), err
		close(b.changed)
		b.changed = make(chan struct{})
		b.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Close ends the stream.
func (b *Bundles) Close() { _ = b.conn.Close() }

// Last returns what came last, or why the stream has ended.
func (b *Bundles) Last() (secrets map[string]*tlsv3.Secret, version string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.secrets, b.version, b.err
}

// Changed returns a channel that is closed with the next response, or at the end.
func (b *Bundles) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// Await waits for a secret that is as wanted, and returns it.
func (b *Bundles) Await(t testing.TB, what, name string, ok func(*tlsv3.Secret) bool) *tlsv3.Secret {
	t.Helper()
	var found *tlsv3.Secret
	Eventually(t, what, func() error {
		secrets, _, err := b.Last()
		if err != nil {
			t.Fatalf("%s: the stream ended: %v", what, err)
		}
		if found = secrets[name]; found == nil || !ok(found) {
			return fmt.Errorf("there is %v", secrets)
		}
		return nil
	})
	return found
}
