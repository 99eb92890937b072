package federation

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"
)

const (
	// keysFresh is how long keys are used before the issuer is asked again, and keysStale
	// how long they are used while it does not answer.
	keysFresh = 15 * time.Minute
	keysStale = 6 * time.Hour
	// askAgain is how long an issuer is left alone after it was asked, so that tokens with
	// made-up keys do not have it asked for each.
	askAgain = 30 * time.Second
	// askAfterFailure is the same after it did not answer.
	askAfterFailure = 5 * time.Second
	// maxIssuers bounds how many issuers are remembered, and maxAsking how many are asked
	// at the same time.
	maxIssuers = 1000
	maxAsking  = 32
	// maxKeys bounds the keys of an issuer.
	maxKeys = 100
	// minRSA is the shortest RSA key that is used, in bits.
	minRSA = 2048
)

// algorithms are the ones that tokens may be signed with: all are asymmetric.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// readKeys reads a JSON Web Key Set and returns what of it can verify signatures. Keys of
// kinds that are not known are passed over, as the standard wants.
func readKeys(document []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(document, &set); err != nil || set.Keys == nil {
		return nil, errors.New("is not a JSON Web Key Set: a JSON object with keys")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("has %d keys, allowed are %d", len(set.Keys), maxKeys)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if err := json.Unmarshal(raw, &k); err != nil || !usable(&k) {
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("has no public key that can be used: RSA of at least %d bits, EC or Ed25519", minRSA)
	}
	return keys, nil
}

func usable(k *jose.JSONWebKey) bool {
	if !k.IsPublic() || !k.Valid() || k.Use != "" && k.Use != "sig" {
		return false
	}
	r, ok := k.Key.(*rsa.PublicKey)
	return !ok || r.N.BitLen() >= minRSA
}

// errUnknownKey says that none of the keys has signed.
var errUnknownKey = errors.New("the token's key is not among the issuer's")

// verify returns what a token signs, if one of the keys has signed it.
func verify(token string, keys []jose.JSONWebKey) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return nil, errors.New("the token cannot be read")
	}
	header := jws.Signatures[0].Header
	for i := range keys {
		k := &keys[i]
		if header.KeyID != "" && k.KeyID != "" && k.KeyID != header.KeyID || k.Algorithm != "" && k.Algorithm != header.Algorithm {
			continue
		}
		if payload, err := jws.Verify(k); err == nil {
			return payload, nil
		}
	}
	return nil, errUnknownKey
}

// staticKeys are keys that an account has set.
type staticKeys struct{ keys []jose.JSONWebKey }

func readStaticKeys(document []byte) (*staticKeys, error) {
	if len(document) > MaxKeySet {
		return nil, fmt.Errorf("has %d bytes, allowed are %d", len(document), MaxKeySet)
	}
	keys, err := readKeys(document)
	return &staticKeys{keys}, err
}

// VerifySignature is go-oidc's interface of keys.
func (s *staticKeys) VerifySignature(_ context.Context, token string) ([]byte, error) {
	return verify(token, s.keys)
}

// keyCache holds the keys of issuers that are asked, by issuer and roots: accounts that
// have the same issuer share them, and none can change what another one gets.
type keyCache struct {
	now           func() time.Time
	log           *slog.Logger
	allowLoopback bool
	asking        chan struct{} // as many places as issuers may be asked at once
	flights       singleflight.Group

	mu      sync.Mutex
	issuers map[string]*issuerKeys
}

// issuerKeys are the keys of one issuer. They are under the cache's lock.
type issuerKeys struct {
	keys  []jose.JSONWebKey
	got   time.Time // when keys were had last; zero for never
	asked time.Time // when it was asked last, for any result
	bad   bool      // that failed
	used  time.Time
}

func newKeyCache(now func() time.Time, log *slog.Logger, allowLoopback bool) *keyCache {
	return &keyCache{
		now: now, log: log, allowLoopback: allowLoopback,
		asking: make(chan struct{}, maxAsking), issuers: map[string]*issuerKeys{},
	}
}

// remoteKeys are the keys of a provider whose issuer is asked.
type remoteKeys struct {
	*keyCache
	provider *Provider
}

func (r remoteKeys) id() string { return r.provider.settings.OIDC.Issuer + "\x00" + r.provider.caHash }

// VerifySignature is go-oidc's interface of keys. It asks the issuer if its keys are old,
// or do not have the one that is wanted, unless it was asked just now.
func (r remoteKeys) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	keys, mayAsk, mustAsk := r.look(r.id())
	if mustAsk {
		if !mayAsk {
			return nil, errNoKeys
		}
		var err error
		if keys, err = r.ask(ctx); err != nil {
			return nil, err
		}
		mayAsk = false
	}
	payload, err := verify(token, keys)
	if !errors.Is(err, errUnknownKey) || !mayAsk {
		return payload, err
	}
	if keys, err = r.ask(ctx); err != nil {
		return nil, err
	}
	return verify(token, keys)
}

