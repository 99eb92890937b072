package access

import (
	"time"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/fairlead-mesh/fairlead/internal/store"
)

// table is all that Verify and Allow ask. It does not change once it is in use. The
// next one shares with it what has not changed, so that a change costs the same
// with ten users and with ten thousand.
type table struct {
	loaded    bool         // the first list has been read
	revision  int64        // of the newest record in it
	bootstrap store.Record // iam/bootstrap
	// management is the account that the first start made, "" if there is none.
	management string

	accounts *iradix.Tree[*account]   // by id
	users    *iradix.Tree[*user]      // ACCOUNT/NAME
	roles    *iradix.Tree[*role]      // ACCOUNT/NAME
	keys     *iradix.Tree[*accessKey] // by id
	owned    *iradix.Tree[*accessKey] // ACCOUNT/USER/ID: the same keys
	// providers holds identity providers by ACCOUNT/NAME.
	providers *iradix.Tree[*provider]

	changed chan struct{} // closed when another table takes its place
}

// account is an account in the table.
type account struct {
	record store.Record
	id     string
	accountValue
}

// user is a user in the table.
type user struct {
	record        store.Record
	account, name string
	userValue
	// policies are nil if one of the documents cannot be read: then everything is
	// refused, because it might have been a denial.
	policies []*Policy
}

// role is a role in the table.
type role struct {
	record        store.Record
	account, name string
	roleValue
	trust    *Policy // nil if it cannot be read: nobody is trusted
	policies []*Policy
}

// accessKey is an access key in the table.
type accessKey struct {
	record        store.Record
	account       string
	user, userUID string
	created       time.Time
	disabled      bool
	signer        *signer
	used          *usage // outlives changes of the key
	sealed        []byte // what the signer's secret was read from
}

func newTable() *table {
	return &table{
		accounts:  iradix.New[*account](),
		users:     iradix.New[*user](),
		roles:     iradix.New[*role](),
		keys:      iradix.New[*accessKey](),
		owned:     iradix.New[*accessKey](),
		providers: iradix.New[*provider](),
		changed:   make(chan struct{}),
	}
}

// treeKey joins the parts of a key in the table's trees.
func treeKey(parts ...string) []byte {
	n := len(parts)
	for _, p := range parts {
		n += len(p)
	}
	key := make([]byte, 0, n)
	for i, p := range parts {
		if i > 0 {
			key = append(key, '/')
		}
		key = append(key, p...)
	}
	return key
}

func (t *table) account(id string) *account {
	v, _ := t.accounts.Get([]byte(id))
	return v
}

func (t *table) user(account, name string) *user {
	v, _ := t.users.Get(treeKey(account, name))
	return v
}

func (t *table) role(account, name string) *role {
	v, _ := t.roles.Get(treeKey(account, name))
	return v
}

func (t *table) key(id string) *accessKey {
	v, _ := t.keys.Get([]byte(id))
	return v
}

// below returns the values of a tree whose keys begin with a prefix, in their order.
func below[T any](tree *iradix.Tree[T], prefix []byte) []T {
	var all []T
	tree.Root().WalkPrefix(prefix, func(_ []byte, v T) bool {
		all = append(all, v)
		return false
	})
	return all
}

// keysOf returns the access keys of a user, by id.
func (t *table) keysOf(u *user) []*accessKey {
	var keys []*accessKey
	for _, k := range below(t.owned, treeKey(u.account, u.name, "")) {
		if k.userUID == u.UID {
			keys = append(keys, k)
		}
	}
	return keys
}

// validKey returns the key if it may be used: it is enabled, and the user and the
// account that it was made for are there, though the account may be suspended.
func (t *table) validKey(id string) *accessKey {
	k := t.key(id)
	if k == nil || k.disabled || t.account(k.account) == nil {
		return nil
	}
	if u := t.user(k.account, k.user); u == nil || u.UID != k.userUID {
		return nil
	}
	return k
}

// record returns what the table knows of a record.
func (t *table) record(key string) (rec store.Record, ok bool) {
	if key == bootstrapRecord {
		return t.bootstrap, t.bootstrap.Key != ""
	}
	acc, kind, name, _ := splitKey(key)
	switch kind {
	case accountRecord:
		if v := t.account(acc); v != nil {
			return v.record, true
		}
	case userRecord:
		if v := t.user(acc, name); v != nil {
			return v.record, true
		}
	case roleRecord:
		if v := t.role(acc, name); v != nil {
			return v.record, true
		}
	case providerRecord:
		if v, ok := t.providers.Get(treeKey(acc, name)); ok {
			return v.record, true
		}
	case keyRecord:
		if v := t.key(name); v != nil && v.account == acc {
			return v.record, true
		}
	}
	return rec, false
}

// draft is a table that is being made from another one.
type draft struct {
	table     *table
	accounts  *iradix.Txn[*account]
	users     *iradix.Txn[*user]
	roles     *iradix.Txn[*role]
	keys      *iradix.Txn[*accessKey]
	owned     *iradix.Txn[*accessKey]
	providers *iradix.Txn[*provider]
}

// next begins the table that takes t's place: with all that t has, or empty at a
// reset.
func (t *table) next(reset bool) *draft {
	n := newTable()
	n.loaded = t.loaded || reset
	if !reset {
		n.revision, n.bootstrap, n.management = t.revision, t.bootstrap, t.management
		n.accounts, n.users, n.roles, n.keys, n.owned = t.accounts, t.users, t.roles, t.keys, t.owned
		n.providers = t.providers
	}
	return &draft{
		table: n, accounts: n.accounts.Txn(), users: n.users.Txn(), roles: n.roles.Txn(),
		keys: n.keys.Txn(), owned: n.owned.Txn(), providers: n.providers.Txn(),
	}
}

// done ends the draft.
func (d *draft) done() *table {
	t := d.table
	t.accounts, t.users, t.roles = d.accounts.Commit(), d.users.Commit(), d.roles.Commit()
	t.keys, t.owned, t.providers = d.keys.Commit(), d.owned.Commit(), d.providers.Commit()
	return t
}

// remove takes what a record says out of the table.
func (d *draft) remove(key string) {
	if key == bootstrapRecord {
		d.table.bootstrap, d.table.management = store.Record{}, ""
		return
	}
	acc, kind, name, _ := splitKey(key)
	switch kind {
	case accountRecord:
		d.accounts.Delete([]byte(acc))
	case providerRecord:
		d.providers.Delete(treeKey(acc, name))
	case userRecord:
		d.users.Delete(treeKey(acc, name))
	case roleRecord:
		d.roles.Delete(treeKey(acc, name))
	case keyRecord:
		if k, ok := d.keys.Get([]byte(name)); ok && k.account == acc {
			d.keys.Delete([]byte(name))
			d.owned.Delete(treeKey(acc, k.user, name))
		}
	}
}
