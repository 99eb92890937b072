package v1

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Decode reads an operation's input from a request: its path's labels, its query as it
// was sent, and its body. It returns a pointer to the typed input, for example
// *CreateUserInput, and the same as one JSON object. All that is wrong is reported, each
// by the name of the member; the input is nil if there is anything. The object then
// holds what could be read.
func (o *Operation) Decode(label func(name string) string, rawQuery string, body []byte) (in any, parameters json.RawMessage, bad mesh.Violations) {
	d := decoder{op: o, fields: shapes[o.input].fields, given: map[string]json.RawMessage{}}
	for _, name := range o.path {
		d.given[name] = text(label(name))
	}
	d.readQuery(rawQuery)
	d.readBody(body)
	clean := d.members("", d.fields, d.given)
	parameters = marshal(clean)
	if len(d.bad) > 0 {
		return nil, parameters, d.bad
	}
	in = o.newInput()
	if err := json.Unmarshal(parameters, in); err != nil {
		return nil, parameters, mesh.Violations{{Path: "the request", Message: "does not fit its type: " + err.Error()}}
	}
	return in, parameters, nil
}

// decoder reads one request.
type decoder struct {
	op     *Operation
	fields map[string]field
	given  map[string]json.RawMessage
	noBody bool // the body cannot be read, and that has been said
	bad    mesh.Violations
}

func (d *decoder) fail(path, format string, args ...any) {
	d.bad = append(d.bad, mesh.Violation{Path: path, Message: fmt.Sprintf(format, args...)})
}

func (d *decoder) readQuery(raw string) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		d.fail("query string", "cannot be read, allowed are percent-encoded NAME=VALUE pairs with & between them")
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		values := query[name]
		switch {
		case !slices.Contains(d.op.query, name):
			d.fail(nameOf(name), "is not a parameter of %s", d.op.Name)
		case len(values) > 1:
			d.fail(name, "must be given once, %d were given", len(values))
		case d.fields[name].typ == integerType && wholeNumber(values[0]):
			d.given[name] = json.RawMessage(values[0])
		default:
			d.given[name] = text(values[0])
		}
	}
}

// wholeNumber reports whether a query's value is a number as JSON writes it.
func wholeNumber(s string) bool {
	_, err := strconv.ParseInt(s, 10, 64)
	return err == nil && json.Valid([]byte(s))
}

func (d *decoder) readBody(body []byte) {
	required := slices.DeleteFunc(slices.Clone(d.op.body), func(f string) bool { return !d.fields[f].required })
	switch {
	case len(d.op.body) == 0 || len(body) == 0 && len(required) == 0:
		return
	case len(body) == 0:
		d.noBody = true
		d.fail("request body", "is required: a JSON object with %s", strings.Join(required, ", "))
		return
	case !utf8.Valid(body):
		d.noBody = true
		d.fail("request body", "must be JSON in UTF-8, it has bytes that are not")
		return
	}
	var members map[string]json.RawMessage
	err := json.Unmarshal(body, &members)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		d.noBody = true
		d.fail("request body", "is not valid JSON: %v (at byte %d)", syntax, syntax.Offset)
	case err != nil || members == nil:
		d.noBody = true
		d.fail("request body", "must be a JSON object")
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if !slices.Contains(d.op.body, name) {
			d.fail(nameOf(name), "is not a member of %s's body, allowed are %s", d.op.Name, strings.Join(d.op.body, ", "))
			continue
		}
		d.given[name] = members[name]
	}
}

// members checks the members of an object against a structure's fields, and returns
// those that were given. Null is as good as absent.
func (d *decoder) members(path string, fields map[string]field, given map[string]json.RawMessage) map[string]json.RawMessage {
	out := make(map[string]json.RawMessage, len(given))
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f, at := fields[name], path+name
		switch raw := given[name]; {
		case len(raw) > 0 && string(raw) != "null":
			d.value(at, f, raw)
			out[name] = raw
		case f.required && (!d.noBody || !slices.Contains(d.op.body, name)):
			d.fail(at, "is required")
		}
	}
	return out
}

// text returns text as JSON.
func text(s string) json.RawMessage { return marshal(s) }

// marshal writes JSON without escapes for HTML.
func marshal(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return json.RawMessage("{}") // what was JSON stays JSON: this cannot be
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
