package relay

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// Server says how to reach the control plane and how streams to it are signed. All of it
// is required but TLS.
type Server struct {
	Address     string      // host:port
	TLS         *tls.Config // nil for none
	Region      string
	SigningName string // of the service in signatures
	// Credentials are asked for each stream.
	Credentials aws.CredentialsProvider
}

// Times of the connection to the control plane.
const (
	connectTimeout    = 5 * time.Second
	keepaliveInterval = 10 * time.Second
	keepaliveTimeout  = 10 * time.Second
)

// shuffled has each address of a name stand for one server, so that replicas share the
// proxies.
const shuffled = `{"loadBalancingConfig":[{"pick_first":{"shuffleAddressList":true}}]}`

// Dial returns a connection to the control plane. It connects when it is first used, and
// again, within 3 seconds of an attempt, when the connection was lost.
func Dial(s Server) (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if s.TLS != nil {
		transport = credentials.NewTLS(s.TLS)
	}
	conn, err := grpc.NewClient(s.Address,
		grpc.WithTransportCredentials(transport),
		grpc.WithPerRPCCredentials(&signature{s, v4.NewSigner()}),
		grpc.WithNoProxy(),
		grpc.WithDefaultServiceConfig(shuffled),
		grpc.WithDisableServiceConfig(), // of a name's TXT records
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveInterval, Timeout: keepaliveTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: reopen.First, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reopen.Most},
			MinConnectTimeout: connectTimeout,
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("preparing the connection to the control plane: %w", err)
	}
	return conn, nil
}

// signature signs the opening of streams by AWS's Signature Version 4, as Envoy does: the
// payload, a stream, is left out.
type signature struct {
	Server

	signer *v4.Signer
}

const unsignedPayload = "UNSIGNED-PAYLOAD"

// RequireTransportSecurity reports that a signature may go over a connection without TLS:
// the key is not in it.
func (s *signature) RequireTransportSecurity() bool { return false }

// GetRequestMetadata returns the signature of a stream.
func (s *signature) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	info, ok := credentials.RequestInfoFromContext(ctx)
	if !ok {
		return nil, fmt.Errorf("signing a stream: grpc does not say which")
	}
	key, err := s.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the key that signs streams: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.Address+info.Method, nil)
	if err != nil {
		return nil, fmt.Errorf("signing a stream: %w", err)
	}
	req.Header.Set("X-Amz-Content-Sha256", unsignedPayload)
	if err := s.signer.SignHTTP(ctx, key, req, unsignedPayload, s.SigningName, s.Region, time.Now()); err != nil {
		return nil, fmt.Errorf("signing a stream: %w", err)
	}
	out := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(req.Header)) {
		out[strings.ToLower(name)] = req.Header.Get(name)
	}
	return out, nil
}
