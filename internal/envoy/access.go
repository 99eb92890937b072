package envoy

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Who may call what is asked by Envoy's RBAC (envoy.config.rbac.v3), one filter for what comes in
// and one for what goes out. It refuses what any entry is true of: each policy that denies is an
// entry by its name, and a closed default is one that is true of what no policy allows, so that
// counters and the details of answers name who refuses. All conditions are RBAC's own, and
// routes stay as they are.

// accessFilter lets every request pass whose route does not say otherwise.
var accessFilter = &rbacv3.RBAC{}

// proof is what is known of whoever asks.
type proof struct {
	// here is set where it is the proxy's own workload: then nothing of it needs to be
	// asked, and from names it or not (mayBe).
	here bool
	// names is set where the client's certificate gives a name, and own where the mesh's own
	// authority says so.
	names, own bool
}

// proofOf returns what a listener knows of its clients.
func proofOf(l *mesh.Listener) proof {
	names, own := l.Proves()
	return proof{names: names, own: own}
}

// accessRules are who is refused, and who would be by what is tried; nil for nobody.
type accessRules struct{ holds, tried *rbacconfigv3.RBAC }

// access translates the access policies among some, given the most specific first.
// connections is set where there are no requests.
func (t *translator) access(policies []mesh.Policy, by proof, connections bool) accessRules {
	a := mesh.NewAccess(policies)
	if len(a.Deny)+len(a.DryDeny) == 0 && !a.Closed && !a.DryClosed {
		return accessRules{}
	}
	who := asker{t, by, connections}
	holds, tried := who.denied(a.Deny), who.denied(a.DryDeny)
	switch {
	case a.Closed:
		holds[a.ClosedBy] = who.notAllowed(a.Allow)
	case a.DryClosed:
		tried[a.DryClosedBy] = who.notAllowed(a.Allow)
	}
	return accessRules{refusing(holds), refusing(tried)}
}

// refusing returns the rules that some entries are, nil if there are none.
func refusing(entries map[string]*rbacconfigv3.Policy) *rbacconfigv3.RBAC {
	if len(entries) == 0 {
		return nil
	}
	return &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_DENY, Policies: entries}
}

// refusal is an entry for whoever any of some principals is true of.
func refusal(of ...*rbacconfigv3.Principal) *rbacconfigv3.Policy {
	return &rbacconfigv3.Policy{
		Permissions: []*rbacconfigv3.Permission{{Rule: &rbacconfigv3.Permission_Any{Any: true}}}, Principals: of,
	}
}

// asker translates whom policies mean, as far as that can be known where it is asked.
type asker struct {
	t           *translator
	by          proof
	connections bool
}

// denied returns the entries of policies that deny.
func (w asker) denied(policies []mesh.Policy) map[string]*rbacconfigv3.Policy {
	out := map[string]*rbacconfigv3.Policy{}
	for _, p := range policies {
		if who := w.meant(p, true); who != nil {
			out[p.Name] = refusal(who...)
		}
	}
	return out
}

// notAllowed returns the entry of a closed default, with the policies that allow.
func (w asker) notAllowed(policies []mesh.Policy) *rbacconfigv3.Policy {
	var who []*rbacconfigv3.Principal
	for _, p := range policies {
		who = append(who, w.meant(p, false)...)
	}
	if len(who) == 0 {
		return refusal(anybody)
	}
	return refusal(not(anyOf(who...)))
}

// meant returns whom a policy is for, any of them; nil for nobody here. What cannot be asked
// is noted as a problem, and is taken to be true of what is denied, and not of what is allowed.
func (w asker) meant(p mesh.Policy, deny bool) []*rbacconfigv3.Principal {
	if w.connections && p.Spec.Match != nil {
		return nil
	}
	match, ok := w.match(p, deny)
	if !ok {
		return nil
	}
	if p.Spec.From == nil {
		return []*rbacconfigv3.Principal{allOf(match...)}
	}
	var out []*rbacconfigv3.Principal
	for i := range p.Spec.From {
		if who, ok := w.client(p, i, deny); ok {
			out = append(out, allOf(append(who, match...)...))
		}
	}
	return out
}

