package federation

import (
	"context"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// ServerHeader is the header that binds a request signed for AWS to one server: it must
// be among the signed ones, and its value the name of the server.
const ServerHeader = "x-fairlead-server"

// CallerIdentityBody is the body that a request signed for AWS must have.
const CallerIdentityBody = "Action=GetCallerIdentity&Version=2011-06-15"

// bounds of what somebody sends as a request signed for AWS.
const (
	maxHeaders     = 20
	maxHeaderValue = 8 << 10
)

// SignedRequest is a request to AWS's STS that somebody has signed and not sent.
type SignedRequest struct {
	Method, URL, Body string
	Headers           map[string]string
}

// passedOn are the headers that are sent to STS. A signed header of another name is
// refused: STS would miss it. One that is not signed is left out.
var passedOn = []string{
	"accept-encoding", "amz-sdk-invocation-id", "amz-sdk-request", "authorization", "content-length", "content-type", "host", "user-agent",
	"x-amz-content-sha256", "x-amz-date", "x-amz-security-token", "x-amz-user-agent", ServerHeader,
}

// mustSign are the headers that the signature must cover.
var mustSign = []string{"host", "x-amz-date", ServerHeader}

// AWS has AWS's STS say who signed a request, and returns that one for each of the
// providers that accepts it. The errors are *Error; one of ctx is passed on.
func (v *Verifier) AWS(ctx context.Context, providers []*Provider, r SignedRequest) ([]Subject, error) {
	if v.server == "" {
		return nil, refuse(Invalid, "this server has no name that a request signed for AWS could be bound to: it is set with --identity-audience")
	}
	u, header, err := v.checkSigned(r)
	if err != nil {
		return nil, err
	}
	providers = slices.DeleteFunc(slices.Clone(providers), func(p *Provider) bool { return p.settings.AWS == nil || !p.settings.AWS.asks(u) })
	if len(providers) == 0 {
		return nil, refuse(Invalid, "the request is signed for %s, which no identity provider of the account allows", clip(u.Host))
	}
	who, err := v.askSTS(ctx, u, header)
	if err != nil {
		return nil, err
	}
	var subjects []Subject
	for _, p := range providers {
		if slices.Contains(p.settings.AWS.Accounts, who.Account) {
			subjects = append(subjects, Subject{Provider: p.name, Name: who.Session, AWS: &who})
		}
	}
	if len(subjects) == 0 {
		return nil, refuse(Invalid, "AWS account %s is accepted by no identity provider of the account", who.Account)
	}
	return subjects, nil
}

// checkSigned holds that a request can do nothing but ask who signed it, was signed for
// this server, and just now.
func (v *Verifier) checkSigned(r SignedRequest) (*url.URL, http.Header, error) {
	switch {
	case r.Method != http.MethodPost:
		return nil, nil, refuse(Malformed, "request.method must be POST")
	case r.Body != CallerIdentityBody:
		return nil, nil, refuse(Malformed, "request.body must be %s", CallerIdentityBody)
	}
	u, err := checkURL(r.URL, v.allowLoopback)
	if err != nil || len(r.URL) > MaxIssuer || strings.Trim(u.Path, "/") != "" {
		return nil, nil, refuse(Malformed, "request.url must be the URL of STS without a path, for example https://sts.eu-west-1.amazonaws.com/")
	}
	headers, err := readHeaders(r.Headers)
	if err != nil {
		return nil, nil, err
	}
	if host, ok := headers["host"]; ok && !strings.EqualFold(host, u.Host) {
		return nil, nil, refuse(Malformed, "request.headers has another host than request.url")
	}
	headers["host"] = u.Host
	signed, err := signedHeaders(headers["authorization"])
	if err != nil {
		return nil, nil, err
	}
	for _, name := range mustSign {
		if !slices.Contains(signed, name) {
			return nil, nil, refuse(Malformed, "the signature in request.headers does not cover %s", name)
		}
	}
	if headers[ServerHeader] != v.server {
		return nil, nil, refuse(Invalid, "the request is bound to another server: %s is not this server's name", ServerHeader)
	}
	at, err := time.Parse("20060102T150405Z", headers["x-amz-date"])
	if now := v.now(); err != nil || at.Before(now.Add(-MaxClockSkew)) || at.After(now.Add(MaxClockSkew)) {
		return nil, nil, refuse(Expired, "the request was not signed within the last %d minutes, or the clocks differ", int(MaxClockSkew.Minutes()))
	}
	out := http.Header{}
	for _, name := range passedOn {
		value, ok := headers[name]
		if !ok || name == "host" || name == "content-length" || name != "authorization" && !slices.Contains(signed, name) {
			continue
		}
		out.Set(name, value)
	}
	for _, name := range signed {
		if !slices.Contains(passedOn, name) {
			return nil, nil, refuse(Malformed, "the signature in request.headers covers %s, which is not passed on", clip(name))
		}
		if _, ok := headers[name]; !ok && name != "content-length" {
			return nil, nil, refuse(Malformed, "the signature in request.headers covers %s, which is not there", clip(name))
		}
	}
	if _, ok := headers["accept-encoding"]; !ok {
		out.Set("Accept-Encoding", "identity")
	}
	return u, out, nil
}

// readHeaders returns headers by their names in lower case.
func readHeaders(given map[string]string) (map[string]string, error) {
	if len(given) > maxHeaders {
		return nil, refuse(Malformed, "request.headers has %d members, allowed are %d", len(given), maxHeaders)
	}
	headers := make(map[string]string, len(given))
	for _, name := range slices.Sorted(maps.Keys(given)) {
		value := given[name]
		name = strings.ToLower(name)
		if _, twice := headers[name]; twice {
			return nil, refuse(Malformed, "request.headers has %s twice", clip(name))
		}
		if len(value) > maxHeaderValue || strings.ContainsFunc(value, unprintable) {
			return nil, refuse(Malformed, "request.headers has a value that is too long or not printable")
		}
		headers[name] = value
	}
	return headers, nil
}

// signedHeaders returns the names of the headers that a signature covers.
func signedHeaders(authorization string) ([]string, error) {
	scheme, rest, _ := strings.Cut(authorization, " ")
	if scheme == "AWS4-HMAC-SHA256" {
		for part := range strings.SplitSeq(rest, ",") {
			if names, ok := strings.CutPrefix(strings.TrimSpace(part), "SignedHeaders="); ok {
				return strings.Split(strings.ToLower(names), ";"), nil
			}
		}
	}
	return nil, refuse(Malformed, "request.headers has no authorization with a signature of AWS (AWS4-HMAC-SHA256)")
}

// identityAnswer is what STS answers.
type identityAnswer struct {
	XMLName xml.Name `xml:"GetCallerIdentityResponse"`
	Result  struct {
		ARN     string `xml:"Arn"`
		ID      string `xml:"UserId"`
		Account string `xml:"Account"`
	} `xml:"GetCallerIdentityResult"`
}

// askSTS sends the request and reads who it says has signed.
func (v *Verifier) askSTS(ctx context.Context, u *url.URL, header http.Header) (AWSPrincipal, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.Scheme+"://"+u.Host+"/", strings.NewReader(CallerIdentityBody))
	if err != nil {
		return AWSPrincipal{}, refuse(Malformed, "request.url cannot be read")
	}
	req.Header = header
	status, body, err := send(v.sts, req)
	unavailable := refuse(Unavailable, "STS at %s could not be asked just now: try again", clip(u.Host))
	switch {
	case err != nil:
		v.log.Warn("STS cannot be asked", "host", u.Host, "error", err)
		return AWSPrincipal{}, unavailable
	case status >= http.StatusInternalServerError || status == http.StatusTooManyRequests:
		v.log.Warn("STS cannot be asked", "host", u.Host, "status", status)
		return AWSPrincipal{}, unavailable
	case status != http.StatusOK:
		return AWSPrincipal{}, refuse(Invalid, "AWS does not accept the signature of the request%s", errorCode(body))
	}
	return readIdentity(body)
}

