package access

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/fairlead-mesh/fairlead/internal/access/federation"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/standin"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// openFederated opens a Service that asks issuers on this host, with the first account.
func openFederated(t testing.TB) *Service {
	t.Helper()
	a, err := Open(t.Context(), Config{
		Store: openStore(t), Regions: []string{testRegion}, IdentityServer: "fairlead.test", LoopbackIdentity: true,
	})
	ok(t, err)
	t.Cleanup(func() { ok(t, a.Close()) })
	for _, account := range []string{testAccount, otherAccount} {
		_, _, err = a.CreateAccount(t.Context(), tester, account, "test")
		ok(t, err)
	}
	return a
}

// issuerName returns how an issuer is called in ARNs and condition keys.
func issuerName(i *standin.Issuer) string {
	_, name, _ := strings.Cut(i.URL, "://")
	return name
}

// trustingIssuer returns a trust policy for tokens of an issuer.
func trustingIssuer(account string, i *standin.Issuer, condition string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::%s:oidc-provider/%s"},"Action":"sts:AssumeRoleWithWebIdentity","Condition":%s}]}`,
		account, issuerName(i), strings.ReplaceAll(condition, "ISSUER", issuerName(i))))
}

func withIssuer(t testing.TB, a *Service, account, name string, i *standin.Issuer) IdentityProvider {
	t.Helper()
	p, err := a.CreateIdentityProvider(t.Context(), tester, IdentityProvider{
		Account: account, Name: name, Settings: ProviderSettings{OIDC: &OIDCSettings{Issuer: i.URL, Audiences: []string{"fairlead"}, CA: i.CA}},
	})
	ok(t, err)
	return p
}

func withRole(t testing.TB, a *Service, account, name string, trust json.RawMessage) string {
	t.Helper()
	r, err := a.CreateRole(t.Context(), tester, Role{
		Account: account, Name: name, TrustPolicy: trust, MaxSession: 2 * time.Hour,
		Policies: map[string]json.RawMessage{"all": json.RawMessage(allowing("appmesh:*"))},
	})
	ok(t, err)
	return r.ARN(testRegion)
}