// errNoKeys says that the issuer's keys cannot be had just now.
var errNoKeys = errors.New("the issuer's keys cannot be had just now")

// look returns the keys that are there, whether the issuer may be asked for others, and
// whether it has to be, because there are none or they are old.
func (c *keyCache) look(id string) (keys []jose.JSONWebKey, mayAsk, mustAsk bool) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entry(id, now)
	pause := askAgain
	if e.bad {
		pause = askAfterFailure
	}
	mayAsk = e.asked.IsZero() || now.Sub(e.asked) >= pause
	age := now.Sub(e.got)
	old := e.keys == nil || age >= keysFresh
	if old && !mayAsk && e.keys != nil && age < keysStale {
		old = false
	}
	return e.keys, mayAsk, old
}

// entry returns what is known of an issuer. The caller holds mu.
func (c *keyCache) entry(id string, now time.Time) *issuerKeys {
	e := c.issuers[id]
	if e == nil {
		c.makeRoom()
		e = &issuerKeys{}
		c.issuers[id] = e
	}
	e.used = now
	return e
}

// makeRoom forgets the issuer that was not needed for longest, if there are as many as
// there may be.
func (c *keyCache) makeRoom() {
	if len(c.issuers) < maxIssuers {
		return
	}
	oldest := ""
	for id, e := range c.issuers {
		if oldest == "" || e.used.Before(c.issuers[oldest].used) {
			oldest = id
		}
	}
	delete(c.issuers, oldest)
}

// ask asks the issuer for its keys; who asks at the same time gets the same answer. While
// it does not answer, keys that are not too old are returned.
func (r remoteKeys) ask(ctx context.Context) ([]jose.JSONWebKey, error) {
	id := r.id()
	done := r.flights.DoChan(id, func() (any, error) { return r.fetch(id) })
	select {
	case res := <-done:
		keys, _ := res.Val.([]jose.JSONWebKey)
		return keys, res.Err
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the issuer's keys: %w", ctx.Err())
	}
}

func (r remoteKeys) fetch(id string) ([]jose.JSONWebKey, error) {
	// It goes on for others when the one who asked has gone.
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	var keys []jose.JSONWebKey
	var err error
	select {
	case r.asking <- struct{}{}:
		keys, err = r.download(ctx)
		<-r.asking
	case <-ctx.Done():
		err = errors.New("too many issuers are being asked")
	}
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entry(id, now)
	e.asked, e.bad = now, err != nil
	if err == nil {
		e.keys, e.got = keys, now
		return keys, nil
	}
	r.log.Warn("the keys of an issuer of tokens cannot be had", "issuer", r.provider.settings.OIDC.Issuer, "error", err)
	if e.keys != nil && now.Sub(e.got) < keysStale {
		return e.keys, nil
	}
	return nil, errNoKeys
}

// download fetches the issuer's configuration and the keys that it names.
func (r remoteKeys) download(ctx context.Context) ([]jose.JSONWebKey, error) {
	client := newClient(r.provider.roots, r.allowLoopback)
	defer client.CloseIdleConnections()
	issuer := r.provider.settings.OIDC.Issuer
	document, err := get(ctx, client, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	var found struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(document, &found); err != nil {
		return nil, fmt.Errorf("reading the configuration of %s: it is not valid JSON", issuer)
	}
	if found.Issuer != issuer {
		return nil, fmt.Errorf("reading the configuration of %s: it is that of the issuer %q", issuer, clip(found.Issuer))
	}
	if err := checkKeysURL(found.Keys, r.allowLoopback); err != nil {
		return nil, fmt.Errorf("reading the configuration of %s: jwks_uri %q: %w", issuer, clip(found.Keys), err)
	}
	if document, err = get(ctx, client, found.Keys); err != nil {
		return nil, err
	}
	keys, err := readKeys(document)
	if err != nil {
		return nil, fmt.Errorf("reading the keys of %s: the document %w", issuer, err)
	}
	return keys, nil
}

// checkKeysURL wants what an issuer says of its keys to be a URL of the same kind as its
// own, though it may have a query.
func checkKeysURL(s string, allowLoopback bool) error {
	req, err := http.NewRequest(http.MethodGet, s, nil)
	if err != nil {
		return errors.New("it cannot be read")
	}
	u := *req.URL
	u.RawQuery = ""
	u.Path, u.RawPath = "", ""
	_, err = checkURL(u.String(), allowLoopback)
	return err
}
