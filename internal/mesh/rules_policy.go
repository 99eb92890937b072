package mesh

import (
	"math"
	"time"
)

// policy checks a policy's spec.
func (r *rules) policy(path string, s *PolicySpec) {
	r.policyTarget(path+".target", s.Target)
	r.window(path, s)
	for i, c := range s.From {
		r.policyClient(at(path+".from", i), c, s)
	}
	if s.Match != nil {
		r.policyMatch(path+".match", s.Match)
	}
	if s.Action.Fault != nil {
		r.fault(path+".action.fault", s.Action.Fault)
	}
	if s.Action.Mirror != nil {
		r.mirror(path+".action.mirror", s)
	}
	if s.Action.Access != nil {
		r.access(path+".action.access", s)
	}
	if s.Action.RateLimit != nil {
		r.rateLimit(path+".action.rateLimit", s)
	}
	if s.Action.Quota != nil {
		r.quota(path+".action.quota", s)
	}
}

// mirror checks copies of requests, which only those who send the requests can make.
func (r *rules) mirror(path string, s *PolicySpec) {
	m := s.Action.Mirror
	if s.Target.place() == comingIn {
		r.fail(path, "is not for what a virtual node is asked: allowed for a target route, virtualRouter, virtualService, gatewayRoute and virtualGateway")
	}
	r.percentage(path, m.Percentage)
	if n := m.To.VirtualNode; n != nil {
		r.name(path+".to.virtualNode.virtualNodeName", KindVirtualNode, n.VirtualNodeName)
	}
	if v := m.To.VirtualService; v != nil {
		r.name(path+".to.virtualService.virtualServiceName", KindVirtualService, v.VirtualServiceName)
	}
}

// rateLimit checks a limit: that something is said of what requests differ in, and that the
// proxies of the target can know it.
func (r *rules) rateLimit(path string, s *PolicySpec) {
	by := s.Action.RateLimit.By
	if by == nil {
		return
	}
	r.differIn(path+".by", *by)
	for _, c := range []choice{{"address", given(by.Address)}, {"client", given(by.Client)}} {
		if c.given && s.Target.place() == goingOut {
			r.fail(path+".by."+c.member, "is not for requests that go out: each caller's proxy has a limit of its own")
		}
	}
}

// quota checks one: that something is said of what requests differ in, and that the proxies of
// the target can know it.
func (r *rules) quota(path string, s *PolicySpec) {
	by := s.Action.Quota.By
	if by == nil {
		return
	}
	r.differIn(path+".by", RateLimitBy(*by))
	if given(by.Address) && s.Target.place() == goingOut {
		r.fail(path+".by.address", "is not for requests that go out: they come from the proxy's own workload")
	}
}

// differIn checks that something is said of what requests differ in.
func (r *rules) differIn(path string, by RateLimitBy) {
	if by.Header == nil && !given(by.Address) && !given(by.Client) && !given(by.Path) {
		r.fail(path, "must have at least one of address, client, header, path")
	}
}

// given reports whether a switch is on.
func given(b *bool) bool { return b != nil && *b }

// policyTarget checks that the names in a target are ones that objects can have.
func (r *rules) policyTarget(path string, t *PolicyTarget) {
	switch {
	case t.VirtualNode != nil:
		r.name(path+".virtualNode.virtualNodeName", KindVirtualNode, t.VirtualNode.VirtualNodeName)
	case t.VirtualService != nil:
		r.name(path+".virtualService.virtualServiceName", KindVirtualService, t.VirtualService.VirtualServiceName)
	case t.VirtualRouter != nil:
		r.name(path+".virtualRouter.virtualRouterName", KindVirtualRouter, t.VirtualRouter.VirtualRouterName)
	case t.Route != nil:
		r.name(path+".route.virtualRouterName", KindVirtualRouter, t.Route.VirtualRouterName)
		r.name(path+".route.routeName", KindRoute, t.Route.RouteName)
	case t.VirtualGateway != nil:
		r.name(path+".virtualGateway.virtualGatewayName", KindVirtualGateway, t.VirtualGateway.VirtualGatewayName)
	case t.GatewayRoute != nil:
		r.name(path+".gatewayRoute.virtualGatewayName", KindVirtualGateway, t.GatewayRoute.VirtualGatewayName)
		r.name(path+".gatewayRoute.gatewayRouteName", KindGatewayRoute, t.GatewayRoute.GatewayRouteName)
	}
}

// window checks when a policy begins and ends.
func (r *rules) window(path string, s *PolicySpec) {
	readable := true
	for _, one := range []struct {
		member string
		value  *string
	}{{"notBefore", s.NotBefore}, {"notAfter", s.NotAfter}} {
		if one.value == nil {
			continue
		}
		if _, err := time.Parse(time.RFC3339, *one.value); err != nil {
			r.fail(path+"."+one.member, "must be a time such as 2026-11-23T08:15:30Z, %s was given", quote(*one.value))
			readable = false
		}
	}
	begin, end := s.Window()
	if readable && !end.IsZero() && !begin.Before(end) && r.known(path+".notBefore") {
		r.fail(path+".notAfter", "must be after notBefore, %s, %s was given", *s.NotBefore, quote(*s.NotAfter))
	}
}

// place is where the requests of a target are seen.
type place int

