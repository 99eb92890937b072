package envoy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	limitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
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
	for _, name := range slices.Sorted(maps.Keys(r.GetMetadata().GetFilterMetadata()[limitData].GetFields())) {
		x.limit(depth, name)
	}
	for _, f := range httpFilters {
		config, ok := r.TypedPerFilterConfig[f.Name]
		if !ok || config.MessageIs((*routev3.FilterConfig)(nil)) || x.access(depth, config) {
			continue
		}
		name := x.namedBy(r, f.Name)
		text := "filter " + f.Name + ", which is not explained"
		if fault := new(faultv3.HTTPFault); config.UnmarshalTo(fault) == nil {
			text = faultText(fault)
		}
		x.say(depth, policyKey(name), "policy %s: %s", short(name), text)
	}
	for _, pair := range []quotaPair{quotaIn, quotaOut} {
		if r.TypedPerFilterConfig[pair.key] != nil {
			x.quota(depth, x.namedBy(r, pair.key))
		}
	}
}

// namedBy returns the policy that has configured a filter for a route.
func (x *explainer) namedBy(r *routev3.Route, filter string) string {
	return r.GetMetadata().GetFilterMetadata()[policyData].GetFields()[filter].GetStringValue()
}

// quota explains a policy that is a quota.
func (x *explainer) quota(depth int, name string) {
	p := x.policy(name)
	if p == nil || p.Action.Quota == nil {
		return
	}
	q := p.Action.Quota
	text := fmt.Sprintf("%d a %s over all proxies", q.Requests, q.Per)
	if q.By != nil {
		text += ", for each " + byText((*mesh.RateLimitBy)(q.By))
	}
	switch quotaMode(q) {
	case quotaAllow:
		text += "; all while Fairlead does not answer"
	case quotaDeny:
		text += "; none while Fairlead does not answer"
	}
	x.say(depth, policyKey(name), "policy %s: quota: %s", short(name), text)
}

// limits explains the limits that stand at a place and are for all that is there.
func (x *explainer) limits(depth int, configs map[string]*anypb.Any) {
	for _, filter := range []string{limitTriedName, limitName} {
		config := new(limitv3.LocalRateLimit)
		if packed := configs[filter]; packed == nil || packed.UnmarshalTo(config) != nil {
			continue
		}
		for _, d := range config.Descriptors {
			if len(d.Entries) < 2 || d.Entries[1].Key != "for" {
				x.limit(depth, d.Entries[0].Value)
			}
		}
	}
}

// limit explains a policy that limits requests.
func (x *explainer) limit(depth int, name string) {
	p := x.policy(name)
	if p == nil || p.Action.RateLimit == nil {
		return
	}
	l := p.Action.RateLimit
	text := fmt.Sprintf("%d a %s", l.Requests, l.Per)
	if l.Burst != nil {
		text += fmt.Sprintf(", %d at once", *l.Burst)
	}
	if l.By != nil {
		text += ", for each " + byText(l.By)
	}
	if l.DryRun != nil && *l.DryRun {
		text += " (tried: nothing is refused)"
	}
	x.say(depth, policyKey(name), "policy %s: rate limit: of %s %s", short(name), x.meant(name), text)
}

// byText says what requests differ in.
func byText(by *mesh.RateLimitBy) string {
	var parts []string
	if by.Header != nil {
		parts = append(parts, "header "+short(*by.Header))
	}
	for _, p := range []struct {
		given *bool
		name  string
	}{{by.Address, "address"}, {by.Client, "client"}, {by.Path, "path"}} {
		if p.given != nil && *p.given {
			parts = append(parts, p.name)
		}
	}
	return strings.Join(parts, " and ")
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
