package access

import "maps"

// table is all that Verify and Allow ask. It does not change once it is in use.
type table struct {
	loaded   bool  // the first list has been read
	revision int64 // of the newest record in it
	accounts map[string]bool
	users    map[userName]*user
	keys     map[string]*accessKey // by id
	changed  chan struct{}         // closed when another table takes its place
}

func newTable() *table {
	return &table{
		accounts: map[string]bool{},
		users:    map[userName]*user{},
		keys:     map[string]*accessKey{},
		changed:  make(chan struct{}),
	}
}

// next returns the table that takes t's place, to be filled: with all that t has,
// or empty at a reset.
func (t *table) next(reset bool) *table {
	n := newTable()
	n.loaded = t.loaded || reset
	if reset {
		return n
	}
	n.revision = t.revision
	n.accounts, n.users, n.keys = maps.Clone(t.accounts), maps.Clone(t.users), maps.Clone(t.keys)
	return n
}

// remove takes what a record says out of the table.
func (t *table) remove(key string) {
	account, kind, name, _ := splitKey(key)
	switch kind {
	case accountRecord:
		delete(t.accounts, account)
	case userRecord:
		delete(t.users, userName{account, name})
	case keyRecord:
		if k := t.keys[name]; k != nil && k.account == account {
			delete(t.keys, name)
		}
	}
}

// validKey returns the key if it may be used: it is enabled, and the user and the
// account that it was made for are there.
func (t *table) validKey(id string) *accessKey {
	k := t.keys[id]
	if k == nil || k.disabled || !t.accounts[k.account] {
		return nil
	}
	if u := t.users[k.owner()]; u == nil || u.uid != k.userUID {
		return nil
	}
	return k
}
