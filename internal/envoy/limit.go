package envoy

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	keyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	limitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Limits are Envoy's own (envoy.extensions.filters.http.local_ratelimit.v3). Other policies
// split routes, and a bucket in each part would multiply a limit; so the buckets stand where
// all routes are that can take from them: at the route configuration of what comes in, at the
// virtual host of a service. A policy that is for some routes only finds them by a mark in
// their metadata. What is tried stands in a filter of its own that refuses nothing.

// limitFilter limits nothing where routes do not say so.
var limitFilter = &limitv3.LocalRateLimit{StatPrefix: "limit"}

// limitData is where a route's metadata has the marks of limits: by the policy's name the
// virtual service, or "in" for what comes in by the route.
const limitData = "fairlead.limits"

// limitedIn is the mark of a gateway route's limits.
const limitedIn = "in"

// limit is a policy that limits requests at a place.
type limit struct {
	policy mesh.Policy
	mark   string // of the routes that it is for, "" for all that are there
	lists  [][]*routev3.HeaderMatcher
}

// limits returns those of some policies that limit requests, and can be obeyed.
func (t *translator) limits(policies []mesh.Policy, outgoing bool, mark func(mesh.Policy) string) []limit {
	var out []limit
	for _, p := range policies {
		if p.Spec.Action.RateLimit == nil {
			continue
		}
		if t.lacks(requestLimits) {
			t.problem(policyKey(p.Name), "action.rateLimit", "the proxy's Envoy was built without %s or %s: it limits nothing", limitExtension, keyExtension)
			continue
		}
		if lists, ok := t.conditions(p, outgoing); ok && len(lists) > 0 {
			out = append(out, limit{p, mark(p), lists})
		}
	}
	return out
}

// limitsIn returns the limits of what comes in on a port.
func (t *translator) limitsIn(port int64) []limit {
	here := slices.DeleteFunc(slices.Clone(t.view.Policies), func(p mesh.Policy) bool {
		return p.Spec.Target.Port() != 0 && p.Spec.Target.Port() != port
	})
	return t.limits(here, false, func(p mesh.Policy) string {
		if p.Spec.Target.GatewayRoute != nil {
			return limitedIn
		}
		return ""
	})
}

// limitsOut returns the limits of what goes out to a virtual service.
func (t *translator) limitsOut(s *mesh.Service) []limit {
	return t.limits(s.Policies, true, func(mesh.Policy) string { return s.Name })
}

// markedOut gives routes the marks of the limits of what goes out to a virtual service by one
// of its router's routes, "" for none.
func (t *translator) markedOut(routes []*routev3.Route, s *mesh.Service, route string) []*routev3.Route {
	if len(s.Policies) == 0 {
		return routes
	}
	return marked(routes, t.outgoing(s, route), s.Name)
}

// markedIn gives the routes of a gateway route the marks of its limits.
func (t *translator) markedIn(routes []*routev3.Route, gatewayRoute string) []*routev3.Route {
	return marked(routes, slices.DeleteFunc(slices.Clone(t.view.Policies), func(p mesh.Policy) bool {
		g := p.Spec.Target.GatewayRoute
		return g == nil || g.GatewayRouteName != gatewayRoute
	}), limitedIn)
}

// marked returns routes with the marks of those of some policies that limit requests.
func marked(routes []*routev3.Route, policies []mesh.Policy, mark string) []*routev3.Route {
	fields := map[string]*structpb.Value{}
	for _, p := range policies {
		if p.Spec.Action.RateLimit != nil {
			fields[p.Name] = structpb.NewStringValue(mark)
		}
	}
	if len(fields) == 0 {
		return routes
	}
	out := make([]*routev3.Route, len(routes))
	for i, r := range routes {
		out[i] = proto.Clone(r).(*routev3.Route)
		out[i].Metadata = withData(out[i].Metadata, &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{limitData: {Fields: fields}}})
	}
	return out
}

// limited is what limits come to: the configurations that wake filters, by their names, and
// the headers that are not to go on.
type limited struct {
	filters map[string]*anypb.Any
	remove  []string
}

