package access

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// Account is a tenant.
type Account struct {
	ID   string // twelve digits
	Name string // what people call it; need not be unique
	// Suspended accounts are shut: no key or session of theirs is accepted.
	Suspended bool
	// Management says that it is the account that the first start made, whose callers
	// manage the others. It cannot be suspended or deleted.
	Management           bool
	CreatedAt, UpdatedAt time.Time
}

// AccountChange says what UpdateAccount changes. What is nil stays.
type AccountChange struct {
	Name      *string
	Suspended *bool
}

// maxAccountName bounds the length of an account's name, in characters.
const maxAccountName = 128

func (v *accountValue) account(id, management string) Account {
	return Account{
		ID: id, Name: v.Name, Suspended: v.Suspended, Management: id == management,
		CreatedAt: v.Created, UpdatedAt: later(v.Created, v.Updated),
	}
}

func checkAccountName(name string) error {
	n := utf8.RuneCountInString(name)
	wrong := func(r rune) bool { return !unicode.IsPrint(r) }
	if n > 0 && n <= maxAccountName && utf8.ValidString(name) && !strings.ContainsFunc(name, wrong) && strings.TrimSpace(name) == name {
		return nil
	}
	return mesh.Errorf(mesh.ErrBadRequest, "account name %s is not allowed: 1 to %d printable characters, no space at its ends", quote(name), maxAccountName)
}

// mayAccount checks that the caller may do an action to an account. Only callers of
// the management account and System may.
func (a *Service) mayAccount(c store.Caller, action, id string) error {
	management := a.table.Load().management
	if err := managing(c, management, action); err != nil {
		return err
	}
	return ask(c, action, accountARN(management, id, c.Region))
}

// managing refuses callers of other accounts than the management account.
func managing(c store.Caller, management, action string) error {
	if c.Account == "" || c.Account == management {
		return nil
	}
	return mesh.Errorf(mesh.ErrForbidden, "User: %s is not authorized to perform: %s because only callers of the management account may", c.ARN, action)
}

// accountARN returns the Amazon Resource Name of an account, which belongs to the
// management account.
func accountARN(management, id, region string) string {
	return "arn:" + mesh.Partition(region) + ":fairlead::" + management + ":account/" + id
}

// CreateAccount makes an account with the user Administrator, who is allowed
// everything in it, and an access key. An empty id stands for a random one that is
// free. It needs fairlead:CreateAccount on arn:aws:fairlead::MANAGEMENT:account/ID,
// which ends in account/ for a random one. The errors are ErrConflict if the id is taken or
// has been, and ErrBadRequest for an id or a name that cannot be.
func (a *Service) CreateAccount(ctx context.Context, c store.Caller, id, name string) (Account, Credentials, error) {
	random := id == ""
	if !random {
		if err := checkAccount(id); err != nil {
			return Account{}, Credentials{}, err
		}
	}
	if err := a.mayAccount(c, "fairlead:CreateAccount", id); err != nil {
		return Account{}, Credentials{}, err
	}
	if err := checkAccountName(name); err != nil {
		return Account{}, Credentials{}, err
	}
	for range maxTries {
		if random {
			id = randomAccount()
		}
		v, creds, err := a.makeAccount(ctx, id, name)
		if err == nil {
			return v, creds, nil
		}
		if !errors.Is(err, store.ErrRevision) {
			return Account{}, Credentials{}, err
		}
		if !random {
			break
		}
	}
	return Account{}, Credentials{}, mesh.Errorf(mesh.ErrConflict, "account %s is already present", id)
}

// randomAccount returns the id of an account. It does not begin with 0, which
// spreadsheets and YAML would take away.
func randomAccount() string {
	const least = 100_000_000_000
	n, err := rand.Int(rand.Reader, big.NewInt(9*least))
	if err != nil {
		panic(err) // as in crypto/rand: there is no randomness
	}
	return fmt.Sprint(n.Int64() + least)
}

// makeAccount writes an account with its first user and key. Its error is
// store.ErrRevision if there is one.
func (a *Service) makeAccount(ctx context.Context, id, name string) (Account, Credentials, error) {
	closed, err := a.store.Records(ctx, self, closedPrefix+id)
	if err != nil {
		return Account{}, Credentials{}, fmt.Errorf("looking for a deleted account: %w", err)
	}
	if len(closed) > 0 {
		return Account{}, Credentials{}, fmt.Errorf("account %s was deleted: %w", id, store.ErrRevision)
	}
	var c change
	creds := newCredentials(keyPrefix)
	v, err := a.firstRecords(&c, id, name, creds)
	if err != nil {
		return Account{}, Credentials{}, err
	}
	return v.account(id, a.table.Load().management), creds, a.commit(ctx, c)
}

// firstRecords puts the records of a new account into a change.
func (a *Service) firstRecords(c *change, id, name string, creds Credentials) (*accountValue, error) {
	now, uid := a.timestamp(), randomID()
	v := &accountValue{Format: recordFormat, Created: now, Updated: now, Name: name}
	key, err := a.newKey(creds, Administrator, uid)
	return v, errors.Join(err,
		c.put(store.Record{Key: recordKey(id, accountRecord)}, v),
		c.put(store.Record{Key: recordKey(id, userRecord, Administrator)}, administratorValue(now, uid)),
		c.put(store.Record{Key: recordKey(id, keyRecord, creds.AccessKeyID)}, key))
}

