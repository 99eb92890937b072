package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// comparison is how a condition operator compares one value of the request with one
// of the policy.
type comparison uint8

const (
	stringEquals comparison = iota + 1
	stringEqualsFold
	stringLike
	numeric
	date
	boolean
	ipAddress
	arnLike
	null
)

// relation is what a numeric or date operator wants.
type relation uint8

const (
	equal relation = iota
	less
	lessOrEqual
	greater
	greaterOrEqual
)

// holds takes the result of a comparison: negative, zero or positive.
func (r relation) holds(compared int) bool {
	switch r {
	case less:
		return compared < 0
	case lessOrEqual:
		return compared <= 0
	case greater:
		return compared > 0
	case greaterOrEqual:
		return compared >= 0
	}
	return compared == 0
}

// operator is a condition operator without its affixes.
type operator struct {
	compare  comparison
	relation relation
	// negated operators hold if none of the policy's values matches.
	negated bool
}

// operators holds AWS's condition operators by name, without those for binary
// values, which no key here has.
var operators = map[string]operator{
	"StringEquals":              {compare: stringEquals},
	"StringNotEquals":           {compare: stringEquals, negated: true},
	"StringEqualsIgnoreCase":    {compare: stringEqualsFold},
	"StringNotEqualsIgnoreCase": {compare: stringEqualsFold, negated: true},
	"StringLike":                {compare: stringLike},
	"StringNotLike":             {compare: stringLike, negated: true},
	"NumericEquals":             {compare: numeric},
	"NumericNotEquals":          {compare: numeric, negated: true},
	"NumericLessThan":           {compare: numeric, relation: less},
	"NumericLessThanEquals":     {compare: numeric, relation: lessOrEqual},
	"NumericGreaterThan":        {compare: numeric, relation: greater},
	"NumericGreaterThanEquals":  {compare: numeric, relation: greaterOrEqual},
	"DateEquals":                {compare: date},
	"DateNotEquals":             {compare: date, negated: true},
	"DateLessThan":              {compare: date, relation: less},
	"DateLessThanEquals":        {compare: date, relation: lessOrEqual},
	"DateGreaterThan":           {compare: date, relation: greater},
	"DateGreaterThanEquals":     {compare: date, relation: greaterOrEqual},
	"Bool":                      {compare: boolean},
	"IpAddress":                 {compare: ipAddress},
	"NotIpAddress":              {compare: ipAddress, negated: true},
	"ArnEquals":                 {compare: arnLike},
	"ArnLike":                   {compare: arnLike},
	"ArnNotEquals":              {compare: arnLike, negated: true},
	"ArnNotLike":                {compare: arnLike, negated: true},
	"Null":                      {compare: null},
}

const allowedOperators = "StringEquals, StringEqualsIgnoreCase, StringLike, NumericEquals, NumericLessThan, NumericLessThanEquals, NumericGreaterThan, " +
	"NumericGreaterThanEquals, the same six of Date, Bool, IpAddress, ArnEquals, ArnLike, those with Not (StringNotEquals, NotIpAddress …), " +
	"each also with IfExists behind it or ForAllValues: or ForAnyValue: before it, and Null"

// quantifier says how many of a request's values must match.
type quantifier uint8

const (
	single quantifier = iota
	allValues
	anyValue
)

// condition is one operator on one key.
type condition struct {
	operator
	values   []conditionValue
	key      contextKey
	set      quantifier
	ifExists bool
}

// conditionValue is a value in a policy, in the form that its operator compares.
type conditionValue struct {
	text   template
	arn    arnPattern
	number float64
	time   time.Time
	prefix netip.Prefix
	truth  bool
}

// parseConditions reads the value of Condition.
func parseConditions(raw json.RawMessage, variables bool, claims claimNames) ([]condition, error) {
	blocks, err := readObject(raw)
	if err != nil {
		return nil, fmt.Errorf("has a Condition that %w", err)
	}
	var conditions []condition
	for _, block := range blocks {
		c, err := parseOperator(block.name)
		if err != nil {
			return nil, err
		}
		keys, err := readObject(block.value)
		if err != nil {
			return nil, fmt.Errorf("has a Condition with %s that %w", block.name, err)
		}
		for i, k := range keys {
			c := c
			if err := c.parseKey(k, variables, claims); err != nil {
				return nil, fmt.Errorf("has a Condition with %s on %s that %w", block.name, quote(k.name), err)
			}
			for _, earlier := range conditions[len(conditions)-i:] {
				if earlier.key.same(c.key) {
					return nil, fmt.Errorf("has a Condition with %s on %s twice", block.name, quote(k.name))
				}
			}
			conditions = append(conditions, c)
		}
	}
	return conditions, nil
}

// parseOperator reads an operator's name with its affixes.
func parseOperator(name string) (c condition, err error) {
	rest := name
	if after, ok := strings.CutPrefix(rest, "ForAllValues:"); ok {
		c.set, rest = allValues, after
	} else if after, ok := strings.CutPrefix(rest, "ForAnyValue:"); ok {
		c.set, rest = anyValue, after
	}
	rest, c.ifExists = strings.CutSuffix(rest, "IfExists")
	op, ok := operators[rest]
	if !ok || op.compare == null && (c.ifExists || c.set != single) {
		return c, fmt.Errorf("has a Condition with the operator %s, allowed are %s", quote(name), allowedOperators)
	}
	c.operator = op
	return c, nil
}

