package mesh

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// PolicyWarning is what somebody who makes a policy may not have meant. Nothing is refused for
// it.
type PolicyWarning struct {
	Policy  Key
	Field   string
	Message string
}

// AccessWarnings returns what the access policies of a mesh do that may not be meant: they ask
// who a client is where that cannot be proven, lock out a gateway whose routes lead there, or
// refuse the health checks of those who may call, or change nothing. Policies whose time is
// over at now are left out. The answer is in the order of the policies' names.
func AccessWarnings(s *Snapshot, now time.Time) []PolicyWarning {
	w := &accessWarner{mesh: s.ID, found: map[warningOf]*warnedAt{}}
	for _, i := range s.Children(Range{Kind: KindPolicy}) {
		c := i.Content()
		if c == nil {
			continue
		}
		p := Policy{Name: i.Key.Name, Spec: c.Spec.(*PolicySpec)}
		if _, end := p.Spec.Window(); p.Spec.Action.Access != nil && (end.IsZero() || now.Before(end)) {
			w.policies = append(w.policies, p)
		}
	}
	if len(w.policies) == 0 {
		return nil
	}
	slices.SortStableFunc(w.policies, bySpecificity)
	w.readGateways(s)
	for _, i := range s.Children(Range{Kind: KindVirtualNode}) {
		if c := i.Content(); c != nil {
			w.node(i.Key, c.Spec.(*VirtualNodeSpec))
		}
	}
	for _, i := range s.Children(Range{Kind: KindVirtualGateway}) {
		if c := i.Content(); c != nil {
			w.unproven(i.Key, provingListeners(c.Spec, 0))
		}
	}
	w.idle()
	return w.warnings()
}

// accessWarner looks through a mesh.
type accessWarner struct {
	mesh     MeshID
	policies []Policy // the most specific first
	// leads are the gateways whose routes lead to a virtual node, by its name.
	leads map[string][]gatewayOf
	found map[warningOf]*warnedAt
}

type gatewayOf struct{ name, owner string }

// warningOf tells one warning of a policy from others.
type warningOf struct{ policy, field, kind string }

// warnedAt is where a warning holds: the first place, and how many more there are.
type warnedAt struct {
	text string
	more int
}

func (w *accessWarner) warn(policy, field, kind, format string, args ...any) {
	of := warningOf{policy, field, kind}
	if at := w.found[of]; at != nil {
		at.more++
		return
	}
	w.found[of] = &warnedAt{text: fmt.Sprintf(format, args...)}
}

func (w *accessWarner) warnings() (out []PolicyWarning) {
	order := func(a, b warningOf) int {
		return strings.Compare(a.policy+"\x00"+a.field+"\x00"+a.kind, b.policy+"\x00"+b.field+"\x00"+b.kind)
	}
	for _, of := range slices.SortedFunc(maps.Keys(w.found), order) {
		at := w.found[of]
		if at.more > 0 {
			at.text += fmt.Sprintf(" (and so at %d more)", at.more)
		}
		out = append(out, PolicyWarning{Policy: Key{Kind: KindPolicy, Name: of.policy}, Field: of.field, Message: at.text})
	}
	return out
}

// readGateways finds out which gateways lead to which nodes.
func (w *accessWarner) readGateways(s *Snapshot) {
	w.leads = map[string][]gatewayOf{}
	for _, g := range s.Children(Range{Kind: KindVirtualGateway}) {
		c := g.Content()
		if c == nil {
			continue
		}
		nodes := map[string]bool{}
		for _, r := range s.Children(Range{Kind: KindGatewayRoute, Parent: g.Key.Name}) {
			if route := r.Content(); route != nil {
				if t := route.Spec.(*GatewayRouteSpec).Target(); t != nil {
					serviceNodes(s, t.VirtualService.VirtualServiceName, nodes)
				}
			}
		}
		for node := range nodes {
			w.leads[node] = append(w.leads[node], gatewayOf{g.Key.Name, c.ResourceOwner})
		}
	}
}

// serviceNodes adds the virtual nodes that requests to a service may go to.
func serviceNodes(s *Snapshot, service string, nodes map[string]bool) {
	item := s.Get(Key{Kind: KindVirtualService, Name: service})
	if item == nil || item.Content() == nil {
		return
	}
	switch by := item.Content().Spec.(*VirtualServiceSpec).Provider; {
	case by == nil:
	case by.VirtualNode != nil:
		nodes[by.VirtualNode.VirtualNodeName] = true
	case by.VirtualRouter != nil:
		for _, r := range s.Children(Range{Kind: KindRoute, Parent: by.VirtualRouter.VirtualRouterName}) {
			if c := r.Content(); c != nil {
				for _, t := range c.Spec.(*RouteSpec).Targets() {
					nodes[t.VirtualNode] = true
				}
			}
		}
	}
}

