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

// Decision is what policies say of one action on one resource.
type Decision uint8

// The decisions. A denial is stronger than an allowance, and what nothing
// mentions is not allowed.
const (
	NotMentioned Decision = iota
	Allowed
	Denied
)

// and returns what holds if both of two sets of policies have to allow.
func (d Decision) and(other Decision) Decision {
	switch {
	case d == Denied || other == Denied:
		return Denied
	case d == Allowed && other == Allowed:
		return Allowed
	}
	return NotMentioned
}

// Policy is a parsed IAM policy document.
type Policy struct {
	statements []statement
}

type statement struct {
	deny       bool
	actions    []pattern // lower-case
	notActions bool      // the statement is about all actions but those
	resources  []arnPattern
	// notResources says that the statement is about all resources but those.
	notResources bool
	principals   []principalPattern // of a trust policy
	conditions   []condition
}

// policyKind says where a policy stands, and so what its statements have.
type policyKind uint8

const (
	identityPolicy policyKind = iota // of a user, a role or a session: Resource
	trustPolicy                      // who may assume a role: Principal
)

// ParsePolicy reads an IAM policy document, in the form that AWS gives it: Version,
// Id, and Statement with Sid, Effect, Action or NotAction, Resource or NotResource,
// and Condition, single or as lists, with wildcards and policy variables. An
// operator, a key or a member that is not known is an error, never passed over.
// The error says in one line what is wrong and where.
func ParsePolicy(document []byte) (*Policy, error) {
	return parsePolicy(document, identityPolicy)
}

func parsePolicy(document []byte, kind policyKind) (*Policy, error) {
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
		s, err := parseStatement(raw, kind, version == "2012-10-17")
		if err != nil {
			return nil, fmt.Errorf("policy document, Statement[%d] %w", i, err)
		}
		p.statements = append(p.statements, s)
	}
	return p, nil
}

// member is a member of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

// readObject reads the members of a JSON object in their order. No name may come
// twice. Its errors go on from "that" or a subject.
func readObject(document []byte) ([]member, error) {
	d := json.NewDecoder(strings.NewReader(string(document)))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("is not a JSON object")
	}
	var all []member
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, errors.New("is not valid JSON")
		}
		m := member{}
		m.name, _ = t.(string)
		if seen[m.name] {
			return nil, fmt.Errorf("has %s twice", quote(m.name))
		}
		seen[m.name] = true
		if err := d.Decode(&m.value); err != nil {
			return nil, errors.New("is not valid JSON")
		}
		all = append(all, m)
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("is not valid JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("has something behind its end")
	}
	return all, nil
}

// members reads the members of a JSON object into the places that to names. Their
// names are compared exactly.
func members(document []byte, to map[string]any) error {
	all, err := readObject(document)
	if err != nil {
		return err
	}
	for _, m := range all {
		place, ok := to[m.name]
		if !ok {
			return unknownMember(m.name, to)
		}
		if err := json.Unmarshal(m.value, place); err != nil {
			return fmt.Errorf("has a value of the wrong form in %s", m.name)
		}
	}
	return nil
}

