package mesh

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Rules between one object and its neighbours: a route and its router and targets, a
// gateway route and its gateway and what provides its virtual service. Each holds
// whichever of the two is written last. What a spec says that has no listeners is
// open: nothing is refused on its account.

// listener is where a virtual node, router or gateway is reached.
type listener struct {
	port     int64
	protocol string
}

func listeners(spec any) []listener {
	var out []listener
	add := func(m *PortMapping) {
		if m != nil {
			out = append(out, listener{m.Port, m.Protocol})
		}
	}
	switch s := spec.(type) {
	case *VirtualNodeSpec:
		for _, l := range s.Listeners {
			add(l.PortMapping)
		}
	case *VirtualRouterSpec:
		for _, l := range s.Listeners {
			add(l.PortMapping)
		}
	case *VirtualGatewaySpec:
		for _, l := range s.Listeners {
			add((*PortMapping)(l.PortMapping))
		}
	}
	return out
}

// SameListeners reports whether two specs of virtual nodes, routers or gateways have
// the same ports with the same protocols.
func SameListeners(a, b any) bool {
	sorted := func(spec any) []listener {
		return slices.SortedFunc(slices.Values(listeners(spec)), func(a, b listener) int {
			return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.protocol, b.protocol))
		})
	}
	return slices.Equal(sorted(a), sorted(b))
}

// SeveralListeners reports whether the spec of a virtual node, router or gateway has
// more than one listener, so that who leads to it must name a port.
func SeveralListeners(spec any) bool { return len(listeners(spec)) > 1 }

// NamesPort reports whether all that a route or gateway route says of a target (a
// virtual node, a virtual service) names a port.
func NamesPort(spec any, target Key) bool {
	switch s := spec.(type) {
	case *RouteSpec:
		return !slices.ContainsFunc(s.Targets(), func(t WeightedTarget) bool {
			return t.VirtualNode == target.Name && t.Port == nil
		})
	case *GatewayRouteSpec:
		t := s.Target()
		return t == nil || t.Port != nil
	}
	return true
}

// GatewayRoute is one gateway route of a virtual gateway.
type GatewayRoute struct {
	Name string
	Spec *GatewayRouteSpec
}

// use is what a route or gateway route asks of the listeners above it.
type use struct {
	route    string // its name; "" where there is one only
	member   string // of the spec, for example "httpRoute"
	protocol string // of the listeners that it can have
	port     *int64 // that its match names
}

func (s *RouteSpec) use(name string) (u use, ok bool) {
	switch {
	case s.HttpRoute != nil:
		u = use{route: name, member: "httpRoute", protocol: "http"}
		if m := s.HttpRoute.Match; m != nil {
			u.port = m.Port
		}
	case s.Http2Route != nil:
		u = use{route: name, member: "http2Route", protocol: "http2"}
		if m := s.Http2Route.Match; m != nil {
			u.port = m.Port
		}
	case s.GrpcRoute != nil:
		u = use{route: name, member: "grpcRoute", protocol: "grpc"}
		if m := s.GrpcRoute.Match; m != nil {
			u.port = m.Port
		}
	case s.TcpRoute != nil:
		u = use{route: name, member: "tcpRoute", protocol: "tcp"}
		if m := s.TcpRoute.Match; m != nil {
			u.port = m.Port
		}
	}
	return u, u.member != ""
}

func (s *GatewayRouteSpec) use(name string) (u use, ok bool) {
	switch {
	case s.HttpRoute != nil:
		u = use{route: name, member: "httpRoute", protocol: "http"}
		if m := s.HttpRoute.Match; m != nil {
			u.port = m.Port
		}
	case s.Http2Route != nil:
		u = use{route: name, member: "http2Route", protocol: "http2"}
		if m := s.Http2Route.Match; m != nil {
			u.port = m.Port
		}
	case s.GrpcRoute != nil:
		u = use{route: name, member: "grpcRoute", protocol: "grpc"}
		if m := s.GrpcRoute.Match; m != nil {
			u.port = m.Port
		}
	}
	return u, u.member != ""
}

