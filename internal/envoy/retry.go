package envoy

import (
	"fmt"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// hostPicks is how often a retry looks for a host that was not tried before.
const hostPicks = 5

// otherHosts makes a retry prefer a host that was not tried before.
var otherHosts = []*routev3.RetryPolicy_RetryHostPredicate{{
	Name: "envoy.retry_host_predicates.previous_hosts",
	ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{
		TypedConfig: mustAny(&previoushostsv3.PreviousHostsPredicate{}),
	},
}}

// defaultRetries holds for routes without a policy and for services that a virtual
// node provides.
var defaultRetries = &routev3.RetryPolicy{
	RetryOn:                       "connect-failure,refused-stream,reset,unavailable,retriable-status-codes",
	RetriableStatusCodes:          []uint32{503},
	NumRetries:                    wrapperspb.UInt32(2),
	RetryHostPredicate:            otherHosts,
	HostSelectionRetryMaxAttempts: hostPicks,
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

// retryConditions is the order in which conditions are written.
var retryConditions = []string{"connect-failure", "refused-stream", "reset", "retriable-status-codes"}

// retries returns the retry policy of a route; nil for none.
func (t *translator) retries(key mesh.Key, p *mesh.HttpRetryPolicy) *routev3.RetryPolicy {
	if p == nil {
		return defaultRetries
	}
	conditions, codes := t.retryOn(key, p)
	if p.MaxRetries <= 0 || len(conditions) == 0 {
		return nil
	}
	out := &routev3.RetryPolicy{
		RetryOn:                       strings.Join(conditions, ","),
		RetriableStatusCodes:          codes,
		NumRetries:                    wrapperspb.UInt32(clampUint32(p.MaxRetries)),
		RetryHostPredicate:            otherHosts,
		HostSelectionRetryMaxAttempts: hostPicks,
	}
	if d := duration(p.PerRetryTimeout); d > 0 {
		out.PerTryTimeout = durationpb.New(d)
	}
	return out
}

// retryOn returns the conditions and status codes of a policy's events, each once and
// in a fixed order.
func (t *translator) retryOn(key mesh.Key, p *mesh.HttpRetryPolicy) (conditions []string, codes []uint32) {
	on, code := map[string]bool{}, map[uint32]bool{}
	if len(p.TcpRetryEvents) > 0 { // its only event is connection-error
		on["connect-failure"] = true
	}
	for i, name := range p.HttpRetryEvents {
		e := findEvent(name)
		if e == nil {
			t.problem(key, fmt.Sprintf("httpRoute.retryPolicy.httpRetryEvents[%d]", i),
				"%q is not an event, allowed are server-error, gateway-error, client-error and stream-error: it has no effect", name)
			continue
		}
		for _, c := range e.on {
			on[c] = true
		}
		for _, c := range e.codes {
			on["retriable-status-codes"], code[c] = true, true
		}
	}
	for _, c := range retryConditions {
		if on[c] {
			conditions = append(conditions, c)
		}
	}
	for _, c := range []uint32{409, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511} {
		if code[c] {
			codes = append(codes, c)
		}
	}
	return conditions, codes
}

func findEvent(name string) *retryEvent {
	for i := range httpRetryEvents {
		if httpRetryEvents[i].name == name {
			return &httpRetryEvents[i]
		}
	}
	return nil
}
