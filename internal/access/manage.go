package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// settleTime bounds how long a change waits until this replica has seen it too.
const settleTime = 5 * time.Second

// MaxPolicies is how many policies a user may have.
const MaxPolicies = 20

var policyNamePattern = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{1,128}$`)

// User is a user of an account.
type User struct {
	Account string // twelve digits
	Name    string // 1 to 64 letters, digits and _+=,.@-
	// Policies holds IAM policy documents by name; see ParsePolicy.
	Policies map[string]json.RawMessage
}

// CreateAccount makes an account without users. Only a System caller may. The error
// is ErrConflict if there is one already.
func (a *Service) CreateAccount(ctx context.Context, c store.Caller, account string) error {
	if c.Account != "" {
		return mesh.Errorf(mesh.ErrForbidden, "User: %s is not authorized to make accounts", c.ARN)
	}
	if err := mayManage(c, "iam:CreateAccount", account, ""); err != nil {
		return err
	}
	if !mesh.ValidAccount(account) {
		return mesh.Errorf(mesh.ErrBadRequest, "account %s is not allowed: twelve digits", quote(account))
	}
	rec := store.Record{Key: recordKey(account, accountRecord)}
	err := a.write(ctx, rec, accountValue{Format: recordFormat, Created: a.timestamp()})
	if errors.Is(err, store.ErrRevision) {
		return mesh.Errorf(mesh.ErrConflict, "account %s is already present", account)
	}
	return err
}

// PutUser makes a user, or replaces the policies of one. It needs
// iam:PutUserPolicy on the user, and iam:CreateUser for a new one. The account must
// be there (ErrNotFound) and every policy readable (ErrBadRequest).
func (a *Service) PutUser(ctx context.Context, c store.Caller, u User) error {
	if err := checkUser(u.Account, u.Name); err != nil {
		return err
	}
	if err := mayManage(c, "iam:PutUserPolicy", u.Account, u.Name); err != nil {
		return err
	}
	if err := checkPolicies(u.Policies); err != nil {
		return err
	}
	if _, err := a.read(ctx, recordKey(u.Account, accountRecord), "account "+u.Account, new(accountValue)); err != nil {
		return err
	}
	key := recordKey(u.Account, userRecord, u.Name)
	v := userValue{Format: recordFormat, Created: a.timestamp(), UID: randomID()}
	rec, err := a.read(ctx, key, "user "+u.Name, &v)
	if notFound(err) {
		err = mayManage(c, "iam:CreateUser", u.Account, u.Name)
	}
	if err != nil {
		return err
	}
	v.Policies = u.Policies
	return conflict("user "+u.Name, a.write(ctx, rec, v))
}

// checkPolicies refuses policy documents that cannot be kept.
func checkPolicies(policies map[string]json.RawMessage) error {
	if len(policies) > MaxPolicies {
		return mesh.Errorf(mesh.ErrBadRequest, "the user has %d policies, allowed are %d", len(policies), MaxPolicies)
	}
	for name, document := range policies {
		if !policyNamePattern.MatchString(name) {
			return mesh.Errorf(mesh.ErrBadRequest, "policy name %s is not allowed: 1 to 128 letters, digits and _+=,.@-", quote(name))
		}
		if _, err := ParsePolicy(document); err != nil {
			return mesh.Errorf(mesh.ErrBadRequest, "policy %s: %v", quote(name), err)
		}
	}
	return nil
}

// DeleteUser removes a user with its access keys. It needs iam:DeleteUser.
func (a *Service) DeleteUser(ctx context.Context, c store.Caller, account, name string) error {
	if err := checkUser(account, name); err != nil {
		return err
	}
	if err := mayManage(c, "iam:DeleteUser", account, name); err != nil {
		return err
	}
	key := recordKey(account, userRecord, name)
	if _, err := a.read(ctx, key, "user "+name, new(userValue)); err != nil {
		return err
	}
	// Without its user a key is void at once; keys are removed for tidiness.
	if err := a.remove(ctx, key, func(t *table) bool { return t.users[userName{account, name}] == nil }); err != nil {
		return err
	}
	keys, err := a.store.Records(ctx, self, recordKey(account, keyRecord, ""))
	if err != nil {
		return fmt.Errorf("reading access keys: %w", err)
	}
	for _, rec := range keys {
		var v keyValue
		if decodeRecord(rec.Value, &v) != nil || v.User != name {
			continue
		}
		if err := a.store.DeleteRecord(ctx, self, rec.Key); err != nil {
			return fmt.Errorf("deleting access key: %w", err)
		}
	}
	return nil
}

// CreateKey makes an access key for a user. It needs iam:CreateAccessKey. The
// secret cannot be had again.
func (a *Service) CreateKey(ctx context.Context, c store.Caller, account, name string) (Credentials, error) {
	if err := checkUser(account, name); err != nil {
		return Credentials{}, err
	}
	if err := mayManage(c, "iam:CreateAccessKey", account, name); err != nil {
		return Credentials{}, err
	}
	var u userValue
	if _, err := a.read(ctx, recordKey(account, userRecord, name), "user "+name, &u); err != nil {
		return Credentials{}, err
	}
	creds := newCredentials()
	v, err := a.newKey(creds, name, u.UID)
	if err != nil {
		return Credentials{}, err
	}
	rec := store.Record{Key: recordKey(account, keyRecord, creds.AccessKeyID)}
	if err := a.write(ctx, rec, v); err != nil {
		return Credentials{}, err
	}
	return creds, nil
}

// newKey returns the record of a new key.
func (a *Service) newKey(creds Credentials, name, uid string) (keyValue, error) {
	sealed, err := a.store.Seal([]byte(creds.SecretAccessKey))
	if err != nil {
		return keyValue{}, fmt.Errorf("sealing secret: %w", err)
	}
	return keyValue{Format: recordFormat, Created: a.timestamp(), User: name, UserUID: uid, Sealed: sealed}, nil
}

// SetKeyActive enables or disables an access key. It needs iam:UpdateAccessKey on
// the user that owns it.
func (a *Service) SetKeyActive(ctx context.Context, c store.Caller, account, keyID string, active bool) error {
	rec, v, err := a.ownKey(ctx, c, "iam:UpdateAccessKey", account, keyID)
	if err != nil {
		return err
	}
	v.Disabled = !active
	return conflict("access key "+keyID, a.write(ctx, rec, v))
}

// DeleteKey removes an access key for good. It needs iam:DeleteAccessKey on the
// user that owns it.
func (a *Service) DeleteKey(ctx context.Context, c store.Caller, account, keyID string) error {
	if _, _, err := a.ownKey(ctx, c, "iam:DeleteAccessKey", account, keyID); err != nil {
		return err
	}
	return a.remove(ctx, recordKey(account, keyRecord, keyID), func(t *table) bool { return t.keys[keyID] == nil })
}

// ownKey reads an access key that the caller may do an action to.
func (a *Service) ownKey(ctx context.Context, c store.Caller, action, account, keyID string) (rec store.Record, v keyValue, err error) {
	if checkUser(account, keyID) != nil {
		return rec, v, mesh.Errorf(mesh.ErrBadRequest, "account %s or access key id %s is not of the form of one", quote(account), quote(keyID))
	}
	if c.Account != "" && c.Account != account {
		return rec, v, foreign(c, account)
	}
	rec, err = a.read(ctx, recordKey(account, keyRecord, keyID), "access key "+keyID, &v)
	if err != nil {
		return rec, v, err
	}
	return rec, v, mayManage(c, action, account, v.User)
}

// mayManage asks whether the caller may do an IAM action to a user of the account.
func mayManage(c store.Caller, action, account, name string) error {
	if c.Account != "" && c.Account != account {
		return foreign(c, account)
	}
	arn := userARN(account, name, c.Region)
	if c.Allow == nil {
		return mesh.Errorf(mesh.ErrForbidden, "User: %s is not authorized to perform: %s on resource: %s", c.ARN, action, arn)
	}
	return c.Allow(store.Question{Action: action, Resource: arn})
}

func foreign(c store.Caller, account string) error {
	return mesh.Errorf(mesh.ErrForbidden, "User: %s is not authorized to manage account %s", c.ARN, account)
}

func notFound(err error) bool {
	var refusal *mesh.Error
	return errors.As(err, &refusal) && refusal.Code == mesh.ErrNotFound
}

// conflict words the loss of a race for a record.
func conflict(what string, err error) error {
	if errors.Is(err, store.ErrRevision) {
		return mesh.Errorf(mesh.ErrConflict, "%s was changed by somebody else meanwhile, try again", what)
	}
	return err
}

// timestamp returns the time that is written into records.
func (a *Service) timestamp() time.Time { return a.now().UTC().Truncate(time.Second) }

// read reads one record into v. what names it for the ErrNotFound that is returned
// if there is none; v is unchanged then, and the record is a new one to be written.
func (a *Service) read(ctx context.Context, key, what string, v any) (store.Record, error) {
	records, err := a.store.Records(ctx, self, key)
	if err != nil {
		return store.Record{}, fmt.Errorf("reading %s: %w", what, err)
	}
	for _, rec := range records {
		if rec.Key == key {
			return rec, decodeRecord(rec.Value, v)
		}
	}
	return store.Record{Key: key}, mesh.Errorf(mesh.ErrNotFound, "%s is not present", what)
}

// write gives a record the value v, on the condition that it still is as it was
// read, and waits until this replica obeys it.
func (a *Service) write(ctx context.Context, rec store.Record, v any) error {
	rec, err := encodeRecord(rec, v)
	if err != nil {
		return err
	}
	if err := a.store.PutRecords(ctx, self, []store.Record{rec}); err != nil {
		return fmt.Errorf("writing access record: %w", err)
	}
	a.settle(ctx, rec.Key)
	return nil
}

// encodeRecord puts the members of v into a record. Members that it has and this
// build does not know are kept.
func encodeRecord(rec store.Record, v any) (store.Record, error) {
	all := map[string]json.RawMessage{}
	if rec.Value != nil {
		if err := json.Unmarshal(rec.Value, &all); err != nil {
			return rec, fmt.Errorf("writing access record: %w", err)
		}
	}
	known, err := json.Marshal(v)
	if err != nil {
		return rec, fmt.Errorf("writing access record: %w", err)
	}
	if err := json.Unmarshal(known, &all); err != nil {
		return rec, fmt.Errorf("writing access record: %w", err)
	}
	rec.Value, err = json.Marshal(all)
	if err != nil {
		return rec, fmt.Errorf("writing access record: %w", err)
	}
	return rec, nil
}

// settle waits until the table knows what has been written to a record. It gives up
// quietly after settleTime: what was written is written.
func (a *Service) settle(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	records, err := a.store.Records(ctx, self, key)
	if err != nil || len(records) == 0 || records[0].Key != key {
		return
	}
	_ = a.await(ctx, func(t *table) bool { return t.revision >= records[0].Revision })
}

// remove deletes a record and waits in the same way until it is gone.
func (a *Service) remove(ctx context.Context, key string, gone func(*table) bool) error {
	if err := a.store.DeleteRecord(ctx, self, key); err != nil {
		return fmt.Errorf("deleting access record: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	_ = a.await(ctx, gone)
	return nil
}
