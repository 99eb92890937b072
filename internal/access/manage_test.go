package access

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// trusting returns a trust policy that lets principals assume a role.
func trusting(principals ...string) json.RawMessage {
	list, _ := json.Marshal(principals) //nolint:errchkjson // strings always can be
	return json.RawMessage(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":` + string(list) + `},"Action":"sts:AssumeRole"}}`)
}

// TestKeyLife makes, disables, enables and deletes a key, watched by a second
// replica.
func TestKeyLife(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	a, other := openService(t, s, nil), openService(t, s, nil)
	creds := withAnn(t, a, allowing("appmesh:Describe*"))
	caller, err := signIn(t, a, creds)
	if err != nil {
		t.Fatalf("right after CreateKey: %v", err)
	}
	both := func(what string, valid bool) {
		t.Helper()
		if a.Valid(caller) != valid {
			t.Errorf("%s: Valid is %v on the replica that did it", what, !valid)
		}
		eventually(t, other, what, func() bool { return other.Valid(caller) == valid })
		_, err := signIn(t, other, creds)
		if want := map[bool]mesh.Code{true: "", false: mesh.ErrUnrecognizedClient}[valid]; codeOf(t, err) != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	set := func(active bool) {
		t.Helper()
		k, err := a.UpdateKey(t.Context(), tester, testAccount, "ann", creds.AccessKeyID, active)
		if err != nil || k.Active != active || k.ID != creds.AccessKeyID {
			t.Errorf("set to %v: %+v, %v", active, k, err)
		}
	}
	both("created", true)
	ok(t, caller.Allow(Question{Action: "appmesh:DescribeMesh", Resource: shop}))
	set(false)
	both("disabled", false)
	if err := caller.Allow(Question{Action: "appmesh:DescribeMesh", Resource: shop}); codeOf(t, err) != mesh.ErrForbidden || !strings.Contains(err.Error(), "no longer valid") {
		t.Errorf("a caller of before may still act: %v", err)
	}
	set(true)
	both("enabled", true)
	k, err := a.DeleteKey(t.Context(), tester, testAccount, "ann", creds.AccessKeyID)
	if err != nil || k.User != "ann" {
		t.Errorf("deleted %+v, %v", k, err)
	}
	both("deleted", false)
	if _, err := a.UpdateKey(t.Context(), tester, testAccount, "ann", creds.AccessKeyID, true); codeOf(t, err) != mesh.ErrNotFound {
		t.Errorf("enabling a deleted key: %v", err)
	}
}

// TestUserLife checks that a key dies with its user and does not come back with
// another of the same name.
func TestUserLife(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	a := openService(t, s, nil)
	creds := withAnn(t, a, allowing("*"))
	caller, err := signIn(t, a, creds)
	ok(t, err)
	kept, err := s.Records(t.Context(), tester, recordKey(testAccount, keyRecord, creds.AccessKeyID))
	ok(t, err)
	a.writeUses(t.Context())
	before, err := a.User(t.Context(), tester, testAccount, "ann")
	ok(t, err)
	gone, err := a.DeleteUser(t.Context(), tester, testAccount, "ann")
	if d := cmp.Diff(before, gone); d != "" || err != nil {
		t.Errorf("deleted %s, %v", d, err)
	}
	if a.Valid(caller) {
		t.Error("the key outlives its user")
	}
	for _, prefix := range []string{recordKey(testAccount, userRecord, "ann"), recordKey(testAccount, keyRecord, creds.AccessKeyID), usedPrefix} {
		left, err := s.Records(t.Context(), tester, prefix)
		ok(t, err)
		if len(left) > 0 {
			t.Errorf("%s is left", left[0].Key)
		}
	}
	// Even if the key's record had stayed, the new ann would not have it.
	after, err := a.CreateUser(t.Context(), tester, userWith("ann", allowing("*")))
	if err != nil || after.UID == before.UID || after.UID == "" {
		t.Errorf("the new user is %+v, %v", after, err)
	}
	kept[0].Revision = store.AnyRevision
	ok(t, s.PutRecords(t.Context(), tester, kept))
	eventually(t, a, "the old key is back", func() bool { return a.table.Load().key(creds.AccessKeyID) != nil })
	keys, err := a.Keys(t.Context(), tester, testAccount, "ann")
	if a.Valid(caller) || len(keys) > 0 || err != nil {
		t.Errorf("a new user of the same name has the old one's key: %v, %v", keys, err)
	}
}

// TestUsersAndRoles makes, lists, changes and deletes both.
func TestUsersAndRoles(t *testing.T) {
	t.Parallel()
	a, ctx := openService(t, openStore(t), nil), t.Context()
	withAnn(t, a, allowing("*"))
	bob, err := a.CreateUser(ctx, tester, User{Account: testAccount, Name: "bob"})
	ok(t, err)
	if bob.ARN("cn-north-1") != "arn:aws-cn:iam::000000000001:user/bob" || !bob.CreatedAt.Equal(testNow) || !bob.UpdatedAt.Equal(testNow) {
		t.Errorf("user is %+v", bob)
	}
	bob.Policies = documents(allowing("appmesh:*"))
	changed, err := a.UpdateUser(ctx, tester, bob)
	if d := cmp.Diff(bob, changed); d != "" || err != nil {
		t.Errorf("updated user: %s, %v", d, err)
	}
	users, err := a.Users(ctx, tester, testAccount)
	ok(t, err)
	var names []string
	for _, u := range users {
		names = append(names, u.Name)
	}
	if d := cmp.Diff([]string{Administrator, "ann", "bob"}, names); d != "" {
		t.Errorf("users (-want +got):\n%s", d)
	}
	if d := cmp.Diff(bob, users[2]); d != "" {
		t.Errorf("listed user: %s", d)
	}

	role, err := a.CreateRole(ctx, tester, Role{Account: testAccount, Name: "deployer", TrustPolicy: trusting(testAccount)})
	if err != nil || role.MaxSession != time.Hour || role.UID == "" || role.ARN(testRegion) != "arn:aws:iam::000000000001:role/deployer" {
		t.Errorf("role is %+v, %v", role, err)
	}
	want := role
	want.Policies, want.MaxSession = documents(allowing("*")), 2*time.Hour
	got, err := a.UpdateRole(ctx, tester, Role{Account: testAccount, Name: "deployer", Policies: want.Policies, MaxSession: want.MaxSession})
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" || err != nil {
		t.Errorf("updated role: %s, %v", d, err)
	}
	want.TrustPolicy = trusting("*")
	_, err = a.UpdateRole(ctx, tester, Role{Account: testAccount, Name: "deployer", TrustPolicy: want.TrustPolicy})
	ok(t, err)
	if got, err = a.Role(ctx, tester, testAccount, "deployer"); cmp.Diff(want, got) != "" || err != nil {
		t.Errorf("role: %s, %v", cmp.Diff(want, got), err)
	}
	roles, err := a.Roles(ctx, tester, testAccount)
	if err != nil || len(roles) != 1 || cmp.Diff(want, roles[0]) != "" {
		t.Errorf("roles are %+v, %v", roles, err)
	}
	if got, err = a.DeleteRole(ctx, tester, testAccount, "deployer"); cmp.Diff(want, got) != "" || err != nil {
		t.Errorf("deleted role: %s, %v", cmp.Diff(want, got), err)
	}
	if _, err := a.Role(ctx, tester, testAccount, "deployer"); codeOf(t, err) != mesh.ErrNotFound {
		t.Errorf("after it is gone: %v", err)
	}
}

// TestPolicyChange checks that a caller of before is asked anew.
func TestPolicyChange(t *testing.T) {
	t.Parallel()
	a := openService(t, openStore(t), nil)
	caller, err := signIn(t, a, withAnn(t, a, allowing("appmesh:CreateMesh")))
	ok(t, err)
	ok(t, caller.Allow(Question{Action: "appmesh:CreateMesh", Resource: shop}))
	for policy, reason := range map[string]string{
		allowing("appmesh:DeleteMesh"): "because no identity-based policy allows it",
		`{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*"},{"Effect":"Allow","Action":"*","Resource":"*"}]}`: "because a policy denies it explicitly",
	} {
		changed := a.Changed()
		_, err := a.UpdateUser(t.Context(), tester, userWith("ann", policy))
		ok(t, err)
		<-changed
		want := "User: arn:aws:iam::000000000001:user/ann is not authorized to perform: appmesh:CreateMesh on resource: " + shop + " " + reason
		if err := caller.Allow(Question{Action: "appmesh:CreateMesh", Resource: shop}); codeOf(t, err) != mesh.ErrForbidden || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestConditionsOfCallers checks that a caller's own circumstances reach its
// policies.
func TestConditionsOfCallers(t *testing.T) {
	t.Parallel()
	a := openService(t, openStore(t), nil)
	creds := withAnn(t, a, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{
		"IpAddress":{"aws:SourceIp":"192.0.2.0/24"},"Bool":{"aws:SecureTransport":"true"},"StringEquals":{"aws:ResourceTag/owner":"${aws:username}","aws:RequestedRegion":"us-east-1"},
		"DateLessThan":{"aws:CurrentTime":"2027-01-01"}}}}`)
	for name, c := range map[string]struct {
		ip     string
		secure bool
		owner  string
		code   mesh.Code
	}{
		"all right":     {"192.0.2.1", true, "ann", ""},
		"elsewhere":     {"198.51.100.1", true, "ann", mesh.ErrForbidden},
		"in the clear":  {"192.0.2.1", false, "ann", mesh.ErrForbidden},
		"somebody else": {"192.0.2.1", true, "bob", mesh.ErrForbidden},
	} {
		caller, err := signInFrom(t, a, creds, c.ip, c.secure)
		ok(t, err)
		err = caller.Allow(Question{Action: "appmesh:DeleteMesh", Resource: shop, ResourceTags: []mesh.TagRef{{Key: "Owner", Value: c.owner}}})
		if codeOf(t, err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestManageRefuses checks who may not manage whom, and what is bad input.
func TestManageRefuses(t *testing.T) {
	t.Parallel()
	a, ctx := openService(t, openStore(t), nil), t.Context()
	admin, err := signIn(t, a, withAnn(t, a, allowing("*")))
	ok(t, err)
	bob, err := signIn(t, a, makeUser(t, a, "bob", `{"Statement":{"Effect":"Allow","Action":["appmesh:*","iam:CreateUser","iam:CreateRole"],"Resource":"*"}}`))
	ok(t, err)
	const second, third = "000000000002", "000000000003"
	_, _, err = a.CreateAccount(ctx, tester, second, "second")
	ok(t, err)
	_, err = a.CreateRole(ctx, tester, Role{Account: testAccount, Name: "r", TrustPolicy: trusting("*")})
	ok(t, err)
	trust, deep := trusting("*"), documents(allowing("*"))
	user := func(_ User, err error) error { return err }
	role := func(_ Role, err error) error { return err }
	key := func(_ Key, err error) error { return err }
	newKey := func(_ Key, _ Credentials, err error) error { return err }
	for name, c := range map[string]struct {
		err  error
		code mesh.Code
	}{
		"user elsewhere":              {user(a.CreateUser(ctx, admin.Caller, User{Account: second, Name: "x"})), mesh.ErrForbidden},
		"user by nobody":              {user(a.CreateUser(ctx, store.Caller{}, User{Account: second, Name: "x"})), mesh.ErrForbidden},
		"user again":                  {user(a.CreateUser(ctx, admin.Caller, User{Account: testAccount, Name: "bob"})), mesh.ErrConflict},
		"user with more than leave":   {user(a.CreateUser(ctx, bob.Caller, userWith("x", allowing("*")))), mesh.ErrForbidden},
		"own policy without leave":    {user(a.UpdateUser(ctx, bob.Caller, User{Account: testAccount, Name: "bob"})), mesh.ErrForbidden},
		"user of no account":          {user(a.CreateUser(ctx, tester, User{Account: third, Name: "x"})), mesh.ErrNotFound},
		"user malformed":              {user(a.CreateUser(ctx, tester, User{Account: testAccount, Name: "a/b"})), mesh.ErrBadRequest},
		"user of a malformed account": {user(a.CreateUser(ctx, tester, User{Account: "1", Name: "ab"})), mesh.ErrBadRequest},
		"update nobody":               {user(a.UpdateUser(ctx, tester, User{Account: testAccount, Name: "x"})), mesh.ErrNotFound},
		"get nobody":                  {user(a.User(ctx, tester, testAccount, "x")), mesh.ErrNotFound},
		"policy malformed":            {user(a.UpdateUser(ctx, tester, userWith("ann", `{"Statement":[]}`))), mesh.ErrBadRequest},
		"policy name malformed":       {user(a.UpdateUser(ctx, tester, User{Account: testAccount, Name: "ann", Policies: map[string]json.RawMessage{"": nil}})), mesh.ErrBadRequest},
		"delete user without leave":   {user(a.DeleteUser(ctx, bob.Caller, testAccount, "ann")), mesh.ErrForbidden},
		"delete nobody":               {user(a.DeleteUser(ctx, tester, testAccount, "nobody")), mesh.ErrNotFound},
		"delete key without leave":    {key(a.DeleteKey(ctx, bob.Caller, testAccount, "ann", admin.KeyID)), mesh.ErrForbidden},
		"delete another's key":        {key(a.DeleteKey(ctx, admin.Caller, testAccount, "ann", bob.KeyID)), mesh.ErrNotFound},
		"key elsewhere":               {key(a.DeleteKey(ctx, admin.Caller, second, "ann", "FLAKX")), mesh.ErrForbidden},
		"key malformed":               {key(a.DeleteKey(ctx, tester, testAccount, "ann", "a/b")), mesh.ErrNotFound},
		"no such key":                 {key(a.UpdateKey(ctx, tester, testAccount, "ann", "FLAKX", false)), mesh.ErrNotFound},
		"a key for another user":      {newKey(a.CreateKey(ctx, bob.Caller, testAccount, "ann")), mesh.ErrForbidden},
		"a key for nobody":            {newKey(a.CreateKey(ctx, tester, testAccount, "nobody")), mesh.ErrNotFound},
		"role with more than leave":   {role(a.CreateRole(ctx, bob.Caller, Role{Account: testAccount, Name: "x", TrustPolicy: trust, Policies: deep})), mesh.ErrForbidden},
		"role elsewhere":              {role(a.CreateRole(ctx, admin.Caller, Role{Account: second, Name: "x", TrustPolicy: trust})), mesh.ErrForbidden},
		"role of no account":          {role(a.CreateRole(ctx, tester, Role{Account: third, Name: "x", TrustPolicy: trust})), mesh.ErrNotFound},
		"role again":                  {role(a.CreateRole(ctx, admin.Caller, Role{Account: testAccount, Name: "r", TrustPolicy: trust})), mesh.ErrConflict},
		"role without trust":          {role(a.CreateRole(ctx, admin.Caller, Role{Account: testAccount, Name: "x"})), mesh.ErrBadRequest},
		"role with a short session":   {role(a.CreateRole(ctx, admin.Caller, Role{Account: testAccount, Name: "x", TrustPolicy: trust, MaxSession: time.Minute})), mesh.ErrBadRequest},
		"role with a long session":    {role(a.UpdateRole(ctx, admin.Caller, Role{Account: testAccount, Name: "r", MaxSession: 13 * time.Hour})), mesh.ErrBadRequest},
		"role with a resource":        {role(a.UpdateRole(ctx, admin.Caller, Role{Account: testAccount, Name: "r", TrustPolicy: json.RawMessage(administratorPolicy)})), mesh.ErrBadRequest},
		"role's trust without leave":  {role(a.UpdateRole(ctx, bob.Caller, Role{Account: testAccount, Name: "r", TrustPolicy: trust})), mesh.ErrForbidden},
		"role's policy without leave": {role(a.UpdateRole(ctx, bob.Caller, Role{Account: testAccount, Name: "r", Policies: deep})), mesh.ErrForbidden},
		"role's time without leave":   {role(a.UpdateRole(ctx, bob.Caller, Role{Account: testAccount, Name: "r", MaxSession: time.Hour})), mesh.ErrForbidden},
		"revoke without leave":        {role(a.RevokeSessions(ctx, bob.Caller, testAccount, "r")), mesh.ErrForbidden},
		"revoke of no role":           {role(a.RevokeSessions(ctx, tester, testAccount, "x")), mesh.ErrNotFound},
		"delete no role":              {role(a.DeleteRole(ctx, tester, testAccount, "x")), mesh.ErrNotFound},
		"role malformed":              {role(a.Role(ctx, tester, testAccount, "")), mesh.ErrBadRequest},
	} {
		if codeOf(t, c.err) != c.code {
			t.Errorf("%s: got %v, want %s", name, c.err, c.code)
		}
	}
	for name, list := range map[string]func(store.Caller, string) error{
		"users": func(c store.Caller, account string) error { _, err := a.Users(ctx, c, account); return err },
		"roles": func(c store.Caller, account string) error { _, err := a.Roles(ctx, c, account); return err },
		"keys":  func(c store.Caller, account string) error { _, err := a.Keys(ctx, c, account, "ann"); return err },
	} {
		got := []mesh.Code{codeOf(t, list(bob.Caller, testAccount)), codeOf(t, list(admin.Caller, second)), codeOf(t, list(tester, third)), codeOf(t, list(tester, "x"))}
		if d := cmp.Diff([]mesh.Code{mesh.ErrForbidden, mesh.ErrForbidden, mesh.ErrNotFound, mesh.ErrBadRequest}, got); d != "" {
			t.Errorf("listing %s (-want +got):\n%s", name, d)
		}
	}
	if !a.Valid(admin) || !a.Valid(bob) {
		t.Error("a refused call has had an effect")
	}
}

// TestTwoKeys checks that a user gets two keys, however many ask at the same time on
// however many replicas.
func TestTwoKeys(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	replicas := []*Service{openService(t, s, nil), openService(t, s, nil), openService(t, s, nil)}
	withAnn(t, replicas[0], allowing("*"))
	for round := range 5 {
		user := fmt.Sprint("user", round)
		_, err := replicas[0].CreateUser(t.Context(), tester, User{Account: testAccount, Name: user})
		ok(t, err)
		var mu sync.Mutex
		codes := map[mesh.Code]int{}
		var running sync.WaitGroup
		for i := range 9 {
			running.Go(func() {
				_, _, err := replicas[i%len(replicas)].CreateKey(t.Context(), tester, testAccount, user)
				mu.Lock()
				defer mu.Unlock()
				codes[codeOf(t, err)]++
			})
		}
		running.Wait()
		if d := cmp.Diff(map[mesh.Code]int{"": 2, mesh.ErrLimitExceeded: 7}, codes); d != "" {
			t.Errorf("answers (-want +got):\n%s", d)
		}
		keys, err := replicas[1].Keys(t.Context(), tester, testAccount, user)
		if err != nil || len(keys) != 2 {
			t.Errorf("keys are %+v, %v", keys, err)
		}
		_, err = replicas[2].DeleteKey(t.Context(), tester, testAccount, user, keys[0].ID)
		ok(t, err)
		_, _, err = replicas[2].CreateKey(t.Context(), tester, testAccount, user)
		if err != nil {
			t.Errorf("after one was deleted: %v", err)
		}
	}
}

// TestLastUsed checks what is told of the use of a key, on other replicas too.
func TestLastUsed(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	a, other := openService(t, s, nil), openService(t, s, nil)
	creds := withAnn(t, a, allowing("*"))
	used := func(a *Service) Key {
		t.Helper()
		keys, err := a.Keys(t.Context(), tester, testAccount, "ann")
		if err != nil || len(keys) != 1 {
			t.Fatalf("keys are %+v, %v", keys, err)
		}
		return keys[0]
	}
	eventually(t, other, "the key", func() bool { return other.table.Load().key(creds.AccessKeyID) != nil })
	never := used(a)
	if !never.LastUsed.IsZero() || never.LastRegion != "" {
		t.Errorf("a new key is %+v", never)
	}
	caller, err := signIn(t, a, creds)
	ok(t, err)
	want := never
	want.LastUsed, want.LastRegion, want.LastService = testNow, testRegion, "appmesh"
	if d := cmp.Diff(want, used(a)); d != "" {
		t.Errorf("after a use (-want +got):\n%s", d)
	}
	if d := cmp.Diff(never, used(other)); d != "" {
		t.Errorf("elsewhere, before it is written (-want +got):\n%s", d)
	}
	// It outlives changes of the key, and is written once.
	_, err = a.UpdateKey(t.Context(), tester, testAccount, "ann", creds.AccessKeyID, true)
	ok(t, err)
	changed := a.Changed()
	a.writeUses(t.Context())
	a.writeUses(t.Context())
	records, err := s.Records(t.Context(), tester, usedPrefix)
	if err != nil || len(records) != 1 {
		t.Fatalf("records are %+v, %v", records, err)
	}
	if d := cmp.Diff(want, used(other)); d != "" {
		t.Errorf("elsewhere, after it is written (-want +got):\n%s", d)
	}
	select {
	case <-changed:
		t.Error("a use counts as a change")
	default:
	}
	// An earlier use does not replace a later one.
	k := other.table.Load().key(creds.AccessKeyID)
	k.used.note(testNow.Add(-time.Hour), "eu-west-1", "appmesh")
	other.writeUses(t.Context())
	if d := cmp.Diff(want, used(other)); d != "" {
		t.Errorf("after an earlier use (-want +got):\n%s", d)
	}
	// The use of a session is one of its key. What is not written goes at the end.
	session, err := a.SessionToken(t.Context(), caller, 0)
	ok(t, err)
	a.table.Load().key(creds.AccessKeyID).used.last.Store(nil)
	a.table.Load().key(creds.AccessKeyID).used.written.Store(0)
	ok(t, s.DeleteRecord(t.Context(), tester, records[0].Key))
	_, err = signIn(t, a, session)
	ok(t, err)
	last := openService(t, s, nil)
	ok(t, a.Close())
	if d := cmp.Diff(want, used(last)); d != "" {
		t.Errorf("after the end (-want +got):\n%s", d)
	}
}
