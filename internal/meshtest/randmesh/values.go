package randmesh

import (
	"math"
	"unicode/utf8"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// member returns what the service model says of one member of a structure.
func member(shape, name string) mesh.Member {
	s, _ := mesh.Model(shape)
	for _, m := range s.Members {
		if m.Name == name {
			return m
		}
	}
	panic("the model has no member " + name + " of " + shape)
}

// structure returns a structure with what must be there and half of what can be.
func (g *generator) structure(shape string) object {
	s, _ := mesh.Model(shape)
	out := object{}
	if s.Union {
		m := pick(g, s.Members...)
		out[m.Name] = g.member(shape, m)
		return out
	}
	for _, m := range s.Members {
		if m.Required || g.coin() {
			out[m.Name] = g.member(shape, m)
		}
	}
	g.fix(shape, out)
	return out
}

// member returns the value of a member: one of those that make sense there, or what its
// type allows.
func (g *generator) member(shape string, m mesh.Member) any {
	text := texts[shape+"."+m.Name]
	switch {
	case text != nil && m.Type == "list":
		return g.list(m, func() any { return g.fitting(*m.Elem, text) })
	case text != nil:
		return g.fitting(m, text)
	}
	return g.value(m)
}

// value returns a value within a member's bounds.
func (g *generator) value(m mesh.Member) any {
	switch m.Type {
	case "structure":
		return g.structure(m.Shape)
	case "list":
		return g.list(m, func() any { return g.value(*m.Elem) })
	case "boolean":
		return g.coin()
	case "string":
		if len(m.Enum) > 0 {
			return pick(g, m.Enum...)
		}
		return g.fitting(m, (*generator).text)
	case "double":
		return float64(g.number(m)) / pick(g, 1.0, 1.0, 8.0)
	}
	return g.number(m)
}

// list returns a short list, or now and then the longest that is allowed.
func (g *generator) list(m mesh.Member, elem func() any) []any {
	least, most := int64(0), int64(4)
	if m.Min != nil {
		least = *m.Min
	}
	if m.Max != nil {
		most = *m.Max
	}
	n := least + g.Int64N(min(most-least, 3)+1)
	if g.IntN(20) == 0 {
		n = most
	}
	out := []any{}
	for range n {
		out = append(out, elem())
	}
	return out
}

// number returns one of the bounds, or something between them.
func (g *generator) number(m mesh.Member) int64 {
	least, most := int64(0), int64(math.MaxInt64)
	if m.Type == "integer" {
		most = math.MaxInt32
	}
	if m.Min != nil {
		least = *m.Min
	}
	if m.Max != nil {
		most = *m.Max
	}
	return pick(g, least, most, least+g.Int64N(min(most-least, 99)+1), least+g.Int64N(most-least))
}

// fitting returns a text that the model allows.
func (g *generator) fitting(m mesh.Member, text func(*generator) string) string {
	for range tries {
		s := text(g)
		n := int64(utf8.RuneCountInString(s))
		if (m.Min == nil || n >= *m.Min) && (m.Max == nil || n <= *m.Max) && (m.Pattern == nil || m.Pattern.MatchString(s)) {
			return s
		}
	}
	return "a"
}
