package access

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/mail"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

const (
	algorithm       = "AWS4-HMAC-SHA256"
	terminator      = "aws4_request"
	unsignedPayload = "UNSIGNED-PAYLOAD"
	amzDateLayout   = "20060102T150405Z"
	dayLayout       = "20060102"

	// emptyHash is the SHA-256 of nothing.
	emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

	// maxAuthorization is the longest Authorization header that is looked at, in
	// bytes. The AWS clients send some 250.
	maxAuthorization = 8 << 10

	authorizationForm = algorithm + " Credential=KEY/DATE/REGION/SERVICE/" + terminator + ", SignedHeaders=…, Signature=…"
)

// authorization is a parsed Authorization header.
type authorization struct {
	keyID, day, region, service, terminator string

	signedHeaders string // lower-case names in ascending order, with ; between them
	signature     [sha256.Size]byte
}

// incomplete returns the refusal of a request whose signature cannot be read.
func incomplete(format string, args ...any) error {
	return mesh.Errorf(mesh.ErrIncompleteSignature, format, args...)
}

// readAuthorization finds and parses the Authorization header of a request.
func readAuthorization(r *Request) (authorization, error) {
	values := headerValues(r.Header, "authorization")
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		if strings.Contains(r.RawQuery, "X-Amz-Signature=") || strings.Contains(r.RawQuery, "X-Amz-Algorithm=") {
			return authorization{}, mesh.Errorf(mesh.ErrMissingAuthentication,
				"Missing Authentication Token: a signature in the query string (a presigned URL) is not accepted, sign in the Authorization header")
		}
		return authorization{}, mesh.Errorf(mesh.ErrMissingAuthentication,
			"Missing Authentication Token: the request has no Authorization header, sign it with AWS Signature Version 4")
	}
	if len(values) > 1 {
		return authorization{}, incomplete("the request has %d Authorization headers, allowed is one", len(values))
	}
	return parseAuthorization(values[0])
}

// parseAuthorization reads the value of an Authorization header. Its errors never
// repeat more of the header than the algorithm and the names of parameters.
func parseAuthorization(value string) (authorization, error) {
	if len(value) > maxAuthorization {
		return authorization{}, incomplete("Authorization header has %d bytes, allowed are %d", len(value), maxAuthorization)
	}
	scheme, rest, more := strings.Cut(strings.TrimSpace(value), " ")
	if scheme != algorithm && (!more || len(scheme) > 32) {
		// It may be a bare token, which a message must not repeat.
		return authorization{}, incomplete("Authorization header names no algorithm, allowed is %s", algorithm)
	}
	if scheme != algorithm {
		return authorization{}, incomplete("Authorization header has algorithm %s, allowed is %s", quote(scheme), algorithm)
	}
	var credential, signed, signature string
	for param := range strings.SplitSeq(rest, ",") {
		name, v, ok := strings.Cut(strings.TrimSpace(param), "=")
		var to *string
		switch name {
		case "Credential":
			to = &credential
		case "SignedHeaders":
			to = &signed
		case "Signature":
			to = &signature
		}
		if !ok || to == nil || *to != "" {
			return authorization{}, incomplete("Authorization header has a parameter that is unknown, repeated or without a value: the form is %s", authorizationForm)
		}
		*to = v
	}
	if err := requireParameters(credential, signed, signature); err != nil {
		return authorization{}, err
	}
	a := authorization{signedHeaders: signed}
	if err := a.parseCredential(credential); err != nil {
		return authorization{}, err
	}
	if len(signature) != hex.EncodedLen(sha256.Size) {
		return authorization{}, incomplete("Authorization header has a Signature of %d characters, allowed are 64 hexadecimal digits", len(signature))
	}
	if _, err := hex.Decode(a.signature[:], []byte(signature)); err != nil {
		return authorization{}, incomplete("Authorization header has a Signature that is not of hexadecimal digits")
	}
	return a, checkSignedHeaders(signed)
}

