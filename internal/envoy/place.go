package envoy

import (
	"fmt"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// place is a field of an object, for problems.
type place struct {
	object mesh.Key
	field  string
}

// in returns a member of the field.
func (p place) in(member string) place { return place{p.object, p.field + "." + member} }

// at returns an element of the field, which is a list.
func (p place) at(i int) place { return place{p.object, fmt.Sprintf("%s[%d]", p.field, i)} }

// problemAt notes a problem with a field.
func (t *translator) problemAt(at place, format string, args ...any) {
	t.problem(at.object, at.field, format, args...)
}
