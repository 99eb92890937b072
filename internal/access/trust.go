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
}

var principalForm = regexp.MustCompile(`^arn:aws(?:-cn|-us-gov)?:(?:` +
	`iam::(\d{12}):(root|user/[A-Za-z0-9_+=,.@-]{1,64}|role/[A-Za-z0-9_+=,.@-]{1,64})|` +
	`sts::(\d{12}):(assumed-role/[A-Za-z0-9_+=,.@-]{1,64}/[A-Za-z0-9_+=,.@-]{2,64}))$`)

var accountForm = regexp.MustCompile(`^\d{12}$`)

// parsePrincipals reads the value of Principal: "*", or an object with AWS.
func parsePrincipals(raw json.RawMessage) ([]principalPattern, error) {
	if string(raw) == `"*"` {
		return []principalPattern{{}}, nil
	}
	var list json.RawMessage
	all, err := readObject(raw)
	if err != nil || len(all) == 0 {
		return nil, errors.New(`needs Principal: "*" or an object with AWS`)
	}
	for _, m := range all {
		if m.name != "AWS" {
			return nil, fmt.Errorf("has Principal with %s, allowed is AWS", quote(m.name))
		}
		list = m.value
	}
	names, _, err := texts("Principal.AWS", list, nil)
	if err != nil {
		return nil, err
	}
	patterns := make([]principalPattern, len(names))
	for i, name := range names {
		if patterns[i], err = parsePrincipal(name); err != nil {
			return nil, err
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