func TestWebIdentity(t *testing.T) {
	t.Parallel()
	a := openFederated(t)
	issuer, other := standin.NewIssuer(t, jose.RS256, true), standin.NewIssuer(t, jose.ES256, true)
	p := withIssuer(t, a, testAccount, "cluster", issuer)
	if want := "arn:aws:iam::" + testAccount + ":oidc-provider/" + issuerName(issuer); p.ARN(testRegion) != want {
		t.Errorf("the provider is %s, want %s", p.ARN(testRegion), want)
	}
	withIssuer(t, a, otherAccount, "cluster", other)
	cart := withRole(t, a, testAccount, "cart", trustingIssuer(testAccount, issuer, `{"StringEquals":{"ISSUER:sub":"system:serviceaccount:shop:cart","ISSUER:aud":"fairlead"}}`))
	shop := withRole(t, a, testAccount, "shop", trustingIssuer(testAccount, issuer, `{"StringLike":{"ISSUER:kubernetes.io/namespace":"shop-*"},"StringEquals":{"sts:RoleSessionName":"named"}}`))
	foreign := withRole(t, a, otherAccount, "cart", trustingIssuer(otherAccount, other, `{"StringEquals":{"ISSUER:sub":"system:serviceaccount:shop:cart"}}`))
	now := time.Now()
	token := func(i *standin.Issuer, namespace, account string) string {
		return i.Token(t, now, standin.Kubernetes(namespace, account, "fairlead"))
	}
	const denied = "the role is not there or its trust policy does not allow it"
	for name, c := range map[string]struct {
		f     Federated
		token string
		code  mesh.Code
		say   string // of a refusal, or the session's name
	}{
		"trusted":           {Federated{RoleARN: cart}, token(issuer, "shop", "cart"), "", "system-serviceaccount-shop-cart"},
		"named":             {Federated{RoleARN: shop, Session: "named"}, token(issuer, "shop-1", "x"), "", "named"},
		"as long as can be": {Federated{RoleARN: cart, Duration: 2 * time.Hour}, token(issuer, "shop", "cart"), "", "system-serviceaccount-shop-cart"},
		"too long":          {Federated{RoleARN: cart, Duration: 3 * time.Hour}, token(issuer, "shop", "cart"), mesh.ErrBadRequest, "this role lasts 900 to 7200"},
		"misnamed":          {Federated{RoleARN: shop, Session: "another"}, token(issuer, "shop-1", "x"), mesh.ErrForbidden, denied},
		"another subject":   {Federated{RoleARN: cart}, token(issuer, "shop", "till"), mesh.ErrForbidden, denied},
		"another namespace": {Federated{RoleARN: shop, Session: "named"}, token(issuer, "shop", "x"), mesh.ErrForbidden, denied},
		"no role":           {Federated{RoleARN: roleARN(testAccount, "none", testRegion)}, token(issuer, "shop", "cart"), mesh.ErrForbidden, denied},
		"another account":   {Federated{RoleARN: foreign}, token(issuer, "shop", "cart"), mesh.ErrForbidden, "account " + otherAccount + " has no identity provider for the issuer"},
		"no account":        {Federated{RoleARN: roleARN("000000000009", "cart", testRegion)}, token(issuer, "shop", "cart"), mesh.ErrForbidden, "has no identity provider for the issuer"},
		"expired":           {Federated{RoleARN: cart}, issuer.Token(t, now.Add(-time.Hour), standin.Kubernetes("shop", "cart", "fairlead")), mesh.ErrExpiredToken, "expired"},
		"another audience":  {Federated{RoleARN: cart}, issuer.Token(t, now, standin.Kubernetes("shop", "cart", "vault")), mesh.ErrForbidden, "audience"},
		"no token":          {Federated{RoleARN: cart}, "x", mesh.ErrBadRequest, "JSON Web Token"},
		"no role's ARN":     {Federated{RoleARN: "cart"}, token(issuer, "shop", "cart"), mesh.ErrBadRequest, "role ARN"},
		"odd session":       {Federated{RoleARN: cart, Session: "a b"}, token(issuer, "shop", "cart"), mesh.ErrBadRequest, "session name"},
		"odd policy":        {Federated{RoleARN: cart, Policy: json.RawMessage(`{}`)}, token(issuer, "shop", "cart"), mesh.ErrBadRequest, "session policy"},
		"seconds":           {Federated{RoleARN: cart, Duration: time.Second}, token(issuer, "shop", "cart"), mesh.ErrBadRequest, "any role lasts"},
	} {
		got, err := a.AssumeRoleWithWebIdentity(t.Context(), c.f, c.token)
		if codeOf(t, err) != c.code || err != nil && !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: got %v, want %q with %q", name, err, c.code, c.say)
		}
		if err == nil && got.Principal.Session != c.say {
			t.Errorf("%s: the session is %q, want %q", name, got.Principal.Session, c.say)
		}
		if proven := err == nil || strings.Contains(err.Error(), denied); proven && got.Voucher.Type != TypeWebIdentity || got.Voucher.Type != "" && got.Voucher.Provider != p.ARN(testRegion) {
			t.Errorf("%s: the voucher is %+v", name, got.Voucher)
		}
	}
	// What one is told does not depend on whether the role is there.
	_, is := a.AssumeRoleWithWebIdentity(t.Context(), Federated{RoleARN: cart}, token(issuer, "a", "b"))
	_, isNot := a.AssumeRoleWithWebIdentity(t.Context(), Federated{RoleARN: strings.Replace(cart, "cart", "none", 1)}, token(issuer, "a", "b"))
	if strings.Replace(is.Error(), "role/cart", "role/none", 1) != isNot.Error() {
		t.Errorf("%v\n%v", is, isNot)
	}
}

