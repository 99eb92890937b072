package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// genOperations writes the route table: for each operation its method, path,
// verb and kind, and the parameters and body members with their bounds.
func genOperations(m *model) string {
	var b strings.Builder
	b.WriteString(header + "package restapi\n\nimport \"github.com/fairlead-mesh/fairlead/internal/mesh\"\n\n")
	b.WriteString("// operations is the table of the App Mesh API, in name order.\nvar operations = []Operation{\n")
	for _, name := range slices.Sorted(maps.Keys(m.Operations)) {
		op := m.Operations[name]
		verb, kind, list := classify(m, name, op)
		fmt.Fprintf(&b, "{Name: %q, Method: %q, Path: %q, Verb: %s, Kind: %s, ListKey: %q,\nMembers: []Member{\n",
			name, op.HTTP.Method, op.HTTP.URI, verb, kind, list)
		in := m.Shapes[op.Input.Shape]
		for _, f := range in.fields() {
			b.WriteString(m.memberLiteral(in, f, kind))
		}
		b.WriteString("}},\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// verbs are the prefixes of the operation names.
var verbs = []string{"Create", "Delete", "Describe", "List", "TagResource", "UntagResource", "Update"}

// classify tells from an operation's name what it does to which kind of object; list
// is the member of the answer that holds a list.
func classify(m *model, name string, op operation) (verb, kind, list string) {
	switch name {
	case "TagResource":
		return "VerbTag", "0", ""
	case "UntagResource":
		return "VerbUntag", "0", ""
	case "ListTagsForResource":
		return "VerbListTags", "0", "tags"
	}
	for _, v := range verbs {
		if noun, ok := strings.CutPrefix(name, v); ok {
			verb, kind = "Verb"+v, "mesh.Kind"+noun
		}
	}
	if verb == "VerbList" {
		kind = "mesh.Kind" + singular(strings.TrimPrefix(name, "List"))
		for f := range m.Shapes[op.Output.Shape].Members {
			if f != "nextToken" {
				list = f
			}
		}
	}
	return verb, kind, list
}

// singular returns the noun of a list operation's name for one object.
func singular(noun string) string {
	if noun == "Meshes" {
		return "Mesh"
	}
	if stem, ok := strings.CutSuffix(noun, "ies"); ok {
		return stem + "y"
	}
	return strings.TrimSuffix(noun, "s")
}

// memberLiteral returns the literal of one input member. The role says what the
// generic handler does with it; kind decides which name is the resource's own.
func (m *model) memberLiteral(in shape, f, kind string) string {
	mem := in.Members[f]
	s := m.Shapes[mem.Shape]
	where := map[string]string{"uri": "InPath", "querystring": "InQuery", "": "InBody"}[mem.Location]
	lit := fmt.Sprintf("\t{Name: %q, In: %s, Role: %s", f, where, role(f, kind))
	if in.required(f) {
		lit += ", Required: true"
	}
	if s.Min != nil {
		lit += fmt.Sprintf(", Min: %d", *s.Min)
	}
	if s.Max != nil {
		lit += fmt.Sprintf(", Max: %d", *s.Max)
	}
	return lit + "},\n"
}

// role returns what a member is for. A path names at most the mesh, one parent
// (virtual router or gateway) and the resource itself.
func role(f, kind string) string {
	own := strings.TrimPrefix(kind, "mesh.Kind")
	switch {
	case f == strings.ToLower(own[:1])+own[1:]+"Name":
		return "RoleName"
	case f == "meshName":
		return "RoleMesh"
	case strings.HasSuffix(f, "Name"):
		return "RoleParent"
	}
	return "Role" + exported(f)
}
