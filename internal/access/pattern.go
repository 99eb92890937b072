package access

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// The wildcards in a glob. No rune of a text is negative.
const (
	anyText rune = -1 // *
	anyRune rune = -2 // ?
)

// pattern is a text to compare with: itself, or with wildcards.
type pattern struct {
	literal string
	glob    []rune // nil without wildcards
}

// newPattern returns the pattern of runes among which wildcards may be.
func newPattern(runes []rune) pattern {
	if slices.ContainsFunc(runes, func(r rune) bool { return r < 0 }) {
		return pattern{glob: runes}
	}
	return pattern{literal: string(runes)}
}

// wildcards returns the pattern that s spells: * stands for any text, ? for any one
// character.
func wildcards(s string) pattern {
	runes := []rune(s)
	for i, r := range runes {
		runes[i] = wildcard(r)
	}
	return newPattern(runes)
}

func wildcard(r rune) rune {
	switch r {
	case '*':
		return anyText
	case '?':
		return anyRune
	}
	return r
}

// matches reports whether s is of the pattern's form. It takes at most
// len(pattern) * len(s) steps.
func (p pattern) matches(s string) bool {
	if p.glob == nil {
		return p.literal == s
	}
	i, j := 0, 0
	star, from := -1, 0 // the last *, and where in s what it stands for ends
	for j < len(s) {
		r, size := utf8.DecodeRuneInString(s[j:])
		switch {
		case i < len(p.glob) && p.glob[i] == anyText:
			star, from = i, j
			i++
		case i < len(p.glob) && (p.glob[i] == anyRune || p.glob[i] == r):
			i++
			j += size
		case star >= 0:
			_, skipped := utf8.DecodeRuneInString(s[from:])
			from += skipped
			i, j = star+1, from
		default:
			return false
		}
	}
	for i < len(p.glob) && p.glob[i] == anyText {
		i++
	}
	return i == len(p.glob)
}

// template is a pattern in which policy variables may be.
type template struct {
	fixed pattern        // without variables
	parts []templatePart // nil without variables
}

// templatePart is some text, and a variable behind it if key is set.
type templatePart struct {
	text     []rune
	key      contextKey
	fallback string
	// given says that there is a fallback, which may be the empty text.
	given bool
}

// resolve puts the values of a question in the variables' places. What they bring
// is never a wildcard. ok is false if a variable has neither value nor fallback:
// such a template matches nothing.
func (t *template) resolve(f *facts) (p pattern, ok bool) {
	if t.parts == nil {
		return t.fixed, true
	}
	var runes []rune
	for i := range t.parts {
		part := &t.parts[i]
		runes = append(runes, part.text...)
		if part.key.kind == 0 {
			continue
		}
		value, ok := f.value(part.key)
		if !ok && !part.given {
			return pattern{}, false
		}
		if !ok {
			value = part.fallback
		}
		runes = append(runes, []rune(value)...)
	}
	return newPattern(runes), true
}

// templateForm says how a template is written.
type templateForm struct {
	wild      bool // * and ? are wildcards
	variables bool // the policy's version has variables
}

// template reads a text with variables. Its errors begin with the text.
func (form templateForm) template(s string) (template, error) {
	var parts []templatePart
	var text []rune
	for rest := s; rest != ""; {
		if strings.HasPrefix(rest, "${") {
			inner, behind, ok := cutVariable(rest)
			if !ok {
				return template{}, fmt.Errorf("%s with a ${ that no } ends", quote(s))
			}
			if !form.variables {
				return template{}, fmt.Errorf("%s, but policy variables need Version 2012-10-17", quote(s))
			}
			rest = behind
			if inner == "*" || inner == "?" || inner == "$" {
				text = append(text, rune(inner[0]))
				continue
			}
			part, err := parseVariable(inner)
			if err != nil {
				return template{}, fmt.Errorf("%s, %w", quote(s), err)
			}
			part.text, text = text, nil
			parts = append(parts, part)
			continue
		}
		r, size := utf8.DecodeRuneInString(rest)
		rest = rest[size:]
		if form.wild {
			r = wildcard(r)
		}
		text = append(text, r)
	}
	if parts == nil {
		return template{fixed: newPattern(text)}, nil
	}
	return template{parts: append(parts, templatePart{text: text})}, nil
}

