package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// MaxPolicyBytes is the longest policy document that is accepted.
const MaxPolicyBytes = 20 << 10

// Decision is what a policy says of one action on one resource.
type Decision uint8

// The decisions. A denial is stronger than an allowance, and what nothing
// mentions is not allowed.
const (
	NotMentioned Decision = iota
	Allowed
	Denied
)

// Policy is a parsed IAM policy document of a user.
type Policy struct {
	statements []statement
}

type statement struct {
	deny      bool
	actions   []string // patterns, lower-case
	resources []resourcePattern
}

// ParsePolicy reads an IAM policy document, in the form that AWS gives it: Version,
// Id, and Statement with Sid, Effect, Action and Resource, single or as lists, with
// the wildcards * and ?. What is not supported yet (NotAction, NotResource,
// Condition, policy variables) is an error, never passed over. The error says in
// one line what is wrong and where.
func ParsePolicy(document []byte) (*Policy, error) {
	if len(document) > MaxPolicyBytes {
		return nil, fmt.Errorf("policy document has %d bytes, allowed are %d", len(document), MaxPolicyBytes)
	}
	var raw json.RawMessage
	version := "2008-10-17"
	err := members(document, map[string]any{"Version": &version, "Id": new(string), "Statement": &raw})
	if err != nil {
		return nil, fmt.Errorf("policy document %w", err)
	}
	if version != "2012-10-17" && version != "2008-10-17" {
		return nil, fmt.Errorf("policy document has Version %s, allowed are 2012-10-17 and 2008-10-17", quote(version))
	}
	list, err := oneOrMore[json.RawMessage](raw, '{')
	if err != nil || len(list) == 0 {
		return nil, errors.New("policy document needs Statement: an object or a list of objects")
	}
	p := &Policy{}
	for i, raw := range list {
		s, err := parseStatement(raw)
		if err != nil {
			return nil, fmt.Errorf("policy document, Statement[%d] %w", i, err)
		}
		p.statements = append(p.statements, s)
	}
	return p, nil
}

// members reads the members of a JSON object into the places that to names. Their
// names are compared exactly.
func members(document []byte, to map[string]any) error {
	d := json.NewDecoder(strings.NewReader(string(document)))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("is not a JSON object")
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return errors.New("is not valid JSON")
		}
		name, _ := t.(string)
		place, ok := to[name]
		if !ok {
			return unknownMember(name, to)
		}
		if seen[name] {
			return fmt.Errorf("has %s twice", name)
		}
		seen[name] = true
		if err := d.Decode(place); err != nil {
			return fmt.Errorf("has a value of the wrong form in %s", name)
		}
	}
	if _, err := d.Token(); err != nil {
		return errors.New("is not valid JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("has something behind its end")
	}
	return nil
}

func unknownMember(name string, to map[string]any) error {
	switch name {
	case "NotAction", "NotResource", "Condition":
		return fmt.Errorf("has %s, which is not supported yet: say it with Action, Resource and Effect Deny", name)
	case "Principal", "NotPrincipal":
		return fmt.Errorf("has %s, which a user's own policy cannot have", name)
	}
	allowed := make([]string, 0, len(to))
	for k := range to {
		allowed = append(allowed, k)
	}
	slices.Sort(allowed)
	return fmt.Errorf("has %s, allowed are %s", quote(name), strings.Join(allowed, ", "))
}

// oneOrMore reads a JSON value that begins with first, or a list of such values.
func oneOrMore[T any](raw json.RawMessage, first byte) (list []T, err error) {
	if len(raw) > 0 && raw[0] == first {
		list = make([]T, 1)
		return list, json.Unmarshal(raw, &list[0])
	}
	return list, json.Unmarshal(raw, &list)
}

