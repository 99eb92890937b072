package access

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// MaxClockSkew is how far a request's signing time may lie from the server's clock,
// before or after. It is the bound that most AWS services keep, and bounds for how
// long an overheard request can be sent again.
const MaxClockSkew = 5 * time.Minute

// Request is what of a request its signature covers. HTTPRequest and StreamRequest
// make one.
type Request struct {
	Method      string
	EscapedPath string // as sent, still percent-encoded: url.URL.EscapedPath
	RawQuery    string // as sent, without the question mark
	Host        string // of the Host header or :authority, with its port if it has one
	// Header holds the headers, spelt as by net/http or in lower case.
	Header http.Header
	// PayloadHash is the SHA-256 of the body in lower-case hexadecimal digits. It
	// is empty for a stream only, whose body cannot be known beforehand.
	PayloadHash string
	// ContentLength is the body's length in bytes. It is used where the header is
	// signed and Header has none.
	ContentLength int64
	// AllowUnsignedPayload accepts x-amz-content-sha256: UNSIGNED-PAYLOAD, as
	// Envoy signs its streams.
	AllowUnsignedPayload bool
	// Service is the service that the credential scope must name; "" for Config's.
	Service string
	// SourceIP is the address that the request came from, if it is known, and Secure
	// says that it came over TLS. They are for conditions in policies; whoever makes a
	// Request fills them in.
	SourceIP netip.Addr
	Secure   bool
}

// HTTPRequest returns the Request of an HTTP request whose body has been read.
func HTTPRequest(r *http.Request, body []byte) Request {
	hash := sha256.Sum256(body)
	return Request{
		Method:        r.Method,
		EscapedPath:   r.URL.EscapedPath(),
		RawQuery:      r.URL.RawQuery,
		Host:          r.Host,
		Header:        r.Header,
		PayloadHash:   hex.EncodeToString(hash[:]),
		ContentLength: int64(len(body)),
	}
}

// StreamRequest returns the Request of a gRPC stream: its full method, for example
// /package.Service/Method, and its incoming metadata.
func StreamRequest(fullMethod string, metadata map[string][]string) Request {
	r := Request{
		Method:               http.MethodPost,
		EscapedPath:          fullMethod,
		Header:               metadata,
		AllowUnsignedPayload: true,
	}
	if h := metadata[":authority"]; len(h) > 0 {
		r.Host = h[0]
	}
	return r
}

// Question is what a Caller's Allow is asked.
type Question = store.Question

// Verify returns who signed the request. The caller's Allow answers by the policies
// of the moment in which it is asked, and refuses everything once the key or the
// session is void.
//
// It refuses with a *mesh.Error: ErrMissingAuthentication without a signature,
// ErrIncompleteSignature if it cannot be read, ErrUnrecognizedClient for a key or a
// session token that is unknown or disabled, ErrInvalidSignature for a wrong scope,
// time or signature, ErrExpiredToken for a session that has expired or been revoked,
// ErrAccessDenied for a caller of a suspended account.
func (a *Service) Verify(r Request) (Caller, error) {
	auth, err := readAuthorization(&r)
	if err != nil {
		return Caller{}, err
	}
	at, err := auth.signingTime(r.Header)
	if err != nil {
		return Caller{}, err
	}
	id, key, err := a.identify(&r, &auth)
	if err != nil {
		return Caller{}, err
	}
	if err := a.checkScope(&auth, cmp.Or(r.Service, a.service), at); err != nil {
		return Caller{}, err
	}
	now := a.now()
	if err := checkClock(at, now); err != nil {
		return Caller{}, err
	}
	payload, err := payloadHash(&r)
	if err != nil {
		return Caller{}, err
	}
	if err := a.checkSignature(&r, &auth, at, key, payload); err != nil {
		return Caller{}, err
	}
	t := a.table.Load()
	if err := checkState(t.standing(id, now).state, id.who.Account); err != nil {
		return Caller{}, err
	}
	if used := t.key(id.longLived()); used != nil {
		used.used.note(now, auth.region, auth.service)
	}
	return a.caller(id), nil
}

// identify returns who says to have signed, and the secret that it must have been
// signed with.
func (a *Service) identify(r *Request, auth *authorization) (*identity, *signer, error) {
	id := &identity{keyID: auth.keyID, region: auth.region, sourceIP: r.SourceIP, secure: r.Secure}
	tokens := headerValues(r.Header, "x-amz-security-token")
	if len(tokens) == 0 {
		t := a.table.Load()
		key := t.validKey(auth.keyID)
		if key == nil {
			return nil, nil, invalidToken(auth.keyID)
		}
		id.who = userPrincipal(key.account, key.user, key.userUID, auth.region)
		return id, key.signer, nil
	}
	if len(tokens) > 1 {
		return nil, nil, incomplete("the request has %d X-Amz-Security-Token headers, allowed is one", len(tokens))
	}
	s, ok := a.openToken(tokens[0])
	if !ok || s.signer.id != auth.keyID {
		return nil, nil, invalidToken("")
	}
	id.session, id.who = s, s.principal(auth.region)
	return id, s.signer, nil
}

