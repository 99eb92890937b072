package mesh

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// fieldType is a type of the service model.
type fieldType uint8

const (
	structureType fieldType = iota
	listType
	mapType
	stringType
	integerType
	longType
	booleanType
	doubleType
)

// structure holds the bounds of one shape of the model.
type structure struct {
	union  bool // exactly one member
	fields map[string]field
}

// field holds the bounds of one member: of its length (strings, lists, maps) or value.
type field struct {
	typ            fieldType
	required       bool
	shape          string // of a structure
	key, elem      *field // of a map, or a list
	min, max       int64
	hasMin, hasMax bool
	pattern        *regexp.Regexp
	enum           []string
}

// Violation is one breach of a limit. Path names the field as the request spells
// it, for example "spec.listeners[0].portMapping.port". Rule says that the service
// model does not forbid it, but a rule beyond the model does.
type Violation struct {
	Path, Message string
	Rule          bool
}

// String returns the violation in one line.
func (v Violation) String() string { return v.Path + " " + v.Message }

// Violations are all breaches in one document; as an error they are one line.
type Violations []Violation

// Error joins the violations, those of the service model first.
func (v Violations) Error() string {
	const most = 20
	parts := make([]string, 0, min(len(v), most+1))
	for i, one := range slices.Concat(v.ofRules(false), v.ofRules(true)) {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(v)-most))
			break
		}
		parts = append(parts, one.String())
	}
	return strings.Join(parts, "; ")
}

// ofRules returns the violations of rules, or those of the model.
func (v Violations) ofRules(rules bool) Violations {
	return slices.DeleteFunc(slices.Clone(v), func(one Violation) bool { return one.Rule != rules })
}

// Decode reads a spec of kind k from JSON that was found at path. It returns the
// typed spec (for example *RouteSpec) and the document to store: as sent, without
// members the model does not know and without explicit nulls. In specs of Fairlead's own
// kinds a member that the model does not know is a breach. Every breach is
// reported, first those of the model's limits, then those of the cross-field rules;
// the specs are nil if there is any. A rule is not held against fields of which the
// model's limits leave open what was meant.
func Decode(k Kind, path string, raw []byte) (spec any, stored json.RawMessage, bad Violations) {
	read := walk
	if k.Own() {
		read = walkStrictly
	}
	clean, w, err := read(shapes, path, field{typ: structureType, shape: kinds[k].spec}, raw)
	if err != nil {
		return nil, nil, Violations{{Path: path, Message: err.Error()}}
	}
	if len(w.bad) == 0 {
		fillDefaults(k, clean.(map[string]any))
	}
	stored = marshal(clean)
	spec = k.NewSpec()
	if err := json.Unmarshal(stored, spec); err != nil {
		return nil, nil, append(w.bad, Violation{Path: path, Message: "does not fit its type: " + err.Error()})
	}
	if bad := append(w.bad, checkRules(path, spec, w.doubts())...); len(bad) > 0 {
		return nil, nil, bad
	}
	return spec, stored, nil
}

// DecodeTags reads a list of tags and checks it against the model's limits.
func DecodeTags(path string, raw []byte) ([]TagRef, Violations) {
	clean, w, err := walk(shapes, path, field{typ: listType, elem: &field{typ: structureType, shape: "TagRef"}}, raw)
	if err != nil {
		return nil, Violations{{Path: path, Message: err.Error()}}
	}
	if len(w.bad) > 0 {
		return nil, w.bad
	}
	var tags []TagRef
	if err := json.Unmarshal(marshal(clean), &tags); err != nil {
		return nil, Violations{{Path: path, Message: "does not fit its type: " + err.Error()}}
	}
	return tags, nil
}

// ParseSpec reads a stored spec into its type. Unknown fields are passed over: a
// newer replica may have written them.
func ParseSpec(k Kind, stored []byte) (any, error) {
	spec := k.NewSpec()
	if err := json.Unmarshal(stored, spec); err != nil {
		return nil, fmt.Errorf("reading a stored %s: %w", k, err)
	}
	return spec, nil
}

// parseJSON reads one JSON value, numbers as they are written.
func parseJSON(raw []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("is not valid JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("is not valid JSON: more than one value")
	}
	return v, nil
}