// cutVariable splits s, which begins with ${, behind the } that ends the variable.
// One between single quotes does not.
func cutVariable(s string) (inner, rest string, ok bool) {
	quoted := false
	for i := 2; i < len(s); i++ {
		switch {
		case s[i] == '\'':
			quoted = !quoted
		case s[i] == '}' && !quoted:
			return s[2:i], s[i+1:], true
		}
	}
	return "", "", false
}

// parseVariable reads KEY or KEY, 'FALLBACK'.
func parseVariable(inner string) (templatePart, error) {
	name, fallback, given := strings.Cut(inner, ",")
	key, err := parseContextKey(strings.TrimSpace(name))
	if err != nil {
		return templatePart{}, fmt.Errorf("in which the policy variable %w", err)
	}
	if key.multiple() {
		return templatePart{}, fmt.Errorf("in which the policy variable %s has many values", quote(name))
	}
	fallback = strings.TrimSpace(fallback)
	n := len(fallback)
	if given && (n < 2 || fallback[0] != '\'' || strings.IndexByte(fallback[1:], '\'') != n-2) {
		return templatePart{}, fmt.Errorf("in which the default of %s is not between single quotes", quote(name))
	}
	part := templatePart{key: key, given: given}
	if given {
		part.fallback = fallback[1 : n-1]
	}
	return part, nil
}

// arnPattern is the pattern of an ARN by its six parts, or nil for everything.
type arnPattern []template

const arnParts = 6

// arnPattern reads "*" or an ARN with wildcards and variables. Wildcards do not
// reach over a colon, except in the last part. If open, parts that are missing at
// the end stand for anything, as in AWS's resources. Its errors begin with s.
func (form templateForm) arnPattern(s string, open bool) (arnPattern, error) {
	if s == "*" {
		return nil, nil
	}
	texts := splitARN(s)
	if texts[0] != "arn" || len(texts) < 2 || !open && len(texts) < arnParts {
		return nil, fmt.Errorf("%s, allowed are * and an ARN, for example arn:aws:appmesh:*:*:mesh/shop/*", quote(s))
	}
	for len(texts) < arnParts {
		texts = append(texts, "*")
	}
	wrong := func(r rune) bool { return (r < '0' || r > '9') && r != '*' && r != '?' }
	if account := texts[4]; !strings.Contains(account, "${") && strings.ContainsFunc(account, wrong) {
		return nil, fmt.Errorf("%s with account %s, allowed are digits, * and ?", quote(s), quote(account))
	}
	p := make(arnPattern, arnParts)
	for i, text := range texts {
		t, err := form.template(text)
		if err != nil {
			return nil, err
		}
		p[i] = t
	}
	return p, nil
}

// splitARN splits at the first five colons that are not part of a variable.
func splitARN(s string) []string {
	var parts []string
	from, depth := 0, 0
	for i := range len(s) {
		switch {
		case s[i] == '{' && i > 0 && s[i-1] == '$':
			depth = 1
		case s[i] == '}':
			depth = 0
		case s[i] == ':' && depth == 0 && len(parts) < arnParts-1:
			parts = append(parts, s[from:i])
			from = i + 1
		}
	}
	return append(parts, s[from:])
}

// matches compares with an ARN. resolved is false if a variable has no value.
func (p arnPattern) matches(arn string, f *facts) (matches, resolved bool) {
	if p == nil {
		return true, true
	}
	matches = true
	for i := range p {
		part, rest, colon := strings.Cut(arn, ":")
		if i == arnParts-1 {
			part, colon = arn, true
		}
		text, ok := p[i].resolve(f)
		if !ok {
			return false, false
		}
		matches = matches && colon && text.matches(part)
		arn = rest
	}
	return matches, true
}