// TestFederatedSession holds that what was got for a proof is a session like any other.
func TestFederatedSession(t *testing.T) {
	t.Parallel()
	a := openFederated(t)
	issuer := standin.NewIssuer(t, jose.RS256, true)
	withIssuer(t, a, testAccount, "cluster", issuer)
	trust := trustingIssuer(testAccount, issuer, `{"StringLike":{"ISSUER:sub":"system:serviceaccount:shop:*"},"Bool":{"aws:SecureTransport":"true"},"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`)
	role := withRole(t, a, testAccount, "cart", trust)
	token := issuer.Token(t, time.Now(), standin.Kubernetes("shop", "cart", "fairlead"))
	assume := func(f Federated) (Assumed, error) {
		f.RoleARN = role
		return a.AssumeRoleWithWebIdentity(t.Context(), f, token)
	}
	here := Federated{SourceIP: netip.MustParseAddr("192.0.2.7"), Secure: true}
	for name, f := range map[string]Federated{
		"from elsewhere": {SourceIP: netip.MustParseAddr("198.51.100.1"), Secure: true}, "in plaintext": {SourceIP: here.SourceIP}, "from nowhere": {Secure: true},
	} {
		if _, err := assume(f); codeOf(t, err) != mesh.ErrForbidden {
			t.Errorf("%s: %v", name, err)
		}
	}
	got, err := assume(here)
	ok(t, err)
	caller, err := signInAt(t, a, got.Credentials, time.Now())
	ok(t, err)
	if caller.Account != testAccount || caller.Principal != got.Principal || caller.Principal.RoleARN != role || caller.Expires.IsZero() {
		t.Errorf("the caller is %+v", caller)
	}
	if caller.Allow(store.Question{Action: "appmesh:DescribeMesh", Resource: "*"}) != nil || caller.Allow(store.Question{Action: "iam:CreateUser", Resource: "*"}) == nil {
		t.Error("the session may not do what its role may, or more")
	}
	here.Policy = json.RawMessage(allowing("appmesh:List*"))
	bounded, err := assume(here)
	ok(t, err)
	narrow, err := signInAt(t, a, bounded.Credentials, time.Now())
	ok(t, err)
	if narrow.Allow(store.Question{Action: "appmesh:DescribeMesh", Resource: "*"}) == nil {
		t.Error("the session's policy does not bound it")
	}
	_, err = a.RevokeSessions(t.Context(), tester, testAccount, "cart")
	ok(t, err)
	if a.Valid(caller) {
		t.Error("a revoked session is valid")
	}
	// A provider that has gone vouches for nobody.
	again, err := assume(here)
	ok(t, err)
	_, err = a.DeleteIdentityProvider(t.Context(), tester, testAccount, "cluster")
	ok(t, err)
	if _, err := assume(here); codeOf(t, err) != mesh.ErrForbidden {
		t.Errorf("without the provider: %v", err)
	}
	if caller, err := signInAt(t, a, again.Credentials, time.Now()); err != nil || !a.Valid(caller) {
		t.Errorf("a session that was there: %v", err)
	}
	// Nobody gets a role of a suspended account.
	withIssuer(t, a, testAccount, "cluster", issuer)
	suspended := true
	_, err = a.Bootstrap(t.Context(), "000000000005", func(Credentials) error { return nil })
	ok(t, err)
	_, err = a.UpdateAccount(t.Context(), tester, testAccount, AccountChange{Suspended: &suspended})
	ok(t, err)
	if _, err := assume(here); codeOf(t, err) != mesh.ErrForbidden || !strings.Contains(err.Error(), "the role is not there") {
		t.Errorf("of a suspended account: %v", err)
	}
}