// match translates what a request is like: all must hold.
func (w asker) match(p mesh.Policy, deny bool) (all []*rbacconfigv3.Principal, ok bool) {
	conditions, ok := w.t.policyMatch(place{policyKey(p.Name), "match"}, p.Spec.Match)
	if !ok {
		return nil, deny
	}
	for _, h := range conditions {
		is := withHeader(h)
		switch {
		case h.Name != ":path":
		case deny:
			is = anyOf(is, unclearPath)
		default:
			all = append(all, not(unclearPath))
		}
		all = append(all, is)
	}
	return all, true
}

// unclearPath is true of paths that applications may read as others than Envoy does: with
// empty or dot segments, backslashes, and what need not be escaped or stands for a slash.
// A condition on the path refuses those.
var unclearPath = withHeader(&routev3.HeaderMatcher{
	Name: ":path", HeaderMatchSpecifier: stringMatch(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{
		Regex: `[^?]*(//|/\.\.?/|\\|%(2[dDeEfF]|3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[cCfF]|7[eE])).*|[^?]*/\.\.?(\?.*)?`,
	}}}),
})

// client translates an entry of from: all must hold. ok is false if nobody here is meant.
func (w asker) client(p mesh.Policy, i int, deny bool) (all []*rbacconfigv3.Principal, ok bool) {
	c := &p.Spec.From[i]
	if w.by.here && !w.t.mayBe(*c) || w.connections && c.Headers != nil {
		return nil, false
	}
	if !w.by.here {
		if all, ok = w.named(c, deny); !ok {
			return nil, false
		}
		if c.IpRanges != nil {
			all = append(all, fromRanges(c.IpRanges))
		}
	}
	for n := range c.Headers {
		at := place{policyKey(p.Name), index("from", i)}.in("headers").at(n)
		h := w.t.matchHeader(at, c.Headers[n].Name, c.Headers[n].Invert, c.Headers[n].Match)
		if h != nil {
			all = append(all, withHeader(h))
		} else if !deny {
			return nil, false
		}
	}
	return all, true
}

// named translates who a client is by its certificate. Where that cannot be proven, nobody is
// allowed, and everybody denied. So is whoever does not say who he is.
func (w asker) named(c *mesh.PolicyClient, deny bool) (out []*rbacconfigv3.Principal, ok bool) {
	for _, m := range w.t.certificateNames(c) {
		proven := w.by.own || m.others && w.by.names
		switch {
		case !proven && deny:
		case !proven:
			return nil, false
		case deny:
			out = append(out, anyOf(named(m.name), nameless))
		default:
			out = append(out, named(m.name))
		}
	}
	return out, true
}

// certificateName is what a certificate's URI name must be.
type certificateName struct {
	name   *matcherv3.StringMatcher
	others bool // any authority that the listener trusts may say so
}

// certificateNames returns what must be true of the name in a client's certificate, which the
// mesh's authority writes as "spiffe://TRUST_DOMAIN/ACCOUNT/MESH/KIND/NAME".
func (t *translator) certificateNames(c *mesh.PolicyClient) (out []certificateName) {
	kind, name := mesh.KindVirtualNode, c.VirtualNode
	if c.VirtualGateway != nil {
		kind, name = mesh.KindVirtualGateway, c.VirtualGateway
	}
	domain := "spiffe://" + t.profile.TrustDomain + "/"
	account := "[0-9]{12}"
	if c.Account != nil {
		account = *c.Account
	}
	switch {
	case name != nil:
		expression := regexp.QuoteMeta(domain) + account + regexp.QuoteMeta("/"+t.mesh+"/"+mesh.Key{Kind: kind, Name: *name}.String())
		out = append(out, certificateName{name: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: expression}}}})
	case c.Account != nil:
		out = append(out, certificateName{name: prefixed(domain + account + "/" + t.mesh + "/")})
	}
	if c.SpiffeId != nil {
		out = append(out, certificateName{name: spiffeName(*c.SpiffeId), others: true})
	}
	return out
}

