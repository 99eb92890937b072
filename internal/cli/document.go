package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// document is one object as a file wants it.
type document struct {
	Ref
	*value
	spec   any               // typed, for example *mesh.RouteSpec
	stored json.RawMessage   // the spec as the server stores it
	tags   map[string]string // nil: the file says nothing of tags, and they stay as they are
}

// problem is one thing wrong with a document. As text: "shop.yaml:12: mesh/shop/route/x: …".
type problem struct {
	at, ref, text string
}

// String returns the problem in one line.
func (p problem) String() string {
	s := p.at + ": "
	if p.ref != "" {
		s += p.ref + ": "
	}
	return printable(s + p.text)
}

// InvalidError says that documents were refused, and that nothing was changed. The problems
// have had their lines on the terminal's error output.
type InvalidError struct {
	problems  []problem
	documents int
	offline   bool // there was nothing to send
}

// Error returns one line that counts the problems.
func (e *InvalidError) Error() string {
	text := plural(len(e.problems), "problem", "problems") + " in " + plural(e.documents, "document", "documents")
	if e.offline {
		return text
	}
	return text + "; nothing was changed"
}

// print writes the problems, one a line.
func (e *InvalidError) print(w io.Writer) {
	for _, p := range e.problems {
		fmt.Fprintln(w, p)
	}
}

// readDocuments reads and checks all documents: their form, the bounds and rules of their
// specs, and that no object comes twice. All that is wrong is reported at once.
func readDocuments(in io.Reader, paths []string) ([]*document, []problem, error) {
	values, err := readValues(in, paths)
	if err != nil {
		return nil, nil, err
	}
	var docs []*document
	var bad []problem
	for _, v := range values {
		d, found := newDocument(v)
		if d != nil {
			docs = append(docs, d)
		}
		bad = append(bad, found...)
	}
	return docs, append(bad, twice(docs)...), nil
}

// twice reports objects that have more than one document.
func twice(docs []*document) []problem {
	var bad []problem
	first := map[Ref]*document{}
	for _, d := range docs {
		if before := first[d.Ref]; before != nil {
			bad = append(bad, problem{d.at(""), d.String(), "is defined a second time; the first is at " + before.at("")})
			continue
		}
		first[d.Ref] = d
	}
	return bad
}

// members of a document, and what they are in the API.
var members = []string{"kind", "mesh", "meshOwner", "name", "virtualRouter", "virtualGateway", "spec", "tags", "metadata"}

// newDocument reads one document; nil if it cannot be told what it defines.
func newDocument(v *value) (*document, []problem) {
	r := reader{value: v}
	m, ok := v.content.(map[string]any)
	if !ok {
		r.fail("", "must be an object with kind, mesh, name and spec")
		return nil, r.bad
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if !slices.Contains(members, name) {
			r.fail(name, "is not a member of a document: allowed are %s", strings.Join(members[:len(members)-1], ", "))
		}
	}
	d := &document{value: v}
	d.Ref, ok = r.ref(m)
	if !ok {
		return nil, r.bad
	}
	r.name = d.String()
	for i := range r.bad {
		r.bad[i].ref = r.name
	}
	r.spec(d, m)
	r.tags(d, m)
	return d, r.bad
}

// reader collects what is wrong with a document.
type reader struct {
	*value
	name string
	bad  []problem
}

func (r *reader) fail(path, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if path != "" {
		text = path + " " + text
	}
	r.bad = append(r.bad, problem{r.at(path), r.name, text})
}

// text returns a member that must be a text; "" where it is none.
func (r *reader) text(m map[string]any, name string, required bool) string {
	switch v := m[name].(type) {
	case nil:
		if required {
			r.fail(name, "is required")
		}
	case string:
		return v
	case json.Number:
		return v.String() // a name such as 42, or an account
	default:
		r.fail(name, "must be text")
	}
	return ""
}

// ref reads which object a document is about.
func (r *reader) ref(m map[string]any) (Ref, bool) {
	before := len(r.bad)
	title := r.text(m, "kind", true)
	if title == "" {
		return Ref{}, false
	}
	kind := kindOfTitle(title)
	if kind == 0 {
		r.fail("kind", "must be one of %s, %q was given", strings.Join(titles(), ", "), title)
		return Ref{}, false
	}
	ref := Ref{Owner: r.text(m, "meshOwner", false), Key: mesh.Key{Kind: kind, Name: r.text(m, "name", true)}}
	ref.Mesh = r.text(m, "mesh", kind != mesh.KindMesh)
	if kind == mesh.KindMesh {
		if ref.Mesh != "" && ref.Mesh != ref.Name {
			r.fail("mesh", "must be the mesh's own name %q or absent, %q was given", ref.Name, ref.Mesh)
		}
		ref.Mesh = ref.Name
	}
	for _, p := range []mesh.Kind{mesh.KindVirtualRouter, mesh.KindVirtualGateway} {
		switch given := m[p.String()] != nil; {
		case kind.Parent() == p:
			ref.Parent = r.text(m, p.String(), true)
		case given:
			r.fail(p.String(), "is not a member of a %s", kind.Title())
		}
	}
	if len(r.bad) > before {
		// Enough to tell documents apart is needed to go on.
		if ref.Name == "" || ref.Mesh == "" || kind.Parent() != 0 && ref.Parent == "" {
			return ref, false
		}
	}
	r.names(ref)
	return ref, true
}