// TestFederatedTrust asks trust policies about subjects that are made up.
func TestFederatedTrust(t *testing.T) {
	t.Parallel()
	github := "token.actions.githubusercontent.com"
	subject := func(provider string, claims map[string][]string) *facts {
		return &facts{
			Question: Question{Action: actionWebIdentity}, home: testAccount, now: testNow, region: testRegion,
			subject: &federation.Subject{Provider: provider, Claims: claims},
		}
	}
	job := subject("oidc-provider/"+github, map[string][]string{github + ":sub": {"repo:o/r:ref:refs/heads/main"}, github + ":aud": {"a", "b"}, github + ":groups": {"dev", "ops"}})
	pod := subject("certificate-provider/ca", map[string][]string{"x509SAN/URI": {"spiffe://d/cart"}})
	amazon := &facts{
		Question: Question{Action: actionAWSIdentity}, home: testAccount, now: testNow, region: testRegion, subject: &federation.Subject{Provider: "aws-provider/prod"},
		who: Principal{ARN: "arn:aws:iam::111122223333:role/cart", Account: "111122223333", ID: "AROA:s"},
	}
	statement := func(effect, principal, action, condition string) string {
		return fmt.Sprintf(`{"Effect":%q,"Principal":%s,"Action":%q,"Condition":%s}`, effect, principal, action, condition)
	}
	federated := func(what string) string { return `{"Federated":"arn:aws:iam::` + testAccount + `:` + what + `"}` }
	allowJob := statement("Allow", federated("oidc-provider/"+github), actionWebIdentity, `{"StringEquals":{"`+github+`:sub":"repo:o/r:ref:refs/heads/main"}}`)
	and := func(condition string) string {
		return statement("Allow", federated("oidc-provider/"+github), actionWebIdentity, strings.Replace(condition, "{", `{"StringLike":{"`+github+`:sub":"repo:o/*"},`, 1))
	}
	for name, c := range map[string]struct {
		who        *facts
		statements []string
		want       bool
	}{
		"trusted":                     {job, []string{allowJob}, true},
		"upper case":                  {job, []string{strings.ReplaceAll(allowJob, github+":sub", strings.ToUpper(github)+":sub")}, true},
		"another action":              {job, []string{strings.Replace(allowJob, actionWebIdentity, actionAssumeRole, 1)}, false},
		"any action":                  {job, []string{strings.Replace(allowJob, actionWebIdentity, "sts:*", 1)}, true},
		"everybody":                   {job, []string{statement("Allow", `"*"`, "*", "{}")}, false},
		"its account":                 {job, []string{statement("Allow", `{"AWS":"`+testAccount+`"}`, "*", "{}")}, false},
		"another provider":            {pod, []string{allowJob}, false},
		"denied":                      {job, []string{allowJob, statement("Deny", federated("oidc-provider/"+github), "*", `{"StringLike":{"`+github+`:sub":"repo:o/*"}}`)}, false},
		"denied everybody":            {job, []string{allowJob, statement("Deny", `"*"`, "*", `{"Bool":{"aws:SecureTransport":"false"}}`)}, false},
		"denied others":               {job, []string{allowJob, statement("Deny", federated("oidc-provider/"+github), "*", `{"StringLike":{"`+github+`:sub":"repo:p/*"}}`)}, true},
		"all of many":                 {job, []string{and(`{"ForAllValues:StringEquals":{"` + github + `:groups":["dev","ops"]}}`)}, true},
		"not all of many":             {job, []string{and(`{"StringEquals":{"` + github + `:groups":"dev"}}`)}, false},
		"any of many":                 {job, []string{and(`{"ForAnyValue:StringEquals":{"` + github + `:groups":"dev"}}`)}, true},
		"a claim that is not there":   {job, []string{and(`{"StringEquals":{"` + github + `:none":"x"}}`)}, false},
		"claims have case":            {job, []string{and(`{"Null":{"` + github + `:SUB":"false"}}`)}, false},
		"a certificate":               {pod, []string{statement("Allow", federated("certificate-provider/ca"), "*", `{"StringLike":{"aws:PrincipalTag/x509SAN/URI":"spiffe://d/*"}}`)}, true},
		"a certificate's other name":  {pod, []string{statement("Allow", federated("certificate-provider/ca"), "*", `{"StringLike":{"aws:PrincipalTag/x509SAN/DNS":"d"}}`)}, false},
		"AWS":                         {amazon, []string{statement("Allow", federated("aws-provider/prod"), "*", `{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/cart"}}`)}, true},
		"AWS, any role":               {amazon, []string{statement("Allow", federated("aws-provider/prod"), "*", `{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/*"}}`)}, true},
		"AWS, another role":           {amazon, []string{statement("Allow", federated("aws-provider/prod"), "*", `{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/till"}}`)}, false},
		"AWS, as one of this account": {amazon, []string{statement("Allow", `{"AWS":"111122223333"}`, "*", "{}")}, false},
	} {
		p, err := parsePolicy([]byte(`{"Version":"2012-10-17","Statement":[`+strings.Join(c.statements, ",")+`]}`), trustPolicy)
		ok(t, err)
		if got := p.trustsSubject(c.who) && !p.deniesSubject(c.who); got != c.want {
			t.Errorf("%s: trusts is %v", name, got)
		}
		// A signed caller is never taken for somebody's subject.
		signed := *c.who
		signed.subject, signed.home = nil, ""
		if got := p.trusts(&signed); strings.Contains(c.statements[0], "Federated") && got != noTrust && got != deniedTrust {
			t.Errorf("%s: a signed caller is trusted", name)
		}
	}
}

