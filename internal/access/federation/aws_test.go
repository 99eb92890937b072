package federation_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/fairlead-mesh/fairlead/internal/access/federation"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/standin"
)

var (
	taskCreds = aws.Credentials{AccessKeyID: "ASIATESTTASK", SecretAccessKey: "not-a-real-secret", SessionToken: "not-a-real-token"}
	task      = standin.Who{ARN: "arn:aws:sts::111122223333:assumed-role/cart-task/0a1b2c", ID: "AROATEST:0a1b2c", Account: "111122223333"}
)

// signFor returns a request that asks STS who signed it, bound to a server.
func signFor(t *testing.T, url, server string, creds aws.Credentials, at time.Time, headers map[string]string) federation.SignedRequest {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, strings.NewReader(federation.CallerIdentityBody))
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = 0 // whether it is signed is the signer's choice
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	if server != "" {
		req.Header.Set(federation.ServerHeader, server)
	}
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	sum := sha256.Sum256([]byte(federation.CallerIdentityBody))
	if err := v4.NewSigner().SignHTTP(t.Context(), creds, req, hex.EncodeToString(sum[:]), "sts", "eu-west-1", at); err != nil {
		t.Fatal(err)
	}
	r := federation.SignedRequest{Method: req.Method, URL: url, Body: federation.CallerIdentityBody, Headers: map[string]string{}}
	for name := range req.Header {
		r.Headers[name] = req.Header.Get(name)
	}
	return r
}

func TestAWS(t *testing.T) {
	t.Parallel()
	sts := standin.NewSTS(t)
	sts.Know(taskCreds, task)
	v := federation.New(federation.Config{Server: "fairlead.test", AllowLoopback: true})
	of := func(accounts ...string) *federation.Provider {
		return parse(t, v, federation.Settings{AWS: &federation.AWS{Accounts: accounts, Endpoints: []string{sts.URL}}})
	}
	amazons := parse(t, v, federation.Settings{AWS: &federation.AWS{Accounts: []string{task.Account}}})
	good := signFor(t, sts.URL, "fairlead.test", taskCreds, time.Now(), nil)
	got, err := v.AWS(t.Context(), []*federation.Provider{of("999999999999"), amazons, of("444455556666", task.Account)}, good)
	if err != nil || len(got) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	want := federation.AWSPrincipal{ARN: "arn:aws:iam::111122223333:role/cart-task", Session: task.ARN, Account: task.Account, ID: task.ID}
	if *got[0].AWS != want || got[0].Name != task.ARN || got[0].Provider != "aws-provider/p" {
		t.Errorf("it is %+v %+v", got[0], got[0].AWS)
	}
	change := func(f func(*federation.SignedRequest)) federation.SignedRequest {
		r := good
		r.Headers = maps.Clone(good.Headers)
		f(&r)
		return r
	}
	p := []*federation.Provider{of(task.Account)}
	before := sts.Asked.Load()
	for name, c := range map[string]struct {
		request federation.SignedRequest
		reason  federation.Reason
		say     string
	}{
		"GET":                  {change(func(r *federation.SignedRequest) { r.Method = "GET" }), federation.Malformed, "POST"},
		"another action":       {change(func(r *federation.SignedRequest) { r.Body = "Action=GetSessionToken&Version=2011-06-15" }), federation.Malformed, "request.body"},
		"another host":         {change(func(r *federation.SignedRequest) { r.URL = "https://sts.example.com/" }), federation.Invalid, "no identity provider of the account allows"},
		"two hosts":            {change(func(r *federation.SignedRequest) { r.Headers["host"] = "sts.amazonaws.com" }), federation.Malformed, "another host"},
		"a host nobody allows": {signFor(t, "https://sts.evil.example/", "fairlead.test", taskCreds, time.Now(), nil), federation.Invalid, "no identity provider of the account allows"},
		"plaintext":            {signFor(t, "http://sts.amazonaws.com/", "fairlead.test", taskCreds, time.Now(), nil), federation.Malformed, "request.url"},
		"a path":               {change(func(r *federation.SignedRequest) { r.URL += "/x" }), federation.Malformed, "without a path"},
		"a query":              {change(func(r *federation.SignedRequest) { r.URL += "?Action=AssumeRole" }), federation.Malformed, "request.url"},
		"not bound":            {signFor(t, sts.URL, "", taskCreds, time.Now(), nil), federation.Malformed, "does not cover x-fairlead-server"},
		"bound without signing": {change(func(r *federation.SignedRequest) {
			*r = signFor(t, sts.URL, "", taskCreds, time.Now(), nil)
			r.Headers["X-Fairlead-Server"] = "fairlead.test"
		}), federation.Malformed, "does not cover x-fairlead-server"},
		"bound to another":        {signFor(t, sts.URL, "other.test", taskCreds, time.Now(), nil), federation.Invalid, "bound to another server"},
		"old":                     {signFor(t, sts.URL, "fairlead.test", taskCreds, time.Now().Add(-6*time.Minute), nil), federation.Expired, "last 5 minutes"},
		"of tomorrow":             {signFor(t, sts.URL, "fairlead.test", taskCreds, time.Now().Add(time.Hour), nil), federation.Expired, "clocks differ"},
		"no signature":            {change(func(r *federation.SignedRequest) { delete(r.Headers, "Authorization") }), federation.Malformed, "no authorization"},
		"a header twice":          {change(func(r *federation.SignedRequest) { r.Headers["x-amz-DATE"] = "x" }), federation.Malformed, "twice"},
		"a line break":            {change(func(r *federation.SignedRequest) { r.Headers["x"] = "a\r\nb: c" }), federation.Malformed, "not printable"},
		"a strange signed header": {signFor(t, sts.URL, "fairlead.test", taskCreds, time.Now(), map[string]string{"x-odd": "1"}), federation.Malformed, "covers x-odd, which is not passed on"},
		"a signed header lacks":   {change(func(r *federation.SignedRequest) { delete(r.Headers, "Content-Type") }), federation.Malformed, "which is not there"},
	} {
		_, err := v.AWS(t.Context(), p, c.request)
		refused(t, name, err, c.reason, c.say)
	}
	if n := sts.Asked.Load(); n != before {
		t.Errorf("STS was asked %d times about what can be refused here", n-before)
	}
	stranger := taskCreds
	stranger.SecretAccessKey = "another"
	_, err = v.AWS(t.Context(), p, signFor(t, sts.URL, "fairlead.test", stranger, time.Now(), nil))
	refused(t, "a wrong secret", err, federation.Invalid, "does not accept the signature of the request: SignatureDoesNotMatch")
	_, err = v.AWS(t.Context(), []*federation.Provider{of("999999999999")}, good)
	refused(t, "another account", err, federation.Invalid, "AWS account 111122223333 is accepted by no")
	_, err = federation.New(federation.Config{AllowLoopback: true}).AWS(t.Context(), p, good)
	refused(t, "a server without a name", err, federation.Invalid, "--identity-audience")
	_, err = federation.New(federation.Config{Server: "fairlead.test"}).AWS(t.Context(), p, good)
	refused(t, "loopback", err, federation.Malformed, "request.url")
}

