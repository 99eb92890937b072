package access

import (
	"context"
	"encoding/json"
	"regexp"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// How long the sessions of users may last, and how long those that a session of a
// role makes.
const (
	MaxUserSession     = 36 * time.Hour
	DefaultUserSession = 12 * time.Hour
	MaxChainedSession  = time.Hour
)

// AssumeRole says which role a caller wants to take on, and how.
type AssumeRole struct {
	// RoleARN names the role. It may be one of another account.
	RoleARN string
	// Session names the session, for ARNs and the audit log: 2 to 64 letters, digits
	// and _+=,.@-.
	Session string
	// Duration is how long the session lasts: whole seconds, MinSession to the role's
	// MaxSession. 0 stands for an hour, or less where the role allows less.
	Duration time.Duration
	// Policy restricts the session further, if it is given: what it does not allow too
	// is refused. At most MaxSessionPolicy bytes.
	Policy json.RawMessage
}

const actionAssumeRole = "sts:AssumeRole"

var roleARNPattern = regexp.MustCompile(`^arn:[a-z-]+:iam::(\d{12}):role/([A-Za-z0-9_+=,.@-]{1,64})$`)

// AssumeRole returns temporary credentials for a role, and who one is with them.
//
// The role's trust policy decides, and the caller's own policies. Where the trust
// policy names the caller itself and both are of one account, that is enough; where
// it names an account or everybody, or the role is another account's, the caller's
// own policies must allow sts:AssumeRole on the role too. Denials are stronger
// than all of it. What a caller is told does not depend on whether a role of another
// account is there.
//
// The errors are ErrForbidden, and ErrBadRequest for a name, a duration or a policy
// that cannot be.
func (a *Service) AssumeRole(_ context.Context, c Caller, r AssumeRole) (Credentials, Principal, error) {
	var none Principal
	if c.identity == nil {
		return Credentials{}, none, mesh.Errorf(mesh.ErrForbidden, "User: %s is not authorized to perform: %s because only users and roles can", c.ARN, actionAssumeRole)
	}
	account, name, err := readRoleARN(r.RoleARN, c.Region)
	if err != nil {
		return Credentials{}, none, err
	}
	if !sessionPattern.MatchString(r.Session) {
		return Credentials{}, none, mesh.Errorf(mesh.ErrBadRequest, "session name %s is not allowed: 2 to 64 letters, digits and _+=,.@-", quote(r.Session))
	}
	if err := checkDuration(r.Duration, MaxRoleSession, "any role"); err != nil {
		return Credentials{}, none, err
	}
	policy, err := checkSessionPolicy(r.Policy)
	if err != nil {
		return Credentials{}, none, err
	}
	role, err := a.trusting(c.identity, r, account, name)
	if err != nil {
		return Credentials{}, none, err
	}
	d, err := roleDuration(r.Duration, time.Duration(role.MaxSession)*time.Second, c.identity.session != nil && c.identity.session.role)
	if err != nil {
		return Credentials{}, none, err
	}
	creds, err := a.issue(tokenValue{
		Account: account, Role: true, Name: name, UID: role.UID, Session: r.Session, Era: role.Era, Policy: policy,
	}, d)
	return creds, rolePrincipal(account, name, role.UID, r.Session, c.Region), err
}

// readRoleARN reads the ARN of a role. It must be written as policies write it, so
// that none is got round by another spelling.
func readRoleARN(arn, region string) (account, name string, err error) {
	m := roleARNPattern.FindStringSubmatch(arn)
	if m == nil || arn != roleARN(m[1], m[2], region) {
		return "", "", mesh.Errorf(mesh.ErrBadRequest, "role ARN %s is not allowed: the form is %s", quote(arn), roleARN("ACCOUNT", "NAME", region))
	}
	return m[1], m[2], nil
}

// trusting returns the role if the caller may assume it.
func (a *Service) trusting(id *identity, r AssumeRole, account, name string) (*role, error) {
	q := Question{Action: actionAssumeRole, Resource: r.RoleARN}
	f := a.facts(id, q)
	f.session = r.Session
	t := a.table.Load()
	s := t.standing(id, f.now)
	if s.state != good {
		return nil, refuse(id.who.ARN, q, reasons[s.state])
	}
	own := id.decide(s, f)
	if own == Denied {
		return nil, refuse(id.who.ARN, q, reasonDenied)
	}
	if own != Allowed && account != id.who.Account {
		return nil, refuse(id.who.ARN, q, reasonNotMentioned)
	}
	role, trust := t.role(account, name), noTrust
	if home := t.account(account); role != nil && role.trust != nil && home != nil && !home.Suspended {
		trust = role.trust.trusts(f)
	}
	if trust == noTrust || trust == deniedTrust {
		return nil, refuse(id.who.ARN, q, "the role is not there or its trust policy does not allow it")
	}
	// A session policy bounds what its session may do in any case.
	restricted := id.session != nil && id.session.policy != nil
	if own != Allowed && (trust != directTrust || restricted) {
		return nil, refuse(id.who.ARN, q, reasonNotMentioned)
	}
	return role, nil
}

// checkDuration refuses the duration of a session that cannot be; 0 may.
func checkDuration(d, most time.Duration, whose string) error {
	if d != 0 && (d < MinSession || d > most || d%time.Second != 0) {
		return mesh.Errorf(mesh.ErrBadRequest, "duration of %d seconds is not allowed: a session of %s lasts %d to %d seconds",
			int64(d/time.Second), whose, int(MinSession.Seconds()), int(most.Seconds()))
	}
	return nil
}

// roleDuration returns how long a session of a role lasts.
func roleDuration(wanted, most time.Duration, chained bool) (time.Duration, error) {
	whose := "this role"
	if chained && most > MaxChainedSession {
		most, whose = MaxChainedSession, "a role that a role has assumed"
	}
	if wanted == 0 {
		return min(DefaultRoleSession, most), nil
	}
	return wanted, checkDuration(wanted, most, whose)
}

// SessionToken returns temporary credentials of the user who calls, which may do
// what the user may. They are void when the access key that signed this call is
// disabled or deleted. A duration of 0 stands for DefaultUserSession; the bounds are
// MinSession and MaxUserSession. A session cannot make another one
// (ErrForbidden).
func (a *Service) SessionToken(_ context.Context, c Caller, d time.Duration) (Credentials, error) {
	id := c.identity
	if id == nil || id.session != nil {
		return Credentials{}, mesh.Errorf(mesh.ErrForbidden, "User: %s is not authorized to perform: sts:GetSessionToken because only users with a long-lived access key can", c.ARN)
	}
	if err := checkDuration(d, MaxUserSession, "a user"); err != nil {
		return Credentials{}, err
	}
	if d == 0 {
		d = DefaultUserSession
	}
	if s := a.table.Load().standing(id, a.now()); s.state != good {
		return Credentials{}, refuse(id.who.ARN, Question{Action: "sts:GetSessionToken", Resource: "*"}, reasons[s.state])
	}
	return a.issue(tokenValue{Account: id.who.Account, Name: id.who.User, UID: id.who.ID, Parent: id.keyID}, d)
}
