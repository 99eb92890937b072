package envoy

import (
	"regexp"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Cause returns the object that a proxy's refusal of a resource is about. It is the
// resource's own object, but for routes: there it is the route or virtual service that the
// proxy's words point to, if they do, and of a virtual host its own service.
func Cause(v *mesh.View, object mesh.Key, m proto.Message, words string) mesh.Key {
	var (
		host  *routev3.VirtualHost
		route *routev3.Route
	)
	switch m := m.(type) {
	case *routev3.RouteConfiguration:
		host, route = pointedAt(m.GetVirtualHosts(), words)
	case *routev3.VirtualHost:
		if host, route = pointedAt([]*routev3.VirtualHost{m}, words); host == nil {
			host = m
		}
		if route == nil {
			route = at(m.GetRoutes(), routePlace, words)
		}
	default:
		return object
	}
	s := serviceOf(v, bareHost(RoutesOf(host.GetName()), host.GetName()))
	switch {
	case s == nil:
		return object
	case route.GetName() != "" && s.Router != nil:
		return routeKey(s.Router.Name, route.GetName())
	}
	return serviceKey(s.Name)
}

// Envoy says where in a message it found something wrong by places in lists, as
// "RouteConfigurationValidationError.VirtualHosts[1]: … VirtualHostValidationError.Routes[0]: …".
var (
	hostPlace  = regexp.MustCompile(`\bVirtualHosts\[(\d{1,6})\]`)
	routePlace = regexp.MustCompile(`\bRoutes\[(\d{1,6})\]`)
)

// pointedAt returns the virtual host and the route that Envoy's words point to, nil for
// none: by place, or by a domain, regular expression or cluster that they quote.
func pointedAt(hosts []*routev3.VirtualHost, words string) (*routev3.VirtualHost, *routev3.Route) {
	if host := at(hosts, hostPlace, words); host != nil {
		return host, at(host.GetRoutes(), routePlace, words)
	}
	var named *routev3.VirtualHost
	for _, h := range hosts {
		for _, r := range h.GetRoutes() {
			if quotesRoute(words, r) {
				return h, r
			}
		}
		for _, d := range h.GetDomains() {
			if named == nil && len(d) > 1 && quotes(words, d) {
				named = h
			}
		}
	}
	return named, nil
}

// at returns the member of a list whose place is written in a text, or nil.
func at[T any](list []*T, place *regexp.Regexp, words string) *T {
	m := place.FindStringSubmatch(words)
	if m == nil {
		return nil
	}
	if i, err := strconv.Atoi(m[1]); err == nil && i < len(list) {
		return list[i]
	}
	return nil
}

func quotesRoute(words string, r *routev3.Route) bool {
	if e := r.GetMatch().GetSafeRegex().GetRegex(); e != "" && strings.Contains(words, "'"+e+"'") {
		return true
	}
	if c := r.GetRoute().GetCluster(); c != "" && quotes(words, c) {
		return true
	}
	for _, w := range r.GetRoute().GetWeightedClusters().GetClusters() {
		if quotes(words, w.GetName()) {
			return true
		}
	}
	return false
}

// quotes reports whether a name stands in a text by itself, not as a part of another.
func quotes(words, name string) bool {
	for from := 0; ; {
		i := strings.Index(words[from:], name)
		if i < 0 {
			return false
		}
		start, end := from+i, from+i+len(name)
		if (start == 0 || !inName(words[start-1])) && (end == len(words) || !inName(words[end]) || ends(words[end:])) {
			return true
		}
		from = start + 1
	}
}

// inName reports whether a character may stand in a name.
func inName(c byte) bool {
	return c == '-' || c == '_' || c == '.' || c == ':' ||
		'0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= 0x80
}

// ends reports whether a text begins with punctuation that ends a word.
func ends(rest string) bool {
	return (rest[0] == '.' || rest[0] == ':') && (len(rest) == 1 || !inName(rest[1]))
}

// serviceOf returns the virtual service that a virtual host stands for, or nil. In a bound
// proxy a host may be called SERVICE:PORT.
func serviceOf(v *mesh.View, host string) *mesh.Service {
	bare := host
	if i := strings.LastIndexByte(host, ':'); i > 0 {
		bare = host[:i]
	}
	var found *mesh.Service
	for i := range v.Services {
		switch s := &v.Services[i]; s.Name {
		case host:
			return s
		case bare:
			found = s
		}
	}
	return found
}

// Mentions reports whether a proxy's words name a resource.
func Mentions(words, name string) bool { return name != "" && quotes(words, name) }
