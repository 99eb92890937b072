package fields

import (
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Take takes a field out of a spec, wherever it stands, as if a server did not know it:
// an optional one is absent then, a required one has another value that the model
// allows. It reports whether there was anything to take. The spec is changed in place.
func Take(k mesh.Kind, spec any, path string) bool {
	members := strings.Split(path, ".")
	if members[0] != k.Title() {
		return false
	}
	return take(reflect.ValueOf(spec), members[1:])
}

// take follows the members to the field.
func take(v reflect.Value, members []string) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return !v.IsNil() && take(v.Elem(), members)
	case reflect.Slice:
		taken := false
		for i := range v.Len() {
			taken = take(v.Index(i), members) || taken
		}
		return taken
	}
	for i := range v.NumField() {
		if jsonName(v.Type().Field(i)) != members[0] {
			continue
		}
		if len(members) > 1 {
			return take(v.Field(i), members[1:])
		}
		if v.Field(i).IsZero() && optional(v.Type().Field(i)) {
			return false
		}
		blank(v.Type(), v.Type().Field(i), v.Field(i))
		return true
	}
	return false
}

func optional(f reflect.StructField) bool { return strings.HasSuffix(f.Tag.Get("json"), ",omitzero") }

// blank sets one member to what it is without the field.
func blank(owner reflect.Type, f reflect.StructField, v reflect.Value) {
	if optional(f) {
		v.SetZero()
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(otherText(limits(owner, f), v.String()))
	case reflect.Int64:
		v.SetInt(otherNumber(owner, limits(owner, f), v.Int()))
	case reflect.Pointer:
		v.Set(reflect.ValueOf(otherDuration(v.Interface().(*mesh.Duration))))
	default:
		v.SetZero() // a list
	}
}

// limits returns what the model says of a member.
func limits(owner reflect.Type, f reflect.StructField) mesh.Member {
	s, _ := mesh.Model(owner.Name())
	i := slices.IndexFunc(s.Members, func(m mesh.Member) bool { return m.Name == jsonName(f) })
	return s.Members[i]
}

// otherText returns another value of a text that must be there: the name of nothing, or
// another of the values that are allowed.
func otherText(m mesh.Member, now string) string {
	for _, e := range m.Enum {
		if e != now {
			return e
		}
	}
	switch m.Name {
	case "path": // of a log, which Envoy must be able to open
		return "/dev/null"
	case "name": // of a header
		return "x-taken-out"
	}
	return "taken-out"
}

// otherNumber returns another value of a number that must be there: one that is as good
// as none, if there is such a one.
func otherNumber(owner reflect.Type, m mesh.Member, now int64) int64 {
	var other []int64
	switch m.Name {
	case "weight": // all targets get the same
		other = []int64{1, 2}
	case "maxRetries", "maxEjectionPercent":
		other = []int64{0, 5}
	case "port":
		return now%65535 + 1
	default: // a bound, which is loosest at its greatest
		most := int64(math.MaxInt32)
		if m.Max != nil {
			most = *m.Max
		}
		other = []int64{most, most - 1}
	}
	if other[0] == now {
		return other[1]
	}
	return other[0]
}

// otherDuration returns another duration that is as good as for ever.
func otherDuration(now *mesh.Duration) *mesh.Duration {
	unit, value := "s", int64(3600)
	if now != nil && now.Value != nil && *now.Value == value {
		value++
	}
	return &mesh.Duration{Unit: &unit, Value: &value}
}
