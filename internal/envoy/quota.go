package envoy

import (
	"strings"
	"time"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matchingv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/matching/v3"
	skipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/matcher/action/v3"
	keyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	quotav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rate_limit_quota/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	envoymatcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Quotas are kept by Envoy's filter for the rate limit quota service
// (envoy.extensions.filters.http.rate_limit_quota.v3), which counts by itself, reports to
// Fairlead, and goes by the rate that it is sent. The filter knows no configuration of a route,
// so a matcher (envoy.extensions.common.matching.v3.ExtensionWithMatcher) holds it back where
// no route has another one. What a quota is, the filter reads from headers that a filter
// before it writes, over whatever a client sent in them, and that the route removes: so
// listeners know no quota, and one that comes or goes is a change of routes. Only that some are
// to refuse without an answer is said to the filter as well: Envoy calls the message that says so
// work in progress, and warns of it in the log of whoever is sent it.

// The headers in which a request's quota is written.
const (
	quotaPolicyHeader = "x-fairlead-quota-policy"
	quotaKeyHeader    = "x-fairlead-quota-key"
	quotaModeHeader   = "x-fairlead-quota-mode"
)

// The members of a bucket's id, a contract with what serves quotas: the policy's name, and what
// requests differ in.
const (
	QuotaPolicy = "policy"
	QuotaKey    = "key"
)

// QuotaAll is the key of requests that differ in nothing. Others begin with quotaKeyBegin: a
// header without a value is none, and then nothing would be counted.
const (
	QuotaAll      = "-"
	quotaKeyBegin = "by="
)

// QuotaKeyText returns what requests differ in, of a bucket's key: "" for nothing.
func QuotaKeyText(key string) string {
	if key == QuotaAll {
		return ""
	}
	return strings.TrimPrefix(key, quotaKeyBegin)
}

// quotaReports is how often a proxy is asked to report. Envoys up to 1.40 do so every 5 s
// whatever they are asked.
const quotaReports = 5 * time.Second

// What a proxy does without an answer, as the API and the header spell it.
const (
	quotaLast  = "last"
	quotaAllow = "allow"
	quotaDeny  = "deny"
)

// quotaPair are the filters that keep quotas, of what comes in or of what goes out: the first
// writes what the quota is, the second keeps it.
type quotaPair struct{ key, keep string }

var (
	quotaIn  = quotaPair{"fairlead.quota.in.key", "fairlead.quota.in"}
	quotaOut = quotaPair{"fairlead.quota.out.key", "fairlead.quota.out"}
)

// quotaFilters returns the filters that keep quotas in a connection manager for what comes in,
// for what goes out, or both; none where the proxy's Envoy cannot keep any.
func (t *translator) quotaFilters(in, out bool) (filters []*hcmv3.HttpFilter) {
	if t.lacks(requestQuotas) || t.profile.Discovery.Cluster == "" {
		return nil
	}
	if t.quotaFilter == nil {
		if t.quotaFilter = t.packed(t.newQuotaFilter(), t.self(), "", "the filter for quotas"); t.quotaFilter == nil {
			return nil
		}
	}
	for _, p := range []struct {
		wanted bool
		quotaPair
	}{{in, quotaIn}, {out, quotaOut}} {
		if p.wanted {
			filters = append(filters, asleep(p.key, &keyv3.HeaderMutation{}), &hcmv3.HttpFilter{
				Name: p.keep, Disabled: true, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: t.quotaFilter},
			})
		}
	}
	return filters
}

// newQuotaFilter returns the filter, held back. Its domain says whose proxy reports.
func (t *translator) newQuotaFilter() *matchingv3.ExtensionWithMatcher {
	id := mesh.ID{Mesh: t.view.Mesh, Key: t.view.Key}
	config := &quotav3.RateLimitQuotaFilterConfig{
		Domain: id.ARN(t.view.Owner),
		RlqsServer: &corev3.GrpcService{
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
				ClusterName: t.profile.Discovery.Cluster, Authority: t.profile.Discovery.Authority,
			}},
		},
		BucketMatchers: quotaBuckets,
	}
	for _, q := range QuotaPolicies(t.view) {
		if quotaMode(q) == quotaDeny {
			config.BucketMatchers = quotaBucketsDeny
		}
	}
	return &matchingv3.ExtensionWithMatcher{
		XdsMatcher:      quotaAsleep,
		ExtensionConfig: &corev3.TypedExtensionConfig{Name: quotaExtension, TypedConfig: mustAny(config)},
	}
}

// quotaAsleep holds the filter back from every request, quotaAwake from none.
var (
	quotaAsleep = &xdsmatcherv3.Matcher{OnNoMatch: onMatch("skip", &skipv3.SkipFilter{})}
	quotaAwake  = mustAny(&matchingv3.ExtensionWithMatcherPerRoute{XdsMatcher: byHeader(quotaModeHeader, "never", onMatch("skip", &skipv3.SkipFilter{}), nil)})
)