// names checks the forms of an object's names.
func (r *reader) names(ref Ref) {
	check := func(member string, k mesh.Kind, name string) {
		if err := mesh.CheckName(k, name); err != nil && name != "" {
			r.fail(member, "%s", strings.TrimPrefix(err.Error(), k.NameMember()+" "))
		}
	}
	check("name", ref.Kind, ref.Name)
	if ref.Kind != mesh.KindMesh {
		check("mesh", mesh.KindMesh, ref.Mesh)
	}
	if p := ref.Kind.Parent(); p != 0 {
		check(p.String(), p, ref.Parent)
	}
	if ref.Owner != "" && !mesh.ValidAccount(ref.Owner) {
		r.fail("meshOwner", "must be twelve digits, %q was given", ref.Owner)
	}
}

func kindOfTitle(title string) mesh.Kind {
	for _, k := range mesh.Kinds {
		if strings.EqualFold(k.Title(), title) {
			return k
		}
	}
	return 0
}

func titles() []string {
	var out []string
	for _, k := range mesh.Kinds {
		out = append(out, k.Title())
	}
	return out
}

// spec checks a document's spec: what the server will, and that each member is one.
func (r *reader) spec(d *document, m map[string]any) {
	raw := m["spec"]
	if raw == nil {
		if d.Kind != mesh.KindMesh {
			r.fail("spec", "is required; {} is the least")
			return
		}
		raw = map[string]any{}
	}
	if !d.Kind.Own() { // of those Decode tells
		r.unknown("spec", reflect.TypeOf(d.Kind.NewSpec()), raw)
	}
	text, err := json.Marshal(raw)
	if err != nil {
		r.fail("spec", "is not JSON: %v", err)
		return
	}
	var bad mesh.Violations
	d.spec, d.stored, bad = mesh.Decode(d.Kind, "spec", text)
	for _, v := range bad {
		r.fail(v.Path, "%s", v.Message)
	}
}

// unknown reports members that no spec has. App Mesh's API passes them over, and a file with a
// misspelt member would not do what it says.
func (r *reader) unknown(path string, t reflect.Type, v any) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch v := v.(type) {
	case []any:
		if t.Kind() == reflect.Slice {
			for i, e := range v {
				r.unknown(fmt.Sprintf("%s[%d]", path, i), t.Elem(), e)
			}
		}
	case map[string]any:
		if t.Kind() != reflect.Struct {
			return
		}
		fields := jsonFields(t)
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if f, ok := fields[name]; ok {
				r.unknown(path+"."+name, f, v[name])
				continue
			}
			r.fail(path+"."+name, "is not a member of it: allowed are %s", strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		}
	}
}

// jsonFields returns the types of a struct's members by their names in JSON.
func jsonFields(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "" && name != "-" {
			out[name] = t.Field(i).Type
		}
	}
	return out
}

// tags reads a document's tags.
func (r *reader) tags(d *document, m map[string]any) {
	raw, given := m["tags"]
	if !given || raw == nil {
		return
	}
	tags, ok := raw.(map[string]any)
	if !ok {
		r.fail("tags", "must be an object: key: value")
		return
	}
	d.tags = map[string]string{}
	refs := []mesh.TagRef{}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		switch v := tags[key].(type) {
		case string:
			d.tags[key] = v
		case json.Number:
			d.tags[key] = v.String()
		case bool:
			d.tags[key] = fmt.Sprint(v)
		case nil:
			d.tags[key] = ""
		default:
			r.fail("tags."+key, "must be text")
			continue
		}
		refs = append(refs, mesh.TagRef{Key: key, Value: d.tags[key]})
	}
	list, err := json.Marshal(refs)
	if err != nil {
		r.fail("tags", "are not JSON: %v", err)
		return
	}
	_, bad := mesh.DecodeTags("tags", list)
	for _, v := range bad {
		r.fail("tags", "%s", strings.TrimPrefix(named(v, refs), "tags "))
	}
}

// named words a violation in a list of tags with the tag's key in place of its number.
func named(v mesh.Violation, refs []mesh.TagRef) string {
	for i, t := range refs {
		if member, ok := strings.CutPrefix(v.Path, fmt.Sprintf("tags[%d].", i)); ok {
			return fmt.Sprintf("the %s of tag %q %s", member, t.Key, v.Message)
		}
	}
	return v.String()
}
