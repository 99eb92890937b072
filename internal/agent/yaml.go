package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// YAML turns JSON into block-style YAML with the members in the same order. Strings
// stay quoted as in JSON, which YAML reads the same way.
func YAML(jsonText []byte) ([]byte, error) {
	w := yamlWriter{in: json.NewDecoder(bytes.NewReader(jsonText))}
	w.in.UseNumber()
	if err := w.value(0, false); err != nil {
		return nil, fmt.Errorf("turning JSON into YAML: %w", err)
	}
	if _, err := w.in.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("turning JSON into YAML: there is text after the first value")
	}
	return w.out.Bytes(), nil
}

// plainKey are keys that need no quotes, the words that YAML gives a meaning aside.
var plainKey = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.]*$`)

var yamlWords = map[string]bool{
	"true": true, "false": true, "yes": true, "no": true, "on": true, "off": true, "null": true, "y": true, "n": true,
}

type yamlWriter struct {
	in  *json.Decoder
	out bytes.Buffer
}

// value writes the next value. The cursor stands behind "key:" or "-" (or at the
// very beginning); inline says that the first member may follow on the same line.
func (w *yamlWriter) value(depth int, inline bool) error {
	t, err := w.in.Token()
	if err != nil {
		return err
	}
	d, ok := t.(json.Delim)
	if !ok {
		return w.scalar(t)
	}
	if !w.in.More() {
		fmt.Fprintf(&w.out, " %s\n", map[json.Delim]string{'{': "{}", '[': "[]"}[d])
		_, err = w.in.Token()
		return err
	}
	for first := true; w.in.More(); first = false {
		w.indent(depth, first, inline)
		if err := w.member(d, depth); err != nil {
			return err
		}
	}
	_, err = w.in.Token()
	return err
}

// indent begins a line, unless the first member stays on that of the dash before it.
func (w *yamlWriter) indent(depth int, first, inline bool) {
	switch {
	case first && inline:
		w.out.WriteByte(' ')
		return
	case first && w.out.Len() > 0:
		w.out.WriteByte('\n')
	}
	w.out.WriteString(strings.Repeat("  ", depth))
}

func (w *yamlWriter) member(d json.Delim, depth int) error {
	if d == '[' {
		w.out.WriteByte('-')
		return w.value(depth+1, true)
	}
	key, err := w.in.Token()
	if err != nil {
		return err
	}
	text, err := quoted(key)
	if err != nil {
		return err
	}
	if name := strings.Trim(text, `"`); plainKey.MatchString(name) && !yamlWords[strings.ToLower(name)] {
		text = name
	}
	w.out.WriteString(text + ":")
	return w.value(depth+1, false)
}

func (w *yamlWriter) scalar(t json.Token) error {
	text, err := quoted(t)
	w.out.WriteString(" " + text + "\n")
	return err
}

// quoted writes a scalar as JSON does.
func quoted(t json.Token) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(t)
	return strings.TrimSpace(b.String()), err
}