// node looks at what a virtual node's listeners are asked.
func (w *accessWarner) node(key Key, spec *VirtualNodeSpec) {
	w.unproven(key, provingListeners(spec, 0))
	for i := range spec.Listeners {
		l := &spec.Listeners[i]
		at := asked{key: key, port: l.PortMapping.Port, protocol: l.PortMapping.Protocol, trust: l.proof()}
		access := NewAccess(slices.DeleteFunc(slices.Clone(w.policies), func(p Policy) bool { return !p.Spec.Target.takes(at) }))
		for _, g := range w.leads[key.Name] {
			w.gateway(at, access, g)
		}
		if l.HealthCheck != nil {
			w.healthChecks(at, access, l.HealthCheck)
		}
	}
}

// asked is a listener that is asked.
type asked struct {
	key      Key
	port     int64
	protocol string
	trust    clientTrust
}

// takes reports whether a target means what a node's listener is asked.
func (t *PolicyTarget) takes(a asked) bool {
	if t.Mesh != nil {
		return true
	}
	return t.VirtualNode != nil && t.VirtualNode.VirtualNodeName == a.key.Name && (t.Port() == 0 || t.Port() == a.port)
}

// unproven warns of policies that ask who a client is where that cannot be proven.
func (w *accessWarner) unproven(key Key, all []proving) {
	for _, p := range w.policies {
		for _, l := range all {
			if !p.Spec.Target.meant(key, l.port) {
				continue
			}
			for i := range p.Spec.From {
				needs, member := p.Spec.From[i].asks()
				if l.trust >= needs {
					continue
				}
				becomes := "allows nobody"
				if p.Spec.Action.Access.Denies() {
					becomes = "denies everybody"
				}
				w.warn(p.Name, at("from", i)+"."+member, "unproven", "cannot be proven at %s port %d, whose clients show no such certificate (%s), and %s there", key, l.port, needs.how(), becomes)
			}
		}
	}
}

// meant reports whether a target means what an object is asked on a port.
func (t *PolicyTarget) meant(key Key, port int64) bool {
	switch {
	case t.GatewayRoute != nil:
		return key.Kind == KindVirtualGateway && t.GatewayRoute.VirtualGatewayName == key.Name
	case t.VirtualGateway != nil:
		return key.Kind == KindVirtualGateway && t.VirtualGateway.VirtualGatewayName == key.Name && (t.Port() == 0 || t.Port() == port)
	}
	return key.Kind == KindVirtualNode && t.takes(asked{key: key, port: port})
}

// gateway warns if a gateway whose routes lead to a node is refused there altogether.
func (w *accessWarner) gateway(at asked, access *Access, g gatewayOf) {
	key := Key{Kind: KindVirtualGateway, Name: g.name}
	is := func(c PolicyClient) bool { return c.mayBeGateway(w.mesh, g, at.trust) }
	if access.Closed && !slices.ContainsFunc(access.Allow, func(p Policy) bool { return p.Spec.From == nil || slices.ContainsFunc(p.Spec.From, is) }) {
		w.warn(access.ClosedBy, "action.access.default", "gateway", "locks out %s, whose routes lead to %s: no policy allows it to call port %d", key, at.key, at.port)
	}
	for _, p := range access.Deny {
		if p.Spec.Match == nil && (p.Spec.From == nil || slices.ContainsFunc(p.Spec.From, func(c PolicyClient) bool { return c.Headers == nil && c.IpRanges == nil && is(c) })) {
			w.warn(p.Name, "action.access.rule", "gateway", "locks out %s, whose routes lead to %s port %d", key, at.key, at.port)
		}
	}
}

// mayBeGateway reports whether a gateway's requests can be a client's, by what the gateway is.
func (c *PolicyClient) mayBeGateway(m MeshID, g gatewayOf, proven clientTrust) bool {
	needs, _ := c.asks()
	switch {
	case proven < needs, c.VirtualNode != nil, c.VirtualGateway != nil && *c.VirtualGateway != g.name, c.Account != nil && *c.Account != g.owner:
		return false
	case c.SpiffeId == nil, strings.HasSuffix(*c.SpiffeId, "*"):
		return true
	}
	return strings.HasSuffix(*c.SpiffeId, "/"+g.owner+"/"+m.Name+"/"+Key{Kind: KindVirtualGateway, Name: g.name}.String())
}