// longLived returns the id of the access key that the caller has signed with, or has
// made its session with; "" for roles.
func (id *identity) longLived() string {
	if id.session != nil {
		return id.session.parent
	}
	return id.keyID
}

// invalidToken refuses a key or a token that is unknown.
func invalidToken(keyID string) error {
	hint := ""
	if strings.HasPrefix(keyID, sessionPrefix) {
		hint = " Temporary access keys need their session token beside them."
	}
	return mesh.Errorf(mesh.ErrUnrecognizedClient, "The security token included in the request is invalid.%s", hint)
}

// checkState refuses a caller whose signature is right but that does not count.
func checkState(s state, account string) error {
	switch s {
	case good:
		return nil
	case suspended:
		return mesh.Errorf(mesh.ErrAccessDenied, "Account %s is suspended: nothing is accepted from its users and roles until it is resumed.", account)
	case expired:
		return mesh.Errorf(mesh.ErrExpiredToken, "The security token included in the request is expired")
	case revoked:
		return mesh.Errorf(mesh.ErrExpiredToken, "The security token included in the request has been revoked: get new credentials")
	}
	return invalidToken("")
}

// checkScope compares the credential scope with what this server serves.
func (a *Service) checkScope(auth *authorization, service string, at time.Time) error {
	invalid := func(part, got, allowed string) error {
		return mesh.Errorf(mesh.ErrInvalidSignature,
			"Credential should be scoped to a valid %s: got %s, allowed is %s", part, quote(got), allowed)
	}
	switch {
	case auth.day != at.Format(dayLayout):
		return invalid("date", auth.day, at.Format(dayLayout)+", the day of the request's own date header")
	case !slices.Contains(a.regions, auth.region):
		return invalid("region", auth.region, strings.Join(a.regions, " or "))
	case auth.service != service:
		return invalid("service", auth.service, service)
	case auth.terminator != terminator:
		return invalid("terminator", auth.terminator, terminator)
	}
	return nil
}

// checkClock bounds the difference between the signing time and the server's clock.
func checkClock(at, now time.Time) error {
	now = now.UTC().Truncate(time.Second)
	early, late := now.Add(-MaxClockSkew), now.Add(MaxClockSkew)
	minutes := int(MaxClockSkew / time.Minute)
	switch {
	case at.Before(early):
		return mesh.Errorf(mesh.ErrInvalidSignature, "Signature expired: %s is now earlier than %s (%s - %d min.)",
			at.Format(amzDateLayout), early.Format(amzDateLayout), now.Format(amzDateLayout), minutes)
	case at.After(late):
		return mesh.Errorf(mesh.ErrInvalidSignature, "Signature not yet current: %s is still later than %s (%s + %d min.)",
			at.Format(amzDateLayout), late.Format(amzDateLayout), now.Format(amzDateLayout), minutes)
	}
	return nil
}

// payloadHash returns what stands in the payload's place of the canonical request.
func payloadHash(r *Request) (string, error) {
	body := r.PayloadHash
	if body == "" || body == unsignedPayload {
		if !r.AllowUnsignedPayload {
			return "", errors.New("verifying signature: the body has not been hashed")
		}
		body = emptyHash
	}
	values := headerValues(r.Header, "x-amz-content-sha256")
	if len(values) == 0 {
		return body, nil
	}
	switch declared := strings.TrimSpace(values[0]); {
	case len(values) > 1:
		return "", incomplete("the request has %d X-Amz-Content-Sha256 headers, allowed is one", len(values))
	case declared == body, declared == unsignedPayload && r.AllowUnsignedPayload:
		return declared, nil
	case declared == unsignedPayload:
		return "", mesh.Errorf(mesh.ErrInvalidSignature, "X-Amz-Content-Sha256 is %s, allowed here is the SHA-256 of the body", unsignedPayload)
	default:
		return "", mesh.Errorf(mesh.ErrInvalidSignature, "X-Amz-Content-Sha256 is not the SHA-256 of the body that arrived")
	}
}

// checkSignature computes the signature and compares. A path with empty or dot
// segments is tried as it was sent, which is how the Go SDK signs it, and in its
// normal form, which is how botocore and Envoy do.
func (a *Service) checkSignature(r *Request, auth *authorization, at time.Time, key *signer, payload string) error {
	signing := key.signingKey(auth.day, auth.region, auth.service)
	var canonical []byte
	paths := []string{r.EscapedPath, normalPath(r.EscapedPath)}
	for _, p := range slices.Compact(paths) {
		var err error
		canonical, err = canonicalRequest(r, auth, p, payload)
		if errors.Is(err, errQuery) {
			return incomplete("the query string cannot be read: allowed are NAME=VALUE pairs, percent-encoded, with & between them")
		}
		if err != nil {
			return err
		}
		want := signature(signing, at, auth, canonical)
		if hmac.Equal(want[:], auth.signature[:]) {
			return nil
		}
	}
	hash := sha256.Sum256(canonical)
	a.log.Debug("signature does not match", "accessKey", auth.keyID, "canonicalRequestHash", hex.EncodeToString(hash[:]))
	return mesh.Errorf(mesh.ErrInvalidSignature, "The request signature we calculated does not match: check the secret access key, "+
		"and that method, host, path, query, signed headers and body arrive here as they were signed")
}
