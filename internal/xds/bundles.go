package xds

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead-mesh/fairlead/internal/ca"
	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Trust bundles: agents hold a stream of the Secret Discovery Service for what their mesh
// trusts, and are sent it at once when it changes. The node says who they are, as it does
// for Envoys, and the same permission is asked. Only the bundle of the node's own mesh is
// answered: nobody is told to trust another.

// bundleStream is the stream of one agent.
type bundleStream struct {
	one  *session
	name string        // of the secret
	wake chan struct{} // a request has come

	mu     sync.Mutex
	wanted bool   // the secret is subscribed to
	sent   string // the version that was sent last
	acked  string // and the one that was accepted last
	nonce  string // of what was sent last
	nonces uint64
}

// secretsDesc describes the Secret Discovery Service, as far as it is served.
var secretsDesc = grpc.ServiceDesc{
	ServiceName: "envoy.service.secret.v3.SecretDiscoveryService",
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{
		{StreamName: "StreamSecrets", Handler: handleSecrets, ServerStreams: true, ClientStreams: true},
	},
	Metadata: "envoy/service/secret/v3/sds.proto",
}

func handleSecrets(srv any, g grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(g)
	return srv.(*Server).serveBundle(g.Context(), method,
		func() (*discoveryv3.DiscoveryRequest, error) {
			req := new(discoveryv3.DiscoveryRequest)
			return req, g.RecvMsg(req)
		},
		func(r *discoveryv3.DiscoveryResponse) error { return g.SendMsg(r) })
}

type (
	recvSecrets func() (*discoveryv3.DiscoveryRequest, error)
	sendSecrets func(*discoveryv3.DiscoveryResponse) error
)

// serveBundle runs one stream from its opening to its end.
func (s *Server) serveBundle(ctx context.Context, method string, recv recvSecrets, send sendSecrets) error {
	if s.cfg.CA == nil {
		return refuse(codes.Unimplemented, mesh.ErrUnknownOperation, "trust bundles are not served here")
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	one := newSession(ctx, true)
	one.end, one.bundle = end, true
	b, first, err := s.openBundle(ctx, method, one, recv)
	if err == nil {
		defer s.leaveBundle(b)
		err = s.converseBundle(ctx, b, first, recv, send)
	}
	err = endOf(err)
	if errors.Is(err, s.silent) {
		s.met.dropped.Inc()
		one.drop()
	}
	if b == nil && !errors.Is(err, errShutdown) {
		s.met.refused.Inc()
		s.cfg.Log.Info("refusing a stream for a trust bundle", "peer", one.peer, "node", one.node, "account", one.caller.Account, "error", err)
		s.auditRefused(one, err)
	}
	if graceful(err) || errors.Is(err, errGone) {
		return nil
	}
	return err
}

// openBundle finds out who opens a stream and whether it may. On success the stream is
// listed until leaveBundle.
func (s *Server) openBundle(ctx context.Context, method string, one *session, recv recvSecrets) (*bundleStream, *discoveryv3.DiscoveryRequest, error) {
	var err error
	if one.caller, err = s.authenticate(ctx, method, one); err != nil {
		return nil, nil, err
	}
	var first *discoveryv3.DiscoveryRequest
	_, err = awaitFirst(ctx, func() (request, error) {
		req, err := recv()
		first = req
		return request{}, err
	})
	if err != nil {
		return nil, nil, err
	}
	if err := one.identify(first.GetNode()); err != nil {
		return nil, nil, err
	}
	if one.shared = s.shared(one.key.id.Mesh, one.key.owner); !one.shared {
		return nil, nil, notShared(one.key)
	}
	if err := s.allowed(one); err != nil {
		return nil, nil, err
	}
	if owner, _ := s.cfg.Live.Object(one.key.id); owner != one.key.owner {
		return nil, nil, refuse(codes.InvalidArgument, mesh.ErrNotFound, "%s is not present in mesh %s of account %s",
			one.key.id.Key, one.key.id.Mesh.Name, one.key.id.Mesh.Account)
	}
	b := &bundleStream{one: one, name: envoy.TrustSecret(one.key.id.Mesh), wake: make(chan struct{}, 1)}
	if err := s.enterBundle(b); err != nil {
		return nil, nil, err
	}
	if err := s.allowed(one); err != nil { // once more, now that a change would be heard
		s.leaveBundle(b)
		return nil, nil, err
	}
	return b, first, nil
}

// enterBundle lists a stream, if its virtual node or gateway may have one more: as many as
// it may have proxies.
func (s *Server) enterBundle(b *bundleStream) error {
	quota, limit := s.limit(b.one.key.id)
	elsewhere := s.elsewhere(b.one, limit)
	s.mu.Lock()
	defer s.mu.Unlock()
	if limit >= 0 && s.bundleCounts[b.one.counted()]+elsewhere >= limit {
		return refuse(codes.ResourceExhausted, mesh.ErrLimitExceeded, "%s of mesh %s has as many agents connected as it may have proxies: quota %s (%s) is %d",
			b.one.key.id.Key, b.one.key.id.Mesh.Name, quota, quota.Title(), limit)
	}
	s.bundleCounts[b.one.counted()]++
	s.bundles[b] = struct{}{}
	return nil
}

func (s *Server) leaveBundle(b *bundleStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.bundles, b)
	s.bundleCounts.less(b.one.counted())
}

