package backup

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Format is the newest format of files that this build writes and reads.
const Format = 1

// kind is what the first line of a backup says that the file is.
const kind = "backup"

// ErrDamaged says that a file is not what a backup wrote: it was cut off or changed.
var ErrDamaged = errors.New("the file is damaged")

// Header is the first line of a backup.
type Header struct {
	// Fairlead is "backup".
	Fairlead string `json:"fairlead"`
	// Format is that of the file.
	Format int `json:"format"`
	// Revision is the one revision of the store that all entries were read at.
	Revision  int64     `json:"revision"`
	CreatedAt time.Time `json:"createdAt"`
	// Account is the only account whose entries are in the file, "" for all.
	Account string `json:"account,omitempty"`
	// SealKeyID is the fingerprint of the key that secrets are sealed under.
	SealKeyID string `json:"sealKeyId"`
	// SealKey is that key as hexadecimal digits, if it was asked for.
	SealKey string `json:"sealKey,omitempty"`
	// StoreFormat is the newest format that documents in the store may have.
	StoreFormat int `json:"storeFormat"`
}

// Entry is one key of the store with its value.
type Entry struct {
	Key string `json:"key"`
	// Text is the value, if it is text in UTF-8; Base64 is it if not.
	Text   string `json:"text,omitempty"`
	Base64 string `json:"base64,omitempty"`
	// Lease is the id of the lease that the key goes with, as a decimal number ("" for
	// none), and LeaseSeconds how long that was granted for.
	Lease        string `json:"lease,omitempty"`
	LeaseSeconds int64  `json:"leaseSeconds,omitempty"`
}

// NewEntry returns the entry of a key without a lease.
func NewEntry(key string, value []byte) Entry {
	if utf8.Valid(value) {
		return Entry{Key: key, Text: string(value)}
	}
	return Entry{Key: key, Base64: base64.StdEncoding.EncodeToString(value)}
}

// Value returns the value of an entry.
func (e Entry) Value() ([]byte, error) {
	if e.Base64 == "" {
		return []byte(e.Text), nil
	}
	value, err := base64.StdEncoding.DecodeString(e.Base64)
	if err != nil {
		return nil, fmt.Errorf("reading key %q: %w", e.Key, ErrDamaged)
	}
	return value, nil
}

// Trailer is the last line of a backup.
type Trailer struct {
	// End holds all of it, so that the line is told from an entry.
	End *Totals `json:"end"`
}

// Totals say what a backup holds.
type Totals struct {
	// Entries counts the lines between the first and the last.
	Entries int64 `json:"entries"`
	// Families counts them by the segment of their keys that says what they are.
	Families map[string]int64 `json:"families"`
	// SHA256 is the hash of all bytes before the last line, as hexadecimal digits.
	SHA256 string `json:"sha256"`
}

// count counts an entry.
func (t *Totals) count(e Entry) {
	if t.Families == nil {
		t.Families = map[string]int64{}
	}
	t.Entries++
	t.Families[family(e.Key)]++
}

// family returns what the second segment of a key says, and the third of records.
func family(key string) string {
	parts := strings.SplitN(key, "/", 4)
	switch {
	case len(parts) < 2:
		return key
	case parts[1] == "record" && len(parts) > 2:
		return parts[1] + "/" + parts[2]
	}
	return parts[1]
}

// Describe says in one line what a backup holds, for people.
func Describe(h Header, t Totals) string {
	of := "all accounts"
	if h.Account != "" {
		of = "account " + h.Account
	}
	secrets := "secrets are sealed under key " + h.SealKeyID + ", which is not in it"
	if h.SealKey != "" {
		secrets = "the key that its secrets are sealed under is in it: keep it secret"
	}
	return fmt.Sprintf("backup of %s at revision %d: %d keys, %d of them objects; %s", of, h.Revision, t.Entries, t.Families["object"], secrets)
}