// TestTrustMustBeNarrow holds that no trust policy lets in everybody whom a provider
// vouches for.
func TestTrustMustBeNarrow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ provider, condition, refusal string }{
		{"oidc-provider/ISSUER", `{}`, "needs a Condition"},
		{"oidc-provider/ISSUER", `{"StringEquals":{"ISSUER:aud":"sts.amazonaws.com"}}`, "needs a Condition"},
		{"oidc-provider/ISSUER", `{"StringLike":{"ISSUER:sub":"*"}}`, "needs a Condition"},
		{"oidc-provider/ISSUER", `{"StringLike":{"ISSUER:sub":["repo:o/r:*","?*"]}}`, "needs a Condition"},
		{"oidc-provider/ISSUER", `{"StringNotEquals":{"ISSUER:sub":"x"}}`, "needs a Condition"},
		{"oidc-provider/ISSUER", `{"StringEqualsIfExists":{"ISSUER:sub":"repo:o/r:x"}}`, "needs a Condition"},
		{"oidc-provider/ISSUER", `{"ForAllValues:StringEquals":{"ISSUER:sub":"repo:o/r:x"}}`, "needs a Condition"},
		{"oidc-provider/ISSUER", `{"Null":{"ISSUER:sub":"false"}}`, "needs a Condition"},
		{"oidc-provider/ISSUER", `{"StringEquals":{"other.example.com:sub":"x"}}`, `"other.example.com:sub" is not known`},
		{"oidc-provider/ISSUER", `{"StringEquals":{"ISSUER:sub":"system:serviceaccount:shop:cart"}}`, ""},
		{"oidc-provider/ISSUER", `{"ForAnyValue:StringEquals":{"ISSUER:groups":"shop"}}`, ""},
		{"oidc-provider/ISSUER", `{"StringLike":{"ISSUER:sub":"*@example.com"}}`, ""},
		{"oidc-provider/token.actions.githubusercontent.com", `{"StringLike":{"token.actions.githubusercontent.com:sub":"repo:*"}}`, "needs a Condition"},
		{"oidc-provider/token.actions.githubusercontent.com", `{"StringLike":{"token.actions.githubusercontent.com:sub":"re*:main"}}`, "needs a Condition"},
		{"oidc-provider/token.actions.githubusercontent.com", `{"StringLike":{"token.actions.githubusercontent.com:sub":"*:ref:refs/heads/main"}}`, "needs a Condition"},
		{"oidc-provider/token.actions.githubusercontent.com", `{"StringEquals":{"token.actions.githubusercontent.com:ref":"refs/heads/main"}}`, "needs a Condition"},
		{"oidc-provider/token.actions.githubusercontent.com", `{"StringLike":{"token.actions.githubusercontent.com:sub":"repo:o/*"}}`, ""},
		{"oidc-provider/token.actions.githubusercontent.com", `{"StringEquals":{"token.actions.githubusercontent.com:repository_owner_id":"7"}}`, ""},
		{"certificate-provider/ca", `{}`, "needs a Condition"},
		{"certificate-provider/ca", `{"StringEquals":{"aws:PrincipalTag/x509Issuer/CN":"root"}}`, "needs a Condition"},
		{"certificate-provider/ca", `{"StringEquals":{"aws:PrincipalTag/team":"shop"}}`, "is not known"},
		{"certificate-provider/ca", `{"StringEquals":{"aws:PrincipalTag/x509Subject/CN":"cart"}}`, ""},
		{"aws-provider/prod", `{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:*"}}`, "needs a Condition"},
		{"aws-provider/prod", `{"ArnLike":{"aws:PrincipalArn":"*"}}`, "needs a Condition"},
		{"aws-provider/prod", `{"StringEquals":{"aws:PrincipalAccount":"111122223333"}}`, ""},
		{"aws-provider/prod", `{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/*"}}`, ""},
	} {
		document := fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::%s:%s"},"Action":"*","Condition":%s}}`, testAccount, c.provider, c.condition)
		document = strings.ReplaceAll(document, "ISSUER", "oidc.example.com/id/1")
		_, err := parsePolicy([]byte(document), trustPolicy)
		if (err == nil) != (c.refusal == "") || err != nil && (!strings.Contains(err.Error(), c.refusal) || strings.ContainsAny(err.Error(), "\r\n")) {
			t.Errorf("%s %s: got %v, want %q", c.provider, c.condition, err, c.refusal)
		}
	}
	for document, want := range map[string]string{
		`{"Federated":["arn:aws:iam::000000000001:oidc-provider/a","arn:aws:iam::000000000001:oidc-provider/b"]}`: "statements of their own",
		`{"Federated":"arn:aws:iam::000000000001:oidc-provider/a","AWS":"*"}`:                                     "statements of their own",
		`{"Federated":"*"}`: "without wildcards",
		`{"Federated":"arn:aws:iam::000000000001:oidc-provider/*"}`: "without wildcards",
		`{"Federated":"accounts.google.com"}`:                       "the ARN of an identity provider",
	} {
		_, err := parsePolicy([]byte(`{"Statement":{"Effect":"Allow","Action":"*","Principal":`+document+`}}`), trustPolicy)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", document, err, want)
		}
	}
	a := openFederated(t)
	issuer := standin.NewIssuer(t, jose.RS256, true)
	_, err := a.CreateRole(t.Context(), tester, Role{Account: testAccount, Name: "r", TrustPolicy: trustingIssuer(otherAccount, issuer, `{"StringEquals":{"ISSUER:sub":"x"}}`)})
	if codeOf(t, err) != mesh.ErrBadRequest || !strings.Contains(err.Error(), "allowed are those of the role's own account") {
		t.Errorf("another account's provider: %v", err)
	}
}