func requireParameters(credential, signed, signature string) error {
	var missing []string
	for _, p := range []struct{ name, value string }{
		{"Credential", credential}, {"SignedHeaders", signed}, {"Signature", signature},
	} {
		if p.value == "" {
			missing = append(missing, "Authorization header requires '"+p.name+"' parameter.")
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return incomplete("%s The form is %s", strings.Join(missing, " "), authorizationForm)
}

// parseCredential reads KEY/DATE/REGION/SERVICE/aws4_request.
func (a *authorization) parseCredential(credential string) error {
	parts := strings.Split(credential, "/")
	if len(parts) != 5 || slices.Contains(parts, "") {
		return incomplete("Credential in the Authorization header is not of the form KEY/DATE/REGION/SERVICE/%s", terminator)
	}
	a.keyID, a.day, a.region, a.service, a.terminator = parts[0], parts[1], parts[2], parts[3], parts[4]
	return nil
}

// checkSignedHeaders wants lower-case names in ascending order, host among them.
// Signers sort them, and an order of its own would be another canonical request.
func checkSignedHeaders(signed string) error {
	last, host := "", false
	for name := range strings.SplitSeq(signed, ";") {
		if name <= last || strings.ContainsFunc(name, notHeaderName) {
			return incomplete("SignedHeaders in the Authorization header must be lower-case header names in ascending order, each once, with ; between them")
		}
		last, host = name, host || name == "host"
	}
	if !host {
		return incomplete("SignedHeaders in the Authorization header lacks host")
	}
	return nil
}

func notHeaderName(r rune) bool {
	lower := r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
	return !lower && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

// signsHeader reports whether name is among the signed headers.
func (a *authorization) signsHeader(name string) bool {
	for n := range strings.SplitSeq(a.signedHeaders, ";") {
		if n == name {
			return true
		}
	}
	return false
}

// signingTime returns the time that the request says it was signed at: x-amz-date,
// or Date where there is none. That header must be a signed one.
func (a *authorization) signingTime(h http.Header) (time.Time, error) {
	name := "x-amz-date"
	values := headerValues(h, name)
	if len(values) == 0 {
		name = "date"
		values = headerValues(h, name)
	}
	if len(values) != 1 {
		return time.Time{}, incomplete("Authorization header requires exactly one X-Amz-Date or Date header beside it")
	}
	value := strings.TrimSpace(values[0])
	t, err := time.Parse(amzDateLayout, value)
	if err != nil && name == "date" {
		t, err = mail.ParseDate(value)
	}
	if err != nil {
		return time.Time{}, incomplete("%s has %s, allowed is a time such as 20260102T030405Z", name, quote(value))
	}
	if !a.signsHeader(name) {
		return time.Time{}, incomplete("SignedHeaders in the Authorization header lacks %s", name)
	}
	return t.UTC(), nil
}

// canonicalRequest returns the text that is hashed and signed. escapedPath is the
// path as it was sent, or in its normal form.
func canonicalRequest(r *Request, a *authorization, escapedPath, payloadHash string) ([]byte, error) {
	b := make([]byte, 0, 1024)
	b = append(b, r.Method...)
	b = append(b, '\n')
	b = appendEscaped(b, cmp.Or(escapedPath, "/"), true)
	b = append(b, '\n')
	b, err := appendQuery(b, r.RawQuery)
	if err != nil {
		return nil, err
	}
	b = append(b, '\n')
	for name := range strings.SplitSeq(a.signedHeaders, ";") {
		values := signedValues(r, name)
		if len(values) == 0 {
			return nil, mesh.Errorf(mesh.ErrInvalidSignature,
				"the signed header %s has not arrived: a client or something on the way has removed it", quote(name))
		}
		b = append(b, name...)
		b = append(b, ':')
		for i, v := range values {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendFolded(b, v)
		}
		b = append(b, '\n')
	}
	b = append(b, '\n')
	b = append(b, a.signedHeaders...)
	b = append(b, '\n')
	return append(b, payloadHash...), nil
}

// signedValues returns the values of a signed header. Go's HTTP and gRPC servers
// take some headers out of the map; they are put back here.
func signedValues(r *Request, name string) []string {
	if name == "host" {
		return []string{r.Host}
	}
	values := headerValues(r.Header, name)
	if len(values) > 0 {
		return values
	}
	switch name {
	case "te": // of gRPC over HTTP/2 always this one
		return []string{"trailers"}
	case "content-length":
		return []string{strconv.FormatInt(max(r.ContentLength, 0), 10)}
	}
	return nil
}

// headerValues returns the values of the header with the lower-case name, whether
// the map spells it as net/http or as gRPC metadata does.
func headerValues(h http.Header, name string) []string {
	if v, ok := h[http.CanonicalHeaderKey(name)]; ok {
		return v
	}
	return h[name]
}

// appendFolded appends a header's value without outer space and with each run of
// spaces as one.
func appendFolded(b []byte, v string) []byte {
	v = strings.Trim(v, " \t\r\n")
	for i := range len(v) {
		if v[i] == ' ' && i > 0 && v[i-1] == ' ' {
			continue
		}
		b = append(b, v[i])
	}
	return b
}

// appendEscaped appends s with every byte percent-encoded that RFC 3986 does not
// call unreserved; a slash stays if keepSlash.
func appendEscaped(b []byte, s string, keepSlash bool) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9',
			c == '-', c == '_', c == '.', c == '~', c == '/' && keepSlash:
			b = append(b, c)
		default:
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}

var errQuery = errors.New("query string cannot be read")

// appendQuery appends the canonical query: decoded as net/url decodes it, so that
// what is verified is what handlers read, then encoded anew and sorted.
func appendQuery(b []byte, raw string) ([]byte, error) {
	if raw == "" {
		return b, nil
	}
	type pair struct{ name, value string }
	var pairs []pair
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		n, err1 := url.QueryUnescape(name)
		v, err2 := url.QueryUnescape(value)
		if err1 != nil || err2 != nil || strings.Contains(part, ";") {
			return nil, errQuery
		}
		pairs = append(pairs, pair{string(appendEscaped(nil, n, false)), string(appendEscaped(nil, v, false))})
	}
	slices.SortFunc(pairs, func(x, y pair) int {
		if c := strings.Compare(x.name, y.name); c != 0 {
			return c
		}
		return strings.Compare(x.value, y.value)
	})
	for i, p := range pairs {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, p.name...)
		b = append(b, '=')
		b = append(b, p.value...)
	}
	return b, nil
}

