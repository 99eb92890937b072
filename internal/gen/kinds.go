package main

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// borrow takes over, by their names, the shapes that our model uses and does not have, and
// all that these use, without their prose.
func (m *model) borrow(from *model) {
	var take func(name string)
	take = func(name string) {
		s, known := from.Shapes[name]
		if _, have := m.Shapes[name]; have || !known {
			return
		}
		s = s.bare()
		m.Shapes[name] = s
		for _, used := range s.uses() {
			take(used)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Shapes)) {
		for _, used := range m.Shapes[name].uses() {
			take(used)
		}
	}
}

// bare returns a shape without what is said of it in words.
func (s shape) bare() shape {
	s.Doc, s.Member.Doc, s.Value.Doc, s.Key.Doc = "", "", "", ""
	if s.Members == nil {
		return s
	}
	members := make(map[string]member, len(s.Members))
	for f, mem := range s.Members {
		mem.Doc = ""
		members[f] = mem
	}
	s.Members = members
	return s
}

// uses returns the names of the shapes that a shape is made of.
func (s shape) uses() []string {
	var out []string
	for _, one := range []member{s.Member, s.Value, s.Key} {
		if one.Shape != "" {
			out = append(out, one.Shape)
		}
	}
	for _, f := range s.fields() {
		out = append(out, s.Members[f].Shape)
	}
	return out
}

// with returns App Mesh's model with the kinds of object that ours adds: their operations,
// and the shapes of their specs, none of which may be another than App Mesh has under that
// name.
func (m *model) with(own *model) (*model, error) {
	out := &model{Operations: maps.Clone(m.Operations), Shapes: maps.Clone(m.Shapes)}
	inSpecs := map[string]bool{}
	var take func(name string) error
	take = func(name string) error {
		if inSpecs[name] {
			return nil
		}
		inSpecs[name] = true
		s := own.Shapes[name]
		if have, ok := m.Shapes[name]; ok && !reflect.DeepEqual(have.bare(), s.bare()) {
			return fmt.Errorf("shape %s is another one than App Mesh's", name)
		}
		out.Shapes[name] = s
		for _, used := range s.uses() {
			if err := take(used); err != nil {
				return err
			}
		}
		return nil
	}
	for _, name := range own.operationNames() {
		op := own.Operations[name]
		if op.Kind == "" {
			continue
		}
		if err := take(op.Kind + "Spec"); err != nil {
			return nil, err
		}
		out.Operations[name] = op
		for _, put := range []string{op.Input.Shape, op.Output.Shape} {
			out.Shapes[put] = own.Shapes[put]
		}
		for _, mem := range own.Shapes[op.Input.Shape].Members {
			if _, ok := out.Shapes[mem.Shape]; !ok {
				out.Shapes[mem.Shape] = own.Shapes[mem.Shape]
			}
		}
	}
	return out, nil
}
