package access

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

const (
	testAccount = "000000000001"
	testKey     = "FLAKTESTTESTTESTTEST"
	testSecret  = "not+a/real+secret/only+for+the+tests+abcd"
	testRegion  = "us-east-1"
)

// testNow is when most tests take place.
var testNow = time.Date(2026, 11, 22, 10, 11, 12, 0, time.UTC)

// offline returns a Service without a store that knows one key, with a clock that
// stands still.
func offline(t testing.TB, now time.Time) *Service {
	t.Helper()
	a, err := newService(Config{
		Regions: []string{testRegion, "eu-west-1"},
		Now:     func() time.Time { return now },
		Logger:  slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePolicy([]byte(administratorPolicy))
	if err != nil {
		t.Fatal(err)
	}
	n := newTable()
	n.accounts[testAccount] = true
	n.users[userName{testAccount, "ann"}] = &user{uid: "1", policies: []*Policy{p}}
	n.keys[testKey] = &accessKey{id: testKey, account: testAccount, user: "ann", userUID: "1", secret: testSecret}
	n.keys["FLAKDISABLED"] = &accessKey{id: "FLAKDISABLED", account: testAccount, user: "ann", userUID: "1", secret: testSecret, disabled: true}
	n.keys["FLAKOTHERUSER"] = &accessKey{id: "FLAKOTHERUSER", account: testAccount, user: "ann", userUID: "2", secret: testSecret}
	a.table.Store(n)
	return a
}

// codeOf returns the code of a refusal, "" for no error, and fails the test on an
// error of another kind.
func codeOf(t testing.TB, err error) mesh.Code {
	t.Helper()
	var refusal *mesh.Error
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &refusal):
		t.Fatalf("error is %v, want a *mesh.Error", err)
	}
	return refusal.Code
}
