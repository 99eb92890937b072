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
func openStore(t testing.TB) *store.Store {
	t.Helper()
	return openStoreIn(t, t.TempDir())
}

func openStoreIn(t testing.TB, dir string) *store.Store {
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
func openService(t testing.TB, s *store.Store, log *slog.Logger) *Service {
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
func signIn(t testing.TB, a *Service, c Credentials) (Caller, error) {
	t.Helper()
	r := signCase{method: "GET", target: "/v20190125/meshes", token: c.SessionToken}.
		signed(t, "http://h.example", c.AccessKeyID, c.SecretAccessKey, "appmesh", testRegion, testNow)
	return a.Verify(HTTPRequest(r, nil))
}

// eventually waits until a condition holds that a change of the table brings about.
func eventually(t testing.TB, a *Service, what string, holds func() bool) {
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
func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// withAnn makes the account and a user ann with a policy and a key.
func withAnn(t testing.TB, a *Service, policy string) Credentials {
	t.Helper()
	_, _, err := a.CreateAccount(t.Context(), tester, testAccount, "test")
	ok(t, err)
	return makeUser(t, a, "ann", policy)
}

// makeUser makes a user of the account with a policy and a key.
func makeUser(t testing.TB, a *Service, name, policy string) Credentials {
	t.Helper()
	_, err := a.CreateUser(t.Context(), tester, userWith(name, policy))
	ok(t, err)
	_, creds, err := a.CreateKey(t.Context(), tester, testAccount, name)
	ok(t, err)
	return creds
}

// userWith returns a user of the account with a policy.
func userWith(name, policy string) User {
	return User{Account: testAccount, Name: name, Policies: documents(policy)}
}

func documents(policy string) map[string]json.RawMessage {
	return map[string]json.RawMessage{"p": json.RawMessage(policy)}
}

func allowing(action string) string {
	return `{"Statement":{"Effect":"Allow","Action":"` + action + `","Resource":"*"}}`
}

// TestUnreadableRecords checks that what cannot be read costs only itself.
func TestUnreadableRecords(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	var logged safeBuffer
	a := openService(t, s, slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})))
	creds := withAnn(t, a, allowing("*"))
	bobs := makeUser(t, a, "bob", allowing("*"))
	ann, err := signIn(t, a, creds)
	ok(t, err)
	bob, err := signIn(t, a, bobs)
	ok(t, err)
	_, err = a.CreateRole(t.Context(), tester, Role{Account: testAccount, Name: "deployer", TrustPolicy: trusting(testAccount), Policies: documents(allowing("*"))})
	ok(t, err)
	session, _, err := a.AssumeRole(t.Context(), ann, AssumeRole{RoleARN: roleARN(testAccount, "deployer", testRegion), Session: "ann"})
	ok(t, err)
	deployer, err := signIn(t, a, session)
	ok(t, err)
	put := func(key, value string) {
		t.Helper()
		ok(t, s.PutRecords(t.Context(), tester, []store.Record{{Key: key, Value: []byte(value), Revision: store.AnyRevision}}))
	}
	edited := func(key, from, to string) string {
		t.Helper()
		records, err := s.Records(t.Context(), tester, key)
		ok(t, err)
		return strings.Replace(string(records[0].Value), from, to, 1)
	}
	userKey, roleKey := recordKey(testAccount, userRecord, "bob"), recordKey(testAccount, roleRecord, "deployer")
	put(recordKey(testAccount, keyRecord, "FLAKNEWER"), `{"format":99}`)
	put(recordKey(testAccount, keyRecord, "FLAKNOJSON"), `{`)
	put(recordKey(testAccount, keyRecord, "FLAKNOSEAL"), `{"format":1,"user":"ann","sealedSecret":"AAAA"}`)
	put(recordKey("000000000002", keyRecord, creds.AccessKeyID), `{"format":1}`)
	put(recordPrefix+"something/else/of/later", `{"format":1}`)
	put(userKey, edited(userKey, `"Effect"`, `"Later":{},"Effect"`))
	put(roleKey, edited(roleKey, `"Principal"`, `"Later":{},"Principal"`))
	list := Question{Action: "appmesh:ListMeshes", Resource: "*"}
	eventually(t, a, "bob may nothing", func() bool { return bob.Allow(list) != nil })
	eventually(t, a, "nobody may assume the role", func() bool {
		_, _, err := a.AssumeRole(t.Context(), ann, AssumeRole{RoleARN: roleARN(testAccount, "deployer", testRegion), Session: "ann"})
		return codeOf(t, err) == mesh.ErrForbidden
	})
	ok(t, ann.Allow(list))
	ok(t, deployer.Allow(list)) // its own policies can be read
	put(userKey, `{"format":99}`)
	put(roleKey, `{"format":99}`)
	eventually(t, a, "bob and the role are unknown", func() bool { return !a.Valid(bob) && !a.Valid(deployer) })
	for _, want := range []string{"FLAKNEWER", "FLAKNOJSON", "FLAKNOSEAL", "something/else", "policy cannot be read", "trust policy cannot be read"} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	for _, secret := range []string{creds.SecretAccessKey, session.SecretAccessKey, session.SessionToken} {
		if strings.Contains(logged.String(), secret) {
			t.Error("a secret was logged")
		}
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
	caller, err := signIn(t, a, creds)
	ok(t, err)
	for _, active := range []bool{false, true} {
		_, err := a.UpdateKey(t.Context(), tester, testAccount, "ann", creds.AccessKeyID, active)
		ok(t, err)
		if a.Valid(caller) != active || !strings.Contains(string(read().Value), `"lastUsed":"today"`) {
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
	if fresh.table.Load().validKey(creds.AccessKeyID) == nil {
		t.Fatal("the key is not there after the first list")
	}
	changed := fresh.Changed()
	fresh.apply(store.RecordBatch{Reset: true, Puts: records[:1]})
	<-changed
	if fresh.table.Load().validKey(creds.AccessKeyID) != nil {
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