// ownName is the URI name that a certificate of the proxy's node or gateway has.
func (t *translator) ownName() string {
	return "spiffe://" + t.profile.TrustDomain + "/" + t.view.Owner + "/" + t.mesh + "/" + t.view.Key.String()
}

// spiffeName translates a SPIFFE ID, or the beginning of some.
func spiffeName(id string) *matcherv3.StringMatcher {
	if begin, ok := strings.CutSuffix(id, "*"); ok {
		return prefixed(begin)
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: id}}
}

func prefixed(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: s}}
}

func named(by *matcherv3.StringMatcher) *rbacconfigv3.Principal {
	return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_Authenticated_{Authenticated: &rbacconfigv3.Principal_Authenticated{PrincipalName: by}}}
}

// nameless is whoever shows no certificate with a SPIFFE ID.
var nameless = not(named(prefixed("spiffe://")))

var anybody = &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_Any{Any: true}}

func withHeader(h *routev3.HeaderMatcher) *rbacconfigv3.Principal {
	return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_Header{Header: h}}
}

func not(p *rbacconfigv3.Principal) *rbacconfigv3.Principal {
	return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_NotId{NotId: p}}
}

// allOf is true of whom all are true of: of anybody if there are none.
func allOf(all ...*rbacconfigv3.Principal) *rbacconfigv3.Principal {
	switch len(all) {
	case 0:
		return anybody
	case 1:
		return all[0]
	}
	return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_AndIds{AndIds: &rbacconfigv3.Principal_Set{Ids: all}}}
}

// anyOf is true of whom one at least is true of; there is one.
func anyOf(all ...*rbacconfigv3.Principal) *rbacconfigv3.Principal {
	if len(all) == 1 {
		return all[0]
	}
	return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_OrIds{OrIds: &rbacconfigv3.Principal_Set{Ids: all}}}
}

// fromRanges translates where a connection comes from: what the other side of the socket is,
// whatever headers say.
func fromRanges(ranges []string) *rbacconfigv3.Principal {
	var all []*rbacconfigv3.Principal
	for _, one := range ranges {
		p, err := mesh.ParseIPRange(one)
		if err != nil {
			continue // refused when the policy was made
		}
		all = append(all, &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_DirectRemoteIp{DirectRemoteIp: &corev3.CidrRange{
			AddressPrefix: p.Addr().String(), PrefixLen: wrapperspb.UInt32(clampUint32(int64(p.Bits()))),
		}}})
	}
	if len(all) == 0 {
		return not(anybody)
	}
	return anyOf(all...)
}

// wakes returns the configuration that wakes a filter for requests, by the filter's name; nil
// if nobody is refused.
func (t *translator) wakes(a accessRules, filter string) map[string]*anypb.Any {
	if a == (accessRules{}) {
		return nil
	}
	if t.lacks(requestAccess) {
		t.missesAccess(a, requestAccessExtension)
		return nil
	}
	config := &rbacv3.RBACPerRoute{Rbac: &rbacv3.RBAC{Rules: a.holds, ShadowRules: a.tried, TrackPerRuleStats: true}}
	packed := t.packed(config, t.self(), "", "who may call")
	if packed == nil {
		return nil
	}
	return map[string]*anypb.Any{filter: packed}
}

// missesAccess notes the policies that an Envoy cannot obey for want of an extension.
func (t *translator) missesAccess(a accessRules, extension string) {
	for _, rules := range []*rbacconfigv3.RBAC{a.holds, a.tried} {
		for _, name := range slices.Sorted(maps.Keys(rules.GetPolicies())) {
			t.problem(policyKey(name), "action.access", "the proxy's Envoy was built without %s: it refuses nobody", extension)
		}
	}
}