const (
	anywhere   place = iota
	comingIn         // at the virtual node that is asked
	goingOut         // at the virtual nodes and gateways that ask
	gatewaysIn       // at the virtual gateway that is asked
)

func (t *PolicyTarget) place() place {
	switch {
	case t.Mesh != nil, t.VirtualNode != nil:
		return comingIn
	case t.VirtualService != nil, t.VirtualRouter != nil, t.Route != nil:
		return goingOut
	case t.VirtualGateway != nil, t.GatewayRoute != nil:
		return gatewaysIn
	}
	return anywhere
}

// policyClient checks one entry of from: whether it says something, and whether the proxies
// of the target can know that.
func (r *rules) policyClient(path string, c PolicyClient, s *PolicySpec) {
	if c.VirtualNode == nil && c.VirtualGateway == nil && c.Account == nil && c.Headers == nil && c.SpiffeId == nil && c.IpRanges == nil {
		r.fail(path, "must have at least one of account, headers, ipRanges, spiffeId, virtualGateway, virtualNode")
		return
	}
	r.atMostOne(path, choice{"spiffeId", c.SpiffeId != nil}, choice{"virtualGateway", c.VirtualGateway != nil}, choice{"virtualNode", c.VirtualNode != nil})
	for i, one := range c.IpRanges {
		r.ipRange(at(path+".ipRanges", i), one)
	}
	if c.VirtualNode != nil {
		r.name(path+".virtualNode", KindVirtualNode, *c.VirtualNode)
	}
	if c.VirtualGateway != nil {
		r.name(path+".virtualGateway", KindVirtualGateway, *c.VirtualGateway)
	}
	for i, h := range c.Headers {
		r.matchMethod(matchAt(path+".headers", i), h.Match)
	}
	r.provable(path, c, s)
}

// provable refuses what the proxies of the target cannot know of a client, or the kind cannot
// ask.
func (r *rules) provable(path string, c PolicyClient, s *PolicySpec) {
	for _, who := range []struct {
		choice
		why string
	}{
		{choice{"account", c.Account != nil}, s.whyNotOwn()},
		{choice{"ipRanges", c.IpRanges != nil}, s.whyNotOthers()},
		{choice{"spiffeId", c.SpiffeId != nil}, s.whyNotOthers()},
		{choice{"virtualGateway", c.VirtualGateway != nil}, s.whyNotOwn()},
		{choice{"virtualNode", c.VirtualNode != nil}, s.whyNotOwn()},
	} {
		if who.given && who.why != "" {
			r.fail(path+"."+who.member, "%s", who.why)
		}
	}
}

// whyNotOwn says why a policy cannot tell the mesh's own nodes, gateways and accounts apart,
// "" if it can.
func (s *PolicySpec) whyNotOwn() string {
	switch s.Target.place() {
	case comingIn:
		if s.Action.Access == nil {
			return "cannot be known of requests that come in, without a proof: allowed for a target virtualService, virtualRouter or route, where it is the callers' proxies that act"
		}
	case gatewaysIn:
		if s.Action.Access == nil {
			return "cannot be known of a virtual gateway's clients: allowed are headers"
		}
	case anywhere, goingOut:
	}
	return ""
}

// whyNotOthers says why a policy cannot ask for addresses and for names that others give, "" if
// it can.
func (s *PolicySpec) whyNotOthers() string {
	switch {
	case s.Action.Access == nil:
		return "is for access only"
	case s.Target.place() == goingOut:
		return "is not for requests that go out: the callers' proxies act, which are virtualNode, virtualGateway and account"
	}
	return ""
}

// policyMatch checks what requests are to be like.
func (r *rules) policyMatch(path string, m *PolicyMatch) {
	if m.Path == nil && m.Prefix == nil && m.Method == nil && m.Headers == nil {
		r.fail(path, "must have at least one of headers, method, path, prefix")
	}
	r.atMostOne(path, choice{"path", m.Path != nil}, choice{"prefix", m.Prefix != nil})
	r.pathMatch(path+".path", m.Path)
	for i, h := range m.Headers {
		r.matchMethod(matchAt(path+".headers", i), h.Match)
	}
}

func (r *rules) fault(path string, f *FaultAction) {
	if f.Delay == nil && f.Abort == nil && f.ResponseRate == nil {
		r.fail(path, "must have at least one of abort, delay, responseRate")
	}
	if d := f.Delay; d != nil {
		r.percentage(path+".delay", d.Percentage)
		if (d.Duration.Value == nil || *d.Duration.Value <= 0) && r.known(path+".delay.duration") {
			r.fail(path+".delay.duration", "must have a value above 0")
		}
	}
	if a := f.Abort; a != nil {
		r.percentage(path+".abort", a.Percentage)
		r.exactlyOne(path+".abort", choice{"grpcStatus", a.GrpcStatus != nil}, choice{"httpStatus", a.HttpStatus != nil})
	}
	if b := f.ResponseRate; b != nil {
		r.percentage(path+".responseRate", b.Percentage)
	}
}

// percentage checks that a percentage is one that Envoy can have: in ten-thousandths.
func (r *rules) percentage(path string, p float64) {
	if n := p * 1e4; math.Abs(n-math.Round(n)) > 1e-6 {
		r.fail(path+".percentage", "must have at most 4 digits behind the point, %v was given", p)
	}
}
