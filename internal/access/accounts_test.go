package access

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// managed returns a Service whose management account is testAccount, and its
// administrator.
func managed(t *testing.T, s *store.Store) (*Service, Caller) {
	t.Helper()
	a := openService(t, s, nil)
	var in inbox
	_, err := a.Bootstrap(t.Context(), testAccount, in.write)
	ok(t, err)
	admin, err := signIn(t, a, in.got[0])
	ok(t, err)
	return a, admin
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	a, admin := managed(t, openStore(t))
	ctx := t.Context()
	second, creds, err := a.CreateAccount(ctx, admin.Caller, "000000000002", "Second & Söhne")
	ok(t, err)
	want := Account{ID: "000000000002", Name: "Second & Söhne", CreatedAt: testNow, UpdatedAt: testNow}
	if d := cmp.Diff(want, second); d != "" {
		t.Errorf("account (-want +got):\n%s", d)
	}
	tenant, err := signIn(t, a, creds)
	ok(t, err)
	ok(t, tenant.Allow(Question{Action: "appmesh:CreateMesh", Resource: "arn:aws:appmesh:us-east-1:000000000002:mesh/x"}))
	if tenant.ARN != "arn:aws:iam::000000000002:user/administrator" || tenant.Account != "000000000002" {
		t.Errorf("caller is %+v", tenant)
	}
	random, _, err := a.CreateAccount(ctx, admin.Caller, "", "third")
	if err != nil || !mesh.ValidAccount(random.ID) || random.ID[0] == '0' {
		t.Errorf("a random account is %+v, %v", random, err)
	}
	all, err := a.Accounts(ctx, admin.Caller)
	management := Account{ID: testAccount, Name: "management", Management: true, CreatedAt: testNow, UpdatedAt: testNow}
	if d := cmp.Diff([]Account{management, second, random}, all); d != "" || err != nil {
		t.Errorf("accounts (-want +got):\n%s%v", d, err)
	}
	name := "Second"
	want.Name = name
	renamed, err := a.UpdateAccount(ctx, admin.Caller, second.ID, AccountChange{Name: &name})
	if d := cmp.Diff(want, renamed); d != "" || err != nil {
		t.Errorf("renamed (-want +got):\n%s%v", d, err)
	}
	if got, err := a.Account(ctx, tenant.Caller, second.ID); cmp.Diff(want, got) != "" || err != nil {
		t.Errorf("its own account: %+v, %v", got, err)
	}
}