func TestCertificateIdentity(t *testing.T) {
	t.Parallel()
	a := openFederated(t)
	if _, err := a.AssumeRoleWithCertificate(t.Context(), Federated{RoleARN: roleARN(testAccount, "r", testRegion)}, nil); codeOf(t, err) != mesh.ErrBadRequest || !strings.Contains(err.Error(), "no client certificate") {
		t.Errorf("without a certificate: %v", err)
	}
}

func TestIdentityProviders(t *testing.T) {
	t.Parallel()
	a := openFederated(t)
	issuer, other := standin.NewIssuer(t, jose.RS256, true), standin.NewIssuer(t, jose.ES256, false)
	made := withIssuer(t, a, testAccount, "cluster", issuer)
	_, err := a.CreateIdentityProvider(t.Context(), tester, made)
	if codeOf(t, err) != mesh.ErrConflict {
		t.Errorf("of the same name: %v", err)
	}
	twin := made
	twin.Name = "twin"
	_, err = a.CreateIdentityProvider(t.Context(), tester, twin)
	if codeOf(t, err) != mesh.ErrConflict || !strings.Contains(err.Error(), "cluster is already present") {
		t.Errorf("of the same issuer: %v", err)
	}
	made.Settings.OIDC.Audiences = []string{"changed"}
	changed, err := a.UpdateIdentityProvider(t.Context(), tester, made)
	ok(t, err)
	got, err := a.IdentityProvider(t.Context(), tester, testAccount, "cluster")
	ok(t, err)
	if got.Settings.OIDC.Audiences[0] != "changed" || changed.ARN(testRegion) != got.ARN(testRegion) || got.ARN(testRegion) != made.ARN(testRegion) {
		t.Errorf("it is %+v", got)
	}
	for name, s := range map[string]ProviderSettings{
		"another issuer": {OIDC: &OIDCSettings{Issuer: other.URL, Audiences: []string{"x"}}}, "another kind": {AWS: &AWSSettings{Accounts: []string{"111122223333"}}},
	} {
		made.Settings = s
		if _, err := a.UpdateIdentityProvider(t.Context(), tester, made); codeOf(t, err) != mesh.ErrBadRequest || !strings.Contains(err.Error(), "cannot become") {
			t.Errorf("%s: %v", name, err)
		}
	}
	withIssuer(t, a, testAccount, "a-second", other)
	all, err := a.IdentityProviders(t.Context(), tester, testAccount)
	ok(t, err)
	if len(all) != 2 || all[0].Name != "a-second" || all[1].Name != "cluster" {
		t.Errorf("there are %+v", all)
	}
	for _, name := range []string{"cluster", "a-second"} {
		_, err = a.DeleteIdentityProvider(t.Context(), tester, testAccount, name)
		ok(t, err)
	}
	if _, err = a.DeleteIdentityProvider(t.Context(), tester, testAccount, "cluster"); codeOf(t, err) != mesh.ErrNotFound {
		t.Errorf("twice: %v", err)
	}
	for i := range MaxIdentityProviders {
		_, err = a.CreateIdentityProvider(t.Context(), tester, IdentityProvider{Account: testAccount, Name: fmt.Sprintf("p%d", i), Settings: ProviderSettings{AWS: &AWSSettings{Accounts: []string{"111122223333"}}}})
		ok(t, err)
	}
	_, err = a.CreateIdentityProvider(t.Context(), tester, IdentityProvider{Account: testAccount, Name: "more", Settings: ProviderSettings{AWS: &AWSSettings{Accounts: []string{"111122223333"}}}})
	if codeOf(t, err) != mesh.ErrLimitExceeded {
		t.Errorf("one too many: %v", err)
	}
}

func TestSessionNames(t *testing.T) {
	t.Parallel()
	for subject, want := range map[string]string{
		"": "--", "a": "a-", "repo:o/r:ref:refs/heads/main": "repo-o-r-ref-refs-heads-main", "spiffe://d/ä": "spiffe---d--",
		strings.Repeat("x", 100): strings.Repeat("x", 51) + "-09ecb6ebc8bc",
	} {
		if got := sessionName(subject); got != want && len(subject) < 64 || !sessionPattern.MatchString(got) {
			t.Errorf("%q: %q, want %q", subject, got, want)
		}
	}
	if sessionName(strings.Repeat("x", 100)) == sessionName(strings.Repeat("x", 101)) {
		t.Error("what is cut is the same")
	}
}
