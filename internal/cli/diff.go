package cli

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// Diff shows what Apply would change. It returns ErrDifferent if that is anything, and
// *InvalidError if Apply would refuse the documents.
func Diff(ctx context.Context, s *Session, term Terminal, cfg FilesConfig) error {
	docs, bad, err := readDocuments(term.In, cfg.Paths)
	if err != nil {
		return err
	}
	if err := report(term, bad, len(docs)); err != nil {
		return err
	}
	inv := newInventory(s, cfg.Parallel)
	changes, bad, err := inv.changes(ctx, docs, cfg.Prune)
	if err != nil {
		return err
	}
	if err := report(term, bad, len(docs)); err != nil {
		return err
	}
	different := false
	for _, c := range changes {
		if c.verb != unchanged {
			different = true
			term.printChange(c)
		}
	}
	if different {
		return ErrDifferent
	}
	return nil
}

// printChange prints one object's differences, a line for each field.
func (t Terminal) printChange(c *change) {
	from, to := "nothing", "nothing"
	old, now := map[string]any{}, map[string]any{}
	if c.have != nil {
		from = fmt.Sprintf("on the server, version %d", c.have.Version)
		old["spec"] = plain(c.have.Spec)
		if c.have.Tags != nil {
			old["tags"] = tagTree(c.have.Tags)
		}
	}
	if c.doc != nil {
		to = c.doc.at("")
		now["spec"] = plain(c.doc.stored)
		if c.doc.tags != nil {
			now["tags"] = tagTree(c.doc.tags)
		}
	}
	t.printf("%s\n%s\n", t.paint(bold, printable(fmt.Sprintf("--- %s (%s)", c.Ref, from))), t.paint(bold, printable(fmt.Sprintf("+++ %s (%s)", c.Ref, to))))
	for _, l := range compareFields("", old, now) {
		colour := green
		if l.sign == '-' {
			colour = red
		}
		t.printf("%s\n", t.paint(colour, printable(fmt.Sprintf("%c%s: %s", l.sign, l.path, l.value))))
	}
}

func tagTree(tags map[string]string) map[string]any {
	out := map[string]any{}
	for k, v := range tags {
		out[k] = v
	}
	return out
}

// fieldLine is a field that is there on one side only, or differs.
type fieldLine struct {
	sign        rune // '-' or '+'
	path, value string
}

// absent stands for a field that is not there.
type absent struct{}

// compareFields returns the fields in which two trees of JSON differ, in order.
func compareFields(path string, a, b any) []fieldLine {
	if reflect.DeepEqual(a, b) {
		return nil
	}
	ma, isMapA := a.(map[string]any)
	mb, isMapB := b.(map[string]any)
	la, isListA := a.([]any)
	lb, isListB := b.([]any)
	switch {
	case isMapA && isMapB:
		return compareMaps(path, ma, mb)
	case isListA && isListB:
		return compareLists(path, la, lb)
	}
	return append(leaves('-', path, a), leaves('+', path, b)...)
}

func compareMaps(path string, a, b map[string]any) []fieldLine {
	names := map[string]bool{}
	for name := range a {
		names[name] = true
	}
	for name := range b {
		names[name] = true
	}
	var out []fieldLine
	for _, name := range slices.Sorted(maps.Keys(names)) {
		out = append(out, compareFields(member(path, name), orAbsent(a, name), orAbsent(b, name))...)
	}
	return out
}

func orAbsent(m map[string]any, name string) any {
	if v, ok := m[name]; ok {
		return v
	}
	return absent{}
}

func member(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// compareLists passes over the members that are equal at both ends, so that one more or less
// in the middle is one difference.
func compareLists(path string, a, b []any) []fieldLine {
	head := 0
	for head < len(a) && head < len(b) && reflect.DeepEqual(a[head], b[head]) {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && reflect.DeepEqual(a[len(a)-1-tail], b[len(b)-1-tail]) {
		tail++
	}
	var out []fieldLine
	for i := head; i < max(len(a), len(b))-tail; i++ {
		x, y := any(absent{}), any(absent{})
		if i < len(a)-tail {
			x = a[i]
		}
		if i < len(b)-tail {
			y = b[i]
		}
		out = append(out, compareFields(fmt.Sprintf("%s[%d]", path, i), x, y)...)
	}
	return out
}

// leaves returns all that is in a tree, a line for each field.
func leaves(sign rune, path string, v any) []fieldLine {
	var out []fieldLine
	switch v := v.(type) {
	case absent:
		return nil
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			out = append(out, leaves(sign, member(path, name), v[name])...)
		}
	case []any:
		for i, e := range v {
			out = append(out, leaves(sign, fmt.Sprintf("%s[%d]", path, i), e)...)
		}
	default:
		return []fieldLine{{sign, path, jsonText(v)}}
	}
	if len(out) == 0 {
		return []fieldLine{{sign, path, jsonText(v)}} // {} or []
	}
	return out
}

func jsonText(v any) string {
	raw, err := encode(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}
