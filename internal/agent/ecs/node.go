package ecs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// node is a JSON value that keeps the order of its members and the text of its numbers.
type node struct {
	kind  kind
	text  string   // a scalar's JSON text
	keys  []string // an object's names, in their order
	items []*node  // an object's or a list's values
}

type kind int

const (
	scalar kind = iota
	list
	object
)

// maxDepth is how deep values may be in one another: far deeper than a task definition's.
const maxDepth = 64

// parse reads one JSON value. The error names the line.
func parse(input []byte) (*node, error) {
	dec := json.NewDecoder(bytes.NewReader(input))
	dec.UseNumber()
	n, err := parseValue(dec, 0)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the first value")
		}
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("it ends too early")
	}
	if err != nil {
		line := 1 + bytes.Count(input[:min(int(dec.InputOffset()), len(input))], []byte("\n"))
		return nil, fmt.Errorf("line %d: not the JSON of a task definition: %w", line, err)
	}
	return n, nil
}

func parseValue(dec *json.Decoder, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("more than %d levels", maxDepth)
	}
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		return parseObject(dec, depth)
	case json.Delim('['):
		n := &node{kind: list}
		for dec.More() {
			item, err := parseValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, item)
		}
		_, err := dec.Token()
		return n, err
	}
	return newScalar(token), nil
}

func parseObject(dec *json.Decoder, depth int) (*node, error) {
	n := &node{kind: object}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := token.(string)
		if slices.Contains(n.keys, key) {
			return nil, fmt.Errorf("%q is there twice", key)
		}
		value, err := parseValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		n.keys, n.items = append(n.keys, key), append(n.items, value)
	}
	_, err := dec.Token()
	return n, err
}

// newScalar makes a string, number, truth value or null.
func newScalar(v any) *node {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil { // of the four above none can fail
		return &node{text: "null"}
	}
	return &node{text: strings.TrimSuffix(b.String(), "\n")}
}

// newObject makes an object of names and values that take turns; a value is a node or a
// scalar.
func newObject(members ...any) *node {
	n := &node{kind: object}
	for i := 0; i < len(members); i += 2 {
		value, ok := members[i+1].(*node)
		if !ok {
			value = newScalar(members[i+1])
		}
		n.keys, n.items = append(n.keys, members[i].(string)), append(n.items, value)
	}
	return n
}

// newStrings makes a list.
func newStrings(texts ...string) *node {
	n := &node{kind: list}
	for _, t := range texts {
		n.items = append(n.items, newScalar(t))
	}
	return n
}

func (n *node) clone() *node {
	out := &node{kind: n.kind, text: n.text, keys: slices.Clone(n.keys), items: make([]*node, len(n.items))}
	for i, item := range n.items {
		out.items[i] = item.clone()
	}
	return out
}

// get returns a member of an object, nil if it is not there or null.
func (n *node) get(key string) *node {
	if n == nil || n.kind != object {
		return nil
	}
	i := slices.Index(n.keys, key)
	if i < 0 || n.items[i].kind == scalar && n.items[i].text == "null" {
		return nil
	}
	return n.items[i]
}

// set gives an object a member: in its place where it is there, else at the end.
func (n *node) set(key string, value *node) {
	if i := slices.Index(n.keys, key); i >= 0 {
		n.items[i] = value
		return
	}
	n.keys, n.items = append(n.keys, key), append(n.items, value)
}

func (n *node) remove(key string) {
	if i := slices.Index(n.keys, key); i >= 0 {
		n.keys, n.items = slices.Delete(n.keys, i, i+1), slices.Delete(n.items, i, i+1)
	}
}

// string returns the text of a string.
func (n *node) string() (string, bool) {
	var s string
	if n == nil || n.kind != scalar || !strings.HasPrefix(n.text, `"`) || json.Unmarshal([]byte(n.text), &s) != nil {
		return "", false
	}
	return s, true
}

// what says in words what a value is, for complaints; never what is in it.
func (n *node) what() string {
	switch {
	case n.kind == object:
		return "an object"
	case n.kind == list:
		return "a list"
	case n.text == "null":
		return "null"
	case n.text == "true" || n.text == "false":
		return "a truth value"
	case strings.HasPrefix(n.text, `"`):
		return "a string"
	}
	return "a number"
}

// print writes a value as the AWS CLI does, with four spaces a level.
func (n *node) print(b *strings.Builder, indent string) {
	open, end := "[", "]"
	switch n.kind {
	case scalar:
		b.WriteString(n.text)
		return
	case object:
		open, end = "{", "}"
	}
	b.WriteString(open)
	for i, item := range n.items {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n" + indent + "    ")
		if n.kind == object {
			b.WriteString(newScalar(n.keys[i]).text + ": ")
		}
		item.print(b, indent+"    ")
	}
	if len(n.items) > 0 {
		b.WriteString("\n" + indent)
	}
	b.WriteString(end)
}

// json returns the whole text, which ends with a line break.
func (n *node) json() string {
	var b strings.Builder
	n.print(&b, "")
	b.WriteByte('\n')
	return b.String()
}

// integer returns a whole number.
func (n *node) integer() (int, bool) {
	if n == nil || n.kind != scalar {
		return 0, false
	}
	i, err := strconv.Atoi(n.text)
	return i, err == nil
}