// limited translates limits that stand at one place, whose counters have a name.
func (t *translator) limited(all []limit, stats string) limited {
	if len(all) == 0 {
		return limited{}
	}
	holds, tried := newLimiter("limit."+stats, 100), newLimiter("limit.dry_run."+stats, 0)
	keys := map[string]string{}
	for _, l := range all {
		to := holds
		if d := l.policy.Spec.Action.RateLimit.DryRun; d != nil && *d {
			to = tried
		}
		to.add(&l, keys)
	}
	out := limited{filters: map[string]*anypb.Any{}, remove: slices.Sorted(maps.Values(keys))}
	for name, f := range map[string]*limiter{limitName: holds, limitTriedName: tried} {
		if len(f.config.Descriptors) > 0 {
			out.wake(t, name, f.config)
		}
	}
	if len(keys) > 0 {
		out.wake(t, limitKeyName, keysOf(keys))
	}
	return out
}

// wake adds the configuration of a filter, or notes that it cannot be.
func (l *limited) wake(t *translator, name string, config message) {
	if packed := t.packed(config, t.self(), "", "the filter "+name); packed != nil {
		l.filters[name] = packed
	}
}

// with adds other configurations by the names of their filters; either may be nil.
func (l limited) with(more map[string]*anypb.Any) map[string]*anypb.Any {
	if len(l.filters) == 0 {
		return more
	}
	out := maps.Clone(l.filters)
	maps.Copy(out, more)
	return out
}

// limiter is the configuration of one filter in the making.
type limiter struct{ config *limitv3.LocalRateLimit }

// newLimiter returns one that refuses a percentage of what is beyond its limits.
func newLimiter(stats string, enforced float64) *limiter {
	all := func(p float64) *corev3.RuntimeFractionalPercent {
		return &corev3.RuntimeFractionalPercent{DefaultValue: percent(p)}
	}
	c := &limitv3.LocalRateLimit{
		StatPrefix: stats, FilterEnabled: all(100), FilterEnforced: all(enforced),
		// What no limit is for takes from a bucket that is never empty.
		TokenBucket:                     bucket(math.MaxUint32, math.MaxUint32, time.Second),
		AlwaysConsumeDefaultTokenBucket: wrapperspb.Bool(false),
		MaxDynamicDescriptors:           wrapperspb.UInt32(mostKeys),
		RateLimitedAsResourceExhausted:  true,
	}
	c.EnableRetryAfterHeader = enforced > 0
	return &limiter{c}
}

// mostKeys is how many values of what requests differ in have a bucket; those that were not
// seen for longest lose theirs.
const mostKeys = 10_000

func bucket(most, fill uint32, every time.Duration) *typev3.TokenBucket {
	return &typev3.TokenBucket{MaxTokens: most, TokensPerFill: wrapperspb.UInt32(fill), FillInterval: durationpb.New(every)}
}

// add adds a limit. keys are the headers that hold what requests differ in, by their formats.
func (f *limiter) add(l *limit, keys map[string]string) {
	action := l.policy.Spec.Action.RateLimit
	entries := []*ratelimitv3.RateLimitDescriptor_Entry{{Key: "policy", Value: l.policy.Name}}
	actions := []*routev3.RateLimit_Action{genericKey("policy", l.policy.Name)}
	if l.mark != "" {
		entries = append(entries, &ratelimitv3.RateLimitDescriptor_Entry{Key: "for", Value: l.mark})
		actions = append(actions, markOf(l.policy.Name))
	}
	if action.By != nil {
		format := keyFormat(action.By)
		if keys[format] == "" {
			keys[format] = fmt.Sprintf("x-fairlead-limit-%d", len(keys)+1)
		}
		entries = append(entries, &ratelimitv3.RateLimitDescriptor_Entry{Key: "by"})
		actions = append(actions, &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_RequestHeaders_{
			RequestHeaders: &routev3.RateLimit_Action_RequestHeaders{HeaderName: keys[format], DescriptorKey: "by"},
		}})
	}
	for i := range l.lists {
		if len(l.lists[i]) == 0 {
			l.lists = [][]*routev3.HeaderMatcher{nil} // for every request
			break
		}
	}
	for i := range l.lists {
		if len(l.lists[i]) > 0 {
			entries = append(entries, &ratelimitv3.RateLimitDescriptor_Entry{Key: fmt.Sprintf("if-%d", i), Value: "so"})
		}
		f.config.RateLimits = append(f.config.RateLimits, &routev3.RateLimit{
			Actions: slices.Concat(actions, conditionsOf(l.lists, i)), XRatelimitOption: l.headers(),
		})
	}
	burst := action.Requests
	if action.Burst != nil {
		burst = *action.Burst
	}
	f.config.Descriptors = append(f.config.Descriptors, &ratelimitv3.LocalRateLimitDescriptor{
		Entries: entries, TokenBucket: bucket(clampUint32(burst), clampUint32(action.Requests), mesh.Pers[action.Per]),
	})
}

