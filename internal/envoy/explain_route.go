package envoy

import (
	"fmt"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

func (x *explainer) routeConfiguration(name string) {
	c := x.routes[name]
	if c == nil {
		x.say(2, mesh.Key{}, "which is not there: every request is answered with 404")
		return
	}
	if x.told[name] {
		x.say(2, mesh.Key{}, "its hosts and routes: as above")
		return
	}
	x.told[name] = true
	x.allAccess(2, c.TypedPerFilterConfig)
	x.limits(2, c.TypedPerFilterConfig)
	var hosts, rest []*routev3.VirtualHost
	for _, h := range slices.Concat(c.VirtualHosts, x.hosts[name]) {
		if slices.Contains(h.Domains, fallbackHost) {
			rest = append(rest, h)
		} else {
			hosts = append(hosts, h)
		}
	}
	for _, h := range hosts[:min(mostHosts, len(hosts))] {
		x.virtualHost(c, h, listed(h.Domains, ", "))
	}
	x.more(2, len(hosts)-mostHosts, "hosts")
	other := "any host"
	if len(hosts) > 0 {
		other = "any other host"
	}
	for _, h := range rest {
		x.virtualHost(c, h, other)
	}
}

// virtualHost explains a virtual host, which hosts stands for.
func (x *explainer) virtualHost(c *routev3.RouteConfiguration, h *routev3.VirtualHost, hosts string) {
	service := x.service(c, h)
	object := mesh.Key{}
	if service != nil {
		object = serviceKey(service.Name)
	}
	x.say(2, object, "%s", hosts)
	if len(h.Routes) == 0 {
		x.say(3, object, "no route: answered with 404")
	}
	for i, r := range h.Routes[:min(mostRoutes, len(h.Routes))] {
		number := ""
		if len(h.Routes) > 1 {
			number = fmt.Sprintf("%d. ", i+1)
		}
		x.route(service, number, r)
	}
	x.more(3, len(h.Routes)-mostRoutes, "routes")
}

// route explains a route: of a service, or where that is nil of a gateway or of nothing.
func (x *explainer) route(service *mesh.Service, number string, r *routev3.Route) {
	if service == nil && x.view.Gateway != nil && x.gatewayRoute(number, r) {
		return
	}
	object := mesh.Key{}
	if r.Name != "" && service != nil && service.Router != nil {
		object = routeKey(service.Router.Name, r.Name)
	}
	x.say(3, object, "%s%s: %s", number, matchText(r.Match), x.actionText(r))
	x.policies(4, r)
}

// gatewayRoute explains a gateway's route. Its name is the gateway route's, and behind it
// the name of the route of its service that it is composed with: what is matched and where
// it leads has two causes, and two lines. It reports whether it is a gateway route's.
func (x *explainer) gatewayRoute(number string, r *routev3.Route) bool {
	name, route, composed := strings.Cut(r.Name, "/")
	i := slices.IndexFunc(x.view.GatewayRoutes, func(g mesh.GatewayRoute) bool { return g.Name == name })
	if d := r.GetDirectResponse(); i < 0 || d != nil && d.Status < 400 {
		// None answers by itself but with an error: it is for the checks of what stands before.
		if d != nil && d.Status < 400 {
			x.say(3, x.view.Key, "%s%s: %s", number, matchText(r.Match), x.actionText(r))
			return true
		}
		return false
	}
	key := mesh.Key{Kind: mesh.KindGatewayRoute, Parent: x.view.Key.Name, Name: name}
	target := x.view.GatewayRoutes[i].Spec.Target()
	if target == nil {
		return false
	}
	service := target.VirtualService.VirtualServiceName
	object := serviceKey(service)
	if composed {
		for _, s := range x.view.Services {
			if s.Name == service && s.Router != nil {
				object = routeKey(s.Router.Name, route)
			}
		}
	}
	x.say(3, key, "%s%s: to virtual service %s", number, matchText(r.Match), short(service))
	x.policies(4, r)
	x.say(4, object, "%s", x.actionText(r))
	return true
}

// service returns the virtual service that a virtual host is of, nil if it is of none.
func (x *explainer) service(c *routev3.RouteConfiguration, h *routev3.VirtualHost) *mesh.Service {
	if strings.HasPrefix(c.Name, "rds_ingress_") {
		return nil
	}
	var best *mesh.Service
	host := bareHost(c.Name, h.Name)
	for i := range x.view.Services {
		s := &x.view.Services[i]
		if host == s.Name {
			return s // a service may be called as another one with a port
		}
		port, ok := strings.CutPrefix(host, s.Name+":")
		if !ok {
			port, ok = strings.CutPrefix(c.Name, "rds_internal_"+s.Name+"_")
		}
		if ok && port != "" && strings.Trim(port, "0123456789") == "" {
			best = s
		}
	}
	return best
}

// matchText says which requests a route takes.
func matchText(m *routev3.RouteMatch) string {
	var parts []string
	if m.GetGrpc() != nil {
		parts = append(parts, "gRPC calls")
	}
	switch p := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		if p.Prefix != "/" {
			parts = append(parts, "paths that begin with "+short(p.Prefix))
		}
	case *routev3.RouteMatch_Path:
		parts = append(parts, "path "+short(p.Path))
	case *routev3.RouteMatch_PathSeparatedPrefix:
		parts = append(parts, "path "+short(p.PathSeparatedPrefix)+" and what is below")
	case *routev3.RouteMatch_ConnectMatcher_:
		parts = append(parts, "CONNECT")
	case *routev3.RouteMatch_SafeRegex:
		parts = append(parts, "paths like "+short(p.SafeRegex.GetRegex()))
	}
	for _, h := range m.GetHeaders() {
		parts = append(parts, headerText(h))
	}
	for _, q := range m.GetQueryParameters() {
		text := "query parameter " + short(q.Name)
		if s := q.GetStringMatch(); s != nil {
			text += " " + stringText(s)
		}
		parts = append(parts, text)
	}
	if f := m.GetRuntimeFraction(); f != nil {
		parts = append(parts, "the first "+percentText(f.DefaultValue)+" of them")
	}
	if len(parts) == 0 {
		return "every request"
	}
	return strings.Join(parts, ", ")
}

