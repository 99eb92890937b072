package envoy

import (
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// hostPicks is how often a retry looks for a host that was not tried before.
const hostPicks = 5

// untriedHosts makes a retry prefer a host that was not tried before.
var untriedHosts = []*routev3.RetryPolicy_RetryHostPredicate{{
	Name: previousHosts,
	ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{
		TypedConfig: mustAny(&previoushostsv3.PreviousHostsPredicate{}),
	},
}}

// The policies of defaultRetries.
var (
	retriesElsewhere = &routev3.RetryPolicy{
		RetryOn:                       "connect-failure,refused-stream,reset,unavailable,retriable-status-codes",
		RetriableStatusCodes:          []uint32{503},
		NumRetries:                    wrapperspb.UInt32(2),
		RetryHostPredicate:            untriedHosts,
		HostSelectionRetryMaxAttempts: hostPicks,
	}
	retriesAnywhere = &routev3.RetryPolicy{
		RetryOn:              retriesElsewhere.RetryOn,
		RetriableStatusCodes: retriesElsewhere.RetriableStatusCodes,
		NumRetries:           retriesElsewhere.NumRetries,
	}
)

// defaultRetries holds for routes without a policy and for services that a virtual
// node provides.
func (t *translator) defaultRetries() *routev3.RetryPolicy {
	if t.lacks(otherHosts) {
		return retriesAnywhere
	}
	return retriesElsewhere
}

// elsewhere has a new policy's retries prefer a host that was not tried before, if the
// proxy's Envoy can.
func (t *translator) elsewhere(p *routev3.RetryPolicy) *routev3.RetryPolicy {
	if p != nil && !t.lacks(otherHosts) {
		p.RetryHostPredicate, p.HostSelectionRetryMaxAttempts = untriedHosts, hostPicks
	}
	return p
}

// retryEvent is what an event of the API stands for.
type retryEvent struct {
	name  string
	on    []string // Envoy's conditions
	codes []uint32 // status codes
}

// httpRetryEvents are the events of httpRetryEvents.
var httpRetryEvents = []retryEvent{
	{name: "server-error", on: []string{"reset"}, codes: []uint32{500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511}},
	{name: "gateway-error", on: []string{"reset"}, codes: []uint32{502, 503, 504}},
	{name: "client-error", codes: []uint32{409}},
	{name: "stream-error", on: []string{"refused-stream"}},
}

// grpcRetryEvents are the events of grpcRetryEvents: gRPC statuses, which Envoy calls by
// the same names.
var grpcRetryEvents = []retryEvent{
	{name: "cancelled", on: []string{"cancelled"}},
	{name: "deadline-exceeded", on: []string{"deadline-exceeded"}},
	{name: "internal", on: []string{"internal"}},
	{name: "resource-exhausted", on: []string{"resource-exhausted"}},
	{name: "unavailable", on: []string{"unavailable"}},
}

// tcpRetryEvents are the events of tcpRetryEvents.
var tcpRetryEvents = []retryEvent{{name: "connection-error", on: []string{"connect-failure"}}}

// retryConditions is the order in which conditions are written.
var retryConditions = []string{
	"connect-failure", "refused-stream", "reset",
	"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
	"retriable-status-codes",
}

// retriableCodes is the order in which status codes are written.
var retriableCodes = []uint32{409, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511}

// httpRetries returns the retry policy of an HTTP route at a place; nil for none.
func (t *translator) httpRetries(at place, p *mesh.HttpRetryPolicy) *routev3.RetryPolicy {
	if p == nil {
		return t.defaultRetries()
	}
	on := retryOn{}
	t.addEvents(&on, at.in("retryPolicy.httpRetryEvents"), httpRetryEvents, p.HttpRetryEvents)
	t.addEvents(&on, at.in("retryPolicy.tcpRetryEvents"), tcpRetryEvents, p.TcpRetryEvents)
	return t.elsewhere(on.policy(p.MaxRetries, p.PerRetryTimeout))
}

// grpcRetries returns the retry policy of a gRPC route at a place; nil for none.
func (t *translator) grpcRetries(at place, p *mesh.GrpcRetryPolicy) *routev3.RetryPolicy {
	if p == nil {
		return t.defaultRetries()
	}
	on := retryOn{}
	t.addEvents(&on, at.in("retryPolicy.grpcRetryEvents"), grpcRetryEvents, p.GrpcRetryEvents)
	t.addEvents(&on, at.in("retryPolicy.httpRetryEvents"), httpRetryEvents, p.HttpRetryEvents)
	t.addEvents(&on, at.in("retryPolicy.tcpRetryEvents"), tcpRetryEvents, p.TcpRetryEvents)
	return t.elsewhere(on.policy(p.MaxRetries, p.PerRetryTimeout))
}

// retryOn collects what a request is tried again for.
type retryOn struct {
	conditions map[string]bool
	codes      map[uint32]bool
}

// addEvents adds what events stand for.
func (t *translator) addEvents(r *retryOn, at place, known []retryEvent, names []string) {
	if r.conditions == nil {
		r.conditions, r.codes = map[string]bool{}, map[uint32]bool{}
	}
	for i, name := range names {
		k := slices.IndexFunc(known, func(e retryEvent) bool { return e.name == name })
		if k < 0 {
			t.problemAt(at.at(i), "%q is not an event, allowed are %s: it has no effect", name, eventNames(known))
			continue
		}
		for _, c := range known[k].on {
			r.conditions[c] = true
		}
		for _, c := range known[k].codes {
			r.conditions["retriable-status-codes"], r.codes[c] = true, true
		}
	}
}

func eventNames(events []retryEvent) string {
	names := make([]string, len(events))
	for i, e := range events {
		names[i] = e.name
	}
	return strings.Join(names, ", ")
}

// policy returns the retry policy, each condition and code once and in a fixed order;
// nil if nothing is tried again.
func (r *retryOn) policy(most int64, perTry *mesh.Duration) *routev3.RetryPolicy {
	if most <= 0 || len(r.conditions) == 0 {
		return nil
	}
	out := &routev3.RetryPolicy{NumRetries: wrapperspb.UInt32(clampUint32(most))}
	conditions := make([]string, 0, len(r.conditions))
	for _, c := range retryConditions {
		if r.conditions[c] {
			conditions = append(conditions, c)
		}
	}
	out.RetryOn = strings.Join(conditions, ",")
	for _, c := range retriableCodes {
		if r.codes[c] {
			out.RetriableStatusCodes = append(out.RetriableStatusCodes, c)
		}
	}
	if d := duration(perTry); d > 0 {
		out.PerTryTimeout = durationpb.New(d)
	}
	return out
}
