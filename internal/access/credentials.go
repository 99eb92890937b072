package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"log/slog"
	"sync/atomic"
	"time"
)

// Credentials are what a client signs with.
type Credentials struct {
	// AccessKeyID is FLAK, or FLAS for temporary credentials, and 16 capital letters
	// and digits.
	AccessKeyID string
	// SecretAccessKey is 40 characters that are never shown again.
	SecretAccessKey string
	// SessionToken goes with every request that is signed with temporary
	// credentials; "" for others. It is as secret as the key.
	SessionToken string
	// Expires is when temporary credentials end; zero for others.
	Expires time.Time
}

// String hides the secrets, so that credentials can be printed by mistake.
func (c Credentials) String() string { return "credentials " + c.AccessKeyID }

// GoString hides the secrets from %#v.
func (c Credentials) GoString() string { return c.String() }

// LogValue hides the secrets from log/slog.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// The prefixes of our access key ids, long-lived and temporary. AWS's begin with
// AKIA and ASIA: people and leak scanners can tell them apart, and clients accept
// any.
const (
	keyPrefix     = "FLAK"
	sessionPrefix = "FLAS"
)

// newCredentials makes an access key: 80 random bits of id, 240 of secret.
func newCredentials(prefix string) Credentials {
	secret := make([]byte, 30)
	rand.Read(secret) // never fails: it would rather stop the program
	return Credentials{
		AccessKeyID:     prefix + randomID(),
		SecretAccessKey: base64.StdEncoding.EncodeToString(secret),
	}
}

// randomID returns 16 random capital letters and digits.
func randomID() string {
	b := make([]byte, 10)
	rand.Read(b)
	return base32.StdEncoding.EncodeToString(b)
}

// signer is a key id and its secret. It does not change, but for the derived keys
// that it remembers.
type signer struct {
	id, secret string
	derived    atomic.Pointer[[]signingKey]
}

// maxDerived bounds the derived keys that one signer remembers.
const maxDerived = 8

type signingKey struct {
	day, region, service string
	key                  [sha256.Size]byte
}

// signingKey returns the key that signs a day's requests in a region. A secret
// never changes while its entry lives, so what was derived can be kept with it.
func (k *signer) signingKey(day, region, service string) [sha256.Size]byte {
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
