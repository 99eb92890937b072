package restapi

import (
	"net/url"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/access/audit"
	"github.com/fairlead-mesh/fairlead/internal/restapi/v1"
)

// maxLabels is how many labels a path can have: mesh, parent and own name.
const maxLabels = 3

// router finds the operation of a method and path. It is a tree over the segments
// of the paths in both tables. A path is taken as it was sent: nothing is cleaned,
// redirected or matched in part.
type router struct {
	root node
}

// node is one place in the tree. A segment goes on to the literal of its name, else
// to the label; no two paths of the table need both tried.
type node struct {
	literals map[string]*node
	label    *node
	routes   map[string]*route // by method
}

// route is an operation with the names of its path's labels, in order: one of the App
// Mesh API, one of our own, or one of a target, which has no labels. One of STS is one of
// our own in another form.
type route struct {
	op        *Operation
	own       *v1.Operation
	target    *Target
	sts       *stsOperation
	operation string // of the target, and of STS: its name
	read      bool   // of the target: it changes nothing
	labels    []string
}

// name returns the name of the operation.
func (r *route) name() string {
	switch {
	case r.target != nil, r.sts != nil:
		return r.operation
	case r.own != nil:
		return r.own.Name
	}
	return r.op.Name
}

// unsigned reports whether requests need no signature.
func (r *route) unsigned() bool { return r.own != nil && r.own.Unsigned }

// service returns the service that signatures must be scoped to; "" for App Mesh.
func (r *route) service() string {
	switch {
	case r.target != nil:
		return r.target.Service
	case r.sts != nil:
		return stsService
	}
	return ""
}

// readOnly reports whether the operation changes nothing.
func (r *route) readOnly() bool {
	switch {
	case r.target != nil:
		return r.read
	case r.own != nil:
		return r.own.ReadOnly()
	}
	return r.op.Verb == VerbDescribe || r.op.Verb == VerbList || r.op.Verb == VerbListTags
}

// source returns what the audit log calls the API that the operation belongs to.
func (r *route) source() string {
	switch {
	case r.target != nil:
		return r.target.Source
	case r.sts != nil:
		return audit.STS
	case r.own != nil, r.op.Kind.Own():
		return audit.Fairlead
	}
	return audit.AppMesh
}

// params are the values of a path's labels, unescaped.
type params [maxLabels]string

// newRouter builds the tree of two tables.
func newRouter(table []Operation, own []v1.Operation) *router {
	r := new(router)
	for i := range table {
		r.add(table[i].Method, table[i].Path, &route{op: &table[i]})
	}
	for i := range own {
		r.add(own[i].Method, own[i].Path, &route{own: &own[i]})
	}
	return r
}

func (r *router) add(method, path string, rt *route) {
	n := &r.root
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if label, ok := strings.CutPrefix(segment, "{"); ok {
			rt.labels = append(rt.labels, strings.TrimSuffix(label, "}"))
			if n.label == nil {
				n.label = new(node)
			}
			n = n.label
			continue
		}
		if n.literals == nil {
			n.literals = map[string]*node{}
		}
		next := n.literals[segment]
		if next == nil {
			next = new(node)
			n.literals[segment] = next
		}
		n = next
	}
	if n.routes == nil {
		n.routes = map[string]*route{}
	}
	n.routes[method] = rt
}

// match returns the route of a method and a path, still percent-encoded, and the
// values of the path's labels; nil if there is none.
func (r *router) match(method, escapedPath string) (*route, params) {
	var p params
	rest, ok := strings.CutPrefix(escapedPath, "/")
	if !ok {
		return nil, p
	}
	n, labels := &r.root, 0
	for more := true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if next := n.literals[segment]; next != nil {
			n = next
			continue
		}
		if n.label == nil || segment == "" {
			return nil, p
		}
		value, err := url.PathUnescape(segment)
		if err != nil {
			return nil, p
		}
		n, p[labels] = n.label, value
		labels++
	}
	return n.routes[method], p
}

// value returns the value of a label.
func (r *route) value(p *params, label string) string {
	for i, l := range r.labels {
		if l == label {
			return p[i]
		}
	}
	return ""
}