// TestSTSAnswers tries what STS may answer that it should not.
func TestSTSAnswers(t *testing.T) {
	t.Parallel()
	sts := standin.NewSTS(t)
	v := federation.New(federation.Config{Server: "fairlead.test", AllowLoopback: true})
	p := []*federation.Provider{parse(t, v, federation.Settings{AWS: &federation.AWS{Accounts: []string{task.Account}, Endpoints: []string{sts.URL}}})}
	good := signFor(t, sts.URL, "fairlead.test", taskCreds, time.Now(), nil)
	answer := func(arn, id, account string) string {
		return "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>" + arn + "</Arn><UserId>" + id + "</UserId><Account>" + account + "</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
	}
	for name, c := range map[string]struct {
		status int
		body   string
		reason federation.Reason
		say    string
	}{
		"nothing":          {200, "", federation.Invalid, "cannot be read"},
		"something else":   {200, "<html></html>", federation.Invalid, "cannot be read"},
		"nobody":           {200, "<GetCallerIdentityResponse/>", federation.Invalid, "names nobody"},
		"another account":  {200, answer(task.ARN, "x", "999999999999"), federation.Invalid, "names nobody"},
		"no session":       {200, answer("arn:aws:sts::111122223333:assumed-role/x", "x", task.Account), federation.Invalid, "names nobody"},
		"an odd ARN":       {200, answer("arn:aws:iam::111122223333:user/a\nb", "x", task.Account), federation.Invalid, "names nobody"},
		"a refusal":        {403, "<ErrorResponse><Error><Code>ExpiredToken</Code></Error></ErrorResponse>", federation.Invalid, "request: ExpiredToken"},
		"an odd refusal":   {400, "<Code>\x1b[31m</Code>", federation.Invalid, "signature of the request"},
		"throttling":       {429, "", federation.Unavailable, "try again"},
		"an outage":        {503, "", federation.Unavailable, "try again"},
		"a redirect":       {302, "", federation.Unavailable, "try again"},
		"more than enough": {200, strings.Repeat("x", 300<<10), federation.Unavailable, "try again"},
	} {
		sts.Override(func(w http.ResponseWriter, r *http.Request) {
			if c.status == http.StatusFound {
				w.Header().Set("Location", "http://"+r.Host+"/elsewhere")
			}
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		_, err := v.AWS(t.Context(), p, good)
		refused(t, name, err, c.reason, c.say)
	}
}
