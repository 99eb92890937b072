package access

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/access/federation"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// The actions that a role's trust policy must allow for sessions of workloads that others
// vouch for.
const (
	actionWebIdentity = "sts:AssumeRoleWithWebIdentity"
	actionCertificate = "sts:AssumeRoleWithCertificate"
	actionAWSIdentity = "sts:AssumeRoleWithAWSIdentity"
)

// Federated says which role a workload wants to take on that somebody else vouches for.
type Federated struct {
	RoleARN string
	// Session names the session. "" for a name made of the proof's subject.
	Session string
	// Duration and Policy are as in AssumeRole.
	Duration time.Duration
	Policy   json.RawMessage
	// SourceIP is where the request came from, if it is known, and Secure says that it
	// came over TLS.
	SourceIP netip.Addr
	Secure   bool
}

// Voucher is who has vouched for whom, once a proof was found to hold. All of it is safe
// to log.
type Voucher struct {
	// Type is TypeWebIdentity, TypeCertificate or TypeAWSIdentity; "" if nobody did.
	Type string
	// Account is the one that has the provider, and Provider the provider's ARN.
	Account, Provider string
	// Region is one that the role's ARN is of the partition of.
	Region string
	// Subject is who it is about, in the provider's words.
	Subject string
	// Audience is for whom a token was made; the first if there are several, "" for other
	// proofs.
	Audience string
}

// ErrNotProven is among what the errors of AssumeRoleWithWebIdentity and its kind wrap
// when it is not proven who somebody is: what was brought does not hold, or cannot be
// looked into just now. What else they refuse is refused to somebody who is known.
var ErrNotProven = errors.New("it is not proven who asks")

// The types of those whom others vouch for, as in CloudTrail where it has them.
const (
	TypeWebIdentity = "WebIdentityUser"
	TypeCertificate = "CertificateUser"
	TypeAWSIdentity = "AWSIdentityUser"
)

// Assumed is a session of a role.
type Assumed struct {
	Credentials Credentials
	Principal   Principal
	// Voucher is set as soon as a proof holds, also if the role is refused then.
	Voucher Voucher
}

// AssumeRoleWithWebIdentity returns temporary credentials for a role to whoever brings a
// token of OpenID Connect that an identity provider of the role's account vouches for, if
// the role's trust policy allows it. The request needs no signature.
//
// What is told does not depend on whether the role is there. The errors are ErrForbidden,
// ErrExpiredToken for a proof that held once, ErrServiceUnavailable if the issuer cannot
// be asked, and ErrBadRequest.
func (a *Service) AssumeRoleWithWebIdentity(ctx context.Context, f Federated, token string) (Assumed, error) {
	e, err := a.newExchange(f, actionWebIdentity, TypeWebIdentity)
	if err != nil {
		return Assumed{}, err
	}
	issuer, err := federation.Issuer(token)
	if err != nil {
		return Assumed{}, notProven(err)
	}
	for _, p := range a.providersOf(e.account) {
		if o := p.Settings().OIDC; o == nil || o.Issuer != issuer {
			continue
		}
		who, err := a.verifier.Token(ctx, p, token)
		if err != nil {
			return Assumed{}, notProven(err)
		}
		return a.exchange(e, []federation.Subject{who})
	}
	return Assumed{}, marked{mesh.Errorf(mesh.ErrForbidden, "account %s has no identity provider for the issuer of the token", e.account), ErrNotProven}
}

// AssumeRoleWithCertificate is AssumeRoleWithWebIdentity for who has shown a client
// certificate in the TLS handshake; chain is what was sent then, none if nothing was.
func (a *Service) AssumeRoleWithCertificate(_ context.Context, f Federated, chain []*x509.Certificate) (Assumed, error) {
	e, err := a.newExchange(f, actionCertificate, TypeCertificate)
	if err != nil {
		return Assumed{}, err
	}
	if len(chain) == 0 {
		return Assumed{}, mesh.Errorf(mesh.ErrBadRequest, "the connection has no client certificate: connect to this server by TLS, with one, and with nothing in between that ends TLS")
	}
	var subjects []federation.Subject
	refused := error(marked{mesh.Errorf(mesh.ErrForbidden, "account %s has no identity provider for certificates", e.account), ErrNotProven})
	for _, p := range a.providersOf(e.account) {
		if p.Settings().Certificate == nil {
			continue
		}
		who, err := a.verifier.Certificate(p, chain)
		if err != nil {
			refused = notProven(err)
			continue
		}
		subjects = append(subjects, who)
	}
	if len(subjects) == 0 {
		return Assumed{}, refused
	}
	return a.exchange(e, subjects)
}

// AssumeRoleWithAWSIdentity is AssumeRoleWithWebIdentity for who can sign as a principal
// of AWS: it brings a request that asks AWS who signed it.
func (a *Service) AssumeRoleWithAWSIdentity(ctx context.Context, f Federated, r SignedRequest) (Assumed, error) {
	e, err := a.newExchange(f, actionAWSIdentity, TypeAWSIdentity)
	if err != nil {
		return Assumed{}, err
	}
	subjects, err := a.verifier.AWS(ctx, a.providersOf(e.account), r)
	if err != nil {
		return Assumed{}, notProven(err)
	}
	return a.exchange(e, subjects)
}

// providersOf returns the identity providers of an account that can be used.
func (a *Service) providersOf(account string) []*federation.Provider {
	var all []*federation.Provider
	for _, p := range below(a.table.Load().providers, treeKey(account, "")) {
		if p.parsed != nil {
			all = append(all, p.parsed)
		}
	}
	return all
}