func parseStatement(raw json.RawMessage) (s statement, err error) {
	var effect string
	var action, resource json.RawMessage
	err = members(raw, map[string]any{"Sid": new(string), "Effect": &effect, "Action": &action, "Resource": &resource})
	if err != nil {
		return s, err
	}
	switch effect {
	case "Allow":
	case "Deny":
		s.deny = true
	default:
		return s, fmt.Errorf("has Effect %s, allowed are Allow and Deny", quote(effect))
	}
	actions, err := oneOrMore[string](action, '"')
	if err != nil || len(actions) == 0 {
		return s, errors.New("needs Action: a string or a list of strings")
	}
	for _, a := range actions {
		if err := checkAction(a); err != nil {
			return s, err
		}
		s.actions = append(s.actions, strings.ToLower(a))
	}
	resources, err := oneOrMore[string](resource, '"')
	if err != nil || len(resources) == 0 {
		return s, errors.New("needs Resource: a string or a list of strings")
	}
	for _, r := range resources {
		p, err := parseResourcePattern(r)
		if err != nil {
			return s, err
		}
		s.resources = append(s.resources, p)
	}
	return s, nil
}

// checkAction wants "*" or "service:Action", the action with wildcards if need be.
func checkAction(a string) error {
	service, name, ok := strings.Cut(a, ":")
	wrong := func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-'
		return !letter
	}
	wrongName := func(r rune) bool { return wrong(r) && r != '*' && r != '?' }
	if a == "*" || ok && service != "" && name != "" && !strings.ContainsFunc(service, wrong) && !strings.ContainsFunc(name, wrongName) {
		return nil
	}
	return fmt.Errorf("has Action %s, allowed are * and SERVICE:ACTION, for example appmesh:Describe*", quote(a))
}

// resourcePattern is the pattern of an ARN by its six parts, or nil for every
// resource.
type resourcePattern []string

const arnParts = 6

// parseResourcePattern reads "*" or an ARN with wildcards. They do not reach over a
// colon, except in the last part. Parts that are missing at the end stand for
// anything, as with AWS.
func parseResourcePattern(s string) (resourcePattern, error) {
	if s == "*" {
		return nil, nil
	}
	if strings.Contains(s, "${") {
		return nil, fmt.Errorf("has Resource %s, policy variables are not supported yet", quote(s))
	}
	parts := strings.SplitN(s, ":", arnParts)
	if parts[0] != "arn" || len(parts) < 2 {
		return nil, fmt.Errorf("has Resource %s, allowed are * and an ARN, for example arn:aws:appmesh:*:*:mesh/shop/*", quote(s))
	}
	for len(parts) < arnParts {
		parts = append(parts, "*")
	}
	if strings.ContainsFunc(parts[4], func(r rune) bool { return (r < '0' || r > '9') && r != '*' && r != '?' }) {
		return nil, fmt.Errorf("has Resource %s with account %s, allowed are digits, * and ?", quote(s), quote(parts[4]))
	}
	return parts, nil
}

func (p resourcePattern) matches(resource string) bool {
	if p == nil {
		return true
	}
	for i, pattern := range p {
		part, rest, ok := strings.Cut(resource, ":")
		if i == arnParts-1 {
			return match(pattern, resource)
		}
		if !ok || !match(pattern, part) {
			return false
		}
		resource = rest
	}
	return false
}

// Evaluate decides on an action such as appmesh:CreateRoute, whose case does not
// matter, and the ARN of a resource, or "*" for actions without one.
func (p *Policy) Evaluate(action, resource string) Decision {
	action = strings.ToLower(action)
	decision := NotMentioned
	for _, s := range p.statements {
		if !s.matches(action, resource) {
			continue
		}
		if s.deny {
			return Denied
		}
		decision = Allowed
	}
	return decision
}

func (s *statement) matches(action, resource string) bool {
	return slices.ContainsFunc(s.actions, func(p string) bool { return match(p, action) }) &&
		slices.ContainsFunc(s.resources, func(p resourcePattern) bool { return p.matches(resource) })
}

// match reports whether s is of the form of pattern: * stands for any text, ? for
// any one character. It takes at most len(pattern) * len(s) steps.
func match(pattern, s string) bool {
	if !strings.ContainsAny(pattern, "*?") {
		return pattern == s
	}
	p, text := []rune(pattern), []rune(s)
	i, j := 0, 0
	star, from := -1, 0 // the last star, and where in text what it stands for ends
	for j < len(text) {
		switch {
		case i < len(p) && p[i] == '*':
			star, from = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == text[j]):
			i++
			j++
		case star >= 0:
			from++
			i, j = star+1, from
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
