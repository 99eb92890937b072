package access

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

const otherAccount = "000000000002"

// TestTrust is the matrix of who can assume a role: what the trust policy says, what
// the caller's own policies say, and whose role it is.
func TestTrust(t *testing.T) {
	t.Parallel()
	a := openService(t, openStore(t), nil)
	ctx := t.Context()
	nothing := withAnn(t, a, allowing("appmesh:*"))
	_, _, err := a.CreateAccount(ctx, tester, otherAccount, "other")
	ok(t, err)
	denying := `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"sts:*","Resource":"*"}]}`
	callers := map[string]Caller{}
	for name, creds := range map[string]Credentials{
		"ann": nothing, // her own policies do not mention it
		"bob": makeUser(t, a, "bob", allowing("sts:AssumeRole")),
		"cid": makeUser(t, a, "cid", denying),
	} {
		callers[name], err = signIn(t, a, creds)
		ok(t, err)
	}
	// Sessions of two roles: one that may assume others, one that may not.
	for name, policy := range map[string]string{"may": allowing("sts:AssumeRole"), "none": allowing("appmesh:*")} {
		_, err := a.CreateRole(ctx, tester, Role{Account: testAccount, Name: name, TrustPolicy: trusting(testAccount), Policies: documents(policy)})
		ok(t, err)
		creds, _, err := a.AssumeRole(ctx, callers["bob"], AssumeRole{RoleARN: roleARN(testAccount, name, testRegion), Session: "s1"})
		ok(t, err)
		callers[name], err = signIn(t, a, creds)
		ok(t, err)
	}
	const (
		user    = "arn:aws:iam::000000000001:user/"
		role    = "arn:aws:iam::000000000001:role/"
		session = "arn:aws:sts::000000000001:assumed-role/"
	)
	deny := func(principal, condition string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:*"},{"Effect":"Deny","Principal":{"AWS":"` + principal + `"},"Action":"sts:AssumeRole"` + condition + `}]}`
	}
	when := func(principal, condition string) string {
		return `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"` + principal + `"},"Action":"sts:AssumeRole","Condition":` + condition + `}}`
	}
	const noReason, notThere, notMentioned, denies = "", "the role is not there or", "no identity-based policy", "denies it explicitly"
	for name, c := range map[string]struct {
		trust string
		// what callers are told, at home and in the other account
		home, away map[string]string
	}{
		"the account": {
			string(trusting(testAccount)),
			map[string]string{"ann": notMentioned, "bob": noReason, "cid": denies, "may": noReason, "none": notMentioned},
			map[string]string{"ann": notMentioned, "bob": noReason, "cid": denies, "may": noReason, "none": notMentioned},
		},
		"its root": {
			string(trusting("arn:aws:iam::000000000001:root")),
			map[string]string{"ann": notMentioned, "bob": noReason, "cid": denies},
			map[string]string{"ann": notMentioned, "bob": noReason, "cid": denies},
		},
		"everybody": {
			string(trusting("*")),
			map[string]string{"ann": notMentioned, "bob": noReason, "may": noReason, "none": notMentioned},
			map[string]string{"ann": notMentioned, "bob": noReason, "may": noReason},
		},
		"ann by name": {
			string(trusting(user + "ann")),
			map[string]string{"ann": noReason, "bob": notThere, "cid": denies, "may": notThere},
			map[string]string{"ann": notMentioned, "bob": notThere},
		},
		"bob and cid by name": {
			string(trusting(user+"bob", user+"cid")),
			map[string]string{"ann": notThere, "bob": noReason, "cid": denies},
			map[string]string{"ann": notMentioned, "bob": noReason, "cid": denies},
		},
		"a role": {
			string(trusting(role + "none")),
			map[string]string{"none": noReason, "may": notThere, "bob": notThere},
			map[string]string{"none": notMentioned, "may": notThere},
		},
		"a session": {
			string(trusting(session+"may/s1", session+"none/s1")),
			map[string]string{"none": noReason, "may": noReason, "bob": notThere},
			map[string]string{"none": notMentioned, "may": noReason},
		},
		"another session": {
			string(trusting(session + "none/s2")),
			map[string]string{"none": notThere},
			map[string]string{"may": notThere},
		},
		"another account": {
			string(trusting(otherAccount)),
			map[string]string{"ann": notThere, "bob": notThere},
			map[string]string{"bob": notThere},
		},
		"a role of the user's name": {
			string(trusting(role + "ann")),
			map[string]string{"ann": notThere},
			nil,
		},
		"all but bob": {
			deny(user+"bob", ""),
			map[string]string{"ann": notMentioned, "bob": notThere, "may": noReason},
			map[string]string{"bob": notThere, "may": noReason},
		},
		"a denial under a condition": {
			deny(testAccount, `,"Condition":{"StringNotEquals":{"sts:RoleSessionName":"${aws:username}"}}`),
			map[string]string{"bob": noReason, "may": notThere},
			map[string]string{"bob": noReason},
		},
		"a condition that holds": {
			when(user+"ann", `{"StringLike":{"aws:username":"a*"},"StringEquals":{"sts:RoleSessionName":"bob"},"DateLessThan":{"aws:CurrentTime":"2027-01-01"}}`),
			map[string]string{"ann": noReason},
			nil,
		},
		"a condition that does not": {
			when(user+"ann", `{"Bool":{"aws:SecureTransport":"true"}}`),
			map[string]string{"ann": notThere},
			nil,
		},
		"another action": {
			`{"Statement":{"Effect":"Allow","Principal":"*","Action":"sts:TagSession"}}`,
			map[string]string{"bob": notThere},
			map[string]string{"bob": notThere},
		},
		"all actions but one": {
			`{"Statement":{"Effect":"Allow","Principal":"*","NotAction":"sts:TagSession"}}`,
			map[string]string{"bob": noReason},
			map[string]string{"bob": noReason},
		},
	} {
		for account, want := range map[string]map[string]string{testAccount: c.home, otherAccount: c.away} {
			r, err := a.CreateRole(ctx, tester, Role{Account: account, Name: "target", TrustPolicy: json.RawMessage(c.trust)})
			ok(t, err)
			for who, reason := range want {
				_, got, err := a.AssumeRole(ctx, callers[who], AssumeRole{RoleARN: r.ARN(testRegion), Session: "bob"})
				switch {
				case reason == noReason && (err != nil || got.RoleARN != r.ARN(testRegion) || got.Account != account):
					t.Errorf("%s: %s in %s: got %+v, %v", name, who, account, got, err)
				case reason != noReason && (codeOf(t, err) != mesh.ErrForbidden || !strings.Contains(err.Error(), reason)):
					t.Errorf("%s: %s in %s: got %v, want %q", name, who, account, err, reason)
				}
			}
			_, err = a.DeleteRole(ctx, tester, account, "target")
			ok(t, err)
		}
	}
	// What one is told of a role that is not there is the same.
	for _, who := range []string{"ann", "bob"} {
		want := map[string]string{"ann": notMentioned, "bob": notThere}[who]
		if _, _, err := a.AssumeRole(ctx, callers[who], AssumeRole{RoleARN: roleARN(otherAccount, "target", testRegion), Session: "bob"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s, of no role: got %v, want %q", who, err, want)
		}
	}
}

// TestAssumeRoleRefuses checks what is bad input.
func TestAssumeRoleRefuses(t *testing.T) {
	t.Parallel()
	a := openService(t, openStore(t), nil)
	ann, err := signIn(t, a, withAnn(t, a, allowing("*")))
	ok(t, err)
	withDeployer(t, a, allowing("*"))
	for name, c := range map[string]struct {
		r    AssumeRole
		code mesh.Code
		say  string
	}{
		"no ARN":            {AssumeRole{Session: "s1"}, mesh.ErrBadRequest, "arn:aws:iam::ACCOUNT:role/NAME"},
		"a user's ARN":      {AssumeRole{RoleARN: ann.ARN, Session: "s1"}, mesh.ErrBadRequest, "the form is"},
		"other partition":   {AssumeRole{RoleARN: strings.Replace(deployerARN, "aws", "aws-cn", 1), Session: "s1"}, mesh.ErrBadRequest, "the form is"},
		"a wildcard":        {AssumeRole{RoleARN: strings.Replace(deployerARN, "deployer", "*", 1), Session: "s1"}, mesh.ErrBadRequest, "the form is"},
		"no session":        {AssumeRole{RoleARN: deployerARN}, mesh.ErrBadRequest, "session name"},
		"session malformed": {AssumeRole{RoleARN: deployerARN, Session: "a/b"}, mesh.ErrBadRequest, "session name"},
		"too short":         {AssumeRole{RoleARN: deployerARN, Session: "s1", Duration: time.Minute}, mesh.ErrBadRequest, "900 to 43200"},
		"too long":          {AssumeRole{RoleARN: deployerARN, Session: "s1", Duration: 13 * time.Hour}, mesh.ErrBadRequest, "900 to 43200"},
		"for this role":     {AssumeRole{RoleARN: deployerARN, Session: "s1", Duration: 3 * time.Hour}, mesh.ErrBadRequest, "this role lasts 900 to 7200"},
		"the longest":       {AssumeRole{RoleARN: deployerARN, Session: "s1", Duration: 2 * time.Hour}, "", ""},
	} {
		_, _, err := a.AssumeRole(t.Context(), ann, c.r)
		if codeOf(t, err) != c.code || err != nil && !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: got %v, want %s with %q", name, err, c.code, c.say)
		}
	}
	if _, _, err := a.AssumeRole(t.Context(), Caller{Caller: tester}, AssumeRole{RoleARN: deployerARN, Session: "s1"}); codeOf(t, err) != mesh.ErrForbidden {
		t.Errorf("by a part of Fairlead: %v", err)
	}
	// From role to role an hour at most.
	_, err = a.CreateRole(t.Context(), tester, Role{Account: testAccount, Name: "next", TrustPolicy: trusting(deployerARN), MaxSession: MaxRoleSession})
	ok(t, err)
	creds, _, err := a.AssumeRole(t.Context(), ann, AssumeRole{RoleARN: deployerARN, Session: "s1"})
	ok(t, err)
	deployer, err := signIn(t, a, creds)
	ok(t, err)
	next := AssumeRole{RoleARN: roleARN(testAccount, "next", testRegion), Session: "s1"}
	creds, _, err = a.AssumeRole(t.Context(), deployer, next)
	if err != nil || !creds.Expires.Equal(testNow.Add(time.Hour)) {
		t.Errorf("until %s, %v", creds.Expires, err)
	}
	next.Duration = time.Hour + time.Second
	if _, _, err := a.AssumeRole(t.Context(), deployer, next); codeOf(t, err) != mesh.ErrBadRequest || !strings.Contains(err.Error(), "a role that a role has assumed lasts 900 to 3600") {
		t.Errorf("for longer: %v", err)
	}
}