// headers says that answers tell of the limit, of those only that it is for. An Envoy 1.37 does
// not know that, nor retry-after, and tells nothing.
func (l *limit) headers() routev3.RateLimit_XRateLimitOption {
	if d := l.policy.Spec.Action.RateLimit.DryRun; d != nil && *d {
		return routev3.RateLimit_OFF
	}
	return routev3.RateLimit_DRAFT_VERSION_03
}

// conditionsOf returns what is asked for the list at i to be the first that is true of a
// request: so it takes one token, whichever lists are true of it. All lists have the same
// entries in descriptors, so that they share a bucket.
func conditionsOf(lists [][]*routev3.HeaderMatcher, i int) (out []*routev3.RateLimit_Action) {
	for j, list := range lists {
		key := fmt.Sprintf("if-%d", j)
		switch {
		case len(list) == 0:
		case j > i:
			out = append(out, genericKey(key, "so"))
		default:
			out = append(out, &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_HeaderValueMatch_{
				HeaderValueMatch: &routev3.RateLimit_Action_HeaderValueMatch{
					DescriptorKey: key, DescriptorValue: "so", ExpectMatch: wrapperspb.Bool(j == i), Headers: list,
				},
			}})
		}
	}
	return out
}

func genericKey(key, value string) *routev3.RateLimit_Action {
	return &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_GenericKey_{
		GenericKey: &routev3.RateLimit_Action_GenericKey{DescriptorKey: key, DescriptorValue: value},
	}}
}

// markOf asks for the mark that a policy has given the route.
func markOf(policy string) *routev3.RateLimit_Action {
	return &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_Metadata{Metadata: &routev3.RateLimit_Action_MetaData{
		DescriptorKey: "for", Source: routev3.RateLimit_Action_MetaData_ROUTE_ENTRY,
		MetadataKey: &metadatav3.MetadataKey{Key: limitData, Path: []*metadatav3.MetadataKey_PathSegment{
			{Segment: &metadatav3.MetadataKey_PathSegment_Key{Key: policy}},
		}},
	}}}
}

// keyFormat is how Envoy writes what requests differ in. A part that is not there is "-", so
// that nobody gets round a limit by leaving it out.
func keyFormat(by *mesh.RateLimitBy) string {
	return "by=" + keyText(*by, "%DOWNSTREAM_PEER_URI_SAN%") // never empty, for then there were no header
}

// keyText is what requests differ in, with the format of who asks.
func keyText(by mesh.RateLimitBy, client string) string {
	is := func(b *bool) bool { return b != nil && *b }
	var parts []string
	if by.Header != nil {
		parts = append(parts, "%REQ("+*by.Header+"):256%")
	}
	for _, p := range []struct {
		given  bool
		format string
	}{
		{is(by.Address), "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"}, {is(by.Client), client}, {is(by.Path), "%PATH(NQ):256%"},
	} {
		if p.given {
			parts = append(parts, p.format)
		}
	}
	return strings.Join(parts, "|")
}

// keysOf writes what requests differ in into headers, whatever these were.
func keysOf(keys map[string]string) *keyv3.HeaderMutationPerRoute {
	out := &keyv3.Mutations{}
	for _, format := range slices.Sorted(maps.Keys(keys)) {
		out.RequestMutations = append(out.RequestMutations, writes(keys[format], format))
	}
	return &keyv3.HeaderMutationPerRoute{Mutations: out}
}