// normalPath returns an escaped path without empty and dot segments.
func normalPath(p string) string {
	if !strings.Contains(p, "//") && !strings.Contains(p, "/.") {
		return p
	}
	n := path.Clean(p)
	if strings.HasSuffix(p, "/") && n != "/" {
		n += "/"
	}
	return n
}

// deriveKey returns the key that signs the requests of one day in one region.
func deriveKey(secret, day, region, service string) [sha256.Size]byte {
	k := hmacSHA256([]byte("AWS4"+secret), day)
	k = hmacSHA256(k[:], region)
	k = hmacSHA256(k[:], service)
	return hmacSHA256(k[:], terminator)
}

// signature returns the signature of a canonical request.
func signature(key [sha256.Size]byte, at time.Time, a *authorization, canonical []byte) [sha256.Size]byte {
	hash := sha256.Sum256(canonical)
	b := make([]byte, 0, 256)
	b = append(b, algorithm+"\n"...)
	b = at.AppendFormat(b, amzDateLayout)
	for _, s := range []string{"\n", a.day, "/", a.region, "/", a.service, "/", terminator, "\n"} {
		b = append(b, s...)
	}
	b = hex.AppendEncode(b, hash[:])
	return hmacSHA256(key[:], string(b))
}

func hmacSHA256(key []byte, text string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	h.Sum(sum[:0])
	return sum
}

// quote quotes what a caller sent for a message, and shortens it.
func quote(s string) string {
	const most = 60
	if len(s) > most {
		return strconv.Quote(strings.ToValidUTF8(s[:most], "")) + "…"
	}
	return strconv.Quote(s)
}