// notProven turns why a proof does not hold into a refusal.
func notProven(err error) error {
	codes := map[federation.Reason]mesh.Code{
		federation.Malformed: mesh.ErrBadRequest, federation.Invalid: mesh.ErrForbidden,
		federation.Expired: mesh.ErrExpiredToken, federation.Unavailable: mesh.ErrServiceUnavailable,
	}
	code, ok := codes[federation.ReasonOf(err)]
	if !ok {
		return err
	}
	var e *federation.Error
	errors.As(err, &e)
	return marked{mesh.Errorf(code, "%s", e.Error()), ErrNotProven}
}

// marked is a refusal with what tells it from others of its code.
type marked struct{ refusal, mark error }

// Error returns the refusal's text.
func (m marked) Error() string { return m.refusal.Error() }

// Unwrap returns both.
func (m marked) Unwrap() []error { return []error{m.refusal, m.mark} }

// exchange is a Federated that has been checked.
type exchange struct {
	Federated
	action, kind          string
	account, name, region string // of the role; a region of its partition
	policy                json.RawMessage
}

// newExchange checks what needs no proof.
func (a *Service) newExchange(f Federated, action, kind string) (*exchange, error) {
	e := &exchange{Federated: f, action: action, kind: kind, region: a.regions[0]}
	for _, r := range a.regions {
		if strings.HasPrefix(f.RoleARN, "arn:"+mesh.Partition(r)+":") {
			e.region = r
			break
		}
	}
	var err error
	if e.account, e.name, err = readRoleARN(f.RoleARN, e.region); err != nil {
		return nil, err
	}
	if f.Session != "" && !sessionPattern.MatchString(f.Session) {
		return nil, mesh.Errorf(mesh.ErrBadRequest, "session name %s is not allowed: 2 to 64 letters, digits and _+=,.@-", quote(f.Session))
	}
	if err := checkDuration(f.Duration, MaxRoleSession, "any role"); err != nil {
		return nil, err
	}
	e.policy, err = checkSessionPolicy(f.Policy)
	return e, err
}

// exchange gives credentials of the role if it trusts one of those who have been vouched
// for, who are one and the same in the eyes of several providers.
func (a *Service) exchange(e *exchange, subjects []federation.Subject) (Assumed, error) {
	t, now := a.table.Load(), a.now()
	role, home := t.role(e.account, e.name), t.account(e.account)
	usable := role != nil && role.trust != nil && home != nil && !home.Suspended
	who := subjects[0]
	session := e.Session
	if session == "" {
		session = sessionName(label(who))
	}
	trusted := false
	if usable {
		i := slices.IndexFunc(subjects, func(s federation.Subject) bool { return role.trust.trustsSubject(e.facts(s, session, now)) })
		if trusted = i >= 0; trusted {
			who = subjects[i]
		}
		// Which provider is named does not matter for a denial.
		trusted = trusted && !slices.ContainsFunc(subjects, func(s federation.Subject) bool { return role.trust.deniesSubject(e.facts(s, session, now)) })
	}
	out := Assumed{Voucher: Voucher{Type: e.kind, Account: e.account, Region: e.region, Provider: iamARN(e.account, who.Provider, e.region), Subject: who.Name, Audience: audience(who)}}
	if !trusted {
		return out, mesh.Errorf(mesh.ErrForbidden, "%s is not authorized to perform: %s on resource: %s because the role is not there or its trust policy does not allow it",
			quote(who.Name), e.action, e.RoleARN)
	}
	d, err := roleDuration(e.Duration, time.Duration(role.MaxSession)*time.Second, false)
	if err != nil {
		return out, err
	}
	out.Principal = rolePrincipal(e.account, e.name, role.UID, session, e.region)
	out.Credentials, err = a.issue(tokenValue{
		Account: e.account, Role: true, Name: e.name, UID: role.UID, Session: session, Era: role.Era, Policy: e.policy,
	}, d)
	return out, err
}

// facts returns what a trust policy can ask about somebody who has been vouched for.
func (e *exchange) facts(s federation.Subject, session string, now time.Time) *facts {
	f := &facts{
		Question: Question{Action: e.action, Resource: e.RoleARN}, subject: &s, home: e.account,
		region: e.region, sourceIP: e.SourceIP, secure: e.Secure, now: now, session: session,
	}
	if s.AWS != nil {
		f.who = Principal{ARN: s.AWS.ARN, Account: s.AWS.Account, ID: s.AWS.ID}
	}
	return f
}

// label returns what a session is called after: whom the proof is about, of AWS without
// what the names of a role's sessions have in common.
func label(s federation.Subject) string {
	if _, name, ok := strings.Cut(s.Name, "/"); ok && s.AWS != nil {
		return name
	}
	return s.Name
}

// audience returns for whom the token was made that a proof is.
func audience(s federation.Subject) string {
	issuer, _ := strings.CutPrefix(s.Provider, "oidc-provider/")
	if all := s.Claims[issuer+":aud"]; len(all) > 0 {
		return all[0]
	}
	return ""
}

// sessionName makes a session's name of a subject: what a name cannot have becomes a
// hyphen, and what is too long is cut and told from others by a checksum.
func sessionName(subject string) string {
	name := strings.Map(func(r rune) rune {
		if namePattern.MatchString(string(r)) {
			return r
		}
		return '-'
	}, subject)
	const most, kept = 64, 51
	if len(name) > most {
		sum := sha256.Sum256([]byte(subject))
		name = name[:kept] + "-" + hex.EncodeToString(sum[:6])
	}
	for len(name) < 2 {
		name += "-"
	}
	return name
}