// healthChecks warns if those who may call a listener may not ask whether it is well.
func (w *accessWarner) healthChecks(at asked, access *Access, check *HealthCheckPolicy) {
	method, path := "GET", "/"
	switch {
	case check.Protocol == "tcp" || at.protocol == "tcp":
		return // that it takes a connection is enough
	case check.Protocol == "grpc":
		method, path = "POST", "/grpc.health.v1.Health/Check"
	case check.Path != nil:
		path = *check.Path
	}
	warn := func(p Policy) {
		w.warn(p.Name, "match", "health", "refuses the health checks of %s port %d (%s %s): its callers take it for down", at.key, at.port, method, path)
	}
	for _, p := range access.Deny {
		if p.Spec.Match != nil && p.Spec.Match.covers(method, path) {
			warn(p)
		}
	}
	if !access.Closed {
		return
	}
	for _, p := range access.Allow {
		if !slices.ContainsFunc(access.Allow, func(o Policy) bool { return o.Spec.lets(p.Spec.From, method, path) }) {
			warn(p)
		}
	}
}

// covers reports whether a request without headers is meant.
func (m *PolicyMatch) covers(method, path string) bool {
	switch {
	case m == nil:
		return true
	case m.Headers != nil, m.Method != nil && *m.Method != method, m.Prefix != nil && !strings.HasPrefix(path, *m.Prefix):
		return false
	case m.Path == nil:
		return true
	case m.Path.Exact != nil:
		return *m.Path.Exact == path
	}
	return m.Path.Regex != nil && wholeMatch(*m.Path.Regex, path)
}

// lets reports whether a policy allows some clients a request without headers.
func (s *PolicySpec) lets(clients []PolicyClient, method, path string) bool {
	if !s.Match.covers(method, path) {
		return false
	}
	if s.From == nil {
		return true
	}
	has := func(c PolicyClient) bool {
		return slices.ContainsFunc(s.From, func(by PolicyClient) bool { return by.includes(c) })
	}
	return len(clients) > 0 && !slices.ContainsFunc(clients, func(c PolicyClient) bool { return !has(c) })
}

// includes reports whether a client is one of those that another entry is for, by who it is.
func (c *PolicyClient) includes(o PolicyClient) bool {
	same := func(a, b *string) bool { return a == nil || b != nil && *a == *b }
	return c.Headers == nil && same(c.VirtualNode, o.VirtualNode) && same(c.VirtualGateway, o.VirtualGateway) &&
		same(c.Account, o.Account) && same(c.SpiffeId, o.SpiffeId) && (c.IpRanges == nil || slices.Equal(c.IpRanges, o.IpRanges))
}

// idle warns of policies that allow where everything is allowed.
func (w *accessWarner) idle() {
	for _, p := range w.policies {
		if p.Spec.Action.Access.Allows() && !slices.ContainsFunc(w.policies, func(o Policy) bool {
			return o.Spec.Action.Access.Closes() && p.Spec.Target.MayShare(w.mesh, o.Spec.Target)
		}) {
			w.warn(p.Name, "action.access.rule", "idle", "changes nothing as long as no default is closed where it holds")
		}
	}
}

// MayShare reports whether two targets can mean one request.
func (t *PolicyTarget) MayShare(m MeshID, o *PolicyTarget) bool {
	switch {
	case t.place() != o.place():
		return false
	case t.place() == goingOut, t.Mesh != nil, o.Mesh != nil:
		return true
	case t.place() == gatewaysIn:
		return aimedAtGateway(t) == aimedAtGateway(o)
	}
	return t.Key(m) == o.Key(m) && (t.Port() == 0 || o.Port() == 0 || t.Port() == o.Port())
}

func aimedAtGateway(t *PolicyTarget) string {
	if t.GatewayRoute != nil {
		return t.GatewayRoute.VirtualGatewayName
	}
	return t.VirtualGateway.VirtualGatewayName
}

// wholeMatch reports whether an expression matches all of a text.
func wholeMatch(expression, text string) bool {
	re, err := regexp.Compile("^(?:" + expression + ")$")
	return err == nil && re.MatchString(text)
}
