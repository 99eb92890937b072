package access

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/clock"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// signInFrom is signIn from an address, over TLS or not.
func signInFrom(t testing.TB, a *Service, c Credentials, ip string, secure bool) (Caller, error) {
	t.Helper()
	hr := signCase{method: "GET", target: "/v20190125/meshes", token: c.SessionToken}.
		signed(t, "http://h.example", c.AccessKeyID, c.SecretAccessKey, "appmesh", testRegion, testNow)
	r := HTTPRequest(hr, nil)
	r.SourceIP, r.Secure = netip.MustParseAddr(ip), secure
	return a.Verify(r)
}

// openClocked opens a Service with a clock that is set by hand.
func openClocked(t *testing.T, s *store.Store) (*Service, *clock.Fake) {
	t.Helper()
	c := clock.New(testNow)
	a, err := Open(t.Context(), Config{Store: s, Regions: []string{testRegion}, Now: c.Now})
	ok(t, err)
	t.Cleanup(func() { ok(t, a.Close()) })
	return a, c
}

// signInAt signs by the clock.
func signInAt(t *testing.T, a *Service, c Credentials, at time.Time) (Caller, error) {
	t.Helper()
	r := signCase{method: "GET", target: "/v20190125/meshes", token: c.SessionToken}.
		signed(t, "http://h.example", c.AccessKeyID, c.SecretAccessKey, "appmesh", testRegion, at)
	return a.Verify(HTTPRequest(r, nil))
}

const deployerARN = "arn:aws:iam::000000000001:role/deployer"

// withDeployer makes the role deployer, which ann may assume and who may do what the
// policy says.
func withDeployer(t testing.TB, a *Service, policy string) {
	t.Helper()
	_, err := a.CreateRole(t.Context(), tester, Role{
		Account: testAccount, Name: "deployer", TrustPolicy: trusting("arn:aws:iam::000000000001:user/ann"), Policies: documents(policy), MaxSession: 2 * time.Hour,
	})
	ok(t, err)
}

// TestRoleSession takes on a role and checks who one is and what one may.
func TestRoleSession(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	a, now := openClocked(t, s)
	other := openService(t, s, nil)
	ann, err := signIn(t, a, withAnn(t, a, allowing("appmesh:DeleteMesh")))
	ok(t, err)
	withDeployer(t, a, allowing("appmesh:Create*"))
	creds, who, err := a.AssumeRole(t.Context(), ann, AssumeRole{RoleARN: deployerARN, Session: "monday"})
	ok(t, err)
	if !strings.HasPrefix(creds.AccessKeyID, sessionPrefix) || len(creds.SessionToken) > 700 || !creds.Expires.Equal(testNow.Add(time.Hour)) {
		t.Errorf("%s until %s with a token of %d characters", creds, creds.Expires, len(creds.SessionToken))
	}
	role, err := a.Role(t.Context(), tester, testAccount, "deployer")
	ok(t, err)
	want := Principal{
		Type: TypeAssumedRole, ID: role.UID + ":monday", ARN: "arn:aws:sts::000000000001:assumed-role/deployer/monday", Account: testAccount,
		Role: "deployer", RoleARN: deployerARN, RoleID: role.UID, Session: "monday",
	}
	// Another replica has never heard of it, and has to follow the role only.
	eventually(t, other, "the role", func() bool { return other.table.Load().role(testAccount, "deployer") != nil })
	for _, a := range []*Service{a, other} {
		caller, err := signIn(t, a, creds)
		ok(t, err)
		if caller.Principal != want || who != want || caller.ARN != want.ARN || caller.KeyID != creds.AccessKeyID || !caller.Expires.Equal(creds.Expires) || !a.Valid(caller) {
			t.Errorf("caller is %+v, and was said to be %+v; want %+v", caller, who, want)
		}
		ok(t, caller.Allow(Question{Action: "appmesh:CreateMesh", Resource: shop}))
		err = caller.Allow(Question{Action: "appmesh:DeleteMesh", Resource: shop})
		if codeOf(t, err) != mesh.ErrForbidden || !strings.Contains(err.Error(), "User: "+want.ARN+" is not authorized to perform: appmesh:DeleteMesh on resource: "+shop+" because no identity-based policy allows it") {
			t.Errorf("what ann may: %v", err)
		}
		if _, err := a.SessionToken(t.Context(), caller, 0); codeOf(t, err) != mesh.ErrForbidden {
			t.Errorf("a session from a session: %v", err)
		}
	}
	// A changed policy holds for sessions that are there.
	caller, err := signIn(t, a, creds)
	ok(t, err)
	_, err = a.UpdateRole(t.Context(), tester, Role{Account: testAccount, Name: "deployer", Policies: documents(allowing("appmesh:DeleteMesh"))})
	ok(t, err)
	ok(t, caller.Allow(Question{Action: "appmesh:DeleteMesh", Resource: shop}))
	// It ends.
	now.Advance(time.Hour - time.Second)
	_, err = signInAt(t, a, creds, now.Now())
	ok(t, err)
	now.Advance(time.Second)
	if _, err := signInAt(t, a, creds, now.Now()); codeOf(t, err) != mesh.ErrExpiredToken || !strings.Contains(err.Error(), "expired") {
		t.Errorf("after its time: %v", err)
	}
	if err := caller.Allow(Question{Action: "appmesh:DeleteMesh", Resource: shop}); a.Valid(caller) || codeOf(t, err) != mesh.ErrForbidden || !strings.Contains(err.Error(), "its session has expired") {
		t.Errorf("after its time: %v", err)
	}
}