// TestAccountsRefuse checks that nobody but the management account's callers manage
// accounts, what cannot be done to it, and what is bad input.
func TestAccountsRefuse(t *testing.T) {
	t.Parallel()
	a, admin := managed(t, openStore(t))
	ctx := t.Context()
	weakly := makeUser(t, a, "ann", allowing("appmesh:*"))
	ann, err := signIn(t, a, weakly)
	ok(t, err)
	_, creds, err := a.CreateAccount(ctx, admin.Caller, "000000000002", "second")
	ok(t, err)
	tenant, err := signIn(t, a, creds)
	ok(t, err)
	yes := true
	for name, c := range map[string]struct {
		c    store.Caller
		id   string
		name string
		want map[string]mesh.Code
	}{
		"another account": {tenant.Caller, testAccount, "x", map[string]mesh.Code{
			"create": mesh.ErrForbidden, "get": mesh.ErrForbidden, "list": mesh.ErrForbidden, "update": mesh.ErrForbidden, "delete": mesh.ErrForbidden,
		}},
		"another account, itself": {tenant.Caller, "000000000002", "x", map[string]mesh.Code{
			"create": mesh.ErrForbidden, "get": "", "list": mesh.ErrForbidden, "update": mesh.ErrForbidden, "delete": mesh.ErrForbidden,
		}},
		"another account, nothing": {tenant.Caller, "000000000009", "x", map[string]mesh.Code{
			"create": mesh.ErrForbidden, "get": mesh.ErrForbidden, "list": mesh.ErrForbidden, "update": mesh.ErrForbidden, "delete": mesh.ErrForbidden,
		}},
		"without permission": {ann.Caller, "000000000002", "x", map[string]mesh.Code{
			"create": mesh.ErrForbidden, "get": mesh.ErrForbidden, "list": mesh.ErrForbidden, "update": mesh.ErrForbidden, "delete": mesh.ErrForbidden,
		}},
		"nobody": {store.Caller{}, "000000000002", "x", map[string]mesh.Code{
			"create": mesh.ErrForbidden, "get": mesh.ErrForbidden, "list": mesh.ErrForbidden, "update": mesh.ErrForbidden, "delete": mesh.ErrForbidden,
		}},
		"the management account": {admin.Caller, testAccount, "x", map[string]mesh.Code{
			"create": mesh.ErrConflict, "get": "", "list": "", "update": mesh.ErrBadRequest, "delete": mesh.ErrBadRequest,
		}},
		"no account": {admin.Caller, "000000000009", "", map[string]mesh.Code{
			"create": mesh.ErrBadRequest, "get": mesh.ErrNotFound, "list": "", "update": mesh.ErrNotFound, "delete": mesh.ErrNotFound,
		}},
		"malformed": {admin.Caller, "9", strings.Repeat("x", 129), map[string]mesh.Code{
			"create": mesh.ErrBadRequest, "get": mesh.ErrBadRequest, "list": "", "update": mesh.ErrBadRequest, "delete": mesh.ErrBadRequest,
		}},
	} {
		got := map[string]mesh.Code{}
		_, _, err := a.CreateAccount(ctx, c.c, c.id, c.name)
		got["create"] = codeOf(t, err)
		_, err = a.Account(ctx, c.c, c.id)
		got["get"] = codeOf(t, err)
		_, err = a.Accounts(ctx, c.c)
		got["list"] = codeOf(t, err)
		_, err = a.UpdateAccount(ctx, c.c, c.id, AccountChange{Suspended: &yes})
		got["update"] = codeOf(t, err)
		_, err = a.DeleteAccount(ctx, c.c, c.id)
		got["delete"] = codeOf(t, err)
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	for _, name := range []string{"", " x", "x ", "a\nb", "\xff"} {
		if _, err := a.UpdateAccount(ctx, admin.Caller, "000000000002", AccountChange{Name: &name}); codeOf(t, err) != mesh.ErrBadRequest {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

// TestSuspend checks that all keys and sessions of a suspended account are refused at
// once, on each replica, and come back.
func TestSuspend(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	a, admin := managed(t, s)
	other := openService(t, s, nil)
	ctx := t.Context()
	const second = "000000000002"
	_, creds, err := a.CreateAccount(ctx, admin.Caller, second, "second")
	ok(t, err)
	tenant, err := signIn(t, a, creds)
	ok(t, err)
	_, err = a.CreateRole(ctx, tenant.Caller, Role{Account: second, Name: "r", TrustPolicy: trusting(second), Policies: documents(allowing("*"))})
	ok(t, err)
	all := []Credentials{creds}
	session, err := a.SessionToken(ctx, tenant, 0)
	ok(t, err)
	role, _, err := a.AssumeRole(ctx, tenant, AssumeRole{RoleARN: roleARN(second, "r", testRegion), Session: "s1"})
	ok(t, err)
	all = append(all, session, role)
	var callers []Caller
	for _, c := range all {
		caller, err := signIn(t, a, c)
		ok(t, err)
		callers = append(callers, caller)
		eventually(t, other, "the other replica", func() bool { return other.Valid(caller) })
	}
	for _, suspend := range []bool{true, false} {
		changed := a.Changed()
		got, err := a.UpdateAccount(ctx, admin.Caller, second, AccountChange{Suspended: &suspend})
		if err != nil || got.Suspended != suspend {
			t.Errorf("suspended %v: %+v, %v", suspend, got, err)
		}
		<-changed
		for i, caller := range callers {
			if a.Valid(caller) == suspend {
				t.Errorf("suspended %v: Valid(%d) is %v", suspend, i, !suspend)
			}
			eventually(t, other, "the other replica", func() bool { return other.Valid(caller) != suspend })
			_, err := signIn(t, other, all[i])
			err2 := caller.Allow(Question{Action: "appmesh:ListMeshes", Resource: "*"})
			if !suspend {
				ok(t, err)
				ok(t, err2)
				continue
			}
			if codeOf(t, err) != mesh.ErrAccessDenied || !strings.Contains(err.Error(), "Account 000000000002 is suspended") {
				t.Errorf("sign in: %v", err)
			}
			if codeOf(t, err2) != mesh.ErrForbidden || !strings.Contains(err2.Error(), "its account is suspended") {
				t.Errorf("allow: %v", err2)
			}
		}
		if suspend {
			if _, err := a.Recover(ctx, second); err == nil || !strings.Contains(err.Error(), "is suspended") {
				t.Errorf("recovering: %v", err)
			}
			if _, _, err := a.AssumeRole(ctx, admin, AssumeRole{RoleARN: roleARN(second, "r", testRegion), Session: "s1"}); codeOf(t, err) != mesh.ErrForbidden {
				t.Errorf("assuming a role of it: %v", err)
			}
		}
	}
}

// TestDeleteAccount checks that an account goes with all that it has, not while it
// has meshes, and that its id does not come back.
func TestDeleteAccount(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	a, admin := managed(t, s)
	ctx := t.Context()
	const second = "000000000002"
	_, creds, err := a.CreateAccount(ctx, admin.Caller, second, "second")
	ok(t, err)
	tenant, err := signIn(t, a, creds)
	ok(t, err)
	_, err = a.CreateUser(ctx, tenant.Caller, User{Account: second, Name: "x"})
	ok(t, err)
	m := mesh.MeshID{Account: second, Region: testRegion, Name: "shop"}
	_, err = s.Create(ctx, tenant.Caller, store.NewObject{ID: m.MeshObject(), Spec: &mesh.MeshSpec{}})
	ok(t, err)
	if _, err := a.DeleteAccount(ctx, admin.Caller, second); codeOf(t, err) != mesh.ErrResourceInUse {
		t.Errorf("with a mesh: %v", err)
	}
	if !a.Valid(tenant) {
		t.Error("a refused deletion has had an effect")
	}
	_, err = s.Delete(ctx, tenant.Caller, m.MeshObject())
	ok(t, err)
	a.writeUses(ctx)
	gone, err := a.DeleteAccount(ctx, admin.Caller, second)
	if err != nil || gone.Name != "second" || a.Valid(tenant) {
		t.Errorf("deleted %+v, %v", gone, err)
	}
	for _, prefix := range []string{recordKey(second), usedKey(second, "")} {
		if left, err := s.Records(ctx, tester, prefix); err != nil || len(left) > 0 {
			t.Errorf("left are %+v, %v", left, err)
		}
	}
	if _, err := signIn(t, a, creds); codeOf(t, err) != mesh.ErrUnrecognizedClient {
		t.Errorf("its key: %v", err)
	}
	if _, _, err := a.CreateAccount(ctx, admin.Caller, second, "again"); codeOf(t, err) != mesh.ErrConflict {
		t.Errorf("the same id: %v", err)
	}
}

func TestRecover(t *testing.T) {
	t.Parallel()
	a, admin := managed(t, openStore(t))
	ctx := t.Context()
	first, err := a.Recover(ctx, "")
	ok(t, err)
	one, err := signIn(t, a, first)
	ok(t, err)
	ok(t, one.Allow(Question{Action: "iam:DeleteUser", Resource: "*"}))
	if one.ARN != "arn:aws:iam::000000000001:user/recovered-administrator" {
		t.Errorf("caller is %s", one.ARN)
	}
	_, _, err = a.CreateKey(ctx, one.Caller, testAccount, RecoveredAdministrator)
	ok(t, err)
	_, err = a.UpdateUser(ctx, one.Caller, userWith(RecoveredAdministrator, allowing("appmesh:*")))
	ok(t, err)
	second, err := a.Recover(ctx, testAccount)
	ok(t, err)
	two, err := signIn(t, a, second)
	ok(t, err)
	ok(t, two.Allow(Question{Action: "iam:DeleteUser", Resource: "*"}))
	if a.Valid(one) || !a.Valid(admin) {
		t.Error("the one before is still in, or another is out")
	}
	keys, err := a.Keys(ctx, two.Caller, testAccount, RecoveredAdministrator)
	if err != nil || len(keys) != 1 || keys[0].ID != second.AccessKeyID {
		t.Errorf("keys are %+v, %v", keys, err)
	}
	for _, account := range []string{"1", "000000000009"} {
		if _, err := a.Recover(ctx, account); err == nil || !strings.Contains(err.Error(), "recovering access: ") {
			t.Errorf("account %s: %v", account, err)
		}
	}
	if _, err := openService(t, openStore(t), nil).Recover(ctx, ""); err == nil || !strings.Contains(err.Error(), "no management account") {
		t.Errorf("on an empty store: %v", err)
	}
}

// manyUsers returns a table of n users with a key each.
func manyUsers(tb testing.TB, a *Service, n int) store.RecordBatch {
	tb.Helper()
	b := store.RecordBatch{Reset: true}
	put := func(key string, v any) {
		rec, err := encodeRecord(store.Record{Key: key, Revision: int64(len(b.Puts) + 1)}, v)
		ok(tb, err)
		b.Puts = append(b.Puts, rec)
	}
	put(recordKey(testAccount, accountRecord), accountValue{Format: recordFormat})
	for i := range n {
		name := fmt.Sprintf("user%06d", i)
		put(recordKey(testAccount, userRecord, name), administratorValue(testNow, "uid"))
		v, err := a.newKey(newCredentials(keyPrefix), name, "uid")
		ok(tb, err)
		put(recordKey(testAccount, keyRecord, fmt.Sprintf("FLAK%016d", i)), v)
	}
	return b
}

// BenchmarkApply applies the change of one user to a table of 10,000.
func BenchmarkApply(b *testing.B) {
	a := openService(b, openStore(b), nil)
	all := manyUsers(b, a, 10_000)
	a.apply(all)
	one := store.RecordBatch{Puts: all.Puts[5001:5002]}
	b.ReportAllocs()
	for b.Loop() {
		a.apply(one)
	}
}