// quotaBuckets chooses the bucket of a request. Without an answer the requests are let through;
// what is to go on by the last one is told of none that it comes to an end. All listeners of all
// proxies have it, so it is as small as can be.
var quotaBuckets = &xdsmatcherv3.Matcher{OnNoMatch: quotaBucket(nil, nil)}

// quotaBucketsDeny has a bucket for those too that are to be refused without an answer.
var quotaBucketsDeny = byHeader(quotaModeHeader, quotaDeny, quotaBucket(refusedFirst, refusedLater), quotaBuckets.OnNoMatch)

// What is done before the first answer, and after the end of the last one.
var (
	refuseAll    = &typev3.RateLimitStrategy{Strategy: &typev3.RateLimitStrategy_BlanketRule_{BlanketRule: typev3.RateLimitStrategy_DENY_ALL}}
	refusedFirst = &quotav3.RateLimitQuotaBucketSettings_NoAssignmentBehavior{
		NoAssignmentBehavior: &quotav3.RateLimitQuotaBucketSettings_NoAssignmentBehavior_FallbackRateLimit{FallbackRateLimit: refuseAll},
	}
	refusedLater = &quotav3.RateLimitQuotaBucketSettings_ExpiredAssignmentBehavior{
		// Until another answer comes, which begins all anew.
		ExpiredAssignmentBehaviorTimeout: durationpb.New(24 * time.Hour),
		ExpiredAssignmentBehavior:        &quotav3.RateLimitQuotaBucketSettings_ExpiredAssignmentBehavior_FallbackRateLimit{FallbackRateLimit: refuseAll},
	}
)

// quotaBucket returns the bucket of requests.
func quotaBucket(first *quotav3.RateLimitQuotaBucketSettings_NoAssignmentBehavior, later *quotav3.RateLimitQuotaBucketSettings_ExpiredAssignmentBehavior) *xdsmatcherv3.Matcher_OnMatch {
	return onMatch("quota", &quotav3.RateLimitQuotaBucketSettings{
		BucketIdBuilder: &quotav3.RateLimitQuotaBucketSettings_BucketIdBuilder{
			BucketIdBuilder: map[string]*quotav3.RateLimitQuotaBucketSettings_BucketIdBuilder_ValueBuilder{
				QuotaPolicy: headerValue(quotaPolicyHeader), QuotaKey: headerValue(quotaKeyHeader),
			},
		},
		ReportingInterval: durationpb.New(quotaReports),
		DenyResponseSettings: &quotav3.RateLimitQuotaBucketSettings_DenyResponseSettings{
			HttpStatus:           &typev3.HttpStatus{Code: typev3.StatusCode_TooManyRequests},
			GrpcStatus:           &statuspb.Status{Code: 8, Message: "quota exceeded"}, // RESOURCE_EXHAUSTED
			HttpBody:             wrapperspb.Bytes([]byte("Fairlead: the quota is used up.\n")),
			ResponseHeadersToAdd: []*corev3.HeaderValueOption{header("x-envoy-ratelimited", "true")},
		},
		NoAssignmentBehavior: first, ExpiredAssignmentBehavior: later,
	})
}

// headerValue builds a part of a bucket's id of a header.
func headerValue(name string) *quotav3.RateLimitQuotaBucketSettings_BucketIdBuilder_ValueBuilder {
	return &quotav3.RateLimitQuotaBucketSettings_BucketIdBuilder_ValueBuilder{
		ValueSpecifier: &quotav3.RateLimitQuotaBucketSettings_BucketIdBuilder_ValueBuilder_CustomValue{
			CustomValue: &corev3.TypedExtensionConfig{Name: headerInput, TypedConfig: mustAny(&envoymatcherv3.HttpRequestHeaderMatchInput{HeaderName: name})},
		},
	}
}

// byHeader matches a request by whether a header has a value; otherwise may be nil.
func byHeader(name, value string, match, otherwise *xdsmatcherv3.Matcher_OnMatch) *xdsmatcherv3.Matcher {
	return &xdsmatcherv3.Matcher{OnNoMatch: otherwise, MatcherType: &xdsmatcherv3.Matcher_MatcherTree_{MatcherTree: &xdsmatcherv3.Matcher_MatcherTree{
		Input: &xdscorev3.TypedExtensionConfig{Name: headerInput, TypedConfig: mustAny(&envoymatcherv3.HttpRequestHeaderMatchInput{HeaderName: name})},
		TreeType: &xdsmatcherv3.Matcher_MatcherTree_ExactMatchMap{ExactMatchMap: &xdsmatcherv3.Matcher_MatcherTree_MatchMap{
			Map: map[string]*xdsmatcherv3.Matcher_OnMatch{value: match},
		}},
	}}}
}

