package access

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

const (
	// maxToken is the longest session token, in characters.
	maxToken = 4096
	// MaxSessionPolicy is the longest session policy, in bytes without space.
	MaxSessionPolicy = 2048
	// tokenMark begins what a token seals, so that nothing else that the store has
	// sealed can pass for one.
	tokenMark = "fairlead session 1\x00"
	// maxSessions bounds how many unsealed tokens are remembered.
	maxSessions = 8192
)

// session is what a session token says. It does not change.
type session struct {
	signer  *signer
	account string
	role    bool   // the session of a role, else of a user
	name    string // of the role or user
	uid     string // of the role or user
	session string // the name of a role's session
	parent  string // the access key that a user's session was made with
	era     int    // of the role when the session was issued
	issued  time.Time
	expires time.Time
	policy  *Policy // nil for none
}

// tokenValue is the JSON in a token. Names are short, because tokens travel with
// each request.
type tokenValue struct {
	KeyID   string          `json:"k"`
	Secret  string          `json:"s"`
	Account string          `json:"a"`
	Role    bool            `json:"r,omitempty"`
	Name    string          `json:"n"`
	UID     string          `json:"u"`
	Session string          `json:"m,omitempty"`
	Parent  string          `json:"p,omitempty"`
	Era     int             `json:"g,omitempty"`
	Issued  int64           `json:"i"` // Unix milliseconds
	Expires int64           `json:"e"` // Unix milliseconds
	Policy  json.RawMessage `json:"y,omitempty"`
}

var tokenEncoding = base64.RawURLEncoding.Strict()

// issue makes temporary credentials. v needs neither key nor times.
func (a *Service) issue(v tokenValue, d time.Duration) (Credentials, error) {
	creds := newCredentials(sessionPrefix)
	now := a.timestamp()
	// Clients are told whole seconds, so that is when it ends.
	creds.Expires = now.Add(d).Truncate(time.Second)
	v.KeyID, v.Secret = creds.AccessKeyID, creds.SecretAccessKey
	v.Issued, v.Expires = now.UnixMilli(), creds.Expires.UnixMilli()
	plain, err := json.Marshal(v)
	if err != nil {
		return Credentials{}, fmt.Errorf("making a session token: %w", err)
	}
	sealed, err := a.store.Seal(append([]byte(tokenMark), plain...))
	if err != nil {
		return Credentials{}, fmt.Errorf("sealing a session token: %w", err)
	}
	creds.SessionToken = tokenEncoding.EncodeToString(sealed)
	if len(creds.SessionToken) > maxToken {
		return Credentials{}, errors.New("making a session token: it is too long")
	}
	return creds, nil
}

// openToken reads a session token. ok is false for what is none of ours.
func (a *Service) openToken(token string) (s *session, ok bool) {
	if token == "" || len(token) > maxToken {
		return nil, false
	}
	hash := sha256.Sum256([]byte(token))
	if s := a.sessions.get(hash, a.now()); s != nil {
		return s, true
	}
	sealed, err := tokenEncoding.DecodeString(token)
	if err != nil {
		return nil, false
	}
	plain, err := a.store.Unseal(sealed)
	if err != nil {
		return nil, false
	}
	if s, err = parseToken(plain); err != nil {
		a.log.Error("a session token that was sealed here cannot be read", "error", err)
		return nil, false
	}
	a.sessions.put(hash, s, a.now())
	return s, true
}

// parseToken reads what a token seals.
func parseToken(plain []byte) (*session, error) {
	plain, ok := bytes.CutPrefix(plain, []byte(tokenMark))
	if !ok {
		return nil, errors.New("reading session token: it is another kind of sealed value")
	}
	var v tokenValue
	d := json.NewDecoder(bytes.NewReader(plain))
	// What a newer build has added may be a restriction.
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return nil, errors.New("reading session token: it has a form that this version does not know")
	}
	s := &session{
		signer: &signer{id: v.KeyID, secret: v.Secret}, account: v.Account, role: v.Role, name: v.Name, uid: v.UID,
		session: v.Session, parent: v.Parent, era: v.Era, issued: time.UnixMilli(v.Issued).UTC(), expires: time.UnixMilli(v.Expires).UTC(),
	}
	if len(v.Policy) > 0 {
		var err error
		if s.policy, err = ParsePolicy(v.Policy); err != nil {
			return nil, fmt.Errorf("reading session token: %w", err)
		}
	}
	return s, nil
}

// principal returns who the session is, in the partition of a region.
func (s *session) principal(region string) Principal {
	if s.role {
		return rolePrincipal(s.account, s.name, s.uid, s.session, region)
	}
	return userPrincipal(s.account, s.name, s.uid, region)
}

// checkSessionPolicy returns a session policy without space between its parts.
func checkSessionPolicy(document json.RawMessage) (json.RawMessage, error) {
	if len(document) == 0 {
		return nil, nil
	}
	if _, err := ParsePolicy(document); err != nil {
		return nil, badPolicy("session policy: %v", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, document); err != nil {
		return nil, badPolicy("session policy is not valid JSON")
	}
	// As it will be in the token.
	escaped, err := json.Marshal(json.RawMessage(compact.Bytes()))
	if err != nil || len(escaped) > MaxSessionPolicy {
		return nil, badPolicy("session policy has %d bytes, allowed are %d", len(escaped), MaxSessionPolicy)
	}
	return escaped, nil
}

// ErrSessionPolicy is among what an error wraps that refuses the policy of a session.
var ErrSessionPolicy = errors.New("the session policy cannot be used")

func badPolicy(format string, args ...any) error {
	return marked{mesh.Errorf(mesh.ErrBadRequest, format, args...), ErrSessionPolicy}
}

// sessionTime is how often what a sessionCache has not been asked for is forgotten.
const sessionTime = 3 * time.Minute

// sessionCache remembers unsealed tokens by their hashes. When half of its room is
// full, and after a while, what has not been used since the last time that this happened
// goes: those who had most tokens are gone long before these end.
type sessionCache struct {
	half int

	mu    sync.RWMutex
	since time.Time // when young was begun
	young map[[sha256.Size]byte]*session
	old   map[[sha256.Size]byte]*session
}

func newSessionCache(most int) *sessionCache {
	return &sessionCache{half: most / 2, young: map[[sha256.Size]byte]*session{}}
}

func (c *sessionCache) get(hash [sha256.Size]byte, now time.Time) *session {
	c.mu.RLock()
	s := c.young[hash]
	var aged *session
	if s == nil {
		aged = c.old[hash]
	}
	c.mu.RUnlock()
	if aged != nil {
		c.put(hash, aged, now)
		return aged
	}
	return s
}

func (c *sessionCache) put(hash [sha256.Size]byte, s *session, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.young) >= c.half || now.Sub(c.since) >= sessionTime {
		c.old, c.young, c.since = c.young, map[[sha256.Size]byte]*session{}, now
	}
	c.young[hash] = s
}
