package access

import (
	"context"
	"errors"
	"fmt"

	"github.com/fairlead-mesh/fairlead/internal/store"
)

// RecoveredAdministrator is the name of the user that Recover makes.
const RecoveredAdministrator = "recovered-administrator"

// Recover lets the owner of a server's host back in: it makes the user
// RecoveredAdministrator of an account, who is allowed everything in it, with a new
// access key, or replaces the one that is there with its keys. An empty account
// stands for the management account. Nobody's permission is asked, so it must not be
// reachable over a network. The account must be there and not suspended.
func (a *Service) Recover(ctx context.Context, account string) (Credentials, error) {
	if account == "" {
		if account = a.table.Load().management; account == "" {
			return Credentials{}, errors.New("recovering access: the store has no management account, name the account")
		}
	}
	if err := checkAccount(account); err != nil {
		return Credentials{}, fmt.Errorf("recovering access: %w", err)
	}
	var v accountValue
	if _, err := a.read(ctx, recordKey(account, accountRecord), "account "+account, false, &v); err != nil {
		return Credentials{}, fmt.Errorf("recovering access: %w", err)
	}
	if v.Suspended {
		return Credentials{}, fmt.Errorf("recovering access: account %s is suspended: recover the management account and resume it from there", account)
	}
	creds := newCredentials(keyPrefix)
	err := retry("user "+RecoveredAdministrator, func(fresh bool) error {
		key := recordKey(account, userRecord, RecoveredAdministrator)
		rec, err := a.find(ctx, key, "user "+RecoveredAdministrator, fresh)
		if err != nil && !notFound(err) {
			return err
		}
		old, err := a.keysAt(ctx, rec, account, RecoveredAdministrator)
		if err != nil {
			return err
		}
		uid := randomID()
		newKey, err := a.newKey(creds, RecoveredAdministrator, uid)
		if err != nil {
			return err
		}
		// Nothing of what was there is kept: whoever had the old user is out.
		user := store.Record{Key: key, Revision: rec.Revision}
		c := change{deletes: keyRecords(old)}
		err = errors.Join(
			c.put(user, administratorValue(a.timestamp(), uid)),
			c.put(store.Record{Key: recordKey(account, keyRecord, creds.AccessKeyID)}, newKey))
		if err != nil {
			return err
		}
		return a.commit(ctx, c)
	})
	if err != nil {
		return Credentials{}, fmt.Errorf("recovering access: %w", err)
	}
	return creds, nil
}
