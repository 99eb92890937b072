package xds

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/access"
)

// firstWait is how long a stream may be open before its proxy says who it is.
const firstWait = 15 * time.Second

// session is a stream as the server sees it.
type session struct {
	// id tells the connection from all others, in the audit and in what Proxies returns.
	id     string
	opened time.Time
	peer   netip.AddrPort // not valid if it is not known
	secure bool           // over TLS
	conn   net.Conn       // what the stream is on; nil if it is not known
	agent  string         // the user agent
	full   bool           // state-of-the-world
	bundle bool           // an agent's, for a trust bundle
	quota  bool           // a proxy's, for quotas

	caller  access.Caller
	node    string // as the proxy wrote it
	version string // Envoy's
	key     feedKey
	// shared is set where the mesh was the account's own or shared with it when the
	// stream was opened.
	shared bool
	feed   *feed
	stream *stream
	end    context.CancelCauseFunc
	// inSync lets the next stream begin; nil until the stream itself may.
	inSync func()
}

func newSession(ctx context.Context, full bool) *session {
	one := &session{id: uuid.NewString(), opened: time.Now(), full: full}
	if p, ok := peer.FromContext(ctx); ok {
		if addr, err := netip.ParseAddrPort(p.Addr.String()); err == nil {
			one.peer = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
		}
		if c, ok := p.AuthInfo.(connection); ok {
			one.secure, one.conn = c.secure(), c.raw
		}
	}
	if md, ok := metadata.FromIncomingContext(ctx); ok && len(md["user-agent"]) > 0 {
		one.agent = md["user-agent"][0]
	}
	return one
}

// protocol names the variant of the protocol.
func (one *session) protocol() string {
	switch {
	case one.bundle:
		return "bundle"
	case one.quota:
		return "quota"
	}
	if one.full {
		return "sotw"
	}
	return "delta"
}

// conversation is one stream's wire side, delta or state-of-the-world.
type conversation struct {
	full bool
	recv func() (request, error)
	send func(*response) error
}

// request is what a proxy sends.
type request struct {
	node *corev3.Node // nil where the request carries none
	// holds is set where the proxy says that it has resources already.
	holds  bool
	handle func(*stream) error
}

// serve runs one stream from its opening to its end.
func (s *Server) serve(ctx context.Context, method string, c conversation) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	one := newSession(ctx, c.full)
	one.end = end
	if conn, ok := one.conn.(*stranger); ok {
		defer conn.over()
	}
	first, err := s.open(ctx, method, one, c)
	if one.inSync != nil {
		defer one.inSync()
	}
	if err == nil {
		defer s.leave(one)
		err = s.converse(ctx, one, first, c)
	}
	err = endOf(err)
	if errors.Is(err, s.silent) {
		s.met.dropped.Inc()
		s.cfg.Log.Warn("dropping a proxy that does not read", "peer", one.peer, "arn", one.key.arn(), "account", one.caller.Account, "connection", one.id)
		one.drop()
	}
	switch {
	case one.stream != nil && one.stream.served:
		s.auditEnded(one, err)
	case !errors.Is(err, errShutdown):
		s.met.refused.Inc()
		s.cfg.Log.Info("refusing a stream", "peer", one.peer, "node", one.node, "account", one.caller.Account, "error", err)
		s.auditRefused(one, err)
	}
	if graceful(err) || errors.Is(err, errGone) {
		return nil
	}
	return err
}

// open finds out who opens a stream, which proxy it is, and whether it may have what it
// asks for. On success the session is listed until leave.
func (s *Server) open(ctx context.Context, method string, one *session, c conversation) (request, error) {
	var err error
	one.caller, err = s.authenticate(ctx, method, one)
	if c, ok := one.conn.(*stranger); ok {
		c.pass()
	}
	if err != nil {
		return request{}, err
	}
	// Nothing is read before its turn has come: what it says can be much.
	if one.inSync, err = s.firsts.enter(ctx, one.caller.Account); err != nil {
		return request{}, err
	}
	first, err := awaitFirst(ctx, c.recv)
	if err != nil {
		return request{}, err
	}
	if err := one.identify(first.node); err != nil {
		return request{}, err
	}
	one.key.profile.TrustDomain = s.cfg.TrustDomain
	one.shared = s.shared(one.key.id.Mesh, one.key.owner)
	if !one.shared && !first.holds {
		return request{}, notShared(one.key)
	}
	if err := s.allowed(one); err != nil {
		return request{}, err
	}
	if err := s.enter(one); err != nil {
		return request{}, err
	}
	if err := s.allowed(one); err != nil { // once more, now that a change would be heard
		s.leave(one)
		return request{}, err
	}
	return first, nil
}

// awaitFirst returns the first request of a stream.
func awaitFirst(ctx context.Context, recv func() (request, error)) (request, error) {
	type result struct {
		request
		err error
	}
	got := make(chan result, 1)
	go func() { // ends with the stream, whose context ends when serve returns
		r, err := recv()
		got <- result{r, err}
	}()
	timer := time.NewTimer(firstWait)
	defer timer.Stop()
	select {
	case r := <-got:
		return r.request, endOf(r.err)
	case <-ctx.Done():
		return request{}, context.Cause(ctx)
	case <-timer.C:
		return request{}, status.Errorf(codes.DeadlineExceeded, "nothing was asked for within %s", firstWait)
	}
}