func headerText(h *routev3.HeaderMatcher) string {
	name := "header " + short(h.Name)
	switch h.Name {
	case ":method":
		name = "method"
	case ":scheme":
		name = "scheme"
	case ":path":
		name = "path"
	case ":authority":
		name = "host"
	}
	if h.InvertMatch {
		name = "not " + name
	}
	if s := h.GetStringMatch(); s != nil {
		return name + " " + stringText(s)
	}
	if r := h.GetRangeMatch(); r != nil {
		return fmt.Sprintf("%s from %d to below %d", name, r.Start, r.End)
	}
	return name
}

func stringText(s *matcherv3.StringMatcher) string {
	switch p := s.MatchPattern.(type) {
	case *matcherv3.StringMatcher_Exact:
		return short(p.Exact)
	case *matcherv3.StringMatcher_Prefix:
		return short(p.Prefix) + "…"
	case *matcherv3.StringMatcher_Suffix:
		return "…" + short(p.Suffix)
	case *matcherv3.StringMatcher_SafeRegex:
		return "like " + short(p.SafeRegex.GetRegex())
	}
	return "set"
}

// actionText says what becomes of the requests that a route takes.
func (x *explainer) actionText(r *routev3.Route) string {
	if d := r.GetDirectResponse(); d != nil {
		return fmt.Sprintf("answered with %d", d.Status)
	}
	a := r.GetRoute()
	if a == nil {
		return "nothing is done"
	}
	parts := []string{"to " + clustersText(a)}
	if inside := x.inside[a.GetCluster()]; inside != "" {
		parts[0] = "once more through this proxy, to listener " + short(inside)
	}
	if rewrite := rewriteText(a); rewrite != "" {
		parts = append(parts, rewrite)
	}
	parts = append(parts, "timeout "+limitText(a.Timeout), "idle "+limitText(a.IdleTimeout))
	if p := a.RetryPolicy; p != nil {
		parts = append(parts, retryText(p))
	}
	return strings.Join(parts, "; ")
}

func retryText(p *routev3.RetryPolicy) string {
	reasons := strings.Split(p.RetryOn, ",")
	var codes []string
	for _, c := range p.RetriableStatusCodes {
		codes = append(codes, fmt.Sprint(c))
	}
	for i, r := range reasons {
		if r == "retriable-status-codes" && len(codes) > 0 {
			reasons[i] = "status " + listed(codes, ", ")
		}
	}
	text := fmt.Sprintf("up to %d retries on %s", p.NumRetries.GetValue(), strings.Join(reasons, ", "))
	if p.PerTryTimeout != nil {
		text += " of " + limitText(p.PerTryTimeout) + " each"
	}
	return text
}

func clustersText(a *routev3.RouteAction) string {
	w := a.GetWeightedClusters()
	if w == nil {
		return short(a.GetCluster())
	}
	var parts []weighted
	for _, c := range w.Clusters {
		parts = append(parts, weighted{c.Name, c.Weight.GetValue()})
	}
	return weightsText(parts)
}

// weighted is a cluster with its weight.
type weighted struct {
	name   string
	weight uint32
}

// weightsText says how much goes to each of some clusters.
func weightsText(all []weighted) string {
	var total uint64
	for _, c := range all {
		total += uint64(c.weight)
	}
	parts := make([]string, len(all))
	for i, c := range all {
		parts[i] = fmt.Sprintf("%s %.4g %%", short(c.name), 100*float64(c.weight)/float64(max(total, 1)))
	}
	return strings.Join(parts, ", ")
}

func rewriteText(a *routev3.RouteAction) string {
	var parts []string
	if a.PrefixRewrite != "" {
		parts = append(parts, "the matched path becomes "+short(a.PrefixRewrite))
	}
	if r := a.RegexRewrite; r != nil {
		parts = append(parts, "what is like "+short(r.Pattern.GetRegex())+" in the path becomes "+short(r.Substitution))
	}
	if h := a.GetHostRewriteLiteral(); h != "" {
		parts = append(parts, "the host becomes "+short(h))
	}
	return strings.Join(parts, ", ")
}

func limitText(d *durationpb.Duration) string {
	switch {
	case d == nil:
		return "as Envoy has it"
	case d.AsDuration() == 0:
		return "off"
	}
	return d.AsDuration().String()
}
