package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// Config says which streams a group opens.
type Config struct {
	// Address is the server's, CA a file with its authority's certificate; "" for plaintext.
	Address, CA string
	// Nodes are the values of node.id; stream i is Nodes[i % len(Nodes)].
	Nodes []string
	// Streams is how many there are.
	Streams int
	// Full is set for state-of-the-world, else the streams are delta.
	Full bool
	// KeyID, Secret and Region sign the streams; with an empty KeyID none is signed. Token
	// is that of temporary credentials.
	KeyID, Secret, Token, Region string
	// Receive is the size of the sockets' receive buffers in bytes, 0 for the system's choice.
	Receive int
	// Ping is how often connections are pinged, give or take a tenth; 0 for never.
	Ping time.Duration
	// Keep keeps the resources as they came, for a dump.
	Keep bool
	// Extensions is how many extensions the first request says that the proxy has. An Envoy
	// names 300 to 500, some tens of kilobytes.
	Extensions int
	// Leave is how streams go when they are told to.
	Leave Leave
}

// Leave is how a stream goes.
type Leave string

const (
	// LeaveClosing closes the connection, as the system does for a process that was killed.
	LeaveClosing Leave = ""
	// LeaveSaying ends the call first, waits for the server to end it too and says that the
	// connection goes, as an Envoy that drains does.
	LeaveSaying Leave = "saying"
	// LeaveResetting resets the connection, as the system does where something was unread.
	LeaveResetting Leave = "resetting"
)

// Back-off of a proxy whose stream ended, as fairlead-agent's bootstrap has it.
const (
	backoffFirst = 500 * time.Millisecond
	backoffMost  = 3 * time.Second
	dialTimeout  = 5 * time.Second
)

// group is a number of streams that are alike.
type group struct {
	cfg     Config
	facts   *facts
	changes *changes
	tls     *tls.Config
	headers signedHeaders
	streams []*stream

	// until ends the connections; a new one is made with each reconnect.
	mu      sync.Mutex
	ctx     context.Context //nolint:containedctx // it is the life of the streams, which reconnect replaces
	cancel  context.CancelFunc
	paused  map[int32]chan struct{}
	running sync.WaitGroup

	state groupState
}

// groupState is what a group tells of itself. A stream's lock may be held when its own is
// taken, never the other way round.
type groupState struct {
	mu          sync.Mutex
	synced      int
	first, last int64
	open        int
	ended       map[string]int // streams that ended without being told to, by reason
	refused     map[string]int // tries that came to nothing, by reason
	more        chan struct{}
}

func newGroup(cfg Config, f *facts, c *changes, first int32) (*group, error) {
	g := &group{cfg: cfg, facts: f, changes: c, paused: map[int32]chan struct{}{}}
	g.headers.cfg = &g.cfg
	if cfg.CA != "" {
		raw, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("%s holds no certificate", cfg.CA)
		}
		host, _, err := net.SplitHostPort(cfg.Address)
		if err != nil {
			return nil, err
		}
		g.tls = &tls.Config{RootCAs: roots, ServerName: host, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}
	}
	for i := range cfg.Streams {
		node, err := proto.Marshal(&corev3.Node{
			Id: cfg.Nodes[i%len(cfg.Nodes)], Cluster: "scale", UserAgentName: "envoy",
			UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{
				Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40},
			}},
			Extensions: extensions(cfg.Extensions), Metadata: metadata,
		})
		if err != nil {
			return nil, err
		}
		g.streams = append(g.streams, &stream{group: g, index: first + int32(i), node: node}) //nolint:gosec // far fewer than 2^31
	}
	return g, nil
}

// metadata is what an agent's bootstrap says beside: how to report for quotas.
var metadata = &structpb.Struct{Fields: map[string]*structpb.Value{"fairlead": structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
	"tracing": structpb.NewBoolValue(true), // as without
	"discovery": structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
		"cluster": structpb.NewStringValue("fairlead_xds"), "authority": structpb.NewStringValue("fairlead.example:9081"),
	}}),
}})}}