// converseBundle answers an agent until either side ends the stream.
func (s *Server) converseBundle(ctx context.Context, b *bundleStream, first *discoveryv3.DiscoveryRequest, recv recvSecrets, send sendSecrets) error {
	failed := make(chan error, 1)
	go func() { // ends with the stream, whose context ends when serveBundle returns
		failed <- s.receiveBundle(b, first, recv)
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, s.lifetime(b.one), errAged)
	defer cancel()
	for {
		changed := s.cfg.CA.Changed()
		resp, err := s.nextBundle(ctx, b)
		if err != nil {
			return err
		}
		if resp != nil {
			err := deliver(ctx, failed, s.cfg.MaxSilence, func() error { return send(resp) })
			if errors.Is(err, errSlow) {
				return s.silent
			}
			if err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-failed:
			return err
		case <-changed:
		case <-b.wake:
		}
	}
}

// receiveBundle takes requests until one fails.
func (s *Server) receiveBundle(b *bundleStream, req *discoveryv3.DiscoveryRequest, recv recvSecrets) error {
	for {
		if t := req.GetTypeUrl(); t != "" && t != envoy.TypeSecret.URL() {
			return refuse(codes.InvalidArgument, mesh.ErrBadRequest, "type_url %q is not served here, allowed is %q", t, envoy.TypeSecret.URL())
		}
		b.handle(req)
		if detail := nackDetail(req.GetErrorDetail()); detail != "" {
			s.cfg.Log.Warn("agent refused a trust bundle", "arn", b.one.key.arn(), "account", b.one.caller.Account, "detail", detail)
		}
		select {
		case b.wake <- struct{}{}:
		default:
		}
		var err error
		if req, err = recv(); err != nil {
			return endOf(err)
		}
	}
}

// handle notes what a request asks for and answers.
func (b *bundleStream) handle(req *discoveryv3.DiscoveryRequest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wanted = slices.Contains(req.GetResourceNames(), b.name)
	if req.GetResponseNonce() != "" && req.GetResponseNonce() == b.nonce && req.GetErrorDetail() == nil {
		b.acked = b.sent
	}
}

// nextBundle returns the next response, nil if there is none to send now.
func (s *Server) nextBundle(ctx context.Context, b *bundleStream) (*discoveryv3.DiscoveryResponse, error) {
	b.mu.Lock()
	wanted, sent := b.wanted, b.sent
	b.mu.Unlock()
	if !wanted {
		return nil, nil
	}
	m := b.one.key.id.Mesh
	bundle, ok := s.cfg.CA.Known(m)
	if !ok || sent == "" { // what is known may be of an earlier mesh of the name
		var err error
		if bundle, err = s.cfg.CA.Trusted(ctx, m); ctx.Err() != nil {
			return nil, context.Cause(ctx)
		} else if err != nil {
			var refusal *mesh.Error
			if errors.As(err, &refusal) && refusal.Code == mesh.ErrNotFound {
				return nil, refuse(codes.InvalidArgument, mesh.ErrNotFound, "%v", err)
			}
			s.cfg.Log.Error("making the authority of a mesh failed", "mesh", m.Name, "account", m.Account, "error", err)
			return nil, refuse(codes.Unavailable, mesh.ErrServiceUnavailable, "the trust bundle cannot be had just now")
		}
	}
	if bundle.Version == sent {
		return nil, nil
	}
	secret, err := anypb.New(trustSecret(b.name, bundle))
	if err != nil {
		return nil, refuse(codes.Internal, mesh.ErrInternalServerError, "the trust bundle cannot be encoded")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nonces++
	b.nonce, b.sent = strconv.FormatUint(b.nonces, 10), bundle.Version
	s.met.responses.WithLabelValues("TrustBundle").Inc()
	return &discoveryv3.DiscoveryResponse{
		VersionInfo: bundle.Version, TypeUrl: envoy.TypeSecret.URL(), Nonce: b.nonce, Resources: []*anypb.Any{secret},
	}, nil
}

// trustSecret returns a bundle as Envoy takes it. The lists of revoked certificates are of
// what signs workloads' certificates; roots have none, and must not be asked for one.
func trustSecret(name string, b ca.Bundle) *tlsv3.Secret {
	v := &tlsv3.CertificateValidationContext{TrustedCa: inline(b.Anchors)}
	if b.CRL != "" {
		v.Crl, v.OnlyVerifyLeafCertCrl = inline(b.CRL), true
	}
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{ValidationContext: v}}
}

func inline(text string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: text}}
}

// BundleStreams returns how many agents of a mesh are connected for its trust bundle, and
// how many of them have accepted the present one.
func (s *Server) BundleStreams(m mesh.MeshID) (connected, current int) {
	if s.cfg.CA == nil {
		return 0, 0
	}
	bundle, known := s.cfg.CA.Known(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	for b := range s.bundles {
		if b.one.key.id.Mesh != m {
			continue
		}
		connected++
		b.mu.Lock()
		if known && b.acked == bundle.Version {
			current++
		}
		b.mu.Unlock()
	}
	return connected, current
}