// join takes part in the feed of the session's key. A proxy of a mesh that is not shared
// with its account any more gets a feed of its own, which is empty: it still holds what
// it was given before, and is to lose it.
func (s *Server) join(one *session) {
	if one.shared {
		one.feed = s.acquire(one.key)
	} else {
		one.feed = newFeed(one.key)
		one.feed.withdraw(one.opened)
	}
	one.stream = &stream{
		feed: one.feed, full: one.full, wake: make(chan struct{}, 1), opened: one.opened, met: s.met,
		patience: s.cfg.MaxSilence,
		log:      s.cfg.Log.With("arn", one.key.arn(), "account", one.caller.Account, "connection", one.id),
	}
	one.feed.join(one.stream)
}

// part ends what join began.
func (s *Server) part(one *session) {
	one.feed.leave(one.stream)
	if one.shared {
		s.release(one.feed)
	}
}

// expired reports whether the credentials that the stream is signed with have come to
// their end.
func (one *session) expired() bool {
	at := one.caller.Expires
	return !at.IsZero() && !time.Now().Before(at)
}

// converse answers a proxy until either side ends the stream.
func (s *Server) converse(ctx context.Context, one *session, first request, c conversation) error {
	st := one.stream
	st.onServed, st.onSync = func() { s.auditEstablished(one) }, one.inSync
	st.log.Info("proxy connected", "profile", one.key.profile, "delta", !one.full, "envoy", one.version, "peer", one.peer)
	defer st.log.Info("proxy disconnected")
	failed := make(chan error, 1)
	go func() { // ends with the stream, whose context ends when serve returns
		failed <- receive(st, first.handle, c.recv)
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, s.lifetime(one), errAged)
	defer cancel()
	err := st.run(ctx, failed, c.send)
	if errors.Is(err, errSlow) {
		return s.silent
	}
	return err
}

// lifetime returns how long a stream may be open: so long that its proxy signs anew now
// and then, and no longer than the credentials that it is signed with.
func (s *Server) lifetime(one *session) time.Duration {
	age := jitter(s.cfg.MaxStreamAge)
	if at := one.caller.Expires; !at.IsZero() {
		age = min(age, time.Until(at))
	}
	return age
}

// errAged ends a stream gracefully so that its proxy opens and signs another.
var errAged = errors.New("the stream has reached its age")

// errGone says that the proxy has gone without a word.
var errGone = errors.New("the proxy closed the connection, or it was lost")

// graceful reports whether a stream ended as it should: at its age, by its proxy's
// closing it, or with the server.
func graceful(err error) bool {
	return err == nil || errors.Is(err, errAged) || errors.Is(err, io.EOF)
}

func jitter(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5+1) //nolint:gosec // spreads reconnects; guards nothing
}

// receive hands requests to a stream until one fails.
func receive(st *stream, handle func(*stream) error, recv func() (request, error)) error {
	for {
		if err := handle(st); err != nil {
			return err
		}
		st.heard.Store(time.Now().UnixNano())
		st.signal()
		req, err := recv()
		if err != nil {
			return endOf(err)
		}
		handle = req.handle
	}
}

// endOf tells a proxy's going from other ends of a stream.
func endOf(err error) error {
	if status.Code(err) == codes.Canceled || errors.Is(err, context.Canceled) {
		return errGone
	}
	return err
}

// serviceDesc describes the discovery service with our own message handling. (The
// generated one would force the generated response types.)
var serviceDesc = grpc.ServiceDesc{
	ServiceName: "envoy.service.discovery.v3.AggregatedDiscoveryService",
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{
		{StreamName: "StreamAggregatedResources", Handler: handleFullStream, ServerStreams: true, ClientStreams: true},
		{StreamName: "DeltaAggregatedResources", Handler: handleDeltaStream, ServerStreams: true, ClientStreams: true},
	},
	Metadata: "envoy/service/discovery/v3/ads.proto",
}

func handleDeltaStream(srv any, g grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(g)
	return srv.(*Server).serve(g.Context(), method, conversation{
		recv: func() (request, error) {
			req := new(discoveryv3.DeltaDiscoveryRequest)
			err := g.RecvMsg(req)
			return request{
				node: req.GetNode(), holds: len(req.GetInitialResourceVersions()) > 0,
				handle: func(st *stream) error { return st.handleDelta(req) },
			}, err
		},
		send: func(r *response) error { return g.SendMsg(r) },
	})
}

func handleFullStream(srv any, g grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(g)
	return srv.(*Server).serve(g.Context(), method, conversation{
		full: true,
		recv: func() (request, error) {
			req := new(discoveryv3.DiscoveryRequest)
			err := g.RecvMsg(req)
			return request{
				node: req.GetNode(), holds: req.GetVersionInfo() != "",
				handle: func(st *stream) error { return st.handleFull(req) },
			}, err
		},
		send: func(r *response) error { return g.SendMsg(r) },
	})
}
