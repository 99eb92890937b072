package access

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// federatedKind is a kind of identity provider, as ARNs name it.
type federatedKind uint8

const (
	noFederation federatedKind = iota
	federatedOIDC
	federatedCertificate
	federatedAWS
)

// claimNames says which keys conditions can name beside those that are always there:
// what the proofs say that a statement's providers vouch with.
type claimNames struct {
	kind   federatedKind
	issuer string // of OpenID Connect: HOST/PATH
}

// certificateClaims are the keys that a certificate has, as AWS's IAM Roles Anywhere
// calls them, without aws:PrincipalTag/.
var certificateClaims = []string{
	"x509Subject/CN", "x509Subject/O", "x509Subject/OU", "x509Subject/C", "x509Subject/L", "x509Subject/ST",
	"x509Issuer/CN", "x509Issuer/O", "x509Issuer/OU", "x509Issuer/C", "x509Issuer/L", "x509Issuer/ST",
	"x509SAN/URI", "x509SAN/DNS", "x509SAN/Email", "x509SAN/IP", "x509Serial",
}

const principalTag = "aws:PrincipalTag/"

// parse reads the name of a key of a proof; ok is false if it is none.
func (c claimNames) parse(name string) (k contextKey, ok bool) {
	switch c.kind {
	case federatedOIDC:
		if n := len(c.issuer); len(name) > n+1 && name[n] == ':' && strings.EqualFold(name[:n], c.issuer) {
			return contextKey{kind: keyClaim, tag: c.issuer + name[n:]}, true
		}
	case federatedCertificate:
		if n := len(principalTag); len(name) > n && strings.EqualFold(name[:n], principalTag) {
			for _, known := range certificateClaims {
				if strings.EqualFold(known, name[n:]) {
					return contextKey{kind: keyClaim, tag: known}, true
				}
			}
		}
	}
	return k, false
}

// claimValues returns the values that a proof has for a key. The names of claims have
// case: a token may have two that differ in nothing else.
func (f *facts) claimValues(k contextKey) []string {
	if f.subject == nil {
		return nil
	}
	return f.subject.Claims[k.tag]
}

var federatedForm = regexp.MustCompile(`^arn:aws(?:-cn|-us-gov)?:iam::(\d{12}):((?:(oidc-provider)/[!-~]{1,255}|(certificate-provider|aws-provider)/[A-Za-z0-9_+=,.@-]{1,64}))$`)

// parseFederated reads the ARN of an identity provider.
func parseFederated(s string) (principalPattern, error) {
	m := federatedForm.FindStringSubmatch(s)
	if m == nil || strings.ContainsAny(s, "*?$") {
		return principalPattern{}, fmt.Errorf("has Principal.Federated %s, allowed is the ARN of an identity provider: "+
			"arn:aws:iam::ACCOUNT:oidc-provider/HOST/PATH, …:certificate-provider/NAME and …:aws-provider/NAME, without wildcards", quote(s))
	}
	kinds := map[string]federatedKind{"oidc-provider": federatedOIDC, "certificate-provider": federatedCertificate, "aws-provider": federatedAWS}
	return principalPattern{account: m[1], name: m[2], federated: kinds[m[3]+m[4]]}, nil
}

// claimNamesOf returns the keys that a statement's conditions can name. Its principals
// must be of one kind, and issuers stand alone, for the keys of one are never met by
// what another says.
func claimNamesOf(principals []principalPattern) (claimNames, error) {
	c := claimNames{kind: principals[0].federated}
	for _, p := range principals {
		if p.federated != c.kind || c.issuer != "" {
			return c, errors.New("has Principal with identity providers of several kinds, with several issuers, or with AWS and Federated: put them in statements of their own")
		}
		if c.kind == federatedOIDC {
			c.issuer = strings.TrimPrefix(p.name, "oidc-provider/")
		}
	}
	return c, nil
}

// sharedIssuers are issuers that vouch for workloads of anybody in the world, with the
// claims that say whose a workload is, and what the values of those begin with for
// everybody.
var sharedIssuers = map[string]map[string]string{
	"token.actions.githubusercontent.com": {
		"sub": "repo:", "repository": "", "repository_id": "", "repository_owner": "", "repository_owner_id": "", "job_workflow_ref": "",
	},
	"gitlab.com":                            {"sub": "project_path:", "project_path": "", "project_id": "", "namespace_path": "", "namespace_id": ""},
	"accounts.google.com":                   {"sub": "", "azp": ""},
	"app.terraform.io":                      {"sub": "organization:", "terraform_organization_id": "", "terraform_organization_name": ""},
	"agent.buildkite.com":                   {"sub": "organization:", "organization_id": "", "organization_slug": ""},
	"oauth2.sigstore.dev/auth":              {"sub": "", "email": ""},
	"cognito-identity.amazonaws.com":        {"sub": "", "aud": ""},
	"api.pulumi.com/oidc":                   {"sub": "pulumi:"},
	"codefresh.io":                          {"sub": "account:"},
	"oidc.codefresh.io":                     {"sub": "account:"},
	"vstoken.actions.githubusercontent.com": {"sub": "repo:", "repository": "", "repository_owner": ""},
}