func unknownMember(name string, to map[string]any) error {
	switch name {
	case "Principal":
		return errors.New("has Principal, which only the trust policy of a role can have")
	case "NotPrincipal":
		return errors.New("has NotPrincipal, which is not supported: say it with Principal and Effect Deny")
	case "Resource", "NotResource":
		return fmt.Errorf("has %s, which a trust policy cannot have: it is about its own role", name)
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

func parseStatement(raw json.RawMessage, kind policyKind, variables bool) (s statement, err error) {
	var effect string
	var action, notAction, resource, notResource, principal, condition json.RawMessage
	to := map[string]any{
		"Sid": new(string), "Effect": &effect, "Action": &action, "NotAction": &notAction, "Condition": &condition,
	}
	if kind == trustPolicy {
		to["Principal"] = &principal
	} else {
		to["Resource"], to["NotResource"] = &resource, &notResource
	}
	if err = members(raw, to); err != nil {
		return s, err
	}
	switch effect {
	case "Allow":
	case "Deny":
		s.deny = true
	default:
		return s, fmt.Errorf("has Effect %s, allowed are Allow and Deny", quote(effect))
	}
	if err := s.parseActions(action, notAction); err != nil {
		return s, err
	}
	var claims claimNames
	if kind == trustPolicy {
		if s.principals, err = parsePrincipals(principal); err == nil {
			claims, err = claimNamesOf(s.principals)
		}
	} else {
		err = s.parseResources(resource, notResource, variables)
	}
	if err != nil {
		return s, err
	}
	if condition != nil {
		if s.conditions, err = parseConditions(condition, variables, claims); err != nil {
			return s, err
		}
	}
	return s, s.checkNarrow(claims)
}

// texts reads a member or its opposite, whichever is there. Only one may be.
func texts(name string, is, not json.RawMessage) (list []string, negated bool, err error) {
	raw := is
	switch {
	case is != nil && not != nil:
		return nil, false, fmt.Errorf("has %s and Not%s, allowed is one of them", name, name)
	case not != nil:
		raw, negated, name = not, true, "Not"+name
	}
	// Decoded as pointers, so that null is told from "".
	pointers, err := oneOrMore[*string](raw, '"')
	if err != nil || len(pointers) == 0 || slices.Contains(pointers, nil) {
		return nil, false, fmt.Errorf("needs %s: a string or a list of strings", name)
	}
	for _, p := range pointers {
		list = append(list, *p)
	}
	return list, negated, nil
}

func (s *statement) parseActions(action, notAction json.RawMessage) error {
	list, negated, err := texts("Action", action, notAction)
	if err != nil {
		return err
	}
	s.notActions = negated
	for _, a := range list {
		if err := checkAction(a); err != nil {
			return err
		}
		s.actions = append(s.actions, wildcards(strings.ToLower(a)))
	}
	return nil
}

func (s *statement) parseResources(resource, notResource json.RawMessage, variables bool) error {
	list, negated, err := texts("Resource", resource, notResource)
	if err != nil {
		return err
	}
	s.notResources = negated
	form := templateForm{wild: true, variables: variables}
	for _, r := range list {
		p, err := form.arnPattern(r, true)
		if err != nil {
			return fmt.Errorf("has Resource %w", err)
		}
		s.resources = append(s.resources, p)
	}
	return nil
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

// decide decides on an action such as appmesh:CreateRoute, whose case does not
// matter, and the ARN of a resource, or "*" for actions without one.
func (p *Policy) decide(f *facts) Decision {
	action := strings.ToLower(f.Action)
	decision := NotMentioned
	for i := range p.statements {
		s := &p.statements[i]
		if !s.applies(action, f) {
			continue
		}
		if s.deny {
			return Denied
		}
		decision = Allowed
	}
	return decision
}

// decideAll decides by several policies together.
func decideAll(policies []*Policy, f *facts) Decision {
	decision := NotMentioned
	for _, p := range policies {
		switch p.decide(f) {
		case Denied:
			return Denied
		case Allowed:
			decision = Allowed
		}
	}
	return decision
}

// allowAnywhere reports whether policies allow an action on every resource without a
// condition, and nothing in them could deny it.
func allowAnywhere(policies []*Policy, action string) bool {
	action = strings.ToLower(action)
	allowed := false
	for _, p := range policies {
		for i := range p.statements {
			s := &p.statements[i]
			if !s.coversAction(action) {
				continue
			}
			if s.deny {
				return false
			}
			every := slices.ContainsFunc(s.resources, func(p arnPattern) bool { return p == nil })
			allowed = allowed || every && !s.notResources && len(s.conditions) == 0
		}
	}
	return allowed
}

// applies reports whether a statement of an identity's policy is about a question.
func (s *statement) applies(action string, f *facts) bool {
	return s.coversAction(action) && s.coversResource(f) && s.meetsConditions(f)
}

func (s *statement) coversAction(action string) bool {
	return s.notActions != slices.ContainsFunc(s.actions, func(p pattern) bool { return p.matches(action) })
}

// coversResource compares the resource. A policy variable without a value matches
// nothing, and must not make an Allow with NotResource wider.
func (s *statement) coversResource(f *facts) bool {
	for _, p := range s.resources {
		matches, resolved := p.matches(f.Resource, f)
		if matches {
			return !s.notResources
		}
		if !resolved && s.notResources && !s.deny {
			return false
		}
	}
	return s.notResources
}

// meetsConditions wants all conditions met. Again a variable without a value must
// not make an Allow wider.
func (s *statement) meetsConditions(f *facts) bool {
	for i := range s.conditions {
		holds, resolved := s.conditions[i].holds(f)
		if !holds || !resolved && !s.deny {
			return false
		}
	}
	return true
}
