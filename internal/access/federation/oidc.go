package federation

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
)

const (
	// MaxToken is the longest token that is looked at, in bytes.
	MaxToken = 16 << 10
	// maxDepth bounds how deep claims are looked into, and maxClaims how many values
	// are kept.
	maxDepth  = 4
	maxClaims = 500
)

// Issuer returns the issuer that a token names. Nothing of the token is verified yet: it
// says only which provider has to.
func Issuer(token string) (string, error) {
	malformed := refuse(Malformed, "the token is not a JSON Web Token of at most %d bytes", MaxToken)
	parts := strings.Split(token, ".")
	if len(token) > MaxToken || len(parts) != 3 {
		return "", malformed
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", malformed
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil || claims.Issuer == "" || len(claims.Issuer) > MaxIssuer {
		return "", malformed
	}
	return claims.Issuer, nil
}

// Token verifies a token of OpenID Connect: its signature by a key of the issuer, who
// issued it, for whom, and when. The errors are *Error; one of ctx is passed on.
func (v *Verifier) Token(ctx context.Context, p *Provider, token string) (Subject, error) {
	o := p.settings.OIDC
	if o == nil || len(token) > MaxToken {
		return Subject{}, refuse(Malformed, "the token is not a JSON Web Token of at most %d bytes", MaxToken)
	}
	var keys oidc.KeySet = remoteKeys{v.keys, p}
	if p.keys != nil {
		keys = p.keys
	}
	algs := make([]string, len(algorithms))
	for i, a := range algorithms {
		algs[i] = string(a)
	}
	// go-oidc puts what the keys say into words of its own.
	watched := &watchedKeys{KeySet: keys}
	t, err := oidc.NewVerifier(o.Issuer, watched, &oidc.Config{
		SkipClientIDCheck: true, // there may be several; see below
		// A token that ends now has ended.
		SupportedSigningAlgs: algs, Now: v.now,
	}).Verify(ctx, token)
	if err != nil {
		return Subject{}, tokenError(ctx, err, watched.err)
	}
	now := v.now()
	switch {
	case t.IssuedAt.After(now.Add(MaxClockSkew)):
		return Subject{}, refuse(Invalid, "the token was issued in the future: the clocks of the issuer and of this server differ")
	case t.Subject == "":
		return Subject{}, refuse(Invalid, "the token has no subject")
	case !slices.ContainsFunc(t.Audience, func(a string) bool { return slices.Contains(o.Audiences, a) }):
		return Subject{}, refuse(Invalid, "the token is not meant for this server: its audience is none of the identity provider's")
	}
	var raw json.RawMessage
	var claims map[string]any
	if err := t.Claims(&raw); err != nil {
		return Subject{}, refuse(Malformed, "the token's claims cannot be read")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // ids may be longer than a float is exact
	if err := d.Decode(&claims); err != nil {
		return Subject{}, refuse(Malformed, "the token's claims cannot be read")
	}
	name := strings.TrimPrefix(p.name, "oidc-provider/")
	s := Subject{Provider: p.name, Name: t.Subject, Claims: map[string][]string{}}
	flat := flattener{to: s.Claims, left: maxClaims}
	flat.object(name+":", claims, maxDepth)
	return s, nil
}

// watchedKeys remembers why a signature did not hold.
type watchedKeys struct {
	oidc.KeySet
	err error
}

// VerifySignature is go-oidc's interface of keys.
func (w *watchedKeys) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := w.KeySet.VerifySignature(ctx, token)
	w.err = err
	return payload, err
}

// tokenError puts why a token is not accepted into our own words.
func tokenError(ctx context.Context, err, keys error) error {
	var expired *oidc.TokenExpiredError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &expired):
		return refuse(Expired, "the token has expired")
	case errors.Is(keys, errNoKeys):
		return refuse(Unavailable, "%v: try again", errNoKeys)
	case errors.Is(keys, errUnknownKey):
		return refuse(Invalid, "the token's signature does not hold: %v", errUnknownKey)
	case keys != nil:
		return refuse(Invalid, "the token's signature cannot be verified")
	case strings.Contains(err.Error(), "nbf"):
		return refuse(Invalid, "the token is not valid yet: the clocks of the issuer and of this server may differ")
	case strings.Contains(err.Error(), "different provider"):
		return refuse(Invalid, "the token is of another issuer")
	}
	return refuse(Malformed, "the token cannot be read: allowed are signed JSON Web Tokens with an asymmetric algorithm")
}

// flattener turns claims into values by name. What lies in an object has its name behind
// a slash: kubernetes.io/namespace.
type flattener struct {
	to   map[string][]string
	left int
}

func (f *flattener) object(prefix string, claims map[string]any, depth int) {
	names := make([]string, 0, len(claims))
	for name := range claims {
		names = append(names, name)
	}
	slices.Sort(names) // what is too much is always the same
	for _, name := range names {
		if inner, ok := claims[name].(map[string]any); ok {
			if depth > 1 {
				f.object(prefix+name+"/", inner, depth-1)
			}
			continue
		}
		list, ok := claims[name].([]any)
		if !ok {
			list = []any{claims[name]}
		}
		for _, one := range list {
			if text, ok := scalar(one); ok && f.left > 0 {
				f.left--
				f.to[prefix+name] = append(f.to[prefix+name], text)
			}
		}
	}
}

func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		return v.String(), true
	}
	return "", false
}
