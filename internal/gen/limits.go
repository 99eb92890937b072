package main

import (
	"fmt"
	"strings"
)

// genLimits writes what the model says of each field as data; internal/mesh
// walks a document along it (Decode).
func genLimits(m *model) string {
	var b strings.Builder
	b.WriteString(header + "package mesh\n\nimport \"regexp\"\n\n")
	b.WriteString("// shapes holds the bounds of every structure a spec can hold, by name.\n")
	b.WriteString("var shapes = map[string]*structure{\n")
	m.structures(&b, m.reachable(append([]string{"TagRef"}, specs...)...))
	b.WriteString("}\n")
	return b.String()
}

// structures writes the bounds of the members of structures.
func (m *model) structures(b *strings.Builder, names []string) {
	for _, name := range names {
		s := m.Shapes[name]
		fmt.Fprintf(b, "%q: {", name)
		if s.Union {
			b.WriteString("union: true, ")
		}
		b.WriteString("fields: map[string]field{\n")
		for _, f := range s.fields() {
			fmt.Fprintf(b, "%q: %s,\n", f, m.limit(s.Members[f].Shape, s.required(f)))
		}
		b.WriteString("}},\n")
	}
}

// limit returns the literal of a field's bounds.
func (m *model) limit(name string, required bool) string {
	s := m.Shapes[name]
	typ := s.Type
	if s.Document {
		typ = "document"
	}
	parts := []string{"typ: " + typ + "Type"}
	if required {
		parts = append(parts, "required: true")
	}
	switch typ {
	case "structure":
		parts = append(parts, fmt.Sprintf("shape: %q", name))
	case "map":
		parts = append(parts,
			"key: &field{"+strings.TrimPrefix(m.limit(s.Key.Shape, false), "{"),
			"elem: &field{"+strings.TrimPrefix(m.limit(s.Value.Shape, false), "{"))
	case "list":
		parts = append(parts, "elem: &field{"+strings.TrimPrefix(m.limit(s.Member.Shape, false), "{"))
	}
	if s.Min != nil {
		parts = append(parts, fmt.Sprintf("min: %d, hasMin: true", *s.Min))
	}
	if s.Max != nil {
		parts = append(parts, fmt.Sprintf("max: %d, hasMax: true", *s.Max))
	}
	if s.Pattern != "" {
		parts = append(parts, fmt.Sprintf("pattern: regexp.MustCompile(%q)", s.Pattern))
	}
	if len(s.Enum) > 0 {
		parts = append(parts, fmt.Sprintf("enum: %#v", s.Enum))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