// parseKey reads a key and its values. Its errors go on from "that".
func (c *condition) parseKey(m member, variables bool, claims claimNames) (err error) {
	var claim bool
	if c.key, claim = claims.parse(m.name); !claim {
		if c.key, err = parseContextKey(m.name); err != nil {
			return fmt.Errorf("names a key that cannot be: %w", err)
		}
	}
	if c.key.multiple() && c.set == single && c.compare != null {
		return errors.New("has many values: put ForAllValues: or ForAnyValue: before the operator")
	}
	texts, err := scalars(m.value)
	if err != nil {
		return err
	}
	for _, text := range texts {
		v, err := c.parseValue(text, variables)
		if err != nil {
			return err
		}
		c.values = append(c.values, v)
	}
	return nil
}

// scalars reads a string, a number or a truth value, or a list of those, as texts.
func scalars(raw json.RawMessage) ([]string, error) {
	list := []json.RawMessage{raw}
	if raw[0] == '[' {
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, errors.New("is not valid JSON")
		}
	}
	if len(list) == 0 {
		return nil, errors.New("needs a value")
	}
	texts := make([]string, len(list))
	for i, v := range list {
		switch v = bytes.TrimSpace(v); {
		case v[0] == '"':
			if err := json.Unmarshal(v, &texts[i]); err != nil {
				return nil, errors.New("is not valid JSON")
			}
		case v[0] == '{' || v[0] == '[' || v[0] == 'n':
			return nil, errors.New("has a value of the wrong form: allowed are a string, a number, true, false and a list of those")
		default:
			texts[i] = string(v)
		}
	}
	return texts, nil
}

func (c *condition) parseValue(text string, variables bool) (v conditionValue, err error) {
	ok := true
	form := templateForm{wild: c.compare == stringLike, variables: variables}
	switch c.compare {
	case stringEquals, stringEqualsFold, stringLike:
		v.text, err = form.template(text)
	case arnLike:
		form.wild = true
		v.arn, err = form.arnPattern(text, false)
	case numeric:
		v.number, ok = parseNumber(text)
	case date:
		v.time, ok = parseDate(text)
	case boolean, null:
		v.truth, ok = parseBool(text)
	case ipAddress:
		v.prefix, ok = parsePrefix(text)
	}
	if err != nil {
		return v, fmt.Errorf("has the value %w", err)
	}
	if !ok {
		return v, fmt.Errorf("has the value %s, allowed is %s", quote(text), c.compare.form())
	}
	return v, nil
}

// form says how the values of a comparison are written.
func (c comparison) form() string {
	switch c {
	case numeric:
		return "a number"
	case date:
		return "a time such as 2026-01-02T03:04:05Z, or seconds since 1970"
	case ipAddress:
		return "an address or a range of addresses, for example 192.0.2.0/24"
	}
	return "true or false"
}

func parseNumber(s string) (float64, bool) {
	if strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789+-.eE", r) }) {
		return 0, false // infinity, hexadecimal, underscores
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil
}

// dateLayouts are the forms of ISO 8601 that AWS names, but for a bare year, which
// cannot be told from seconds.
var dateLayouts = []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02", "2006-01"}

func parseDate(s string) (time.Time, bool) {
	for _, layout := range dateLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	// As many digits as a time of this age of the world has.
	n, err := strconv.ParseInt(s, 10, 64)
	return time.Unix(n, 0), err == nil && len(s) <= 12
}

func parseBool(s string) (value, ok bool) {
	return strings.EqualFold(s, "true"), strings.EqualFold(s, "true") || strings.EqualFold(s, "false")
}

func parsePrefix(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		// One written as IPv6 would never match, as addresses are compared as IPv4.
		return p.Masked(), !p.Addr().Is4In6()
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), true
}

// holds reports whether the condition is met. resolved is false if a negated
// operator holds only because a policy variable has no value.
func (c *condition) holds(f *facts) (holds, resolved bool) {
	values := f.values(c.key)
	if c.compare == null {
		for _, want := range c.values {
			holds = holds || want.truth == (len(values) == 0)
		}
		return holds, true
	}
	if len(values) == 0 {
		return c.ifExists || c.set == allValues || c.set == single && c.negated, true
	}
	resolved = true
	for i, v := range values {
		one, ok := c.meets(v, f)
		resolved = resolved && ok
		switch {
		case i == 0:
			holds = one
		case c.set == anyValue:
			holds = holds || one
		default:
			holds = holds && one
		}
	}
	return holds, resolved
}

// meets compares one value of the request with all of the policy.
func (c *condition) meets(have string, f *facts) (meets, resolved bool) {
	resolved = true
	for i := range c.values {
		matches, ok := c.matches(&c.values[i], have, f)
		if matches {
			return !c.negated, true
		}
		resolved = resolved && (ok || !c.negated)
	}
	return c.negated, resolved
}

// matches compares two values. ok is false if a policy variable has no value.
func (c *condition) matches(want *conditionValue, have string, f *facts) (matches, ok bool) {
	switch c.compare {
	case stringEquals, stringEqualsFold, stringLike:
		p, ok := want.text.resolve(f)
		if c.compare == stringEqualsFold {
			return ok && strings.EqualFold(p.literal, have), ok
		}
		return ok && p.matches(have), ok
	case arnLike:
		return want.arn.matches(have, f)
	case numeric:
		n, ok := parseNumber(have)
		return ok && c.relation.holds(compareNumbers(n, want.number)), true
	case date:
		t, ok := f.time(c.key)
		if !ok {
			t, ok = parseDate(have)
		}
		return ok && c.relation.holds(t.Compare(want.time)), true
	case boolean:
		b, ok := parseBool(have)
		return ok && b == want.truth, true
	case ipAddress:
		a, err := netip.ParseAddr(have)
		return err == nil && want.prefix.Contains(a.Unmap()), true
	}
	return false, true
}

func compareNumbers(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