func marshal(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // v came from a JSON decoder
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// walk reads a document and checks it against a model's structures. What it returns fits the
// types even where the document does not: there it has zero values, which nothing may
// be concluded from. So the rules can look at all the rest.
func walk(model map[string]*structure, path string, f field, raw []byte) (clean any, w *walker, err error) {
	return walkAs(walker{shapes: model}, path, f, raw)
}

// walkStrictly is walk for documents in which nothing may be that the model does not know.
func walkStrictly(model map[string]*structure, path string, f field, raw []byte) (clean any, w *walker, err error) {
	return walkAs(walker{shapes: model, strict: true}, path, f, raw)
}

func walkAs(kind walker, path string, f field, raw []byte) (clean any, w *walker, err error) {
	for _, tell := range []bool{false, true} {
		doc, err := parseJSON(raw)
		if err != nil {
			return nil, nil, err
		}
		w = &walker{shapes: kind.shapes, strict: kind.strict, tell: tell}
		if clean = w.value(path, f, doc); len(w.bad) == 0 {
			break
		}
	}
	return clean, w, nil
}

// walker checks a document against the model, and takes out of it what the model does
// not know.
type walker struct {
	shapes map[string]*structure // of the model, by name
	strict bool                  // what the model does not know is a breach
	// tell says that breaches are wanted with their paths and in order. Most documents
	// have none, and need neither.
	tell     bool
	bad      Violations
	replaced []string // the paths of values that were replaced
}

// join returns the path of a member, if paths are wanted.
func (w *walker) join(path, member string) string {
	if !w.tell {
		return ""
	}
	return join(path, member)
}

func (w *walker) fail(path, format string, args ...any) {
	w.bad = append(w.bad, Violation{Path: path, Message: fmt.Sprintf(format, args...)})
}

// replace reports a value that the copy cannot have, and returns what it has instead.
func (w *walker) replace(path string, f field, format string, args ...any) any {
	w.fail(path, format, args...)
	w.replaced = append(w.replaced, path)
	return w.zero(f)
}

// doubts returns what the rules cannot know, nil if they know all.
func (w *walker) doubts() *doubts {
	if len(w.bad) == 0 {
		return nil
	}
	d := &doubts{replaced: map[string]bool{}, bad: map[string]bool{}, above: map[string]bool{}}
	for _, path := range w.replaced {
		d.replaced[path] = true
	}
	for _, v := range w.bad {
		d.bad[v.Path] = true
		for path := range ancestors(v.Path) {
			d.above[path] = true
		}
	}
	return d
}

// structure checks an object and leaves its known, non-null members in it.
func (w *walker) structure(path, name string, v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return w.replace(path, field{shape: name}, "must be an object, %s was given", describe(v))
	}
	s := w.shapes[name]
	if w.strict {
		w.strangers(path, s, m)
	}
	maps.DeleteFunc(m, func(f string, value any) bool {
		_, known := s.fields[f]
		return !known || value == nil
	})
	if w.tell {
		for _, f := range slices.Sorted(maps.Keys(s.fields)) {
			w.member(path, f, s.fields[f], m)
		}
	} else {
		for f, bounds := range s.fields {
			w.member(path, f, bounds, m)
		}
	}
	if !s.union || len(m) == 1 {
		return m
	}
	w.fail(path, "must have exactly one of %s, %d were given", strings.Join(slices.Sorted(maps.Keys(s.fields)), ", "), len(m))
	if len(m) == 0 {
		w.replaced = append(w.replaced, path)
	}
	return m
}

// strangers reports members that the model does not know.
func (w *walker) strangers(path string, s *structure, m map[string]any) {
	for _, f := range slices.Sorted(maps.Keys(m)) {
		if _, known := s.fields[f]; !known {
			allowed := "none"
			if len(s.fields) > 0 {
				allowed = strings.Join(slices.Sorted(maps.Keys(s.fields)), ", ")
			}
			w.fail(path, "must not have a member %s, allowed are %s", quote(f), allowed)
		}
	}
}

// member checks a member of an object, whether it is there or not.
func (w *walker) member(path, name string, bounds field, m map[string]any) {
	switch value := m[name]; {
	case value != nil:
		m[name] = w.value(w.join(path, name), bounds, value)
	case bounds.required:
		m[name] = w.replace(w.join(path, name), bounds, "is required")
	}
}

// zero returns the least value that fits a field's type. A union has no member then.
func (w *walker) zero(f field) any {
	switch f.typ {
	case structureType:
		out := map[string]any{}
		for name, member := range w.shapes[f.shape].fields {
			if member.required {
				out[name] = w.zero(member)
			}
		}
		return out
	case mapType:
		return map[string]any{}
	case listType:
		return []any{}
	case stringType:
		return ""
	case booleanType:
		return false
	default:
		return json.Number("0")
	}
}

func join(path, member string) string {
	if path == "" {
		return member
	}
	return path + "." + member
}