// sameForAll are claims that say nothing of whom a token is about.
var sameForAll = []string{"iss", "aud", "exp", "iat", "nbf", "jti"}

// checkNarrow refuses a statement that would let in everybody whom a provider vouches
// for: that is a whole cluster, a whole authority, or the world.
func (s *statement) checkNarrow(c claimNames) error {
	switch {
	case s.deny || c.kind == noFederation:
		return nil
	case c.kind == federatedOIDC:
		if slices.ContainsFunc(s.conditions, func(one condition) bool { return one.narrowsIssuer(c.issuer) }) {
			return nil
		}
		return fmt.Errorf("lets in everybody whom %s vouches for: it needs a Condition with StringEquals or StringLike on %s:sub, or on another claim that says whose the workload is, "+
			"and with a value that does not begin with a wildcard where the issuer is anybody's", c.issuer, c.issuer)
	case c.kind == federatedCertificate:
		if slices.ContainsFunc(s.conditions, func(c condition) bool {
			return c.narrows() && c.key.kind == keyClaim && !strings.HasPrefix(c.key.tag, "x509Issuer/")
		}) {
			return nil
		}
		return errors.New("lets in everybody who has a certificate of the authority: it needs a Condition with StringEquals or StringLike " +
			"on aws:PrincipalTag/x509SAN/URI, /x509SAN/DNS, /x509Subject/CN or another name in certificates")
	}
	if slices.ContainsFunc(s.conditions, func(c condition) bool {
		return c.narrows() && (c.key.kind == keyPrincipalARN || c.key.kind == keyPrincipalAccount || c.key.kind == keyUserID)
	}) {
		return nil
	}
	return errors.New("lets in everybody in the AWS accounts: it needs a Condition with ArnEquals, ArnLike, StringEquals or StringLike on aws:PrincipalArn, " +
		"aws:PrincipalAccount or aws:userid, which here are those in AWS")
}

// narrowsIssuer reports whether a condition is one that not everybody meets whom an
// issuer vouches for.
func (c *condition) narrowsIssuer(issuer string) bool {
	claim, ok := strings.CutPrefix(c.key.tag, issuer+":")
	if c.key.kind != keyClaim || !ok || !c.narrows() {
		return false
	}
	claim = strings.ToLower(claim)
	claims, shared := sharedIssuers[strings.ToLower(issuer)]
	if !shared {
		return !slices.Contains(sameForAll, claim)
	}
	everybodys, ok := claims[claim]
	if !ok {
		return false
	}
	for _, v := range c.values {
		if strings.HasPrefix(everybodys, v.text.beginning()) {
			return false
		}
	}
	return true
}

// narrows reports whether a condition demands a value, and something of it.
func (c *condition) narrows() bool {
	if c.negated || c.ifExists || c.set == allValues {
		return false
	}
	for _, v := range c.values {
		switch c.compare {
		case stringEquals, stringEqualsFold, stringLike:
			if !v.text.says() {
				return false
			}
		case arnLike:
			if len(v.arn) != arnParts || !v.arn[arnParts-1].says() && !v.arn[4].says() {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// beginning returns what all texts begin with that the template matches.
func (t *template) beginning() string {
	if t.parts != nil {
		return textOf(t.parts[0].text)
	}
	if t.fixed.glob != nil {
		return textOf(t.fixed.glob)
	}
	return t.fixed.literal
}

// textOf returns runes up to the first wildcard.
func textOf(runes []rune) string {
	if i := slices.IndexFunc(runes, func(r rune) bool { return r < 0 }); i >= 0 {
		runes = runes[:i]
	}
	return string(runes)
}

// says reports whether the template matches not just anything.
func (t *template) says() bool {
	if t.parts != nil {
		return slices.ContainsFunc(t.parts, func(p templatePart) bool { return slices.ContainsFunc(p.text, func(r rune) bool { return r >= 0 }) })
	}
	if t.fixed.glob != nil {
		return slices.ContainsFunc(t.fixed.glob, func(r rune) bool { return r >= 0 })
	}
	return t.fixed.literal != ""
}
