package envoy

import (
	"math"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonfaultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Faults are Envoy's own (envoy.extensions.filters.http.fault.v3). Where requests come in
// they are behind the callers' retries and timeouts, which hide them as they would hide an
// application's; where requests go out they are before those.

// faultFilter does nothing to requests whose route does not say so.
var faultFilter = &faultv3.HTTPFault{}

// faultsIn gives routes the faults of what comes in on a port, by a gateway route unless its
// name is "".
func (t *translator) faultsIn(routes []*routev3.Route, port int64, gatewayRoute string) []*routev3.Route {
	return allWithPolicies(routes, faultInName, t.configurations(t.incoming(port, gatewayRoute), false, t.fault))
}

// faultsOut gives routes the faults of what goes out to a virtual service by one of its
// router's routes, "" for none.
func (t *translator) faultsOut(routes []*routev3.Route, s *mesh.Service, route string) []*routev3.Route {
	if len(s.Policies) == 0 {
		return routes
	}
	return allWithPolicies(routes, faultOutName, t.configurations(t.outgoing(s, route), true, t.fault))
}

// fault returns what a policy makes of requests, nil if it is no fault or cannot be obeyed.
func (t *translator) fault(p mesh.Policy) message {
	f := p.Spec.Action.Fault
	switch {
	case f == nil:
	case t.lacks(faults):
		t.problem(policyKey(p.Name), "action.fault", "the proxy's Envoy was built without %s: it makes no faults", faultExtension)
	default:
		return newFault(f)
	}
	return nil
}

// newFault translates a fault.
func newFault(f *mesh.FaultAction) *faultv3.HTTPFault {
	out := &faultv3.HTTPFault{DisableDownstreamClusterStats: true}
	if d := f.Delay; d != nil {
		out.Delay = &commonfaultv3.FaultDelay{
			FaultDelaySecifier: &commonfaultv3.FaultDelay_FixedDelay{FixedDelay: durationpb.New(duration(d.Duration))},
			Percentage:         percent(d.Percentage),
		}
	}
	if a := f.Abort; a != nil {
		out.Abort = &faultv3.FaultAbort{Percentage: percent(a.Percentage)}
		switch {
		case a.GrpcStatus != nil:
			out.Abort.ErrorType = &faultv3.FaultAbort_GrpcStatus{GrpcStatus: clampUint32(int64(slices.Index(grpcStatuses, *a.GrpcStatus)))}
		case a.HttpStatus != nil:
			out.Abort.ErrorType = &faultv3.FaultAbort_HttpStatus{HttpStatus: clampUint32(*a.HttpStatus)}
		}
	}
	if b := f.ResponseRate; b != nil {
		out.ResponseRateLimit = &commonfaultv3.FaultRateLimit{
			LimitType: &commonfaultv3.FaultRateLimit_FixedLimit_{FixedLimit: &commonfaultv3.FaultRateLimit_FixedLimit{
				LimitKbps: uint64(clampUint32(b.KibibytesPerSecond)),
			}},
			Percentage: percent(b.Percentage),
		}
	}
	return out
}

// percent turns a percentage into millionths.
func percent(p float64) *typev3.FractionalPercent {
	return &typev3.FractionalPercent{
		Numerator:   uint32(math.Round(min(max(p, 0), 100) * 1e4)),
		Denominator: typev3.FractionalPercent_MILLION,
	}
}

// grpcStatuses are the statuses of gRPC as the API spells them, by their numbers.
var grpcStatuses = []string{
	"ok", "cancelled", "unknown", "invalid-argument", "deadline-exceeded", "not-found", "already-exists",
	"permission-denied", "resource-exhausted", "failed-precondition", "aborted", "out-of-range", "unimplemented",
	"internal", "unavailable", "data-loss", "unauthenticated",
}