// readIdentity reads STS's answer.
func readIdentity(body []byte) (AWSPrincipal, error) {
	var a identityAnswer
	if err := xml.Unmarshal(body, &a); err != nil {
		return AWSPrincipal{}, refuse(Invalid, "the answer of STS cannot be read")
	}
	p := AWSPrincipal{Session: a.Result.ARN, Account: a.Result.Account, ID: a.Result.ID}
	m := callerARN.FindStringSubmatch(p.Session)
	if m == nil || m[3] != p.Account || p.ID == "" || len(p.ID) > MaxIssuer || strings.ContainsFunc(p.ID, unprintable) {
		return AWSPrincipal{}, refuse(Invalid, "the answer of STS names nobody")
	}
	p.ARN = p.Session
	if role, ok := strings.CutPrefix(m[4], "assumed-role/"); ok {
		if role, _, ok = strings.Cut(role, "/"); !ok {
			return AWSPrincipal{}, refuse(Invalid, "the answer of STS names nobody")
		}
		p.ARN = fmt.Sprintf("arn:%s:iam::%s:role/%s", m[1], p.Account, role)
	}
	return p, nil
}

// callerARN is the form of the ARNs that STS answers with.
var callerARN = regexp.MustCompile(`^arn:(aws|aws-cn|aws-us-gov):(iam|sts)::([0-9]{12}):(root|(?:user|assumed-role|federated-user)/[!-~]{1,1000})$`)

var errorCodeForm = regexp.MustCompile(`<Code>([A-Za-z]{1,64})</Code>`)

// errorCode returns the code of STS's refusal, for a message.
func errorCode(body []byte) string {
	if m := errorCodeForm.FindSubmatch(body); m != nil {
		return ": " + string(m[1])
	}
	return ""
}