// stock are the extensions of a stock Envoy that the server looks for.
var stock = []string{
	"envoy.access_loggers.file", "envoy.access_loggers.http_grpc", "envoy.access_loggers.open_telemetry", "envoy.access_loggers.stats", "envoy.access_loggers.stdout",
	"envoy.access_loggers.extension_filters.cel", "envoy.bootstrap.internal_listener", "envoy.filters.http.fault", "envoy.filters.http.header_mutation", "envoy.filters.http.local_ratelimit", "envoy.filters.http.match_delegate", "envoy.filters.http.rate_limit_quota", "envoy.filters.http.rbac", "envoy.filters.http.router",
	"envoy.filters.listener.original_dst", "envoy.filters.listener.tls_inspector", "envoy.filters.network.connection_limit",
	"envoy.filters.network.direct_response", "envoy.filters.network.http_connection_manager", "envoy.filters.network.rbac", "envoy.filters.network.tcp_proxy", "envoy.matching.inputs.request_headers",
	"envoy.retry_host_predicates.previous_hosts", "envoy.tracers.opentelemetry.resource_detectors.environment",
	"envoy.transport_sockets.internal_upstream", "envoy.transport_sockets.raw_buffer", "envoy.transport_sockets.tls",
}

// extensions are those that the server looks for, and as many more of no Envoy's as are
// wanted in all; none if none are wanted.
func extensions(n int) []*corev3.Extension {
	var out []*corev3.Extension
	for i := range n {
		name := fmt.Sprintf("envoy.filters.http.of_the_load_client_%d", i)
		if i < len(stock) {
			name = stock[i]
		}
		out = append(out, &corev3.Extension{
			Name: name, Category: "envoy.filters.http",
			TypeUrls: []string{"envoy.extensions.filters.http.of_the_load_client.v3.Config" + fmt.Sprint(i)},
		})
	}
	return out
}

// open begins all streams at once.
func (g *group) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.state.reset()
	for _, s := range g.streams {
		g.running.Add(1)
		go func(ctx context.Context) {
			defer g.running.Done()
			s.run(ctx)
		}(g.ctx)
	}
}

// close ends all streams and waits for them.
func (g *group) close() {
	g.mu.Lock()
	cancel := g.cancel
	g.mu.Unlock()
	cancel()
	g.running.Wait()
}

// pause has streams stop reading, or go on.
func (g *group) pause(count int, on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.streams[:min(count, len(g.streams))] {
		if c, is := g.paused[s.index]; is && !on {
			close(c)
			delete(g.paused, s.index)
		} else if !is && on {
			g.paused[s.index] = make(chan struct{})
		}
	}
}

// held waits while a stream is told not to read.
func (g *group) held(ctx context.Context, s *stream) {
	g.mu.Lock()
	c := g.paused[s.index]
	g.mu.Unlock()
	if c == nil {
		return
	}
	select {
	case <-c:
	case <-ctx.Done():
	}
}

// run keeps a stream open until ctx ends, as a proxy does.
func (s *stream) run(ctx context.Context) {
	wait := backoffFirst
	for ctx.Err() == nil {
		served, err := s.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if served {
			wait = backoffFirst
		}
		s.group.state.failed(served, err)
		pause := time.NewTimer(rand.N(wait)) //nolint:gosec // spreads reconnects; guards nothing
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
		wait = min(2*wait, backoffMost)
	}
}

// once opens the stream and reads it to its end. served reports whether anything came.
func (s *stream) once(ctx context.Context) (served bool, err error) {
	block, err := s.group.headers.get()
	if err != nil {
		return false, err
	}
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	c, err := dial(dialing, target{addr: s.group.cfg.Address, tls: s.group.tls, receive: s.group.cfg.Receive}, block)
	cancel()
	if err != nil {
		return false, err
	}
	defer context.AfterFunc(ctx, func() { c.leave(s.group.cfg.Leave) })()
	defer c.close()
	s.mu.Lock()
	s.conn = c
	s.mu.Unlock()
	s.group.state.add(1)
	defer s.group.state.add(-1)
	if err := s.begin(); err != nil {
		return false, err
	}
	if every := s.group.cfg.Ping; every > 0 {
		defer c.pings(every)()
	}
	for {
		s.group.held(ctx, s)
		before := c.received
		err := c.next(func(m []byte) error { return s.take(m, Now()) })
		s.mu.Lock()
		s.bytes += c.received - before
		s.mu.Unlock()
		if err != nil {
			return served, err
		}
		served = true
	}
}