// CheckRoute checks a route's spec, found at path, against its router and its targets
// (by name; those that are not in nodes are passed over): the route's kind is that of
// the listener that it matches, and it names a port wherever there are several.
func CheckRoute(path string, s *RouteSpec, router *VirtualRouterSpec, nodes map[string]*VirtualNodeSpec) Violations {
	u, ok := s.use("")
	if !ok {
		return nil
	}
	path += "." + u.member
	bad := u.check(path, "Virtual Router", "Route must define a port match criteria if the Virtual Router has multiple listeners", listeners(router))
	for i, t := range s.Targets() {
		node := nodes[t.VirtualNode]
		if node == nil {
			continue
		}
		what := "virtual node " + quote(t.VirtualNode)
		at := at(path+".action.weightedTargets", i)
		l, wrong := pick(at+".port", what, listeners(node), t.Port)
		if wrong != nil {
			bad = append(bad, *wrong)
		} else if l != nil && l.protocol != u.protocol {
			bad = append(bad, breach(at, "must lead to a listener with protocol %s, which %s is for; that of %s on port %d has protocol %s",
				u.protocol, u.member, what, l.port, l.protocol))
		}
	}
	return bad
}

// CheckGatewayRoute checks a gateway route's spec, found at path, against its gateway
// and what provides its virtual service: a *VirtualNodeSpec, a *VirtualRouterSpec or
// nil, and its key.
func CheckGatewayRoute(path string, s *GatewayRouteSpec, gateway *VirtualGatewaySpec, provider any, key Key) Violations {
	u, ok := s.use("")
	if !ok {
		return nil
	}
	path += "." + u.member
	bad := u.check(path, "Virtual Gateway", "Gateway Route must define a port match criteria if the Virtual Gateway has multiple listeners", listeners(gateway))
	if t := s.Target(); t != nil {
		what := "the virtual service's provider " + key.String()
		if _, wrong := pick(path+".action.target.port", what, listeners(provider), t.Port); wrong != nil {
			bad = append(bad, *wrong)
		}
	}
	return bad
}

// check finds the listener that a route means, and compares its protocol.
func (u use) check(path, above, severalText string, all []listener) Violations {
	switch {
	case len(all) == 0:
		return nil
	case u.port == nil && len(all) > 1:
		return Violations{breach(path+".match.port", "is required: %s; allowed are %s", severalText, ports(all))}
	}
	l := find(all, u.port)
	if l == nil {
		return Violations{breach(path+".match.port", "must be the port of a listener of the %s, allowed are %s, %d was given", above, ports(all), *u.port)}
	}
	if l.protocol != u.protocol {
		return Violations{breach(path, "does not fit the %s, whose listener on port %d has protocol %s: allowed is %sRoute",
			above, l.port, l.protocol, l.protocol)}
	}
	return nil
}

// pick returns the listener that a target means: nil where there is none. path is
// where the target names its port.
func pick(path, what string, all []listener, port *int64) (*listener, *Violation) {
	if len(all) == 0 {
		return nil, nil
	}
	if port == nil && len(all) > 1 {
		v := breach(path, "is required, as %s has several listeners: allowed are %s", what, ports(all))
		return nil, &v
	}
	l := find(all, port)
	if l == nil {
		v := breach(path, "must be the port of a listener of %s, allowed are %s, %d was given", what, ports(all), *port)
		return nil, &v
	}
	return l, nil
}

// find returns the listener on a port, or the only one.
func find(all []listener, port *int64) *listener {
	for i, l := range all {
		if port == nil || l.port == *port {
			return &all[i]
		}
	}
	return nil
}

func ports(all []listener) string {
	out := make([]string, len(all))
	for i, l := range all {
		out[i] = strconv.FormatInt(l.port, 10)
	}
	return strings.Join(out, ", ")
}

// CheckRouterListeners checks a virtual router's new listeners against its routes.
func CheckRouterListeners(path string, s *VirtualRouterSpec, routes []Route) Violations {
	var uses []use
	for _, r := range routes {
		if u, ok := r.Spec.use(r.Name); ok {
			uses = append(uses, u)
		}
	}
	return checkUses(path, "Route", "Virtual Router", listeners(s), uses)
}

