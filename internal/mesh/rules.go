package mesh

import (
	"fmt"
	"iter"
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
// one spec. Required members are there, but a union may have no member or several
// if there are doubts. docs/compatibility.md says where a rule is our choice.
func checkRules(path string, spec any, d *doubts) Violations {
	r := rules{doubts: d}
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
	case *PolicySpec:
		r.policy(path, s)
	}
	return r.bad
}

// rules collects the breaches of the cross-field rules of one spec.
type rules struct {
	doubts *doubts
	bad    Violations
}

// fail reports a breach, unless the model has said what is wrong with the field or it
// is not as it was sent. A rule that also reads other fields asks known about them.
func (r *rules) fail(path, format string, args ...any) {
	if !r.doubts.about(path) {
		r.bad = append(r.bad, Violation{Path: path, Message: fmt.Sprintf(format, args...), Rule: true})
	}
}

// known reports whether a field and all that is in it are within the model's limits,
// so that a rule can conclude something from it about others.
func (r *rules) known(path string) bool {
	return !r.doubts.about(path) && !(r.doubts != nil && r.doubts.above[path])
}

// doubts are what breaches of the model leave open about a spec, by path.
type doubts struct {
	replaced map[string]bool // not as it was sent, nor is what is in it
	bad      map[string]bool // reported
	above    map[string]bool // has something in it that is reported
}

// about reports whether a field is reported, or is not as it was sent.
func (d *doubts) about(path string) bool {
	if d == nil {
		return false
	}
	if d.bad[path] {
		return true
	}
	for outer := range ancestors(path) {
		if d.replaced[outer] {
			return true
		}
	}
	return false
}

// ancestors yields the paths of what a field is in, the innermost first.
func ancestors(path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := len(path) - 1; i > 0; i-- {
			if (path[i] == '.' || path[i] == '[') && !yield(path[:i]) {
				return
			}
		}
	}
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
	if g := m.Range; g != nil && g.Start >= g.End && r.known(path+".range") {
		r.fail(path+".range", "must have a start below its end, start %d and end %d were given", g.Start, g.End)
	}
}

func at(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }
