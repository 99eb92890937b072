package xds

import (
	"context"
	"crypto/rand"
	"errors"
	"math"
	"sync"
	"time"

	rlqsv3 "github.com/envoyproxy/go-control-plane/envoy/service/rate_limit_quota/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/quota"
)

// Quotas: proxies report what they let through and refused over a stream of the rate limit
// quota service (envoy.service.rate_limit_quota.v3), and are told by which rates to go. The
// stream goes the way of the proxy's discovery stream and is signed as that is; its domain is
// the ARN of the proxy's virtual node or gateway, for which the same permission is asked.
// Only policies by which the proxies of that node or gateway keep quotas are counted.

// quotaStream is the stream of one proxy.
type quotaStream struct {
	one    *session
	client *quota.Client

	// policies are the quotas of the view, as of a revision of the mesh and a time: some begin
	// and end by the clock.
	policies map[string]*mesh.QuotaAction
	revision int64
	read     time.Time

	wake chan struct{} // something is to be told

	mu      sync.Mutex
	buckets map[quotaBucket]*heldBucket
	told    map[quotaBucket]quota.Assignment // and not sent yet
	gone    map[quotaBucket]struct{}         // to be forgotten by the proxy
}

// heldBucket is one that the proxy has reported.
type heldBucket struct {
	lasts bool // what it is told is to last
	sent  quota.Assignment
	at    time.Time // when that was sent
	used  time.Time // when it was used last
}

// maxHeld bounds the buckets that a proxy has; one that asks for more lets these requests through
// until some of the others were not used for unusedFor.
const (
	maxHeld   = 2 * quota.MaxKeys
	unusedFor = 10 * time.Minute
)

// Without news a proxy is told again what it has after quotaAgain, so that it does not come to
// its end, quotaLife after it was sent. Envoy logs each time.
const (
	quotaAgain = 2 * quota.ReportEvery
	quotaLife  = 4 * quota.ReportEvery
	// What is to last has a long life: to Envoy none at all is one that is over at once.
	quotaLasts = 7 * 24 * time.Hour
)

// quotaBucket is a bucket's id.
type quotaBucket struct{ policy, key string }

// maxQuotaKey bounds what requests of a bucket have in common, in bytes; Envoy is told to cut
// headers and paths to less.
const maxQuotaKey = 2048

// quotasDesc describes the rate limit quota service.
var quotasDesc = grpc.ServiceDesc{
	ServiceName: "envoy.service.rate_limit_quota.v3.RateLimitQuotaService",
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{
		{StreamName: "StreamRateLimitQuotas", Handler: handleQuotas, ServerStreams: true, ClientStreams: true},
	},
	Metadata: "envoy/service/rate_limit_quota/v3/rlqs.proto",
}

func handleQuotas(srv any, g grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(g)
	return srv.(*Server).serveQuotas(g.Context(), method,
		func() (*rlqsv3.RateLimitQuotaUsageReports, error) {
			r := new(rlqsv3.RateLimitQuotaUsageReports)
			return r, g.RecvMsg(r)
		},
		func(r *rlqsv3.RateLimitQuotaResponse) error { return g.SendMsg(r) })
}

type (
	recvReports func() (*rlqsv3.RateLimitQuotaUsageReports, error)
	sendQuotas  func(*rlqsv3.RateLimitQuotaResponse) error
)

// serveQuotas runs one stream from its opening to its end.
func (s *Server) serveQuotas(ctx context.Context, method string, recv recvReports, send sendQuotas) error {
	if s.cfg.Quota == nil {
		return refuse(codes.Unimplemented, mesh.ErrUnknownOperation, "quotas are not served here")
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	one := newSession(ctx, true)
	one.end, one.quota = end, true
	q, first, err := s.openQuotas(ctx, method, one, recv)
	if err == nil {
		defer s.leaveQuotas(q)
		err = s.converseQuotas(ctx, q, first, recv, send)
	}
	err = endOf(err)
	if q == nil && !errors.Is(err, errShutdown) && !graceful(err) {
		s.met.refused.Inc()
		s.cfg.Log.Info("refusing a stream for quotas", "peer", one.peer, "domain", one.node, "account", one.caller.Account, "error", err)
		s.auditRefused(one, err)
	}
	if graceful(err) || errors.Is(err, errGone) {
		return nil
	}
	return err
}

// openQuotas finds out who opens a stream and whether it may. On success the stream is listed
// until leaveQuotas.
func (s *Server) openQuotas(ctx context.Context, method string, one *session, recv recvReports) (*quotaStream, *rlqsv3.RateLimitQuotaUsageReports, error) {
	var err error
	if one.caller, err = s.authenticate(ctx, method, one); err != nil {
		return nil, nil, err
	}
	first, err := recv() // ends with the connection
	if err != nil {
		return nil, nil, endOf(err)
	}
	if err := one.claim("domain", first.GetDomain(), "report for"); err != nil {
		return nil, nil, err
	}
	if one.shared = s.shared(one.key.id.Mesh, one.key.owner); !one.shared {
		return nil, nil, notShared(one.key)
	}
	q := &quotaStream{one: one, wake: make(chan struct{}, 1), buckets: map[quotaBucket]*heldBucket{}, told: map[quotaBucket]quota.Assignment{}, gone: map[quotaBucket]struct{}{}}
	if err := s.enterQuotas(q); err != nil {
		return nil, nil, err
	}
	if err := s.allowed(one); err != nil { // now that a change would be heard
		s.leaveQuotas(q)
		return nil, nil, err
	}
	q.client = s.cfg.Quota.Connect(one.key.arn()+"/"+proxyName(ctx), q.tell)
	return q, first, nil
}

// proxyHeader is the header in which the bootstrap of fairlead-agent says which proxy of its
// virtual node or gateway has a stream.
const proxyHeader = "x-fairlead-proxy"

// proxyName is which proxy of its virtual node or gateway has a stream: its own name, which
// stays when it opens another stream, else a new one.
func proxyName(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, name := range md.Get(proxyHeader) {
		if name != "" && name != "-" && len(name) <= 64 {
			return name
		}
	}
	return rand.Text()
}

// enterQuotas lists a stream, if its virtual node or gateway may have one more: as many as it
// may have proxies.
func (s *Server) enterQuotas(q *quotaStream) error {
	name, limit := s.limit(q.one.key.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if limit >= 0 && s.quotaCounts[q.one.counted()] >= limit {
		return refuse(codes.ResourceExhausted, mesh.ErrLimitExceeded, "as many proxies of %s of mesh %s report as it may have: quota %s (%s) is %d",
			q.one.key.id.Key, q.one.key.id.Mesh.Name, name, name.Title(), limit)
	}
	s.quotaCounts[q.one.counted()]++
	s.quotas[q] = struct{}{}
	return nil
}

func (s *Server) leaveQuotas(q *quotaStream) {
	if q.client != nil {
		q.client.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.quotas, q)
	s.quotaCounts.less(q.one.counted())
}

// converseQuotas takes reports and sends assignments until either side ends the stream.
func (s *Server) converseQuotas(ctx context.Context, q *quotaStream, first *rlqsv3.RateLimitQuotaUsageReports, recv recvReports, send sendQuotas) error {
	failed := make(chan error, 1)
	go func() { // ends with the stream, whose context ends when serveQuotas returns
		failed <- s.receiveReports(q, first, recv)
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, s.lifetime(q.one), errAged)
	defer cancel()
	for {
		if r := q.next(); r != nil {
			err := deliver(ctx, failed, s.cfg.MaxSilence, func() error { return send(r) })
			if errors.Is(err, errSlow) {
				return s.silent
			}
			if err != nil {
				return err
			}
			s.met.responses.WithLabelValues("RateLimitQuota").Inc()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-failed:
			return err
		case <-q.wake:
		}
	}
}

// receiveReports takes reports until one fails.
func (s *Server) receiveReports(q *quotaStream, r *rlqsv3.RateLimitQuotaUsageReports, recv recvReports) error {
	for {
		if err := s.takeReport(q, r); err != nil {
			return err
		}
		var err error
		if r, err = recv(); err != nil {
			return endOf(err)
		}
	}
}

// takeReport hands on what a proxy says of its buckets.
func (s *Server) takeReport(q *quotaStream, r *rlqsv3.RateLimitQuotaUsageReports) error {
	if d := r.GetDomain(); d != "" && d != q.one.node {
		return refuse(codes.InvalidArgument, mesh.ErrBadRequest, "domain %q comes after %q: one stream is for one", d, q.one.node)
	}
	uses := map[string][]quota.Use{}
	for _, u := range r.GetBucketQuotaUsages() {
		id := u.GetBucketId().GetBucket()
		b := quotaBucket{id[envoy.QuotaPolicy], id[envoy.QuotaKey]}
		used := u.GetNumRequestsAllowed()+u.GetNumRequestsDenied() > 0
		if len(b.key) > maxQuotaKey || !s.keeps(q, b.policy) || !q.hold(b, envoy.QuotaLasts(q.policies[b.policy]), used) {
			q.forget(b)
			continue
		}
		uses[b.policy] = append(uses[b.policy], quota.Use{
			Key: b.key, Allowed: count(u.GetNumRequestsAllowed()), Denied: count(u.GetNumRequestsDenied()),
			Elapsed: min(max(u.GetTimeElapsed().AsDuration(), 0), time.Hour),
		})
	}
	for policy, some := range uses {
		if !q.client.Report(quota.Policy{Mesh: q.one.key.id.Mesh, Name: policy}, some) {
			for _, u := range some {
				q.forget(quotaBucket{policy, u.Key})
			}
		}
	}
	return nil
}

// count bounds a number of requests, which a proxy can make up.
func count(n uint64) int64 { return int64(min(n, math.MaxInt32)) } //nolint:gosec // it is bounded

// readAgain is how often a view is read that has not changed.
const readAgain = 10 * time.Second

// keeps reports whether a policy is one by which the proxies of a stream's node or gateway keep
// quotas.
func (s *Server) keeps(q *quotaStream, policy string) bool {
	if revision := s.cfg.Live.Newest(q.one.key.id.Mesh); q.policies == nil || revision != q.revision || time.Since(q.read) > readAgain {
		q.policies, q.revision, q.read = map[string]*mesh.QuotaAction{}, revision, time.Now()
		if v := s.cfg.Live.View(q.one.key.id); v != nil {
			q.policies = envoy.QuotaPolicies(v)
		}
	}
	return q.policies[policy] != nil
}

// tell notes what the proxy is to go by.
func (q *quotaStream) tell(p quota.Policy, all []quota.Told) {
	q.mu.Lock()
	for _, t := range all {
		q.told[quotaBucket{p.Name, t.Key}] = t.Assignment
	}
	q.mu.Unlock()
	q.wakeUp()
}

// hold notes that the proxy has a bucket, and whether it was used. It reports whether the proxy is
// to keep it: not one that was not used for long, and not more than so many.
func (q *quotaStream) hold(b quotaBucket, lasts, used bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	held, now := q.buckets[b], time.Now()
	if held == nil {
		if len(q.buckets) >= maxHeld {
			return false
		}
		held = &heldBucket{used: now}
		q.buckets[b] = held
	}
	held.lasts = lasts
	if used {
		held.used = now
	}
	return now.Sub(held.used) < unusedFor
}

// forget notes that the proxy is to forget a bucket.
func (q *quotaStream) forget(b quotaBucket) {
	q.mu.Lock()
	q.gone[b] = struct{}{}
	delete(q.buckets, b)
	q.mu.Unlock()
	q.wakeUp()
}

func (q *quotaStream) wakeUp() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next returns what is to be sent, nil for nothing.
func (q *quotaStream) next() *rlqsv3.RateLimitQuotaResponse {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.told) == 0 && len(q.gone) == 0 {
		return nil
	}
	r, now := &rlqsv3.RateLimitQuotaResponse{}, time.Now()
	for b, a := range q.told {
		held := q.buckets[b]
		if held == nil || held.sent == a && now.Sub(held.at) < quotaAgain {
			continue
		}
		held.sent, held.at = a, now
		r.BucketAction = append(r.BucketAction, assign(b, a, held.lasts))
	}
	for b := range q.gone {
		r.BucketAction = append(r.BucketAction, &rlqsv3.RateLimitQuotaResponse_BucketAction{
			BucketId: bucketID(b), BucketAction: &rlqsv3.RateLimitQuotaResponse_BucketAction_AbandonAction_{
				AbandonAction: &rlqsv3.RateLimitQuotaResponse_BucketAction_AbandonAction{},
			},
		})
	}
	clear(q.told)
	clear(q.gone)
	if len(r.BucketAction) == 0 {
		return nil
	}
	return r
}

func bucketID(b quotaBucket) *rlqsv3.BucketId {
	return &rlqsv3.BucketId{Bucket: map[string]string{envoy.QuotaPolicy: b.policy, envoy.QuotaKey: b.key}}
}

// assign returns an assignment as Envoy takes it: a token bucket that is filled evenly, or that
// nothing is let through. Rates are whole numbers in a time, so that small ones have a long
// time.
func assign(b quotaBucket, a quota.Assignment, lasts bool) *rlqsv3.RateLimitQuotaResponse_BucketAction {
	strategy := &typev3.RateLimitStrategy{Strategy: &typev3.RateLimitStrategy_BlanketRule_{BlanketRule: typev3.RateLimitStrategy_DENY_ALL}}
	if a.Rate > 0 {
		tokens := math.Ceil(min(a.Rate, math.MaxInt32))
		strategy.Strategy = &typev3.RateLimitStrategy_TokenBucket{TokenBucket: &typev3.TokenBucket{
			MaxTokens:     uint32(min(max(a.Burst, 1), math.MaxInt32)), //nolint:gosec // it is bounded
			TokensPerFill: wrapperspb.UInt32(uint32(tokens)),
			FillInterval:  durationpb.New(time.Duration(tokens / a.Rate * float64(time.Second))),
		}}
	}
	life := quotaLife
	if lasts {
		life = quotaLasts
	}
	action := &rlqsv3.RateLimitQuotaResponse_BucketAction_QuotaAssignmentAction{AssignmentTimeToLive: durationpb.New(life), RateLimitStrategy: strategy}
	return &rlqsv3.RateLimitQuotaResponse_BucketAction{
		BucketId: bucketID(b), BucketAction: &rlqsv3.RateLimitQuotaResponse_BucketAction_QuotaAssignmentAction_{QuotaAssignmentAction: action},
	}
}
