package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Where the records lie. All of one account share the prefix iam/ACCOUNT/.
const (
	recordPrefix    = "iam/"
	bootstrapRecord = "iam/bootstrap"
	accountRecord   = "account"
	userRecord      = "user"
	keyRecord       = "key"
)

// recordFormat is the newest format of records that this build reads and writes.
const recordFormat = 1

// Credentials are what a client signs with.
type Credentials struct {
	AccessKeyID     string // FLAK and 16 capital letters and digits
	SecretAccessKey string // 40 characters, never shown again
}

// String hides the secret, so that credentials can be printed by mistake.
func (c Credentials) String() string { return "credentials " + c.AccessKeyID }

// GoString hides the secret from %#v.
func (c Credentials) GoString() string { return c.String() }

// keyPrefix begins our access key ids. AWS's begin with AKIA: people and leak
// scanners can tell the two apart, and clients accept any.
const keyPrefix = "FLAK"

// newCredentials makes an access key: 80 random bits of id, 240 of secret.
func newCredentials() Credentials {
	secret := make([]byte, 30)
	rand.Read(secret) // never fails: it would rather stop the program
	return Credentials{
		AccessKeyID:     keyPrefix + randomID(),
		SecretAccessKey: base64.StdEncoding.EncodeToString(secret),
	}
}

// randomID returns 16 random capital letters and digits.
func randomID() string {
	b := make([]byte, 10)
	rand.Read(b)
	return base32.StdEncoding.EncodeToString(b)
}

// The JSON of the records. No member is left out when it is empty: what is written
// over a record must be able to empty it.

// accountValue is the JSON of iam/ACCOUNT/account.
type accountValue struct {
	Format  int       `json:"format"`
	Created time.Time `json:"created"`
}

// userValue is the JSON of iam/ACCOUNT/user/NAME.
type userValue struct {
	Format  int       `json:"format"`
	Created time.Time `json:"created"`
	// UID tells the user from another of the same name that was there before.
	UID string `json:"uid"`
	// Policies holds policy documents by name.
	Policies map[string]json.RawMessage `json:"policies"`
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

// bootstrapValue is the JSON of iam/bootstrap.
type bootstrapValue struct {
	Format  int    `json:"format"`
	Account string `json:"account"`
	KeyID   string `json:"accessKeyId"`
	// Pending is true until the key has been handed to the owner.
	Pending bool `json:"pending"`
}

func recordKey(account string, rest ...string) string {
	return recordPrefix + account + "/" + strings.Join(rest, "/")
}

// splitKey takes a record's key apart; ok is false for keys of another form.
func splitKey(key string) (account, kind, name string, ok bool) {
	parts := strings.Split(strings.TrimPrefix(key, recordPrefix), "/")
	switch {
	case len(parts) == 2 && parts[1] == accountRecord:
		return parts[0], parts[1], "", true
	case len(parts) == 3 && (parts[1] == userRecord || parts[1] == keyRecord):
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

var userPattern = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{1,64}$`)

// checkUser refuses names that an account or a user cannot have.
func checkUser(account, name string) error {
	if !mesh.ValidAccount(account) {
		return mesh.Errorf(mesh.ErrBadRequest, "account %s is not allowed: twelve digits", quote(account))
	}
	if !userPattern.MatchString(name) {
		return mesh.Errorf(mesh.ErrBadRequest, "user name %s is not allowed: 1 to 64 letters, digits and _+=,.@-", quote(name))
	}
	return nil
}

// userName identifies a user.
type userName struct{ account, name string }

// user is a user in the table.
type user struct {
	uid string
	// policies are nil if one of the documents cannot be read: then everything is
	// refused, because it might have been a denial.
	policies []*Policy
}

// decide asks all policies of the user. A nil user is allowed nothing.
func (u *user) decide(action, resource string) Decision {
	decision := NotMentioned
	if u == nil {
		return decision
	}
	for _, p := range u.policies {
		switch p.Evaluate(action, resource) {
		case Denied:
			return Denied
		case Allowed:
			decision = Allowed
		}
	}
	return decision
}

// accessKey is an access key in the table. It does not change, but for the derived
// keys that it remembers.
type accessKey struct {
	id, account, user, userUID string

	secret   string
	disabled bool

	derived atomic.Pointer[[]signingKey]
}

func (k *accessKey) owner() userName { return userName{k.account, k.user} }

// maxDerived bounds the derived keys that one access key remembers.
const maxDerived = 8

type signingKey struct {
	day, region, service string
	key                  [sha256.Size]byte
}

// signingKey returns the key that signs a day's requests in a region. A secret
// never changes while its entry lives, so what was derived can be kept with it.
func (k *accessKey) signingKey(day, region, service string) [sha256.Size]byte {
	var known []signingKey
	if p := k.derived.Load(); p != nil {
		known = *p
	}
	for i := range known {
		if s := &known[i]; s.day == day && s.region == region && s.service == service {
			return s.key
		}
	}
	key := deriveKey(k.secret, day, region, service)
	kept := known[max(0, len(known)-maxDerived+1):]
	next := append(append(make([]signingKey, 0, len(kept)+1), kept...), signingKey{day, region, service, key})
	k.derived.Store(&next)
	return key
}