func TestParseTrustRefuses(t *testing.T) {
	t.Parallel()
	statement := func(principal string) string {
		return `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Principal":` + principal + `}}`
	}
	for document, want := range map[string]string{
		``:                  "not a JSON object",
		administratorPolicy: "has Resource, which a trust policy cannot have",
		`{"Statement":{"Effect":"Allow","Action":"*"}}`:       "needs Principal",
		`{"Statement":{"Effect":"Allow","NotPrincipal":"*"}}`: "NotPrincipal, which is not supported",
		statement(`{}`):                                                   "needs Principal",
		statement(`"000000000001"`):                                       "needs Principal",
		statement(`{"AWS":[]}`):                                           "needs Principal.AWS",
		statement(`{"AWS":1}`):                                            "needs Principal.AWS",
		statement(`{"Service":"ec2.amazonaws.com"}`):                      `Principal with "Service", allowed are AWS and Federated`,
		statement(`{"AWS":"*","Federated":"x"}`):                          `Principal.Federated "x", allowed is the ARN of an identity provider`,
		statement(`{"AWS":"arn:aws:iam::000000000001:user/*"}`):           `Principal "arn:aws:iam::000000000001:user/*", allowed are`,
		statement(`{"AWS":"arn:aws:iam::*:root"}`):                        "allowed are *",
		statement(`{"AWS":"arn:aws:iam::000000000001:group/x"}`):          "allowed are *",
		statement(`{"AWS":"arn:aws:sts::000000000001:user/ann"}`):         "allowed are *",
		statement(`{"AWS":"arn:aws:sts::000000000001:assumed-role/a/b"}`): "allowed are *",
		statement(`{"AWS":"1"}`):                                          "allowed are *",
	} {
		_, err := parsePolicy([]byte(document), trustPolicy)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.80s: got %v, want one line with %q", document, err, want)
		}
	}
}