// CheckGatewayListeners checks a virtual gateway's new listeners against its gateway
// routes.
func CheckGatewayListeners(path string, s *VirtualGatewaySpec, routes []GatewayRoute) Violations {
	var uses []use
	for _, r := range routes {
		if u, ok := r.Spec.use(r.Name); ok {
			uses = append(uses, u)
		}
	}
	return checkUses(path, "Gateway Route", "Virtual Gateway", listeners(s), uses)
}

// checkUses reports what routes lack in new listeners.
func checkUses(path, route, above string, all []listener, uses []use) Violations {
	var missing []string
	var lost []listener // in the order in which they were found; port 0 is any
	users := map[listener][]string{}
	for _, u := range uses {
		if u.port == nil && len(all) > 1 {
			missing = append(missing, u.route)
			continue
		}
		if l := find(all, u.port); l != nil && l.protocol == u.protocol {
			continue
		}
		needs := listener{protocol: u.protocol}
		if u.port != nil {
			needs.port = *u.port
		}
		if users[needs] == nil {
			lost = append(lost, needs)
		}
		users[needs] = append(users[needs], u.route)
	}
	path += ".listeners"
	var bad Violations
	if len(missing) > 0 {
		bad = append(bad, breach(path, "must not be several yet: All %ss for this %s must define a port match before adding multiple listeners to this %s. %s",
			route, above, above, missingPort(route, missing)))
	}
	for _, l := range lost {
		on := ""
		if l.port != 0 {
			on = fmt.Sprintf(" on port %d", l.port)
		}
		bad = append(bad, breach(path, "must have a listener with protocol %s%s, which %d %s(s) of this %s use. %s",
			l.protocol, on, len(users[l]), route, above, listed(route, users[l])))
	}
	return bad
}

// CheckUnported refuses several listeners of what others lead to without naming a
// port. spec is a virtual node's or router's; routes and gatewayRoutes are those that
// lead to it in that way, themselves or through a virtual service that it provides.
func CheckUnported(path string, spec any, routes, gatewayRoutes []Key) Violations {
	above := "Virtual Node"
	if _, ok := spec.(*VirtualRouterSpec); ok {
		above = "Virtual Router"
	}
	path += ".listeners"
	var bad Violations
	if len(routes) > 0 {
		bad = append(bad, breach(path, "must not be several yet: All Routes that target this %s must define a port before adding multiple listeners to this %s. %s",
			above, above, missingPort("Route", names(routes))))
	}
	if len(gatewayRoutes) > 0 {
		bad = append(bad, breach(path, "must not be several yet: All Gateway Routes to a Virtual Service that this %s provides must define a target port before adding multiple listeners to this %s. %s",
			above, above, missingPort("Gateway Route", names(gatewayRoutes))))
	}
	return bad
}

// CheckProvider refuses that what has several listeners becomes the provider of a
// virtual service to which gateway routes lead without naming a port. s is the virtual
// service's spec.
func CheckProvider(path string, s *VirtualServiceSpec, gatewayRoutes []Key) Violations {
	if len(gatewayRoutes) == 0 {
		return nil
	}
	at := path + ".provider.virtualRouter.virtualRouterName"
	if s.Provider != nil && s.Provider.VirtualNode != nil {
		at = path + ".provider.virtualNode.virtualNodeName"
	}
	return Violations{breach(at, "must have one listener only: All Gateway Routes to this Virtual Service must define a target port before its provider has multiple listeners. %s",
		missingPort("Gateway Route", names(gatewayRoutes)))}
}

// breach returns the violation of a rule.
func breach(path, format string, args ...any) Violation {
	return Violation{Path: path, Message: fmt.Sprintf(format, args...), Rule: true}
}

func missingPort(route string, routes []string) string {
	return fmt.Sprintf("%d %s(s) are missing port. %s", len(routes), route, listed(route, routes))
}

// listed names some routes.
func listed(route string, routes []string) string {
	return fmt.Sprintf("Listing up to 5 %s names: [%s]", strings.ToLower(route), strings.Join(routes[:min(5, len(routes))], ", "))
}

// names returns the names of routes of different routers, each behind its router's.
func names(keys []Key) []string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = k.Parent + "/" + k.Name
	}
	return out
}
