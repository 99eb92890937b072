package access

import (
	"context"
	"fmt"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// MaxKeys is how many access keys a user may have: one in use, and one to change to.
const MaxKeys = 2

// Key is an access key without its secret.
type Key struct {
	Account, ID, User string
	Active            bool
	CreatedAt         time.Time
	// LastUsed is when the key last signed a request or a stream, as far as is
	// written down: other replicas do that every few minutes. Zero for never.
	LastUsed time.Time
	// LastRegion and LastService are what that request was signed for.
	LastRegion, LastService string
}

func (k *accessKey) info() Key {
	return Key{Account: k.account, ID: k.signer.id, User: k.user, Active: !k.disabled, CreatedAt: k.created}
}

// CreateKey makes an access key for a user. It needs iam:CreateAccessKey. The secret
// cannot be had again. The errors are ErrNotFound if there is no such user, and
// ErrLimitExceeded if it has MaxKeys already.
func (a *Service) CreateKey(ctx context.Context, c store.Caller, account, name string) (Key, Credentials, error) {
	if err := a.mayUser(c, "iam:CreateAccessKey", account, name); err != nil {
		return Key{}, Credentials{}, err
	}
	creds := newCredentials(keyPrefix)
	info := Key{Account: account, ID: creds.AccessKeyID, User: name, Active: true}
	err := retry("user "+name, func(fresh bool) error {
		var u userValue
		user, err := a.read(ctx, recordKey(account, userRecord, name), "user "+name, fresh, &u)
		if err != nil {
			return err
		}
		keys, err := a.keysAt(ctx, user, account, name)
		if err != nil {
			return err
		}
		n := 0
		for _, k := range keys {
			if k.userUID == u.UID {
				n++
			}
		}
		if n >= MaxKeys {
			return mesh.Errorf(mesh.ErrLimitExceeded, "user %s has %d access keys, allowed are %d: delete one first", name, n, MaxKeys)
		}
		v, err := a.newKey(creds, name, u.UID)
		if err != nil {
			return err
		}
		info.CreatedAt = v.Created
		// The user's record is written as it is, so that of two who make the last
		// key that is allowed one must look again.
		change := change{puts: []store.Record{user}}
		if err := change.put(store.Record{Key: recordKey(account, keyRecord, creds.AccessKeyID)}, v); err != nil {
			return err
		}
		return a.commit(ctx, change)
	})
	if err != nil {
		return Key{}, Credentials{}, err
	}
	return info, creds, nil
}

// newKey returns the record of a new key.
func (a *Service) newKey(creds Credentials, name, uid string) (keyValue, error) {
	sealed, err := a.store.Seal([]byte(creds.SecretAccessKey))
	if err != nil {
		return keyValue{}, fmt.Errorf("sealing secret: %w", err)
	}
	return keyValue{Format: recordFormat, Created: a.timestamp(), User: name, UserUID: uid, Sealed: sealed}, nil
}

// Keys returns the access keys of a user by id, as this replica knows them. It needs
// iam:ListAccessKeys. The error is ErrNotFound if there is no such user.
func (a *Service) Keys(ctx context.Context, c store.Caller, account, name string) ([]Key, error) {
	if err := a.mayUser(c, "iam:ListAccessKeys", account, name); err != nil {
		return nil, err
	}
	rec, err := a.find(ctx, recordKey(account, userRecord, name), "user "+name, false)
	if err != nil {
		return nil, err
	}
	t, err := a.tableAt(ctx, rec.Revision)
	if err != nil {
		return nil, err
	}
	u := t.user(account, name)
	if u == nil {
		return nil, absent("user " + name)
	}
	var keys []Key
	for _, k := range t.keysOf(u) {
		info, err := a.withUse(ctx, k)
		if err != nil {
			return nil, err
		}
		keys = append(keys, info)
	}
	return keys, nil
}

// withUse returns a key with its last use on any replica.
func (a *Service) withUse(ctx context.Context, k *accessKey) (Key, error) {
	info := k.info()
	uses, err := a.uses(ctx, usedKey(k.account, k.signer.id))
	if err != nil {
		return Key{}, err
	}
	if v, ok := uses[usedKey(k.account, k.signer.id)]; ok {
		info.LastUsed, info.LastRegion, info.LastService = v.At, v.Region, v.Service
	}
	if last := k.used.last.Load(); last != nil && last.at.After(info.LastUsed) {
		info.LastUsed, info.LastRegion, info.LastService = last.at.UTC(), last.region, last.service
	}
	return info, nil
}

// ownKey returns an access key of a user that the caller may do an action to.
func (a *Service) ownKey(ctx context.Context, c store.Caller, action, account, name, keyID string) (*accessKey, error) {
	if err := a.mayUser(c, action, account, name); err != nil {
		return nil, err
	}
	what := "access key " + quote(keyID) + " of user " + name
	if !namePattern.MatchString(keyID) {
		return nil, absent(what)
	}
	rec, err := a.find(ctx, recordKey(account, keyRecord, keyID), what, false)
	if err != nil {
		return nil, err
	}
	t, err := a.tableAt(ctx, rec.Revision)
	if err != nil {
		return nil, err
	}
	k, u := t.key(keyID), t.user(account, name)
	if k == nil || u == nil || k.account != account || k.user != name || k.userUID != u.UID {
		return nil, absent(what)
	}
	return k, nil
}

// UpdateKey enables or disables an access key of a user. A disabled one is refused at
// once, and so are the sessions that were made with it. It needs iam:UpdateAccessKey.
// The error is ErrNotFound if the user has no such key.
func (a *Service) UpdateKey(ctx context.Context, c store.Caller, account, name, keyID string, active bool) (Key, error) {
	k, err := a.ownKey(ctx, c, "iam:UpdateAccessKey", account, name, keyID)
	if err != nil {
		return Key{}, err
	}
	_, err = alter(ctx, a, k.record.Key, "access key "+keyID, func(v *keyValue) error {
		v.Disabled = !active
		return nil
	})
	if err != nil {
		return Key{}, err
	}
	info, err := a.withUse(ctx, k)
	info.Active = active
	return info, err
}

// DeleteKey removes an access key of a user for good, and returns it as it was. It
// needs iam:DeleteAccessKey. The error is ErrNotFound if the user has no such key.
func (a *Service) DeleteKey(ctx context.Context, c store.Caller, account, name, keyID string) (Key, error) {
	k, err := a.ownKey(ctx, c, "iam:DeleteAccessKey", account, name, keyID)
	if err != nil {
		return Key{}, err
	}
	info, err := a.withUse(ctx, k)
	if err != nil {
		return Key{}, err
	}
	err = retry("access key "+keyID, func(fresh bool) error {
		rec, err := a.find(ctx, k.record.Key, "access key "+keyID, fresh)
		if err != nil {
			return err
		}
		return a.commit(ctx, change{deletes: []store.Record{
			rec, {Key: usedKey(account, keyID), Revision: store.AnyRevision},
		}})
	})
	return info, err
}
