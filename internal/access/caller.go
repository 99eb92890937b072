package access

import (
	"net/netip"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// Caller is who signed a request.
type Caller struct {
	store.Caller
	// KeyID is the id of the access key that signed; see Service.Valid.
	KeyID string
	// Principal says who it is in all detail.
	Principal Principal
	// Expires is when the caller's session ends; zero for long-lived keys.
	Expires time.Time

	identity *identity
}

// The types of principals.
const (
	TypeUser        = "IAMUser"
	TypeAssumedRole = "AssumedRole"
)

// Principal is who a caller is, for the audit log and for telling callers who they
// are. All of it is safe to log.
type Principal struct {
	Type    string // TypeUser or TypeAssumedRole
	ID      string // the uid of a user; UID:SESSION for a role
	ARN     string // of the user, or of the session of a role
	Account string
	// User is the name of a user; "" for a role.
	User string
	// Role, RoleARN and RoleID name a role, and Session its session; "" for a user.
	Role, RoleARN, RoleID, Session string
}

// userPrincipal returns a user as a principal, in the partition of a region.
func userPrincipal(account, name, uid, region string) Principal {
	return Principal{Type: TypeUser, ID: uid, ARN: userARN(account, name, region), Account: account, User: name}
}

// rolePrincipal returns the session of a role as a principal.
func rolePrincipal(account, name, uid, session, region string) Principal {
	return Principal{
		Type: TypeAssumedRole, ID: uid + ":" + session, Account: account,
		ARN:  "arn:" + mesh.Partition(region) + ":sts::" + account + ":assumed-role/" + name + "/" + session,
		Role: name, RoleARN: roleARN(account, name, region), RoleID: uid, Session: session,
	}
}

// policyARN returns what aws:PrincipalArn holds: for a session its role.
func (p *Principal) policyARN() string {
	if p.RoleARN != "" {
		return p.RoleARN
	}
	return p.ARN
}

// names returns the last parts of the ARNs by which a trust policy can name the
// principal itself.
func (p *Principal) names() []string {
	if p.Type == TypeAssumedRole {
		return []string{"role/" + p.Role, "assumed-role/" + p.Role + "/" + p.Session}
	}
	return []string{"user/" + p.User}
}

// identity is who signed, and how the request came.
type identity struct {
	keyID    string
	session  *session // nil for a long-lived key
	who      Principal
	region   string
	sourceIP netip.Addr
	secure   bool
}

// state says whether an identity still counts.
type state uint8

const (
	good      state = iota
	gone            // the key is disabled or gone, or its user, role or account is
	suspended       // the account is
	expired         // the session is
	revoked         // the session is
)

// standing is the state of an identity, and the policies that hold for it.
type standing struct {
	state    state
	policies []*Policy
}

// standing looks up what holds for an identity at a time.
func (t *table) standing(id *identity, now time.Time) standing {
	var s standing
	switch {
	case id.session == nil:
		s = t.keyStanding(id.keyID)
	case id.session.role:
		s = t.roleStanding(id.session)
	default:
		if s = t.keyStanding(id.session.parent); s.state == good && t.key(id.session.parent).userUID != id.session.uid {
			s = standing{state: gone}
		}
	}
	if s.state == good && id.session != nil && !now.Before(id.session.expires) {
		return standing{state: expired}
	}
	return s
}

func (t *table) keyStanding(keyID string) standing {
	key := t.validKey(keyID)
	if key == nil {
		return standing{state: gone}
	}
	if t.account(key.account).Suspended {
		return standing{state: suspended}
	}
	return standing{policies: t.user(key.account, key.user).policies}
}

func (t *table) roleStanding(s *session) standing {
	account, role := t.account(s.account), t.role(s.account, s.name)
	switch {
	case account == nil || role == nil || role.UID != s.uid:
		return standing{state: gone}
	case account.Suspended:
		return standing{state: suspended}
	case role.Era != s.era:
		return standing{state: revoked}
	}
	return standing{policies: role.policies}
}

// caller returns the caller that an identity stands for.
func (a *Service) caller(id *identity) Caller {
	c := Caller{
		KeyID:     id.keyID,
		Principal: id.who,
		identity:  id,
		Caller: store.Caller{
			Account:  id.who.Account,
			Region:   id.region,
			ARN:      id.who.ARN,
			Allow:    func(q store.Question) error { return a.allow(id, q) },
			Anywhere: func(action string) bool { return a.anywhere(id, action) },
		},
	}
	if id.session != nil {
		c.Expires = id.session.expires
	}
	return c
}

// reasons says why an identity of a state is refused.
var reasons = map[state]string{
	gone:      "its access key is no longer valid",
	suspended: "its account is suspended",
	expired:   "its session has expired",
	revoked:   "its session has been revoked",
}

const (
	reasonDenied       = "a policy denies it explicitly"
	reasonNotMentioned = "no identity-based policy allows it"
)

// allow answers a question by the policies of this moment.
func (a *Service) allow(id *identity, q Question) error {
	f := a.facts(id, q)
	s := a.table.Load().standing(id, f.now)
	if s.state != good {
		return refuse(id.who.ARN, q, reasons[s.state])
	}
	switch id.decide(s, f) {
	case Allowed:
		return nil
	case Denied:
		return refuse(id.who.ARN, q, reasonDenied)
	}
	return refuse(id.who.ARN, q, reasonNotMentioned)
}

// anywhere reports whether an identity may do an action whatever the resource, the
// tags and the circumstances are.
func (a *Service) anywhere(id *identity, action string) bool {
	s := a.table.Load().standing(id, a.now())
	if s.state != good || !allowAnywhere(s.policies, action) {
		return false
	}
	return id.session == nil || id.session.policy == nil || allowAnywhere([]*Policy{id.session.policy}, action)
}

// facts returns what policies can ask about a question of an identity.
func (a *Service) facts(id *identity, q Question) *facts {
	f := &facts{Question: q, who: id.who, region: id.region, sourceIP: id.sourceIP, secure: id.secure, now: a.now()}
	if id.session != nil {
		f.issued = id.session.issued
	}
	return f
}

// decide asks the policies of the user or role, and that of the session.
func (id *identity) decide(s standing, f *facts) Decision {
	d := decideAll(s.policies, f)
	if id.session != nil && id.session.policy != nil {
		d = d.and(id.session.policy.decide(f))
	}
	return d
}

func refuse(arn string, q Question, reason string) error {
	return mesh.Errorf(mesh.ErrForbidden, "User: %s is not authorized to perform: %s on resource: %s because %s", arn, q.Action, q.Resource, reason)
}