// accessIn returns what access policies say of all requests that come in on a port, by a
// gateway route unless its name is "".
func (t *translator) accessIn(port int64, gatewayRoute string, by proof) map[string]*anypb.Any {
	return t.wakes(t.access(t.incoming(port, gatewayRoute), by, false), accessInName)
}

// accessByRoute gives the routes of a gateway route what access policies say of it, where
// that is not what they say of the whole port.
func (t *translator) accessByRoute(routes []*routev3.Route, port int64, gatewayRoute string, by proof) []*routev3.Route {
	if !hasAccess(t.view.Policies, gatewayRoute) {
		return routes
	}
	config := cmp.Or(t.accessIn(port, gatewayRoute, by)[accessInName], notHere)
	return withFilter(routes, accessInName, config)
}

// hasAccess reports whether there is an access policy of a gateway route among some.
func hasAccess(policies []mesh.Policy, gatewayRoute string) bool {
	return slices.ContainsFunc(policies, func(p mesh.Policy) bool {
		g := p.Spec.Target.GatewayRoute
		return p.Spec.Action.Access != nil && g != nil && g.GatewayRouteName == gatewayRoute
	})
}

// notHere puts a filter to sleep for a route that what stands above the route has woken.
var notHere = mustAny(&routev3.FilterConfig{Disabled: true})

// accessOut gives routes what access policies say of requests to a virtual service by one of
// its router's routes, "" for none.
func (t *translator) accessOut(routes []*routev3.Route, s *mesh.Service, route string) []*routev3.Route {
	if len(s.Policies) == 0 {
		return routes
	}
	config := t.wakes(t.access(t.outgoing(s, route), proof{here: true}, false), accessOutName)[accessOutName]
	if config == nil {
		return routes
	}
	return withFilter(routes, accessOutName, config)
}

// refusesConnections reports whether access policies refuse all connections to a virtual service
// by one of its router's routes, "" for none: who connects is known before anybody does.
func (t *translator) refusesConnections(s *mesh.Service, route string) bool {
	if len(s.Policies) == 0 {
		return false
	}
	a := mesh.NewAccess(t.outgoing(s, route))
	who := asker{t, proof{here: true}, true}
	means := func(deny bool) func(mesh.Policy) bool {
		return func(p mesh.Policy) bool { return who.meant(p, deny) != nil }
	}
	return slices.ContainsFunc(a.Deny, means(true)) || a.Closed && !slices.ContainsFunc(a.Allow, means(false))
}

// withFilter returns copies of routes with a configuration of a filter.
func withFilter(routes []*routev3.Route, name string, config *anypb.Any) []*routev3.Route {
	out := make([]*routev3.Route, len(routes))
	for i, r := range routes {
		out[i] = proto.Clone(r).(*routev3.Route)
		if out[i].TypedPerFilterConfig == nil {
			out[i].TypedPerFilterConfig = map[string]*anypb.Any{}
		}
		out[i].TypedPerFilterConfig[name] = config
	}
	return out
}

// guards returns the network filter that says who may connect, none if all may, and the log of
// whom it would refuse. It is asked when the client first says something.
func (t *translator) guards(a accessRules, statPrefix string) (out []*listenerv3.Filter, logs accessLogs, ok bool) {
	switch {
	case a == (accessRules{}):
		return nil, nil, true
	case t.lacks(connectionAccess):
		t.missesAccess(a, connectionAccessExtension)
		return nil, nil, true
	}
	if a.tried != nil && !t.lacks(stdoutLogs) {
		logs = connectionsTried
	}
	out = t.networkFilter(connectionAccessExtension, &networkrbacv3.RBAC{Rules: a.holds, ShadowRules: a.tried, StatPrefix: statPrefix + "."})
	return out, logs, out != nil
}