// administratorValue returns the record of a user who is allowed everything.
func administratorValue(now time.Time, uid string) userValue {
	return userValue{
		Format: recordFormat, Created: now, Updated: now, UID: uid,
		Policies: map[string]json.RawMessage{"everything": json.RawMessage(administratorPolicy)},
	}
}

// Account returns an account. It needs fairlead:DescribeAccount on it. Callers of
// another account than the management account may ask for their own only. The error
// is ErrNotFound if there is none.
func (a *Service) Account(ctx context.Context, c store.Caller, id string) (Account, error) {
	if err := checkAccount(id); err != nil {
		return Account{}, err
	}
	management := a.table.Load().management
	var err error
	if c.Account == id {
		err = ask(c, "fairlead:DescribeAccount", accountARN(management, id, c.Region))
	} else {
		err = a.mayAccount(c, "fairlead:DescribeAccount", id)
	}
	if err != nil {
		return Account{}, err
	}
	var v accountValue
	_, err = a.read(ctx, recordKey(id, accountRecord), "account "+id, false, &v)
	return v.account(id, management), err
}

// Accounts returns all accounts by id, as this replica knows them. It needs
// fairlead:ListAccounts on *.
func (a *Service) Accounts(_ context.Context, c store.Caller) ([]Account, error) {
	t := a.table.Load()
	if err := managing(c, t.management, "fairlead:ListAccounts"); err != nil {
		return nil, err
	}
	if err := ask(c, "fairlead:ListAccounts", "*"); err != nil {
		return nil, err
	}
	known := below(t.accounts, nil)
	accounts := make([]Account, len(known))
	for i, v := range known {
		accounts[i] = v.account(v.id, t.management)
	}
	return accounts, nil
}

// UpdateAccount renames, suspends or resumes an account. It needs
// fairlead:UpdateAccount on it. The errors are ErrNotFound if there is none, and
// ErrBadRequest for a name that cannot be, or if the management account is to be
// suspended.
func (a *Service) UpdateAccount(ctx context.Context, c store.Caller, id string, ch AccountChange) (Account, error) {
	if err := checkAccount(id); err != nil {
		return Account{}, err
	}
	if err := a.mayAccount(c, "fairlead:UpdateAccount", id); err != nil {
		return Account{}, err
	}
	if ch.Name != nil {
		if err := checkAccountName(*ch.Name); err != nil {
			return Account{}, err
		}
	}
	management := a.table.Load().management
	if ch.Suspended != nil && *ch.Suspended && id == management {
		return Account{}, mesh.Errorf(mesh.ErrBadRequest, "account %s is the management account, which cannot be suspended", id)
	}
	v, err := alter(ctx, a, recordKey(id, accountRecord), "account "+id, func(v *accountValue) error {
		if ch.Name != nil {
			v.Name = *ch.Name
		}
		if ch.Suspended != nil {
			v.Suspended = *ch.Suspended
		}
		v.Updated = a.timestamp()
		return nil
	})
	return v.account(id, management), err
}

// DeleteAccount removes an account with its users, roles and keys for good, and
// returns it as it was. Its id is not used again. It needs fairlead:DeleteAccount on
// it. The errors are ErrNotFound if there is none, ErrResourceInUse while it has
// meshes, and ErrBadRequest for the management account.
func (a *Service) DeleteAccount(ctx context.Context, c store.Caller, id string) (Account, error) {
	if err := checkAccount(id); err != nil {
		return Account{}, err
	}
	if err := a.mayAccount(c, "fairlead:DeleteAccount", id); err != nil {
		return Account{}, err
	}
	management := a.table.Load().management
	if id == management {
		return Account{}, mesh.Errorf(mesh.ErrBadRequest, "account %s is the management account, which cannot be deleted", id)
	}
	var v accountValue
	if _, err := a.read(ctx, recordKey(id, accountRecord), "account "+id, false, &v); err != nil {
		return Account{}, err
	}
	if err := a.closeAccount(ctx, id); err != nil {
		return Account{}, err
	}
	wait, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	_ = a.await(wait, func(t *table) bool { return t.account(id) == nil })
	return v.account(id, management), nil
}

// closeAccount notes that the id is used up and removes the account. The note comes
// first, and is taken back if the store refuses: were it left behind it would do no
// harm, while an id without it could be given to somebody else.
func (a *Service) closeAccount(ctx context.Context, id string) error {
	note, err := encodeRecord(store.Record{Key: closedPrefix + id, Revision: store.AnyRevision}, closedValue{Format: recordFormat, Closed: a.timestamp()})
	if err != nil {
		return err
	}
	if err := a.store.PutRecords(ctx, self, []store.Record{note}); err != nil {
		return fmt.Errorf("noting a deleted account: %w", err)
	}
	err = a.store.DeleteAccount(ctx, self, id, []string{recordKey(id), usedKey(id, "")})
	var refusal *mesh.Error
	if errors.As(err, &refusal) && refusal.Code == mesh.ErrResourceInUse {
		return errors.Join(err, a.store.DeleteRecord(ctx, self, note.Key))
	}
	if err != nil {
		return fmt.Errorf("deleting account: %w", err)
	}
	return nil
}
