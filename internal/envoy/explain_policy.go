package envoy

import (
	"fmt"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// policies explains what policies make of a route's requests: the copies, and then what filters
// do, in the order in which these stand.
func (x *explainer) policies(depth int, r *routev3.Route) {
	for _, m := range r.GetRoute().GetRequestMirrorPolicies() {
		name := ""
		for _, h := range m.RequestHeadersMutations {
			if h.GetAppend().GetHeader().GetKey() == MirrorHeader {
				name = h.GetAppend().GetHeader().GetValue()
			}
		}
		x.say(depth, policyKey(name), "policy %s: mirror: of the requests %s are copied to %s", short(name), percentText(m.GetRuntimeFraction().GetDefaultValue()), short(m.Cluster))
	}
	for _, f := range httpFilters {
		config, ok := r.TypedPerFilterConfig[f.Name]
		if !ok || config.MessageIs((*routev3.FilterConfig)(nil)) || x.access(depth, config) {
			continue
		}
		name := r.GetMetadata().GetFilterMetadata()[policyData].GetFields()[f.Name].GetStringValue()
		text := "filter " + f.Name + ", which is not explained"
		if fault := new(faultv3.HTTPFault); config.UnmarshalTo(fault) == nil {
			text = faultText(fault)
		}
		x.say(depth, policyKey(name), "policy %s: %s", short(name), text)
	}
}

// faultText says what a fault does.
func faultText(f *faultv3.HTTPFault) string {
	var parts []string
	if d := f.Delay; d != nil {
		parts = append(parts, fmt.Sprintf("%s wait %s", percentText(d.Percentage), d.GetFixedDelay().AsDuration()))
	}
	switch a := f.Abort.GetErrorType().(type) {
	case *faultv3.FaultAbort_HttpStatus:
		parts = append(parts, fmt.Sprintf("%s are answered with %d", percentText(f.Abort.Percentage), a.HttpStatus))
	case *faultv3.FaultAbort_GrpcStatus:
		parts = append(parts, fmt.Sprintf("%s are answered with the gRPC status %s", percentText(f.Abort.Percentage), grpcStatuses[min(int(a.GrpcStatus), len(grpcStatuses)-1)]))
	}
	if b := f.ResponseRateLimit; b != nil {
		parts = append(parts, fmt.Sprintf("%s are answered at %d KiB a second", percentText(b.Percentage), b.GetFixedLimit().GetLimitKbps()))
	}
	return "fault: of the requests " + strings.Join(parts, ", ")
}

// percentText writes a part of all requests.
func percentText(p *typev3.FractionalPercent) string {
	return fmt.Sprintf("%v %%", float64(p.GetNumerator())/1e4)
}