// TestSessionEnds checks all that makes a session void before its time.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	const second = "000000000002"
	for name, c := range map[string]struct {
		end  func(t *testing.T, a *Service, key string) error
		role mesh.Code // what the session of the role is told then
		user mesh.Code // what the session of the user is told
	}{
		"nothing": {func(*testing.T, *Service, string) error { return nil }, "", ""},
		"the role is deleted": {func(t *testing.T, a *Service, _ string) error {
			_, err := a.DeleteRole(t.Context(), tester, testAccount, "deployer")
			return err
		}, mesh.ErrUnrecognizedClient, ""},
		"another role has the name": {func(t *testing.T, a *Service, _ string) error {
			_, err := a.DeleteRole(t.Context(), tester, testAccount, "deployer")
			withDeployer(t, a, allowing("*"))
			return err
		}, mesh.ErrUnrecognizedClient, ""},
		"revoked": {func(t *testing.T, a *Service, _ string) error {
			r, err := a.RevokeSessions(t.Context(), tester, testAccount, "deployer")
			if !r.RevokedBefore.Equal(testNow) {
				t.Errorf("role is %+v", r)
			}
			return err
		}, mesh.ErrExpiredToken, ""},
		"the user is deleted": {func(t *testing.T, a *Service, _ string) error {
			_, err := a.DeleteUser(t.Context(), tester, testAccount, "ann")
			return err
		}, "", mesh.ErrUnrecognizedClient},
		"another user has the name": {func(t *testing.T, a *Service, _ string) error {
			_, err := a.DeleteUser(t.Context(), tester, testAccount, "ann")
			makeUser(t, a, "ann", allowing("*"))
			return err
		}, "", mesh.ErrUnrecognizedClient},
		"the key is disabled": {func(t *testing.T, a *Service, key string) error {
			_, err := a.UpdateKey(t.Context(), tester, testAccount, "ann", key, false)
			return err
		}, "", mesh.ErrUnrecognizedClient},
		"the key is deleted": {func(t *testing.T, a *Service, key string) error {
			_, err := a.DeleteKey(t.Context(), tester, testAccount, "ann", key)
			return err
		}, "", mesh.ErrUnrecognizedClient},
		"the account is suspended": {func(t *testing.T, a *Service, _ string) error {
			yes := true
			_, err := a.UpdateAccount(t.Context(), tester, testAccount, AccountChange{Suspended: &yes})
			return err
		}, mesh.ErrAccessDenied, mesh.ErrAccessDenied},
		"the account is deleted": {func(t *testing.T, a *Service, _ string) error {
			_, err := a.DeleteAccount(t.Context(), tester, testAccount)
			return err
		}, mesh.ErrUnrecognizedClient, mesh.ErrUnrecognizedClient},
		"another account goes": {func(t *testing.T, a *Service, _ string) error {
			_, err := a.DeleteAccount(t.Context(), tester, second)
			return err
		}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := openService(t, openStore(t), nil)
			key := withAnn(t, a, allowing("*"))
			_, _, err := a.CreateAccount(t.Context(), tester, second, "second")
			ok(t, err)
			withDeployer(t, a, allowing("*"))
			ann, err := signIn(t, a, key)
			ok(t, err)
			role, _, err := a.AssumeRole(t.Context(), ann, AssumeRole{RoleARN: deployerARN, Session: "s1"})
			ok(t, err)
			user, err := a.SessionToken(t.Context(), ann, time.Hour)
			ok(t, err)
			before := map[string]Caller{}
			for name, creds := range map[string]Credentials{"role": role, "user": user} {
				before[name], err = signIn(t, a, creds)
				ok(t, err)
			}
			changed := a.Changed()
			ok(t, c.end(t, a, key.AccessKeyID))
			if name != "nothing" {
				<-changed
			}
			for kind, want := range map[string]mesh.Code{"role": c.role, "user": c.user} {
				_, err := signIn(t, a, map[string]Credentials{"role": role, "user": user}[kind])
				if codeOf(t, err) != want {
					t.Errorf("%s: got %v, want %q", kind, err, want)
				}
				caller := before[kind]
				allowed := caller.Allow(Question{Action: "appmesh:CreateMesh", Resource: shop}) == nil
				if allowed != (want == "") || a.Valid(caller) != (want == "") {
					t.Errorf("%s of before: allowed %v, valid %v", kind, allowed, a.Valid(caller))
				}
			}
		})
	}
}

