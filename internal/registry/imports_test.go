package registry

import (
	"slices"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// What was imported is told apart from what is registered, and from nothing.
func TestImported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := w.shop()
	cart := here.instancesKey(serviceName{"shop", "cart"})
	imported := func() []string {
		t.Helper()
		all, ok := w.r.Imported(cart)
		ids := []string{}
		for _, i := range all {
			ids = append(ids, i.ID)
		}
		if !ok {
			ids = append(ids, "none")
		}
		return ids
	}
	w.register(service, "own", `{}`)
	diff(t, []string{"none"}, imported())
	for _, ids := range [][]string{{"a", "b"}, {"b", "own"}, {}} {
		all := make([]mesh.Instance, 0, len(ids))
		for _, id := range slices.Backward(ids) {
			all = append(all, mesh.Instance{ID: id})
		}
		if err := w.r.Import(t.Context(), testAccount, testRegion, "shop", "cart", all); err != nil {
			t.Fatal(err)
		}
		diff(t, ids, imported())
	}
	if err := w.r.Forget(t.Context(), testAccount, testRegion, "shop", "cart"); err != nil {
		t.Fatal(err)
	}
	diff(t, []string{"none"}, imported())
	diff(t, []string{"own"}, w.r.ids())
}

// What was imported for an account that has no source any more is kept, and not shown.
func TestImportsOfAccounts(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir())
	key := func(account string) mesh.InstancesKey {
		return mesh.InstancesKey{Account: account, Region: testRegion, Namespace: "shop", Service: "cart"}
	}
	first := openRegistry(t, s, Config{})
	for _, account := range []string{testAccount, "000000000002"} {
		if err := first.Import(t.Context(), account, testRegion, "shop", "cart", []mesh.Instance{{ID: "a"}}); err != nil {
			t.Fatal(err)
		}
	}
	second := openRegistry(t, s, Config{Imports: func(account string) bool { return account != testAccount }})
	for account, want := range map[string]bool{testAccount: false, "000000000002": true} {
		_, shown := second.Instances(key(account))
		_, known := second.Imported(key(account))
		_, kept := first.Instances(key(account))
		diff(t, []bool{want, want, true}, []bool{shown, known, kept})
	}
}
