package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// Where the records lie. All of one account share the prefix iam/ACCOUNT/.
const (
	recordPrefix    = "iam/"
	bootstrapRecord = "iam/bootstrap"
	accountRecord   = "account"
	userRecord      = "user"
	roleRecord      = "role"
	keyRecord       = "key"
	providerRecord  = "provider"

	// Outside of what is followed: when keys were last used, and the ids of deleted
	// accounts.
	usedPrefix   = "iamused/"
	closedPrefix = "iamclosed/"
)

// recordFormat is the newest format of records that this build reads and writes.
const recordFormat = 1

// The JSON of the records. No member is left out when it is empty: what is written
// over a record must be able to empty it.

// accountValue is the JSON of iam/ACCOUNT/account.
type accountValue struct {
	Format    int       `json:"format"`
	Created   time.Time `json:"created"`
	Updated   time.Time `json:"updated"`
	Name      string    `json:"name"`
	Suspended bool      `json:"suspended"`
}

// userValue is the JSON of iam/ACCOUNT/user/NAME.
type userValue struct {
	Format  int       `json:"format"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
	// UID tells the user from another of the same name that was there before.
	UID string `json:"uid"`
	// Policies holds policy documents by name.
	Policies map[string]json.RawMessage `json:"policies"`
}

// roleValue is the JSON of iam/ACCOUNT/role/NAME.
type roleValue struct {
	Format   int                        `json:"format"`
	Created  time.Time                  `json:"created"`
	Updated  time.Time                  `json:"updated"`
	UID      string                     `json:"uid"`
	Trust    json.RawMessage            `json:"trustPolicy"`
	Policies map[string]json.RawMessage `json:"policies"`
	// MaxSession is in seconds.
	MaxSession int64 `json:"maxSession"`
	// Era counts the revocations of sessions. Those of an earlier era are void,
	// whatever the clocks of the replicas say; Revoked is for people.
	Era     int       `json:"era"`
	Revoked time.Time `json:"revoked"`
}

// keyValue is the JSON of iam/ACCOUNT/key/ID.
type keyValue struct {
	Format  int       `json:"format"`
	Created time.Time `json:"created"`
	User    string    `json:"user"`
	UserUID string    `json:"userUid"`
	// Sealed is the secret, sealed by the store.
	Sealed   []byte `json:"sealedSecret"`
	Disabled bool   `json:"disabled"`
}

// providerValue is the JSON of iam/ACCOUNT/provider/NAME.
type providerValue struct {
	Format   int              `json:"format"`
	Created  time.Time        `json:"created"`
	Updated  time.Time        `json:"updated"`
	Settings ProviderSettings `json:"settings"`
}

// usedValue is the JSON of iamused/ACCOUNT/ID: the last use of an access key.
type usedValue struct {
	Format  int       `json:"format"`
	At      time.Time `json:"at"`
	Region  string    `json:"region"`
	Service string    `json:"service"`
}

// closedValue is the JSON of iamclosed/ACCOUNT, whose id is not used again.
type closedValue struct {
	Format int       `json:"format"`
	Closed time.Time `json:"closed"`
}

// bootstrapValue is the JSON of iam/bootstrap.
type bootstrapValue struct {
	Format int `json:"format"`
	// Account is the management account.
	Account string `json:"account"`
	KeyID   string `json:"accessKeyId"`
	// Pending is true until the key has been handed to the owner.
	Pending bool `json:"pending"`
}

func recordKey(account string, rest ...string) string {
	return recordPrefix + account + "/" + strings.Join(rest, "/")
}

func usedKey(account, keyID string) string { return usedPrefix + account + "/" + keyID }

// splitKey takes a record's key apart; ok is false for keys of another form.
func splitKey(key string) (account, kind, name string, ok bool) {
	parts := strings.Split(strings.TrimPrefix(key, recordPrefix), "/")
	switch {
	case len(parts) == 2 && parts[1] == accountRecord:
		return parts[0], parts[1], "", true
	case len(parts) == 3 && (parts[1] == userRecord || parts[1] == roleRecord || parts[1] == keyRecord || parts[1] == providerRecord):
		return parts[0], parts[1], parts[2], true
	}
	return "", "", "", false
}

// errFormat says that a newer version of Fairlead wrote a record.
var errFormat = errors.New("record has a format that this version does not know")

// decodeRecord reads a record's JSON into v.
func decodeRecord(value []byte, v any) error {
	var f struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(value, &f); err != nil {
		return fmt.Errorf("reading record: %w", err)
	}
	if f.Format < 1 || f.Format > recordFormat {
		return errFormat
	}
	if err := json.Unmarshal(value, v); err != nil {
		return fmt.Errorf("reading record: %w", err)
	}
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

var (
	namePattern    = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{1,64}$`)
	sessionPattern = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{2,64}$`)
)

// checkAccount refuses what cannot be an account's id.
func checkAccount(account string) error {
	if mesh.ValidAccount(account) {
		return nil
	}
	return mesh.Errorf(mesh.ErrBadRequest, "account %s is not allowed: twelve digits", quote(account))
}

// checkName refuses names that a user or a role cannot have. what is "user" or
// "role".
func checkName(what, account, name string) error {
	if err := checkAccount(account); err != nil {
		return err
	}
	if namePattern.MatchString(name) {
		return nil
	}
	return mesh.Errorf(mesh.ErrBadRequest, "%s name %s is not allowed: 1 to 64 letters, digits and _+=,.@-", what, quote(name))
}
