package envoy

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// notServed ends the message of every problem that a later version will not have.
const notServed = "is not served yet"

// problem notes a problem.
func (t *translator) problem(object mesh.Key, field, format string, args ...any) {
	t.problems = append(t.problems, Problem{Object: object, Field: field, Message: fmt.Sprintf(format, args...)})
}

// self is the object that the view is of.
func (t *translator) self() mesh.Key { return t.view.Key }

func nodeKey(name string) mesh.Key { return mesh.Key{Kind: mesh.KindVirtualNode, Name: name} }

func serviceKey(name string) mesh.Key { return mesh.Key{Kind: mesh.KindVirtualService, Name: name} }

func routerKey(name string) mesh.Key { return mesh.Key{Kind: mesh.KindVirtualRouter, Name: name} }

func routeKey(router, name string) mesh.Key {
	return mesh.Key{Kind: mesh.KindRoute, Parent: router, Name: name}
}

// index returns the path of a member of a list, for example "listeners[2]".
func index(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

// sortProblems orders problems and drops those found more than once: several routes
// may lead to one virtual node.
func sortProblems(p []Problem) []Problem {
	slices.SortFunc(p, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.Object.Kind, b.Object.Kind),
			cmp.Compare(a.Object.Parent, b.Object.Parent),
			cmp.Compare(a.Object.Name, b.Object.Name),
			cmp.Compare(a.Field, b.Field),
			cmp.Compare(a.Message, b.Message),
		)
	})
	return slices.Compact(p)
}