// TestRevokeAgain checks that sessions after a revocation count, in the same
// millisecond too, until the next.
func TestRevokeAgain(t *testing.T) {
	t.Parallel()
	a := openService(t, openStore(t), nil)
	ann, err := signIn(t, a, withAnn(t, a, allowing("*")))
	ok(t, err)
	withDeployer(t, a, allowing("*"))
	for range 3 {
		creds, _, err := a.AssumeRole(t.Context(), ann, AssumeRole{RoleARN: deployerARN, Session: "s1"})
		ok(t, err)
		_, err = signIn(t, a, creds)
		ok(t, err)
		_, err = a.RevokeSessions(t.Context(), tester, testAccount, "deployer")
		ok(t, err)
		if _, err := signIn(t, a, creds); codeOf(t, err) != mesh.ErrExpiredToken || !strings.Contains(err.Error(), "revoked") {
			t.Errorf("after a revocation: %v", err)
		}
	}
}

// TestUserSession checks the temporary credentials of a user.
func TestUserSession(t *testing.T) {
	t.Parallel()
	a := openService(t, openStore(t), nil)
	ann, err := signIn(t, a, withAnn(t, a, allowing("appmesh:Create*")))
	ok(t, err)
	creds, err := a.SessionToken(t.Context(), ann, 0)
	ok(t, err)
	caller, err := signIn(t, a, creds)
	ok(t, err)
	if caller.Principal != ann.Principal || caller.ARN != ann.ARN || caller.KeyID == ann.KeyID || !caller.Expires.Equal(testNow.Add(DefaultUserSession)) {
		t.Errorf("caller is %+v, want %+v", caller, ann)
	}
	ok(t, caller.Allow(Question{Action: "appmesh:CreateMesh", Resource: shop}))
	if err := caller.Allow(Question{Action: "appmesh:DeleteMesh", Resource: shop}); codeOf(t, err) != mesh.ErrForbidden {
		t.Errorf("what ann may not: %v", err)
	}
	if _, err := a.SessionToken(t.Context(), caller, 0); codeOf(t, err) != mesh.ErrForbidden {
		t.Errorf("a session from a session: %v", err)
	}
	for _, d := range []time.Duration{time.Minute, MaxUserSession + time.Second, time.Hour + time.Millisecond, -time.Hour} {
		if _, err := a.SessionToken(t.Context(), ann, d); codeOf(t, err) != mesh.ErrBadRequest {
			t.Errorf("for %s: %v", d, err)
		}
	}
	for _, d := range []time.Duration{MinSession, MaxUserSession} {
		if creds, err := a.SessionToken(t.Context(), ann, d); err != nil || !creds.Expires.Equal(testNow.Add(d)) {
			t.Errorf("for %s: until %s, %v", d, creds.Expires, err)
		}
	}
	if _, err := a.SessionToken(t.Context(), Caller{Caller: tester}, 0); codeOf(t, err) != mesh.ErrForbidden {
		t.Errorf("for a part of Fairlead: %v", err)
	}
}