func (st *groupState) reset() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.synced, st.first, st.last = 0, 0, 0
	st.ended, st.refused = map[string]int{}, map[string]int{}
}

func (st *groupState) add(n int) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.open += n
}

func (st *groupState) failed(served bool, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	into := st.refused
	if served {
		into = st.ended
	}
	into[reason(err)]++
}

// reason is an error without what differs from stream to stream.
func reason(err error) string {
	var e *ended
	var op *net.OpError
	switch {
	case errors.As(err, &e):
		return e.Error()
	case errors.As(err, &op):
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}

// sync notes that a stream has all.
func (g *group) sync(at int64) {
	st := &g.state
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.synced == 0 || at < st.first {
		st.first = at
	}
	st.last = max(st.last, at)
	st.synced++
	if st.synced >= len(g.streams) && st.more != nil {
		close(st.more)
		st.more = nil
	}
}

// awaitSynced waits until all streams have all, or ctx ends.
func (g *group) awaitSynced(ctx context.Context) {
	st := &g.state
	for ctx.Err() == nil {
		st.mu.Lock()
		if st.synced >= len(g.streams) {
			st.mu.Unlock()
			return
		}
		if st.more == nil {
			st.more = make(chan struct{})
		}
		more := st.more
		st.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
		}
	}
}

// signedHeaders are the headers of a call. All streams of a second have the same: a
// signature says nothing of the node.
type signedHeaders struct {
	cfg   *Config
	mu    sync.Mutex
	at    time.Time
	block []byte
}

// signatureAge is how long a signature is used.
const signatureAge = time.Second

func (h *signedHeaders) get() ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.block != nil && now.Sub(h.at) < signatureAge {
		return h.block, nil
	}
	method := "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
	if h.cfg.Full {
		method = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
	}
	scheme := "http"
	if h.cfg.CA != "" {
		scheme = "https"
	}
	more, err := h.cfg.sign(scheme, method, now)
	if err != nil {
		return nil, err
	}
	h.at, h.block = now, headerBlock(scheme, h.cfg.Address, method, more)
	return h.block, nil
}

// sign returns the headers of a signature as Envoy's filter makes it.
func (c *Config) sign(scheme, method string, now time.Time) ([][2]string, error) {
	if c.KeyID == "" {
		return nil, nil
	}
	const unsigned = "UNSIGNED-PAYLOAD"
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, scheme+"://"+c.Address+method, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("X-Amz-Content-Sha256", unsigned)
	creds := aws.Credentials{AccessKeyID: c.KeyID, SecretAccessKey: c.Secret, SessionToken: c.Token}
	if err := v4.NewSigner().SignHTTP(req.Context(), creds, req, unsigned, "appmesh", c.Region, now); err != nil {
		return nil, err
	}
	headers := [][2]string{
		{"authorization", req.Header.Get("Authorization")},
		{"x-amz-date", req.Header.Get("X-Amz-Date")},
		{"x-amz-content-sha256", unsigned},
	}
	if c.Token != "" {
		headers = append(headers, [2]string{"x-amz-security-token", c.Token})
	}
	return headers, nil
}

// dump writes what the first stream holds as an encoded DiscoveryResponse to a file.
func (g *group) dump(file string) error {
	s := g.streams[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &discoveryv3.DiscoveryResponse{}
	for t := range s.types {
		for _, f := range s.types[t].held {
			a := new(anypb.Any)
			if err := proto.Unmarshal(f.any, a); err != nil {
				return err
			}
			out.Resources = append(out.Resources, a)
		}
	}
	b, err := proto.Marshal(out)
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}
