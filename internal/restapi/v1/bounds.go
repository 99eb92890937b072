package v1

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// fieldType is a type of the model.
type fieldType uint8

const (
	structureType fieldType = iota
	listType
	mapType
	documentType // a JSON object of any members
	stringType
	integerType
	booleanType
	timestampType
)

// structure holds the bounds of one shape of the model.
type structure struct {
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

// value checks one value.
func (d *decoder) value(path string, f field, raw json.RawMessage) {
	switch f.typ {
	case structureType:
		if given, ok := d.object(path, raw); ok {
			d.members(path+".", shapes[f.shape].fields, given)
		}
	case documentType:
		d.object(path, raw)
	case mapType:
		d.entries(path, f, raw)
	case listType:
		d.list(path, f, raw)
	case stringType, timestampType:
		d.text(path, f, raw)
	case integerType:
		var n int64
		if err := json.Unmarshal(raw, &n); err != nil || f.outside(n) {
			d.fail(path, "must be a whole number from %d to %d, %s was given", f.min, f.max, describe(raw))
		}
	case booleanType:
		if s := string(raw); s != "true" && s != "false" {
			d.fail(path, "must be true or false, %s was given", describe(raw))
		}
	}
}

// object splits an object into its members.
func (d *decoder) object(path string, raw json.RawMessage) (map[string]json.RawMessage, bool) {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(raw, &given); err != nil || given == nil {
		d.fail(path, "must be an object, %s was given", describe(raw))
		return nil, false
	}
	return given, true
}

func (d *decoder) entries(path string, f field, raw json.RawMessage) {
	given, ok := d.object(path, raw)
	if !ok {
		return
	}
	if f.outside(int64(len(given))) {
		d.fail(path, "must have %s, %d were given", f.length("entry", "entries"), len(given))
		return
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		at := path + "." + nameOf(name)
		d.text("the name of "+at, *f.key, text(name))
		d.value(at, *f.elem, given[name])
	}
}

func (d *decoder) list(path string, f field, raw json.RawMessage) {
	var given []json.RawMessage
	if err := json.Unmarshal(raw, &given); err != nil || given == nil {
		d.fail(path, "must be a list, %s was given", describe(raw))
		return
	}
	if f.outside(int64(len(given))) {
		d.fail(path, "must have %s, %d were given", f.length("member", "members"), len(given))
		return
	}
	for i, one := range given {
		d.value(path+"["+strconv.Itoa(i)+"]", *f.elem, one)
	}
}

func (d *decoder) text(path string, f field, raw json.RawMessage) {
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		d.fail(path, "must be a string, %s was given", describe(raw))
		return
	}
	switch {
	case len(f.enum) > 0 && !slices.Contains(f.enum, *s):
		d.fail(path, "must be one of %s, %s was given", strings.Join(f.enum, ", "), quote(*s))
	case f.outside(int64(utf8.RuneCountInString(*s))):
		d.fail(path, "must have %s, %s was given", f.length("character", "characters"), quote(*s))
	case f.pattern != nil && !f.pattern.MatchString(*s):
		d.fail(path, "must match %s, %s was given", f.pattern, quote(*s))
	case f.typ == timestampType:
		if _, err := time.Parse(time.RFC3339, *s); err != nil {
			d.fail(path, "must be a time such as 2026-11-23T08:15:30Z, %s was given", quote(*s))
		}
	}
}

func (f field) outside(n int64) bool { return f.hasMin && n < f.min || f.hasMax && n > f.max }

// length words the bounds of a length.
func (f field) length(one, many string) string {
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

// describe words a JSON value.
func describe(raw json.RawMessage) string {
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		var s string
		if json.Unmarshal(raw, &s) == nil {
			return "the string " + quote(s)
		}
		return "a string"
	case 't', 'f', 'n':
		return string(raw)
	}
	return "the number " + Clip(string(raw))
}

// quote quotes text that a caller sent, for a message, and bounds its length.
func quote(s string) string {
	if short := Clip(s); short != s {
		return strconv.Quote(strings.TrimSuffix(short, "…")) + fmt.Sprintf("… (%d characters)", utf8.RuneCountInString(s))
	}
	return strconv.Quote(s)
}

// nameOf returns the name of a member that a caller made up as a message can have it.
func nameOf(s string) string {
	if s == "" || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return quote(s)
	}
	return Clip(s)
}

// Clip bounds the length of text for a message.
func Clip(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
