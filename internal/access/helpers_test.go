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
	d := newTable().next(true)
	d.accounts.Insert([]byte(testAccount), &account{id: testAccount})
	d.users.Insert(treeKey(testAccount, "ann"), &user{account: testAccount, name: "ann", userValue: userValue{UID: "1"}, policies: []*Policy{p}})
	for id, k := range map[string]*accessKey{
		testKey:         {userUID: "1"},
		"FLAKDISABLED":  {userUID: "1", disabled: true},
		"FLAKOTHERUSER": {userUID: "2"},
	} {
		k.account, k.user, k.used, k.signer = testAccount, "ann", &usage{}, &signer{id: id, secret: testSecret}
		d.keys.Insert([]byte(id), k)
		d.owned.Insert(treeKey(testAccount, "ann", id), k)
	}
	a.table.Store(d.done())
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