func (w *walker) value(path string, f field, v any) any {
	switch f.typ {
	case structureType:
		return w.structure(path, f.shape, v)
	case listType:
		return w.list(path, f, v)
	case mapType:
		return w.entries(path, f, v)
	case stringType:
		return w.str(path, f, v)
	case booleanType:
		if _, ok := v.(bool); !ok {
			return w.replace(path, f, "must be true or false, %s was given", describe(v))
		}
		return v
	case doubleType:
		return w.number(path, f, v)
	default:
		return w.integer(path, f, v)
	}
}

func (w *walker) list(path string, f field, v any) any {
	in, ok := v.([]any)
	if !ok {
		return w.replace(path, f, "must be a list, %s was given", describe(v))
	}
	if outside(int64(len(in)), f) {
		w.fail(path, "must have %s, %d were given", f.bounds("member", "members"), len(in))
	}
	for i, e := range in {
		var place string
		if w.tell {
			place = at(path, i)
		}
		if e == nil {
			in[i] = w.replace(place, *f.elem, "must not be null")
		} else {
			in[i] = w.value(place, *f.elem, e)
		}
	}
	return in
}

// entries checks a map, its names too. A null is no entry.
func (w *walker) entries(path string, f field, v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return w.replace(path, f, "must be an object, %s was given", describe(v))
	}
	maps.DeleteFunc(m, func(_ string, value any) bool { return value == nil })
	if outside(int64(len(m)), f) {
		w.fail(path, "must have %s, %d were given", f.bounds("entry", "entries"), len(m))
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		w.str(w.join(path, "the name "+quote(name)), *f.key, name)
		m[name] = w.value(w.join(path, name), *f.elem, m[name])
	}
	return m
}

func (w *walker) str(path string, f field, v any) any {
	s, ok := v.(string)
	switch {
	case !ok:
		return w.replace(path, f, "must be a string, %s was given", describe(v))
	case len(f.enum) > 0 && !slices.Contains(f.enum, s):
		w.fail(path, "must be one of %s, %s was given", strings.Join(f.enum, ", "), quote(s))
	case outside(int64(utf8.RuneCountInString(s)), f):
		w.fail(path, "must have %s, %s was given", f.bounds("character", "characters"), quote(s))
	case f.pattern != nil && !f.pattern.MatchString(s):
		w.fail(path, "must match %s, %s was given", f.pattern, quote(s))
	}
	return s
}

func (w *walker) integer(path string, f field, v any) any {
	n, ok := v.(json.Number)
	if !ok {
		return w.replace(path, f, "must be a whole number, %s was given", describe(v))
	}
	if f.typ == integerType && !f.hasMax {
		f.max, f.hasMax = math.MaxInt32, true
	}
	i, err := n.Int64()
	if err != nil || outside(i, f) {
		return w.replace(path, f, "must be a whole number %s, %.40s was given", f.interval(), n)
	}
	return n
}

// number checks a number with a fraction.
func (w *walker) number(path string, f field, v any) any {
	n, ok := v.(json.Number)
	if !ok {
		return w.replace(path, f, "must be a number, %s was given", describe(v))
	}
	x, err := n.Float64()
	if err != nil || f.hasMin && x < float64(f.min) || f.hasMax && x > float64(f.max) {
		return w.replace(path, f, "must be a number %s, %.40s was given", f.interval(), n)
	}
	return n
}

func outside(n int64, f field) bool { return f.hasMin && n < f.min || f.hasMax && n > f.max }

// bounds words the bounds of a length.
func (f field) bounds(one, many string) string {
	switch {
	case f.hasMax && f.min == f.max && f.min == 1:
		return "exactly 1 " + one
	case f.hasMax && f.min == f.max:
		return fmt.Sprintf("exactly %d %s", f.min, many)
	case f.hasMax:
		return fmt.Sprintf("%d to %d %s", f.min, f.max, many)
	}
	return fmt.Sprintf("at least %d %s", f.min, many)
}

// interval words the bounds of a number.
func (f field) interval() string {
	switch {
	case f.hasMin && f.hasMax:
		return fmt.Sprintf("from %d to %d", f.min, f.max)
	case f.hasMin:
		return fmt.Sprintf("of at least %d", f.min)
	case f.hasMax:
		return fmt.Sprintf("of at most %d", f.max)
	}
	return "of 64 bits"
}

// describe words a JSON value of the wrong type.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case json.Number:
		return "the number " + v.String()
	case string:
		return "the string " + quote(v)
	case []any:
		return "a list"
	}
	return "an object"
}