func onMatch(name string, action proto.Message) *xdsmatcherv3.Matcher_OnMatch {
	return &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{
		Action: &xdscorev3.TypedExtensionConfig{Name: name, TypedConfig: mustAny(action)},
	}}
}

// quotasIn gives routes the quotas of what comes in on a port, by a gateway route unless its
// name is "".
func (t *translator) quotasIn(routes []*routev3.Route, port int64, gatewayRoute string) []*routev3.Route {
	return t.quotas(routes, quotaIn, t.incoming(port, gatewayRoute), false)
}

// quotasOut gives routes the quotas of what goes out to a virtual service by one of its
// router's routes, "" for none.
func (t *translator) quotasOut(routes []*routev3.Route, s *mesh.Service, route string) []*routev3.Route {
	if len(s.Policies) == 0 {
		return routes
	}
	return t.quotas(routes, quotaOut, t.outgoing(s, route), true)
}

// quotas gives routes those of some policies that are quotas, the most specific first, up to
// the first that is for every request.
func (t *translator) quotas(routes []*routev3.Route, filters quotaPair, policies []mesh.Policy, outgoing bool) []*routev3.Route {
	all := t.configurations(policies, outgoing, func(p mesh.Policy) message {
		q := p.Spec.Action.Quota
		if q == nil || !t.keepsQuotas(p.Name) {
			return nil
		}
		return quotaHeaders(p.Name, t.quotaKey(q.By, outgoing), quotaMode(q))
	})
	out := allWithPolicies(routes, filters.key, all)
	for _, r := range out {
		if r.TypedPerFilterConfig[filters.key] != nil { // it is a copy of ours
			r.TypedPerFilterConfig[filters.keep] = quotaAwake
			r.RequestHeadersToRemove = append(r.RequestHeadersToRemove[:len(r.RequestHeadersToRemove):len(r.RequestHeadersToRemove)],
				quotaKeyHeader, quotaModeHeader, quotaPolicyHeader)
		}
	}
	return out
}

// keepsQuotas reports whether the proxy can keep a quota, and notes a problem if not.
func (t *translator) keepsQuotas(policy string) bool {
	switch {
	case t.lacks(requestQuotas):
		t.problem(policyKey(policy), "action.quota", "the proxy's Envoy was built without %s, %s or %s: it keeps no quota", quotaExtension, delegateExtension, keyExtension)
	case t.profile.Discovery.Cluster == "":
		t.problem(policyKey(policy), "action.quota", "the proxy's bootstrap does not say how to report to Fairlead (node metadata fairlead.discovery), as that of fairlead-agent does: it keeps no quota")
	default:
		return true
	}
	return false
}

// QuotaLasts reports whether a proxy goes on with its last share while it has no answer.
func QuotaLasts(q *mesh.QuotaAction) bool { return quotaMode(q) == quotaLast }

// quotaMode is what is done without an answer.
func quotaMode(q *mesh.QuotaAction) string {
	if q.WithoutAnswer == nil {
		return quotaLast
	}
	return *q.WithoutAnswer
}

// quotaKey is how Envoy writes what requests differ in. Who asks is known where requests go
// out: it is the proxy's own node or gateway.
func (t *translator) quotaKey(by *mesh.QuotaBy, outgoing bool) string {
	if by == nil {
		return QuotaAll
	}
	client := "%DOWNSTREAM_PEER_URI_SAN%"
	if outgoing {
		client = t.ownName()
	}
	return quotaKeyBegin + keyText(mesh.RateLimitBy(*by), client)
}

// quotaHeaders writes what a request's quota is into headers, whatever these were.
func quotaHeaders(policy, key, mode string) *keyv3.HeaderMutationPerRoute {
	out := &keyv3.Mutations{}
	for _, h := range [][2]string{{quotaPolicyHeader, policy}, {quotaKeyHeader, key}, {quotaModeHeader, mode}} {
		out.RequestMutations = append(out.RequestMutations, writes(h[0], h[1]))
	}
	return &keyv3.HeaderMutationPerRoute{Mutations: out}
}

func isQuota(p mesh.Policy) bool { return p.Spec.Action.Quota != nil }

// QuotaPolicies returns the policies by which the proxies of a view keep quotas, by their names.
func QuotaPolicies(v *mesh.View) map[string]*mesh.QuotaAction {
	out := map[string]*mesh.QuotaAction{}
	add := func(all []mesh.Policy) {
		for _, p := range all {
			if isQuota(p) {
				out[p.Name] = p.Spec.Action.Quota
			}
		}
	}
	add(v.Policies)
	for i := range v.Services {
		add(v.Services[i].Policies)
	}
	return out
}
