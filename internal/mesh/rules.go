package mesh

import (
	"fmt"
	"regexp"
	"strings"
)

// fillDefaults writes back the two defaults that App Mesh writes back: a mesh's
// egress filter and a health check's port. Nothing else is ever added to a spec.
func fillDefaults(k Kind, spec map[string]any) {
	switch k {
	case KindMesh:
		if spec["egressFilter"] == nil {
			spec["egressFilter"] = map[string]any{"type": "DROP_ALL"}
		}
	case KindVirtualNode, KindVirtualGateway:
		listeners, _ := spec["listeners"].([]any)
		for _, l := range listeners {
			listener := l.(map[string]any)
			if hc, ok := listener["healthCheck"].(map[string]any); ok && hc["port"] == nil {
				hc["port"] = listener["portMapping"].(map[string]any)["port"]
			}
		}
	}
}

// checkRules reports what the model's limits cannot: rules between the fields of
// one spec. The spec has passed the limits, so that required members are there and
// unions have one member. docs/compatibility.md says where a rule is our choice.
func checkRules(path string, spec any) Violations {
	var r rules
	switch s := spec.(type) {
	case *VirtualNodeSpec:
		r.node(path, s)
	case *VirtualRouterSpec:
		r.router(path, s)
	case *VirtualServiceSpec:
		r.service(path, s)
	case *VirtualGatewaySpec:
		r.gateway(path, s)
	case *RouteSpec:
		r.route(path, s)
	case *GatewayRouteSpec:
		r.gatewayRoute(path, s)
	}
	return r.bad
}

// rules collects the breaches of the cross-field rules of one spec.
type rules struct {
	bad Violations
}

func (r *rules) fail(path, format string, args ...any) {
	r.bad = append(r.bad, Violation{path, fmt.Sprintf(format, args...)})
}

// choice is a member that excludes others, and whether it was given.
type choice struct {
	member string
	given  bool
}

// exactlyOne reports an object without exactly one of the choices.
func (r *rules) exactlyOne(path string, choices ...choice) {
	if names, n := count(choices); n != 1 {
		r.fail(path, "must have exactly one of %s, %d were given", names, n)
	}
}

// atMostOne reports an object with more than one of the choices.
func (r *rules) atMostOne(path string, choices ...choice) {
	if names, n := count(choices); n > 1 {
		r.fail(path, "must have at most one of %s, %d were given", names, n)
	}
}

func count(choices []choice) (names string, given int) {
	all := make([]string, 0, len(choices))
	for _, c := range choices {
		all = append(all, c.member)
		if c.given {
			given++
		}
	}
	return strings.Join(all, ", "), given
}

// name reports a reference to an object that cannot exist by its name's form.
func (r *rules) name(path string, kind Kind, name string) {
	if err := CheckName(kind, name); err != nil {
		r.fail(path, "%s", strings.TrimPrefix(err.Error(), kind.NameMember()+" "))
	}
}

// regex reports an expression that Envoy would refuse, and with it the whole route
// configuration. Go and Envoy read the same syntax, RE2.
func (r *rules) regex(path string, expr *string) {
	if expr == nil {
		return
	}
	if _, err := regexp.Compile(*expr); err != nil {
		r.fail(path, "must be a valid RE2 expression, %s was given: %v", quote(*expr), err)
	}
}

// prefix reports a path that does not begin with a slash.
func (r *rules) prefix(path string, value *string) {
	if value != nil && !strings.HasPrefix(*value, "/") {
		r.fail(path, `must begin with "/", %s was given`, quote(*value))
	}
}

// matchMethod checks how a header or metadata entry is compared. The three shapes
// of the model for it have the same fields.
func (r *rules) matchMethod(path string, m *HeaderMatchMethod) {
	if m == nil {
		return
	}
	r.regex(path+".regex", m.Regex)
	if g := m.Range; g != nil && g.Start >= g.End {
		r.fail(path+".range", "must have a start below its end, start %d and end %d were given", g.Start, g.End)
	}
}

func at(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }
