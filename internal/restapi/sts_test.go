package restapi_test

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/fairlead-mesh/fairlead/api/client"
	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/golden"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/standin"
)

// TestSTS does the requests of each file in testdata/sts on a server of its own, and
// compares the answers with those in the file.
//
// A file holds requests and answers in turn. A request is a line "as WHO", and a line for
// each parameter, NAME=VALUE, which is encoded. WHO is "nobody" (no signature),
// "administrator", "session" (the temporary credentials given last), "wrong" (a secret
// that is not the administrator's), "appmesh" (the administrator, signing for another
// service) or "stranger" (who may do nothing). {token} is a token of the issuer that is
// trusted, {expired}, {foreign}, {other} and {nowhere} are tokens that are too old, of
// another issuer, for another audience, and of an issuer that cannot be asked.
func TestSTS(t *testing.T) {
	t.Parallel()
	golden.Run(t, "testdata/sts/*.txtar", func(t *testing.T, c *golden.Case) {
		s := newSTSScript(t)
		exchanges(t, c, func(request string) string { return s.exchange(t, request) })
	})
}

// stsScript runs one file.
type stsScript struct {
	*plane
	proofs *strings.Replacer
	who    map[string]access.Credentials
}

func newSTSScript(t *testing.T) *stsScript {
	p := newPlane(t, nil)
	v := vouch(t, p)
	away := standin.NewIssuer(t, jose.ES256, false)
	if _, err := p.client(t, p.admin).CreateIdentityProvider(t.Context(), &client.CreateIdentityProviderInput{
		ProviderName: "away", Oidc: &client.OidcProvider{Issuer: away.URL, Audiences: []string{"fairlead"}},
	}); err != nil {
		t.Fatal(err)
	}
	away.Close()
	if _, err := p.client(t, p.admin).CreateRole(t.Context(), &client.CreateRoleInput{RoleName: "deployer", TrustPolicy: client.Document(trustUs)}); err != nil {
		t.Fatal(err)
	}
	claims := func(change standin.Claims) standin.Claims {
		all := standin.Kubernetes("shop", "cart", "fairlead")
		all["iss"] = issuerURL
		for name, value := range change {
			all[name] = value
		}
		return all
	}
	now := time.Now()
	return &stsScript{
		plane: p,
		proofs: strings.NewReplacer(
			"{token}", v.token,
			"{expired}", v.issuer.Token(t, now.Add(-24*time.Hour), claims(nil)),
			"{foreign}", v.issuer.Token(t, now, claims(standin.Claims{"iss": "https://other.example.com"})),
			"{other}", v.issuer.Token(t, now, claims(standin.Claims{"aud": "another"})),
			"{nowhere}", v.issuer.Token(t, now, claims(standin.Claims{"iss": away.URL})),
		),
		who: map[string]access.Credentials{
			"administrator": p.admin, "appmesh": p.admin,
			"wrong":    {AccessKeyID: p.admin.AccessKeyID, SecretAccessKey: "not-the-secret"},
			"unknown":  {AccessKeyID: "FLAKAAAAAAAAAAAAAAAA", SecretAccessKey: "not-a-secret"},
			"stranger": p.user(t, p.admin, "stranger", ""),
		},
	}
}

// post sends a form, signed as somebody.
func (s *stsScript) post(t *testing.T, who, form string) answer {
	t.Helper()
	service := map[bool]string{true: "appmesh", false: "sts"}[who == "appmesh"]
	creds, known := s.who[who]
	if !known && who != "nobody" {
		t.Fatalf("nobody knows who %q is", who)
	}
	req := s.signedFor(t, creds, service, testRegion, http.MethodPost, "/", form)
	if who == "nobody" {
		req.Header.Del("Authorization")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	return send(t, s.srv, req)
}

// exchange does one request and returns the masked answer.
func (s *stsScript) exchange(t *testing.T, text string) string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	who, ok := strings.CutPrefix(lines[0], "as ")
	if !ok {
		t.Fatalf("the first line is %q", lines[0])
	}
	var pairs []string
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(s.proofs.Replace(line), "=")
		pairs = append(pairs, url.QueryEscape(name)+"="+url.QueryEscape(value))
	}
	a := s.post(t, who, strings.Join(pairs, "&"))
	if m := sessionOf(a.Body); m.AccessKeyID != "" {
		s.who["session"] = m
	}
	out := fmt.Sprintf("%d\ncontent-type: %s\n\n%s\n", a.Status, a.Header.Get("Content-Type"), strings.ReplaceAll(a.Body, "><", ">\n<"))
	if want := a.Header.Get("X-Amzn-Requestid"); want == "" || !strings.Contains(a.Body, "<RequestId>"+want+"</RequestId>") {
		t.Errorf("the request id %s is not in %s", want, a.Body)
	}
	for _, m := range stsMasks {
		out = m.pattern.ReplaceAllString(out, m.with)
	}
	return mask(out)
}

