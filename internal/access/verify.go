package access

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
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

// Caller is who signed a request.
type Caller struct {
	store.Caller
	// KeyID is the id of the access key that signed; see Service.Valid.
	KeyID string
}

// Question is what a Caller's Allow is asked.
type Question = store.Question

// Verify returns who signed the request. The caller's Allow answers by the policies
// of the moment in which it is asked, and refuses everything once the key is gone.
//
// It refuses with a *mesh.Error: ErrMissingAuthentication without a signature,
// ErrIncompleteSignature if it cannot be read, ErrUnrecognizedClient for a key that
// is unknown or disabled, ErrInvalidSignature for a wrong scope, time or signature.
func (a *Service) Verify(r Request) (Caller, error) {
	auth, err := readAuthorization(&r)
	if err != nil {
		return Caller{}, err
	}
	at, err := auth.signingTime(r.Header)
	if err != nil {
		return Caller{}, err
	}
	key := a.table.Load().validKey(auth.keyID)
	if key == nil || len(headerValues(r.Header, "x-amz-security-token")) > 0 {
		// No key has session tokens yet, so one that is sent cannot be valid.
		return Caller{}, mesh.Errorf(mesh.ErrUnrecognizedClient, "The security token included in the request is invalid.")
	}
	if err := a.checkScope(&auth, at); err != nil {
		return Caller{}, err
	}
	if err := checkClock(at, a.now()); err != nil {
		return Caller{}, err
	}
	payload, err := payloadHash(&r)
	if err != nil {
		return Caller{}, err
	}
	if err := a.checkSignature(&r, &auth, at, key, payload); err != nil {
		return Caller{}, err
	}
	return a.caller(key, auth.region), nil
}

// checkScope compares the credential scope with what this server serves.
func (a *Service) checkScope(auth *authorization, at time.Time) error {
	invalid := func(part, got, allowed string) error {
		return mesh.Errorf(mesh.ErrInvalidSignature,
			"Credential should be scoped to a valid %s: got %s, allowed is %s", part, quote(got), allowed)
	}
	switch {
	case auth.day != at.Format(dayLayout):
		return invalid("date", auth.day, at.Format(dayLayout)+", the day of the request's own date header")
	case !slices.Contains(a.regions, auth.region):
		return invalid("region", auth.region, strings.Join(a.regions, " or "))
	case auth.service != a.service:
		return invalid("service", auth.service, a.service)
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
func (a *Service) checkSignature(r *Request, auth *authorization, at time.Time, key *accessKey, payload string) error {
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

// caller returns the caller that a key stands for.
func (a *Service) caller(key *accessKey, region string) Caller {
	arn := userARN(key.account, key.user, region)
	id := key.id
	return Caller{
		KeyID: id,
		Caller: store.Caller{
			Account: key.account,
			Region:  region,
			ARN:     arn,
			Allow:   func(q store.Question) error { return a.allow(id, arn, q.Action, q.Resource) },
		},
	}
}

// allow asks the policies of the user that owns a key.
func (a *Service) allow(keyID, arn, action, resource string) error {
	t := a.table.Load()
	reason := "no identity-based policy allows it"
	if key := t.validKey(keyID); key == nil {
		reason = "its access key is no longer valid"
	} else {
		switch t.users[key.owner()].decide(action, resource) {
		case Allowed:
			return nil
		case Denied:
			reason = "a policy denies it explicitly"
		}
	}
	return mesh.Errorf(mesh.ErrForbidden, "User: %s is not authorized to perform: %s on resource: %s because %s", arn, action, resource, reason)
}

// userARN returns the Amazon Resource Name of a user.
func userARN(account, name, region string) string {
	return "arn:" + mesh.Partition(region) + ":iam::" + account + ":user/" + name
}