// TestTokens sends session tokens with what they do not belong to, and damaged ones.
func TestTokens(t *testing.T) {
	t.Parallel()
	a := openService(t, openStore(t), nil)
	annKey := withAnn(t, a, allowing("*"))
	ann, err := signIn(t, a, annKey)
	ok(t, err)
	one, err := a.SessionToken(t.Context(), ann, 0)
	ok(t, err)
	two, err := a.SessionToken(t.Context(), ann, 0)
	ok(t, err)
	elsewhere := openService(t, openStore(t), nil)
	bob, err := signIn(t, elsewhere, withAnn(t, elsewhere, allowing("*")))
	ok(t, err)
	foreign, err := elsewhere.SessionToken(t.Context(), bob, 0)
	ok(t, err)
	sealed, err := a.store.Seal([]byte(`{"k":"` + one.AccessKeyID + `","s":"` + one.SecretAccessKey + `"}`))
	ok(t, err)
	later, err := a.store.Seal([]byte(tokenMark + `{"k":"` + one.AccessKeyID + `","s":"` + one.SecretAccessKey + `","a":"000000000001","z":1}`))
	ok(t, err)
	with := func(keyID, secret, token string) Credentials {
		return Credentials{AccessKeyID: keyID, SecretAccessKey: secret, SessionToken: token}
	}
	flipped := []byte(one.SessionToken)
	flipped[len(flipped)/2] ^= 1
	for name, c := range map[string]struct {
		creds Credentials
		code  mesh.Code
	}{
		"as it is":                 {one, ""},
		"token of another session": {with(one.AccessKeyID, one.SecretAccessKey, two.SessionToken), mesh.ErrUnrecognizedClient},
		"key of another session":   {with(two.AccessKeyID, two.SecretAccessKey, one.SessionToken), mesh.ErrUnrecognizedClient},
		"another secret":           {with(one.AccessKeyID, two.SecretAccessKey, one.SessionToken), mesh.ErrInvalidSignature},
		"with a long-lived key":    {with(annKey.AccessKeyID, annKey.SecretAccessKey, one.SessionToken), mesh.ErrUnrecognizedClient},
		"without its token":        {with(one.AccessKeyID, one.SecretAccessKey, ""), mesh.ErrUnrecognizedClient},
		"damaged":                  {with(one.AccessKeyID, one.SecretAccessKey, string(flipped)), mesh.ErrUnrecognizedClient},
		"cut off":                  {with(one.AccessKeyID, one.SecretAccessKey, one.SessionToken[:40]), mesh.ErrUnrecognizedClient},
		"padded":                   {with(one.AccessKeyID, one.SecretAccessKey, one.SessionToken+"="), mesh.ErrUnrecognizedClient},
		"of another installation":  {foreign, mesh.ErrUnrecognizedClient},
		"another sealed value":     {with(one.AccessKeyID, one.SecretAccessKey, tokenEncoding.EncodeToString(sealed)), mesh.ErrUnrecognizedClient},
		"of a newer build":         {with(one.AccessKeyID, one.SecretAccessKey, tokenEncoding.EncodeToString(later)), mesh.ErrUnrecognizedClient},
	} {
		for range 2 { // the second time from the cache
			_, err := signIn(t, a, c.creds)
			if codeOf(t, err) != c.code {
				t.Errorf("%s: got %v, want %q", name, err, c.code)
			}
			if err != nil && c.creds.SessionToken != "" && strings.Contains(err.Error(), c.creds.SessionToken) {
				t.Errorf("%s: the message has the token", name)
			}
		}
	}
	// The token is signed like all headers.
	hr := signCase{method: "GET", target: "/", token: one.SessionToken}.
		signed(t, "http://h.example", one.AccessKeyID, one.SecretAccessKey, "appmesh", testRegion, testNow)
	if !strings.Contains(hr.Header.Get("Authorization"), ";x-amz-security-token") {
		t.Error("the SDK does not sign the token")
	}
	hr.Header["X-Amz-Security-Token"] = nil
	if _, err := a.Verify(HTTPRequest(hr, nil)); codeOf(t, err) != mesh.ErrUnrecognizedClient {
		t.Errorf("without the header: %v", err)
	}
	caller, err := signIn(t, a, one)
	ok(t, err)
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("made", "credentials", one, "caller", caller.Principal)
	for _, text := range []string{fmt.Sprint(one), fmt.Sprintf("%+v", one), fmt.Sprintf("%#v", one), fmt.Sprintf("%+v", caller), fmt.Sprintf("%#v", caller), logged.String()} {
		if strings.Contains(text, one.SecretAccessKey) || strings.Contains(text, one.SessionToken) {
			t.Errorf("printed as %s", text)
		}
	}
}

