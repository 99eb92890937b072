package envoy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// allAccess explains who may call, as it is said for all that comes in on a port.
func (x *explainer) allAccess(depth int, configs map[string]*anypb.Any) {
	for _, f := range httpFilters {
		if config := configs[f.Name]; config != nil {
			x.access(depth, config)
		}
	}
}

// access explains who may call, and reports whether that is what a configuration says.
func (x *explainer) access(depth int, config *anypb.Any) bool {
	route := new(rbacv3.RBACPerRoute)
	if config.UnmarshalTo(route) != nil {
		return false
	}
	x.rules(depth, route.Rbac.GetRules(), "")
	x.rules(depth, route.Rbac.GetShadowRules(), " (tried: nothing is refused)")
	return true
}

// connectionAccess explains who may connect, and reports whether that is what a filter says.
func (x *explainer) connectionAccess(depth int, config *anypb.Any) bool {
	filter := new(networkrbacv3.RBAC)
	if config.UnmarshalTo(filter) != nil {
		return false
	}
	x.rules(depth, filter.Rules, "")
	x.rules(depth, filter.ShadowRules, " (tried: nothing is refused)")
	return true
}

// rules explains the rules that hold, or that are tried.
func (x *explainer) rules(depth int, r *rbacconfigv3.RBAC, tried string) {
	if r == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(r.Policies)) {
		x.say(depth, policyKey(name), "policy %s: access: refused is %s%s", short(name), x.meant(name), tried)
		if p := x.policy(name); p != nil && p.Action.Access != nil && p.Action.Access.Closes() {
			x.allowed(depth+1, p.Target)
		}
	}
}

// allowed explains the exceptions from a default that is closed somewhere.
func (x *explainer) allowed(depth int, where *mesh.PolicyTarget) {
	for _, p := range x.policyList() {
		if a := p.Spec.Action.Access; a != nil && a.Allows() && p.Spec.Target.MayShare(x.view.Mesh, where) {
			x.say(depth, policyKey(p.Name), "but what policy %s allows: %s", short(p.Name), x.meant(p.Name))
		}
	}
}

// meant says whom a policy is for, as it was written.
func (x *explainer) meant(name string) string {
	p := x.policy(name)
	if p == nil {
		return "what it is for"
	}
	if a := p.Action.Access; a != nil && a.Closes() {
		return "what no policy allows"
	}
	from, match := "everybody", "everything"
	if p.From != nil {
		from = fmt.Sprintf("%d kinds of clients", len(p.From))
		if len(p.From) == 1 {
			from = clientText(p.From[0])
		}
	}
	if p.Match != nil {
		match = "some requests"
		switch {
		case p.Match.Prefix != nil:
			match = "what begins with " + short(*p.Match.Prefix)
		case p.Match.Path != nil && p.Match.Path.Exact != nil:
			match = "path " + short(*p.Match.Path.Exact)
		}
		if p.Match.Method != nil {
			match += " by " + *p.Match.Method
		}
	}
	return match + " of " + from
}

// policy returns what a policy of the view says, nil if it is not there.
func (x *explainer) policy(name string) *mesh.PolicySpec {
	for _, p := range x.policyList() {
		if p.Name == name {
			return p.Spec
		}
	}
	return nil
}

// policyList returns the policies of the view, in the order of their names.
func (x *explainer) policyList() []mesh.Policy {
	all := slices.Clone(x.view.Policies)
	for i := range x.view.Services {
		all = append(all, x.view.Services[i].Policies...)
	}
	slices.SortFunc(all, func(a, b mesh.Policy) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(all, func(a, b mesh.Policy) bool { return a.Name == b.Name })
}

// clientText says who a client is.
func clientText(c mesh.PolicyClient) string {
	out := "clients"
	switch {
	case c.VirtualNode != nil:
		out = "virtual node " + short(*c.VirtualNode)
	case c.VirtualGateway != nil:
		out = "virtual gateway " + short(*c.VirtualGateway)
	case c.SpiffeId != nil:
		out = short(*c.SpiffeId)
	case c.Account != nil:
		out = "account " + *c.Account
	}
	if c.IpRanges != nil {
		out += " at " + listed(c.IpRanges, ", ")
	}
	if c.Headers != nil {
		out += " with certain headers"
	}
	return out
}
