package access

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// User is a user of an account.
type User struct {
	Account string // twelve digits
	Name    string // 1 to 64 letters, digits and _+=,.@-
	// UID tells the user from others of the same name, before and after. It is given
	// by CreateUser.
	UID string
	// Policies holds IAM policy documents by name; see ParsePolicy.
	Policies             map[string]json.RawMessage
	CreatedAt, UpdatedAt time.Time
}

// ARN returns the Amazon Resource Name of the user, in the partition of a region.
func (u User) ARN(region string) string { return userARN(u.Account, u.Name, region) }

// userARN returns the Amazon Resource Name of a user, or the beginning of those of
// all users of an account.
func userARN(account, name, region string) string {
	return "arn:" + mesh.Partition(region) + ":iam::" + account + ":user/" + name
}

func (v *userValue) user(account, name string) User {
	return User{
		Account: account, Name: name, UID: v.UID, Policies: v.Policies,
		CreatedAt: v.Created, UpdatedAt: later(v.Created, v.Updated),
	}
}

// later returns updated, or created in records that have no time of an update.
func later(created, updated time.Time) time.Time {
	if updated.IsZero() {
		return created
	}
	return updated
}

// CreateUser makes a user. It needs iam:CreateUser on the user, and iam:PutUserPolicy
// too if there are policies. The account must be there (ErrNotFound), the user not
// (ErrConflict), and every policy readable (ErrBadRequest).
func (a *Service) CreateUser(ctx context.Context, c store.Caller, u User) (User, error) {
	if err := checkName("user", u.Account, u.Name); err != nil {
		return User{}, err
	}
	arn := u.ARN(c.Region)
	if err := permit(c, "iam:CreateUser", u.Account, arn); err != nil {
		return User{}, err
	}
	if len(u.Policies) > 0 {
		if err := permit(c, "iam:PutUserPolicy", u.Account, arn); err != nil {
			return User{}, err
		}
	}
	if err := checkPolicies(u.Policies); err != nil {
		return User{}, err
	}
	if err := a.accountPresent(ctx, u.Account); err != nil {
		return User{}, err
	}
	now := a.timestamp()
	v := userValue{Format: recordFormat, Created: now, Updated: now, UID: randomID(), Policies: u.Policies}
	return v.user(u.Account, u.Name), a.create(ctx, recordKey(u.Account, userRecord, u.Name), "user "+u.Name, v)
}

// accountPresent refuses to go on in an account that is not there.
func (a *Service) accountPresent(ctx context.Context, account string) error {
	_, err := a.find(ctx, recordKey(account, accountRecord), "account "+account, false)
	return err
}

// create writes a new record. Its error is ErrConflict, naming what, if there is one.
func (a *Service) create(ctx context.Context, key, what string, v any) error {
	var c change
	if err := c.put(store.Record{Key: key}, v); err != nil {
		return err
	}
	err := a.commit(ctx, c)
	if errors.Is(err, store.ErrRevision) {
		return mesh.Errorf(mesh.ErrConflict, "%s is already present", what)
	}
	return err
}

// User returns a user. It needs iam:GetUser. The error is ErrNotFound if there is
// none.
func (a *Service) User(ctx context.Context, c store.Caller, account, name string) (User, error) {
	if err := a.mayUser(c, "iam:GetUser", account, name); err != nil {
		return User{}, err
	}
	var v userValue
	_, err := a.read(ctx, recordKey(account, userRecord, name), "user "+name, false, &v)
	return v.user(account, name), err
}

// mayUser checks a user's name and whether the caller may do an action to it.
func (a *Service) mayUser(c store.Caller, action, account, name string) error {
	if err := checkName("user", account, name); err != nil {
		return err
	}
	return permit(c, action, account, userARN(account, name, c.Region))
}

// Users returns the users of an account by name, as this replica knows them. It
// needs iam:ListUsers on arn:aws:iam::ACCOUNT:user/.
func (a *Service) Users(ctx context.Context, c store.Caller, account string) ([]User, error) {
	if err := checkAccount(account); err != nil {
		return nil, err
	}
	if err := permit(c, "iam:ListUsers", account, userARN(account, "", c.Region)); err != nil {
		return nil, err
	}
	if err := a.accountPresent(ctx, account); err != nil {
		return nil, err
	}
	known := below(a.table.Load().users, treeKey(account, ""))
	users := make([]User, len(known))
	for i, u := range known {
		users[i] = u.user(account, u.name)
	}
	return users, nil
}

// UpdateUser replaces the policies of a user. It needs iam:PutUserPolicy. The user
// must be there (ErrNotFound), and every policy readable (ErrBadRequest).
func (a *Service) UpdateUser(ctx context.Context, c store.Caller, u User) (User, error) {
	if err := a.mayUser(c, "iam:PutUserPolicy", u.Account, u.Name); err != nil {
		return User{}, err
	}
	if err := checkPolicies(u.Policies); err != nil {
		return User{}, err
	}
	v, err := alter(ctx, a, recordKey(u.Account, userRecord, u.Name), "user "+u.Name, func(v *userValue) error {
		v.Policies, v.Updated = u.Policies, a.timestamp()
		return nil
	})
	return v.user(u.Account, u.Name), err
}

// DeleteUser removes a user with its access keys, and returns it as it was. It
// needs iam:DeleteUser. The error is ErrNotFound if there is none.
func (a *Service) DeleteUser(ctx context.Context, c store.Caller, account, name string) (User, error) {
	if err := a.mayUser(c, "iam:DeleteUser", account, name); err != nil {
		return User{}, err
	}
	what := "user " + name
	var v userValue
	err := retry(what, func(fresh bool) error {
		v = userValue{}
		rec, err := a.read(ctx, recordKey(account, userRecord, name), what, fresh, &v)
		if err != nil {
			return err
		}
		keys, err := a.keysAt(ctx, rec, account, name)
		if err != nil {
			return err
		}
		return a.commit(ctx, change{deletes: append(keyRecords(keys), rec)})
	})
	return v.user(account, name), err
}

// keysAt returns all access keys of a user's name, as of the revision of the user's
// record or later. As the record is written with each new key, a transaction that
// finds the record unchanged knows that there is no other key.
func (a *Service) keysAt(ctx context.Context, rec store.Record, account, name string) ([]*accessKey, error) {
	t, err := a.tableAt(ctx, rec.Revision)
	if err != nil {
		return nil, err
	}
	return below(t.owned, treeKey(account, name, "")), nil
}

// tableAt waits for a table that has all up to a revision.
func (a *Service) tableAt(ctx context.Context, revision int64) (t *table, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	err = a.await(ctx, func(now *table) bool {
		t = now
		return now.revision >= revision
	})
	if err != nil {
		return nil, mesh.Errorf(mesh.ErrServiceUnavailable, "this server has not heard yet of what was changed on another one, try again")
	}
	return t, nil
}

// keyRecords returns what to delete of access keys.
func keyRecords(keys []*accessKey) []store.Record {
	var records []store.Record
	for _, k := range keys {
		records = append(records, k.record, store.Record{Key: usedKey(k.account, k.signer.id), Revision: store.AnyRevision})
	}
	return records
}
