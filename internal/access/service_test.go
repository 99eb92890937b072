package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

var tester = store.System("test")

// openStore opens a store in an empty folder.
func openStore(t *testing.T) *store.Store {
	t.Helper()
	return openStoreIn(t, t.TempDir())
}

func openStoreIn(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{DataDir: dir, Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// openService opens a Service whose clock stands at testNow.
func openService(t *testing.T, s *store.Store, log *slog.Logger) *Service {
	t.Helper()
	a, err := Open(t.Context(), Config{
		Store: s, Regions: []string{testRegion}, Now: func() time.Time { return testNow }, Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// signIn verifies a request that is signed with the credentials.
func signIn(t *testing.T, a *Service, c Credentials) (Caller, error) {
	t.Helper()
	r := signCase{method: "GET", target: "/v20190125/meshes"}.
		signed(t, "http://h.example", c.AccessKeyID, c.SecretAccessKey, "appmesh", testRegion, testNow)
	return a.Verify(HTTPRequest(r, nil))
}

// eventually waits until a condition holds that a change of the table brings about.
func eventually(t *testing.T, a *Service, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		changed := a.Changed()
		if holds() {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("waited too long for: %s", what)
		}
	}
}

// ok fails the test at once on an error.
func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// withAnn makes the account and a user ann with a policy and a key.
func withAnn(t *testing.T, a *Service, policy string) Credentials {
	t.Helper()
	ok(t, a.CreateAccount(t.Context(), tester, testAccount))
	ok(t, a.PutUser(t.Context(), tester, annWith(policy)))
	creds, err := a.CreateKey(t.Context(), tester, testAccount, "ann")
	ok(t, err)
	return creds
}

func annWith(policy string) User {
	return User{Account: testAccount, Name: "ann", Policies: map[string]json.RawMessage{"p": json.RawMessage(policy)}}
}

func allowing(action string) string {
	return `{"Statement":{"Effect":"Allow","Action":"` + action + `","Resource":"*"}}`
}

// TestKeyLife makes, disables, enables and deletes a key, watched by a second
// replica.
func TestKeyLife(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	a, other := openService(t, s, nil), openService(t, s, nil)
	creds := withAnn(t, a, allowing("appmesh:Describe*"))
	if _, err := signIn(t, a, creds); err != nil {
		t.Fatalf("right after CreateKey: %v", err)
	}
	both := func(what string, valid bool) {
		t.Helper()
		if a.Valid(creds.AccessKeyID) != valid {
			t.Errorf("%s: Valid is %v on the replica that did it", what, !valid)
		}
		eventually(t, other, what, func() bool { return other.Valid(creds.AccessKeyID) == valid })
		_, err := signIn(t, other, creds)
		if want := map[bool]mesh.Code{true: "", false: mesh.ErrUnrecognizedClient}[valid]; codeOf(t, err) != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	both("created", true)
	caller, err := signIn(t, other, creds)
	ok(t, err)
	ok(t, caller.Allow(Question{Action: "appmesh:DescribeMesh", Resource: shop}))

	ok(t, a.SetKeyActive(t.Context(), tester, testAccount, creds.AccessKeyID, false))
	both("disabled", false)
	if err := caller.Allow(Question{Action: "appmesh:DescribeMesh", Resource: shop}); codeOf(t, err) != mesh.ErrForbidden || !strings.Contains(err.Error(), "no longer valid") {
		t.Errorf("a caller of before may still act: %v", err)
	}
	ok(t, a.SetKeyActive(t.Context(), tester, testAccount, creds.AccessKeyID, true))
	both("enabled", true)
	ok(t, a.DeleteKey(t.Context(), tester, testAccount, creds.AccessKeyID))
	both("deleted", false)
	if err := a.SetKeyActive(t.Context(), tester, testAccount, creds.AccessKeyID, true); codeOf(t, err) != mesh.ErrNotFound {
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
	kept, err := s.Records(t.Context(), tester, recordKey(testAccount, keyRecord, creds.AccessKeyID))
	ok(t, err)
	ok(t, a.DeleteUser(t.Context(), tester, testAccount, "ann"))
	if a.Valid(creds.AccessKeyID) {
		t.Error("the key outlives its user")
	}
	left, err := s.Records(t.Context(), tester, recordPrefix)
	ok(t, err)
	if len(left) != 1 {
		t.Errorf("%d records are left, want the account only", len(left))
	}
	// Even if the key's record had stayed, the new ann would not have it.
	ok(t, a.PutUser(t.Context(), tester, annWith(allowing("*"))))
	kept[0].Revision = store.AnyRevision
	ok(t, s.PutRecords(t.Context(), tester, kept))
	eventually(t, a, "the old key is back", func() bool { return a.table.Load().keys[creds.AccessKeyID] != nil })
	if a.Valid(creds.AccessKeyID) {
		t.Error("a new user of the same name has the old one's key")
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
		ok(t, a.PutUser(t.Context(), tester, annWith(policy)))
		<-changed
		want := "User: arn:aws:iam::000000000001:user/ann is not authorized to perform: appmesh:CreateMesh on resource: " + shop + " " + reason
		if err := caller.Allow(Question{Action: "appmesh:CreateMesh", Resource: shop}); codeOf(t, err) != mesh.ErrForbidden || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestManageRefuses checks who may not manage whom, and what is bad input.
func TestManageRefuses(t *testing.T) {
	t.Parallel()
	a, ctx := openService(t, openStore(t), nil), t.Context()
	admin, err := signIn(t, a, withAnn(t, a, allowing("*")))
	ok(t, err)
	ok(t, a.PutUser(ctx, admin.Caller, User{Account: testAccount, Name: "bob", Policies: map[string]json.RawMessage{"p": json.RawMessage(allowing("appmesh:*"))}}))
	bobKey, err := a.CreateKey(ctx, admin.Caller, testAccount, "bob")
	ok(t, err)
	bob, err := signIn(t, a, bobKey)
	ok(t, err)
	const second = "000000000002"
	ok(t, a.CreateAccount(ctx, tester, second))
	for name, c := range map[string]struct {
		err  error
		code mesh.Code
	}{
		"account by a user":         {a.CreateAccount(ctx, admin.Caller, "000000000003"), mesh.ErrForbidden},
		"account by nobody":         {a.CreateAccount(ctx, store.Caller{}, "000000000003"), mesh.ErrForbidden},
		"account again":             {a.CreateAccount(ctx, tester, second), mesh.ErrConflict},
		"account malformed":         {a.CreateAccount(ctx, tester, "3"), mesh.ErrBadRequest},
		"user elsewhere":            {a.PutUser(ctx, admin.Caller, User{Account: second, Name: "x"}), mesh.ErrForbidden},
		"user without leave":        {a.PutUser(ctx, bob.Caller, User{Account: testAccount, Name: "x"}), mesh.ErrForbidden},
		"own policy without leave":  {a.PutUser(ctx, bob.Caller, User{Account: testAccount, Name: "bob"}), mesh.ErrForbidden},
		"user of no account":        {a.PutUser(ctx, tester, User{Account: "000000000003", Name: "x"}), mesh.ErrNotFound},
		"user malformed":            {a.PutUser(ctx, tester, User{Account: testAccount, Name: "a/b"}), mesh.ErrBadRequest},
		"policy malformed":          {a.PutUser(ctx, tester, annWith(`{"Statement":[]}`)), mesh.ErrBadRequest},
		"policy name malformed":     {a.PutUser(ctx, tester, User{Account: testAccount, Name: "x", Policies: map[string]json.RawMessage{"": nil}}), mesh.ErrBadRequest},
		"delete user without leave": {a.DeleteUser(ctx, bob.Caller, testAccount, "ann"), mesh.ErrForbidden},
		"delete nobody":             {a.DeleteUser(ctx, tester, testAccount, "nobody"), mesh.ErrNotFound},
		"delete key without leave":  {a.DeleteKey(ctx, bob.Caller, testAccount, admin.KeyID), mesh.ErrForbidden},
		"key elsewhere":             {a.DeleteKey(ctx, admin.Caller, second, "FLAKX"), mesh.ErrForbidden},
		"key malformed":             {a.DeleteKey(ctx, tester, testAccount, "a/b"), mesh.ErrBadRequest},
		"no such key":               {a.DeleteKey(ctx, tester, testAccount, "FLAKX"), mesh.ErrNotFound},
	} {
		if codeOf(t, c.err) != c.code {
			t.Errorf("%s: got %v, want %s", name, c.err, c.code)
		}
	}
	if _, err := a.CreateKey(ctx, bob.Caller, testAccount, "ann"); codeOf(t, err) != mesh.ErrForbidden {
		t.Errorf("a key for another user: %v", err)
	}
	if _, err := a.CreateKey(ctx, tester, testAccount, "nobody"); codeOf(t, err) != mesh.ErrNotFound {
		t.Errorf("a key for nobody: %v", err)
	}
	if !a.Valid(admin.KeyID) || !a.Valid(bob.KeyID) {
		t.Error("a refused call has had an effect")
	}
}

// TestUnreadableRecords checks that what cannot be read costs only itself.
func TestUnreadableRecords(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	var logged safeBuffer
	a := openService(t, s, slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})))
	creds := withAnn(t, a, allowing("*"))
	ok(t, a.PutUser(t.Context(), tester, User{Account: testAccount, Name: "bob", Policies: annWith(allowing("*")).Policies}))
	bobs, err := a.CreateKey(t.Context(), tester, testAccount, "bob")
	ok(t, err)
	user, err := s.Records(t.Context(), tester, recordKey(testAccount, userRecord, "bob"))
	ok(t, err)
	put := func(key, value string) {
		t.Helper()
		ok(t, s.PutRecords(t.Context(), tester, []store.Record{{Key: key, Value: []byte(value), Revision: store.AnyRevision}}))
	}
	put(recordKey(testAccount, keyRecord, "FLAKNEWER"), `{"format":99}`)
	put(recordKey(testAccount, keyRecord, "FLAKNOJSON"), `{`)
	put(recordKey(testAccount, keyRecord, "FLAKNOSEAL"), `{"format":1,"user":"ann","sealedSecret":"AAAA"}`)
	put(recordKey("000000000002", keyRecord, creds.AccessKeyID), `{"format":1}`)
	put(recordPrefix+"something/else/of/later", `{"format":1}`)
	put(user[0].Key, strings.Replace(string(user[0].Value), `"Effect"`, `"Condition":{},"Effect"`, 1))
	eventually(t, a, "bob may nothing", func() bool {
		caller, err := signIn(t, a, bobs)
		return err == nil && caller.Allow(Question{Action: "appmesh:ListMeshes", Resource: "*"}) != nil
	})
	caller, err := signIn(t, a, creds)
	ok(t, err)
	ok(t, caller.Allow(Question{Action: "appmesh:ListMeshes", Resource: "*"}))
	put(user[0].Key, `{"format":99}`)
	eventually(t, a, "bob is unknown", func() bool { return !a.Valid(bobs.AccessKeyID) })
	for _, want := range []string{"FLAKNEWER", "FLAKNOJSON", "FLAKNOSEAL", "something/else", "policy cannot be read"} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if strings.Contains(logged.String(), creds.SecretAccessKey) {
		t.Error("a secret was logged")
	}
}

// safeBuffer is a buffer for several goroutines.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestUnknownMembersStay checks that a change keeps what a newer build has written.
func TestUnknownMembersStay(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	a := openService(t, s, nil)
	creds := withAnn(t, a, allowing("*"))
	key := recordKey(testAccount, keyRecord, creds.AccessKeyID)
	read := func() store.Record {
		t.Helper()
		records, err := s.Records(t.Context(), tester, key)
		ok(t, err)
		return records[0]
	}
	rec := read()
	rec.Value = []byte(strings.Replace(string(rec.Value), "{", `{"lastUsed":"today",`, 1))
	ok(t, s.PutRecords(t.Context(), tester, []store.Record{rec}))
	for _, active := range []bool{false, true} {
		ok(t, a.SetKeyActive(t.Context(), tester, testAccount, creds.AccessKeyID, active))
		if a.Valid(creds.AccessKeyID) != active || !strings.Contains(string(read().Value), `"lastUsed":"today"`) {
			t.Errorf("active %v: record is %s", active, read().Value)
		}
	}
}

// TestSecretsAreSealed looks for the secret in everything that is stored.
func TestSecretsAreSealed(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	a := openService(t, s, nil)
	creds := withAnn(t, a, allowing("*"))
	if len(creds.AccessKeyID) != 20 || len(creds.SecretAccessKey) != 40 || !strings.HasPrefix(creds.AccessKeyID, keyPrefix) {
		t.Errorf("%s has a secret of %d characters", creds, len(creds.SecretAccessKey))
	}
	records, err := s.Records(t.Context(), tester, "")
	ok(t, err)
	for _, rec := range records {
		if bytes.Contains(rec.Value, []byte(creds.SecretAccessKey)) {
			t.Errorf("record %s has the secret", rec.Key)
		}
	}
}

// TestReset checks that a new list replaces what was known.
func TestReset(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	a := openService(t, s, nil)
	creds := withAnn(t, a, allowing("*"))
	records, err := s.Records(t.Context(), tester, recordPrefix)
	ok(t, err)
	fresh, err := newService(Config{Store: s, Regions: []string{testRegion}})
	ok(t, err)
	fresh.apply(store.RecordBatch{Reset: true, Puts: records})
	if !fresh.Valid(creds.AccessKeyID) {
		t.Fatal("the key is not there after the first list")
	}
	changed := fresh.Changed()
	fresh.apply(store.RecordBatch{Reset: true, Puts: records[:1]})
	<-changed
	if fresh.Valid(creds.AccessKeyID) {
		t.Error("the key is there after a list without it")
	}
}

// TestOpenRefuses checks how Open ends if it cannot read the store.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	if _, err := Open(t.Context(), Config{Store: s}); err == nil || !strings.Contains(err.Error(), "regions") {
		t.Errorf("without regions: %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	// It may have been quick enough to be done.
	if a, err := Open(ended, Config{Store: s, Regions: []string{testRegion}}); err == nil {
		ok(t, a.Close())
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
	ok(t, s.Close())
	if _, err := Open(t.Context(), Config{Store: s, Regions: []string{testRegion}}); err == nil || !strings.Contains(err.Error(), "loading access keys") {
		t.Errorf("on a closed store: %v", err)
	}
}
