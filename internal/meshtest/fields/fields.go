// Package fields knows every field that a spec can have: it lists them by path, says
// which of them a spec uses, and takes one out of a spec. With it tests show that each
// field does what it says: what a field does must be gone once the field is.
//
// A path is the kind and the names of the members, lists without an index, for example
// VirtualNode.listeners.timeout.http.perRequest. What means one thing together is one
// field: a duration's value and unit, a range's start and end, a key and its value.
//
// The package imports mesh, and is imported by tests only.
package fields

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// wholes are the structures that are one field.
var wholes = []reflect.Type{
	reflect.TypeFor[mesh.Duration](), reflect.TypeFor[mesh.MatchRange](),
	reflect.TypeFor[mesh.JsonFormatRef](), reflect.TypeFor[mesh.AwsCloudMapInstanceAttribute](),
}

// All returns the paths of all fields, by kind in the order of mesh.Kinds and then in
// the order of the alphabet.
func All() []string {
	var all []string
	for _, k := range mesh.Kinds {
		paths := below(k.Title(), reflect.TypeOf(k.NewSpec()))
		slices.Sort(paths)
		all = append(all, paths...)
	}
	return all
}

// Known reports whether there is a field of that path.
func Known(path string) bool { return slices.Contains(All(), path) }

// below returns the paths of the fields in a type.
func below(path string, t reflect.Type) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || slices.Contains(wholes, t) {
		return []string{path}
	}
	var out []string
	for i := range t.NumField() {
		out = append(out, below(path+"."+jsonName(t.Field(i)), t.Field(i).Type)...)
	}
	return out
}

// jsonName is how JSON spells a member.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// Expand returns the paths that a pattern stands for: alternatives stand in braces, as in
// Route.{httpRoute,http2Route}.match.{prefix,method}. The error names a path that is not
// that of a field.
func Expand(pattern string) ([]string, error) {
	paths := alternatives(pattern)
	known := All()
	for _, p := range paths {
		if !slices.Contains(known, p) {
			return nil, fmt.Errorf("the model has no field %s", p)
		}
	}
	return paths, nil
}

func alternatives(pattern string) []string {
	before, rest, ok := strings.Cut(pattern, "{")
	if !ok {
		return []string{pattern}
	}
	inner, after, _ := strings.Cut(rest, "}")
	var out []string
	for one := range strings.SplitSeq(inner, ",") {
		for _, end := range alternatives(after) {
			out = append(out, before+one+end)
		}
	}
	return out
}

// Used returns the paths of the fields that a spec, for example a *mesh.RouteSpec, has
// set, in the order of the alphabet. A field that is required is set in whatever has it.
func Used(k mesh.Kind, spec any) []string {
	seen := map[string]bool{}
	note(seen, k.Title(), reflect.ValueOf(spec))
	paths := make([]string, 0, len(seen))
	for p := range seen {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

// note adds the paths of what is set in a value.
func note(seen map[string]bool, path string, v reflect.Value) {
	switch {
	case v.Kind() == reflect.Pointer && v.IsNil():
	case v.Kind() == reflect.Pointer:
		note(seen, path, v.Elem())
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			note(seen, path, v.Index(i))
		}
	case v.Kind() == reflect.Struct && !slices.Contains(wholes, v.Type()):
		for i := range v.NumField() {
			note(seen, path+"."+jsonName(v.Type().Field(i)), v.Field(i))
		}
	default:
		seen[path] = true
	}
}
