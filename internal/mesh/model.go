package mesh

import (
	"maps"
	"regexp"
	"slices"
)

// Structure is what the service model says of one structure of a spec.
type Structure struct {
	// Union says that exactly one member is set.
	Union   bool
	Members []Member // by name
}

// Member is what the service model says of one member of a structure, or of one element
// of a list.
type Member struct {
	// Name is how JSON spells it; "" for an element.
	Name string
	// Type is structure, list, string, integer (32 bits), long, double or boolean.
	Type     string
	Required bool
	// Shape names the structure of a member that is one. The generated type has the same
	// name.
	Shape string
	// Elem is what a list holds; nil for anything else.
	Elem *Member
	// Min and Max bound the value of a number, the characters of a string and the elements
	// of a list; nil for no bound.
	Min, Max *int64
	// Pattern is what a string must match; nil for anything.
	Pattern *regexp.Regexp
	// Enum are the values that a string can have; empty for any.
	Enum []string
}

// typeNames are the types of members as Member spells them.
var typeNames = [...]string{
	structureType: "structure", listType: "list", stringType: "string",
	integerType: "integer", longType: "long", booleanType: "boolean",
	doubleType: "double",
}

// Model returns what the service model says of a structure, for example "RouteSpec", and
// whether there is one of that name. It is for tools that must know what can be sent;
// Decode is what checks it.
func Model(shape string) (Structure, bool) {
	s, ok := shapes[shape]
	if !ok {
		return Structure{}, false
	}
	out := Structure{Union: s.union, Members: make([]Member, 0, len(s.fields))}
	for _, name := range slices.Sorted(maps.Keys(s.fields)) {
		out.Members = append(out.Members, member(name, s.fields[name]))
	}
	return out, true
}

// member returns a field in the form of the exported type.
func member(name string, f field) Member {
	m := Member{Name: name, Type: typeNames[f.typ], Required: f.required, Shape: f.shape, Pattern: f.pattern, Enum: f.enum}
	if f.hasMin {
		m.Min = &f.min
	}
	if f.hasMax {
		m.Max = &f.max
	}
	if f.elem != nil {
		elem := member("", *f.elem)
		m.Elem = &elem
	}
	return m
}

// SpecShape returns the name of the structure that specs of the kind are, for example
// "RouteSpec".
func (k Kind) SpecShape() string { return kinds[k].spec }
