package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// message is one of Envoy's messages in JSON: its fields by the names that Envoy's
// documentation has, in the order in which they are written. The agent does without the types
// that are generated of Envoy's API: a program that links them registers all of them
// when it starts, and an idle agent would have a quarter more memory. What is misspelt here
// the golden cases find, which read each bootstrap by those types.
type message []field

// field is one field of a message. One whose value is empty is left out, as protocol buffers
// do with what is not set: nil, "", 0, false and nil lists. message{} is not empty, but
// a message without fields.
type field struct {
	name  string
	value any
}

// MarshalJSON writes the fields that are set.
func (m message) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte('{')
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	for _, f := range m {
		if f.value == nil || reflect.ValueOf(f.value).IsZero() {
			continue
		}
		if out.Len() > 1 {
			out.WriteByte(',')
		}
		fmt.Fprintf(&out, "%q:", f.name)
		if err := e.Encode(f.value); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// typed is a message that says of which type it is, for fields that take any.
func typed(name string, fields ...field) message {
	return append(message{{"@type", "type.googleapis.com/" + name}}, fields...)
}

// extension is one of Envoy's extensions, its name and its configuration. Filters, transport
// sockets, tracers and sinks have the same form.
func extension(name, typeName string, fields ...field) message {
	return message{{"name", name}, {"typed_config", typed(typeName, fields...)}}
}

// duration writes a time as protocol buffers do: seconds with as many thousands of a part
// as it takes.
func duration(d time.Duration) string {
	text := fmt.Sprintf("%d.%09d", d/time.Second, d%time.Second)
	for range 3 {
		text = strings.TrimSuffix(text, "000")
	}
	return strings.TrimSuffix(text, ".") + "s"
}