// TestStreamWithToken verifies a stream that is signed with a session.
func TestStreamWithToken(t *testing.T) {
	t.Parallel()
	a := openService(t, openStore(t), nil)
	ann, err := signIn(t, a, withAnn(t, a, allowing("*")))
	ok(t, err)
	withDeployer(t, a, allowing("appmesh:StreamAggregatedResources"))
	creds, _, err := a.AssumeRole(t.Context(), ann, AssumeRole{RoleARN: deployerARN, Session: "proxy"})
	ok(t, err)
	hr := signCase{method: http.MethodPost, target: "/a.b.Service/Method", token: creds.SessionToken}.
		signed(t, "http://h.example:9081", creds.AccessKeyID, creds.SecretAccessKey, "appmesh", testRegion, testNow)
	metadata := map[string][]string{":authority": {"h.example:9081"}}
	for name, values := range hr.Header {
		metadata[strings.ToLower(name)] = values
	}
	caller, err := a.Verify(StreamRequest("/a.b.Service/Method", metadata))
	ok(t, err)
	ok(t, caller.Allow(Question{Action: "appmesh:StreamAggregatedResources", Resource: cart}))
}

// TestSessionPolicy checks that the policy of a session can only take away.
func TestSessionPolicy(t *testing.T) {
	t.Parallel()
	a := openService(t, openStore(t), nil)
	ann, err := signIn(t, a, withAnn(t, a, allowing("*")))
	ok(t, err)
	withDeployer(t, a, `{"Statement":[{"Effect":"Allow","Action":["appmesh:Create*","sts:AssumeRole"],"Resource":"*"},{"Effect":"Deny","Action":"appmesh:CreateRoute","Resource":"*"}]}`)
	creds, _, err := a.AssumeRole(t.Context(), ann, AssumeRole{
		RoleARN: deployerARN, Session: "s1",
		Policy: json.RawMessage(`{"Statement": [{"Effect": "Allow", "Action": ["appmesh:CreateM*","appmesh:CreateRoute","appmesh:DeleteMesh"], "Resource": "*"}, {"Effect":"Deny","Action":"*","Resource":"arn:aws:appmesh:*:*:mesh/secret"}]}`),
	})
	ok(t, err)
	caller, err := signIn(t, a, creds)
	ok(t, err)
	for _, c := range []struct {
		action, resource, reason string
	}{
		{"appmesh:CreateMesh", shop, ""},
		{"appmesh:CreateRoute", shop, "denies it explicitly"},
		{"appmesh:CreateMesh", "arn:aws:appmesh:us-east-1:000000000001:mesh/secret", "denies it explicitly"},
		{"appmesh:CreateVirtualNode", cart, "no identity-based policy"},
		{"appmesh:DeleteMesh", shop, "no identity-based policy"},
	} {
		err := caller.Allow(Question{Action: c.action, Resource: c.resource})
		if (err == nil) != (c.reason == "") || err != nil && !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s on %s: got %v, want %q", c.action, c.resource, err, c.reason)
		}
	}
	// The longest that there can be.
	long := `{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:appmesh:*:*:mesh/`
	long += strings.Repeat("x", MaxSessionPolicy-len(long)-len(`"}}`))
	creds, _, err = a.AssumeRole(t.Context(), ann, AssumeRole{RoleARN: deployerARN, Session: strings.Repeat("s", 64), Policy: json.RawMessage(long + `"}}`)})
	if err != nil || len(creds.SessionToken) > maxToken {
		t.Errorf("token of %d characters, %v", len(creds.SessionToken), err)
	}
	_, err = signIn(t, a, creds)
	ok(t, err)
	for name, policy := range map[string]string{"too long": long + `x"}}`, "malformed": `{"Statement":[]}`, "nothing in HTML's way": strings.Replace(long, "xxxxxx", "<<>>&&", 1) + `"}}`} {
		if _, _, err := a.AssumeRole(t.Context(), ann, AssumeRole{RoleARN: deployerARN, Session: "s1", Policy: json.RawMessage(policy)}); codeOf(t, err) != mesh.ErrBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSessionCache(t *testing.T) {
	t.Parallel()
	c, now := newSessionCache(8), testNow
	key := func(i int) (h [32]byte) { h[0] = byte(i); return h }
	sessions := make([]*session, 40)
	for i := range sessions {
		sessions[i] = &session{era: i}
		c.put(key(i), sessions[i], now)
		if c.get(key(0), now) != sessions[0] {
			t.Fatalf("what is in use was forgotten after %d", i)
		}
		if n := len(c.young) + len(c.old); n > 8 {
			t.Fatalf("remembers %d", n)
		}
	}
	if c.get(key(39), now) != sessions[39] || c.get(key(20), now) != nil {
		t.Error("remembers the wrong ones")
	}
}

// What nobody asks for is forgotten in time, though there is room.
func TestSessionsAreForgotten(t *testing.T) {
	t.Parallel()
	c, now := newSessionCache(1000), testNow
	key := func(i int) (h [32]byte) { h[0] = byte(i); return h }
	used := &session{era: 1}
	c.put(key(0), used, now)
	for i := range 200 {
		now = now.Add(sessionTime / 20)
		c.put(key(i+1), &session{}, now)
		if c.get(key(0), now) != used {
			t.Fatalf("what is in use was forgotten after %d", i)
		}
		if n := len(c.young) + len(c.old); n > 45 {
			t.Fatalf("remembers %d, most of them unused for %s", n, sessionTime)
		}
	}
}

func BenchmarkVerifySession(b *testing.B) {
	a := openService(b, openStore(b), nil)
	ann, err := signIn(b, a, withAnn(b, a, allowing("*")))
	ok(b, err)
	withDeployer(b, a, allowing("*"))
	creds, _, err := a.AssumeRole(b.Context(), ann, AssumeRole{RoleARN: deployerARN, Session: "s1", Policy: json.RawMessage(administratorPolicy)})
	ok(b, err)
	r := HTTPRequest(signCase{method: "GET", target: "/v20190125/meshes", token: creds.SessionToken}.
		signed(b, "http://h.example", creds.AccessKeyID, creds.SecretAccessKey, "appmesh", testRegion, testNow), nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Verify(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAllow(b *testing.B) {
	a := openService(b, openStore(b), nil)
	ann, err := signIn(b, a, withAnn(b, a, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"appmesh:*","Resource":"arn:aws:appmesh:*:${aws:PrincipalAccount}:mesh/shop*"},`+
		`{"Effect":"Deny","Action":"appmesh:Delete*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/locked":"yes"}}}]}`))
	ok(b, err)
	q := Question{Action: "appmesh:DeleteVirtualNode", Resource: cart, ResourceTags: []mesh.TagRef{{Key: "team", Value: "a"}}}
	b.ReportAllocs()
	for b.Loop() {
		if err := ann.Allow(q); err != nil {
			b.Fatal(err)
		}
	}
}
