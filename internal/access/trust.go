package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// trust is how far the trust policy of a role lets a caller in.
type trust uint8

const (
	noTrust      trust = iota
	accountTrust       // as one of an account: its own policies must allow it too
	directTrust        // as who it is
	deniedTrust        // a statement denies it
)

// principalPattern is whom a statement of a trust policy is about.
type principalPattern struct {
	account string // "" for everybody
	name    string // user/NAME, role/NAME or assumed-role/ROLE/SESSION; "" for the whole account
	// federated is the kind of identity provider that name is, if it is one.
	federated federatedKind
}

var principalForm = regexp.MustCompile(`^arn:aws(?:-cn|-us-gov)?:(?:` +
	`iam::(\d{12}):(root|user/[A-Za-z0-9_+=,.@-]{1,64}|role/[A-Za-z0-9_+=,.@-]{1,64})|` +
	`sts::(\d{12}):(assumed-role/[A-Za-z0-9_+=,.@-]{1,64}/[A-Za-z0-9_+=,.@-]{2,64}))$`)

var accountForm = regexp.MustCompile(`^\d{12}$`)

// parsePrincipals reads the value of Principal: "*", or an object with AWS or Federated.
func parsePrincipals(raw json.RawMessage) ([]principalPattern, error) {
	if string(raw) == `"*"` {
		return []principalPattern{{}}, nil
	}
	all, err := readObject(raw)
	if err != nil || len(all) == 0 {
		return nil, errors.New(`needs Principal: "*" or an object with AWS or Federated`)
	}
	var patterns []principalPattern
	for _, m := range all {
		parse := parsePrincipal
		switch m.name {
		case "AWS":
		case "Federated":
			parse = parseFederated
		default:
			return nil, fmt.Errorf("has Principal with %s, allowed are AWS and Federated", quote(m.name))
		}
		names, _, err := texts("Principal."+m.name, m.value, nil)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			p, err := parse(name)
			if err != nil {
				return nil, err
			}
			patterns = append(patterns, p)
		}
	}
	return patterns, nil
}

func parsePrincipal(s string) (principalPattern, error) {
	if s == "*" {
		return principalPattern{}, nil
	}
	if accountForm.MatchString(s) {
		return principalPattern{account: s}, nil
	}
	m := principalForm.FindStringSubmatch(s)
	if m == nil {
		return principalPattern{}, fmt.Errorf("has Principal %s, allowed are *, an account's twelve digits and the ARN of an account's root, a user, "+
			"a role or a session of one, without wildcards", quote(s))
	}
	p := principalPattern{account: m[1] + m[3], name: m[2] + m[4]}
	if p.name == "root" {
		p.name = ""
	}
	return p, nil
}

// trusts returns how far the pattern covers a caller.
func (p principalPattern) trusts(who *Principal) trust {
	switch {
	case p.federated != noFederation:
		return noTrust
	case p.account == "":
		return accountTrust
	case p.account != who.Account:
		return noTrust
	case p.name == "":
		return accountTrust
	case slices.Contains(who.names(), p.name):
		return directTrust
	}
	return noTrust
}

// trusts asks a trust policy about the caller in f, who wants to do f.Action.
func (p *Policy) trusts(f *facts) trust {
	action := strings.ToLower(f.Action)
	best := noTrust
	for i := range p.statements {
		s := &p.statements[i]
		t := noTrust
		for _, principal := range s.principals {
			t = max(t, principal.trusts(&f.who))
		}
		if t == noTrust || !s.coversAction(action) || !s.meetsConditions(f) {
			continue
		}
		if s.deny {
			return deniedTrust
		}
		best = max(best, t)
	}
	return best
}

// trustsSubject asks a trust policy about somebody whom an identity provider vouches for,
// who wants to do f.Action. Only a statement that names the provider lets in, and only
// providers of the role's own account count.
func (p *Policy) trustsSubject(f *facts) bool {
	return slices.ContainsFunc(p.statements, func(s statement) bool { return !s.deny && s.isAboutSubject(f) })
}

// deniesSubject is trustsSubject for denials, which are stronger. One about everybody is
// about those too whom others vouch for.
func (p *Policy) deniesSubject(f *facts) bool {
	return slices.ContainsFunc(p.statements, func(s statement) bool { return s.deny && s.isAboutSubject(f) })
}

func (s *statement) isAboutSubject(f *facts) bool {
	named := slices.ContainsFunc(s.principals, func(p principalPattern) bool {
		everybody := p.account == "" && p.federated == noFederation
		return s.deny && everybody || p.federated != noFederation && p.account == f.home && p.name == f.subject.Provider
	})
	return named && s.coversAction(strings.ToLower(f.Action)) && s.meetsConditions(f)
}