// sessionOf returns the credentials that an answer has.
func sessionOf(body string) access.Credentials {
	d := xml.NewDecoder(strings.NewReader(body))
	for {
		token, err := d.Token()
		if err != nil {
			return access.Credentials{}
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "Credentials" {
			var c struct {
				AccessKeyID     string `xml:"AccessKeyId"`
				SecretAccessKey string
				SessionToken    string
				Expiration      time.Time
			}
			if err := d.DecodeElement(&c, &start); err != nil || c.Expiration.Before(time.Now()) {
				return access.Credentials{}
			}
			return access.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken}
		}
	}
}

var stsMasks = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`<(SecretAccessKey|SessionToken)>[^<]+<`), `<$1>MASKED<`},
	{regexp.MustCompile(`<(AssumedRoleId|UserId)>[^<:]+`), `<$1>MASKED`},
	{regexp.MustCompile(`\bFLA[KS][A-Z0-9]{16}\b`), "ACCESSKEY"},
	{regexp.MustCompile(`<Expiration>20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ<`), "<Expiration>TIME<"},
}

// TestSTSIsOneExchange holds that the query API's exchange is that of /v1: what it gives
// works there, it is limited and recorded alike, and its proof is kept secret.
func TestSTSIsOneExchange(t *testing.T) {
	t.Parallel()
	s := newSTSScript(t)
	form := s.proofs.Replace("Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=me&RoleArn=" + vouchedARN + "&WebIdentityToken={token}")
	a := s.post(t, "nobody", form)
	creds := sessionOf(a.Body)
	if a.Status != http.StatusOK || creds.AccessKeyID == "" {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	if me := s.must(t, creds, http.MethodGet, "/v1/caller", ""); !strings.Contains(me.Body, "assumed-role/vouched/me") {
		t.Errorf("it is %s", me.Body)
	}
	log := s.auditLog(t)
	for _, want := range []string{
		`"eventSource":"sts.amazonaws.com"`, `"eventName":"AssumeRoleWithWebIdentity"`, `"apiVersion":"2011-06-15"`, `"type":"WebIdentityUser"`,
		"system:serviceaccount:shop:cart", `"requestParameters":{"roleArn":"` + vouchedARN + `","sessionName":"me"}`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the audit log lacks %s:\n%s", want, log)
		}
	}
	for _, secret := range []string{s.proofs.Replace("{token}"), creds.SecretAccessKey, creds.SessionToken} {
		if strings.Contains(log, secret) {
			t.Error("the audit log has a secret")
		}
	}
	for range 5000 {
		a := s.post(t, "nobody", "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=me&RoleArn="+vouchedARN+"&WebIdentityToken=a.b.c")
		if strings.Contains(a.Body, "<Code>Throttling</Code>") && a.Status == http.StatusBadRequest {
			return
		}
		if !strings.Contains(a.Body, "<Code>InvalidIdentityToken</Code>") {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
	}
	t.Error("5000 guesses were answered")
}

// TestSTSNeedsAForm holds that what is no form at / stays what it was, and that a form is
// bounded as every body is.
func TestSTSNeedsAForm(t *testing.T) {
	t.Parallel()
	s := newSTSScript(t)
	for _, c := range []struct{ method, path, kind, target string }{
		{"POST", "/", "application/json", ""},
		{"POST", "/", "", ""},
		{"POST", "/x", "application/x-www-form-urlencoded", ""},
		{"PUT", "/", "application/x-www-form-urlencoded", ""},
		{"POST", "/", "application/x-www-form-urlencoded", "Other.Echo"},
	} {
		req := s.signedFor(t, s.admin, "sts", testRegion, c.method, c.path, "Action=GetCallerIdentity&Version=2011-06-15")
		req.Header.Set("Content-Type", c.kind)
		if c.target != "" {
			req.Header.Set("X-Amz-Target", c.target)
		}
		if a := send(t, s.srv, req); a.Status != http.StatusNotFound || a.code() != "UnknownOperationException" || a.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%v: %d %s", c, a.Status, a.Body)
		}
	}
	a := s.post(t, "nobody", "Action=GetCallerIdentity&Version=2011-06-15&A="+strings.Repeat("x", 1<<20))
	if a.Status != http.StatusRequestEntityTooLarge || !strings.Contains(a.Body, "<Code>RequestEntityTooLarge</Code>") {
		t.Errorf("%d %.300s", a.Status, a.Body)
	}
}
