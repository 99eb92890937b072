package access

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/golden"
)

// TestVectors verifies requests that botocore, curl and Envoy have signed.
func TestVectors(t *testing.T) {
	t.Parallel()
	golden.Run(t, "testdata/vectors/*.txtar", func(t *testing.T, c *golden.Case) {
		now, r := readVector(t, c)
		a := offline(t, now)
		caller, err := a.Verify(r)
		if err != nil {
			t.Fatal(err)
		}
		if caller.KeyID != testKey || caller.Account != testAccount || caller.Region != testRegion {
			t.Errorf("caller is %+v", caller)
		}
		r.Host += "0"
		if _, err := a.Verify(r); codeOf(t, err) != mesh.ErrInvalidSignature {
			t.Errorf("with another host: %v", err)
		}
	})
}

// readVector reads a file with the sections now and request; gRPC requests become
// streams.
func readVector(t *testing.T, c *golden.Case) (time.Time, Request) {
	t.Helper()
	now, err := time.Parse(amzDateLayout, strings.TrimSpace(c.Section("now")))
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(c.Section("request"), "\n\n")
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head + "\n\n")))
	if err != nil {
		t.Fatal(err)
	}
	if r.Header.Get("Content-Type") == "application/grpc" {
		metadata := map[string][]string{":authority": {r.Host}}
		for name, values := range r.Header {
			metadata[strings.ToLower(name)] = values
		}
		return now, StreamRequest(r.URL.Path, metadata)
	}
	return now, HTTPRequest(r, []byte(strings.TrimSuffix(body, "\n")))
}

// signCase is a request that the AWS SDK for Go v2 signs.
type signCase struct {
	method, target, body string
	header               map[string]string
	token                string // of a session
}

var signCases = map[string]signCase{
	"list":         {method: "GET", target: "/v20190125/meshes"},
	"root":         {method: "GET", target: "/"},
	"escaped path": {method: "GET", target: "/v20190125/meshes/shop/virtualServices/a%2Fb%20c%3A8%40x%2B"},
	"unicode path": {method: "GET", target: "/v20190125/meshes/shop/virtualServices/%C3%A4%E2%82%AC"},
	"dots in path": {method: "GET", target: "/v20190125/meshes/../x/./y//z/"},
	"tags":         {method: "GET", target: "/v20190125/tags?resourceArn=arn%3Aaws%3Aappmesh%3Aus-east-1%3A000000000001%3Amesh%2Fshop&limit=50"},
	"bare query":   {method: "GET", target: "/v20190125/tags?resourceArn=arn:aws:appmesh:us-east-1:000000000001:mesh/shop"},
	"query order":  {method: "GET", target: "/v20190125/meshes?b=2&b=1&a-=3&a=%2B%20%26&empty="},
	"delete":       {method: "DELETE", target: "/v20190125/meshes/shop"},
	"create": {
		method: "PUT", target: "/v20190125/meshes", body: `{"meshName":"shop","spec":{}}`,
		header: map[string]string{"Content-Type": "application/json", "Amz-Sdk-Invocation-Id": "a-b", "Amz-Sdk-Request": "attempt=1; max=3"},
	},
	"empty body":    {method: "PUT", target: "/v20190125/untag?resourceArn=x", header: map[string]string{"Content-Type": "application/json"}},
	"folded spaces": {method: "GET", target: "/", header: map[string]string{"X-Amz-Note": "  a   b  "}},
	"body hash": {
		method: "PUT", target: "/v20190125/meshes", body: `{}`,
		header: map[string]string{"X-Amz-Content-Sha256": hashOf(`{}`)},
	},
}

// hashOf returns the SHA-256 of a body in hexadecimal digits.
func hashOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// signed returns the case as a request to base, signed with the given credentials.
func (c signCase) signed(t testing.TB, base, keyID, secret, service, region string, at time.Time) *http.Request {
	t.Helper()
	r, err := http.NewRequest(c.method, base+c.target, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range c.header {
		r.Header.Set(name, value)
	}
	creds := aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret, SessionToken: c.token}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, r, hashOf(c.body), service, region, at); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestVerifyOverHTTP sends what the SDK's signer signs through a real HTTP server
// and verifies it as it arrives.
func TestVerifyOverHTTP(t *testing.T) {
	t.Parallel()
	a := offline(t, testNow)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		caller, err := a.Verify(HTTPRequest(r, body))
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, caller.ARN)
	}))
	t.Cleanup(server.Close)
	for name, c := range signCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp, err := server.Client().Do(c.signed(t, server.URL, testKey, testSecret, "appmesh", testRegion, testNow))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			got, err := io.ReadAll(resp.Body)
			if want := "arn:aws:iam::000000000001:user/ann"; err != nil || string(got) != want {
				t.Errorf("got %d %s, %v; want %s", resp.StatusCode, got, err, want)
			}
		})
	}
}

// putRequest returns a signed request as it arrives, to be tampered with.
func putRequest(t testing.TB, at time.Time) Request {
	t.Helper()
	c := signCase{
		method: "PUT", target: "/v20190125/meshes/shop/virtualNodes/a%2Fb?meshOwner=000000000001", body: `{"spec":{}}`,
		header: map[string]string{"Content-Type": "application/json", "X-Amz-Note": "n"},
	}
	r := HTTPRequest(c.signed(t, "http://fairlead.example", testKey, testSecret, "appmesh", testRegion, at), []byte(c.body))
	if r.Host == "" {
		r.Host = "fairlead.example"
	}
	return r
}

// edit returns a change to the Authorization header.
func edit(from, to string) func(*Request) {
	return func(r *Request) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), from, to, 1))
	}
}

// set returns a change to another header.
func set(name, value string) func(*Request) {
	return func(r *Request) { r.Header.Set(name, value) }
}

func drop(name string) func(*Request) {
	return func(r *Request) { r.Header.Del(name) }
}

// refusals are changes to a valid request, and what Verify must say to each.
var refusals = map[string]struct {
	change func(*Request)
	code   mesh.Code
	say    string
}{
	"method":           {func(r *Request) { r.Method = "DELETE" }, mesh.ErrInvalidSignature, "does not match"},
	"path":             {func(r *Request) { r.EscapedPath += "x" }, mesh.ErrInvalidSignature, "does not match"},
	"path decoded":     {func(r *Request) { r.EscapedPath = strings.Replace(r.EscapedPath, "%2F", "/", 1) }, mesh.ErrInvalidSignature, "does not match"},
	"path segment":     {func(r *Request) { r.EscapedPath = strings.Replace(r.EscapedPath, "/shop", "/x/shop", 1) }, mesh.ErrInvalidSignature, "does not match"},
	"query value":      {func(r *Request) { r.RawQuery = "meshOwner=000000000002" }, mesh.ErrInvalidSignature, "does not match"},
	"query added":      {func(r *Request) { r.RawQuery += "&limit=1" }, mesh.ErrInvalidSignature, "does not match"},
	"query removed":    {func(r *Request) { r.RawQuery = "" }, mesh.ErrInvalidSignature, "does not match"},
	"query unreadable": {func(r *Request) { r.RawQuery = "a=%zz" }, mesh.ErrIncompleteSignature, "query string"},
	"query semicolon":  {func(r *Request) { r.RawQuery = "a=1;b=2" }, mesh.ErrIncompleteSignature, "query string"},
	"host":             {func(r *Request) { r.Host = "other.example" }, mesh.ErrInvalidSignature, "does not match"},
	"header":           {set("X-Amz-Note", "m"), mesh.ErrInvalidSignature, "does not match"},
	"header repeated":  {func(r *Request) { r.Header.Add("X-Amz-Note", "n") }, mesh.ErrInvalidSignature, "does not match"},
	"header removed":   {drop("X-Amz-Note"), mesh.ErrInvalidSignature, `"x-amz-note" has not arrived`},
	"content type":     {set("Content-Type", "text/plain"), mesh.ErrInvalidSignature, "does not match"},
	"content length":   {func(r *Request) { r.ContentLength++ }, mesh.ErrInvalidSignature, "does not match"},
	"body":             {func(r *Request) { r.PayloadHash = hashOf("{}") }, mesh.ErrInvalidSignature, "does not match"},
	"body hash header": {set("X-Amz-Content-Sha256", hashOf("{}")), mesh.ErrInvalidSignature, "SHA-256 of the body"},
	"unsigned payload": {set("X-Amz-Content-Sha256", unsignedPayload), mesh.ErrInvalidSignature, "UNSIGNED-PAYLOAD"},
	"two body hashes": {func(r *Request) {
		r.Header["X-Amz-Content-Sha256"] = []string{r.PayloadHash, r.PayloadHash}
	}, mesh.ErrIncompleteSignature, "allowed is one"},

	"time":             {set("X-Amz-Date", "20261122T101113Z"), mesh.ErrInvalidSignature, "does not match"},
	"time malformed":   {set("X-Amz-Date", "22 Nov"), mesh.ErrIncompleteSignature, "x-amz-date"},
	"time missing":     {drop("X-Amz-Date"), mesh.ErrIncompleteSignature, "X-Amz-Date or Date"},
	"time twice":       {func(r *Request) { r.Header.Add("X-Amz-Date", "20261122T101112Z") }, mesh.ErrIncompleteSignature, "exactly one"},
	"day before":       {set("X-Amz-Date", "20261121T101112Z"), mesh.ErrInvalidSignature, "valid date"},
	"scope day":        {edit("/20261122/", "/20261121/"), mesh.ErrInvalidSignature, "valid date"},
	"scope region":     {edit("/us-east-1/", "/us-west-2/"), mesh.ErrInvalidSignature, "valid region"},
	"other our region": {edit("/us-east-1/", "/eu-west-1/"), mesh.ErrInvalidSignature, "does not match"},
	"scope service":    {edit("/appmesh/", "/s3/"), mesh.ErrInvalidSignature, "valid service"},
	"scope terminator": {edit("/aws4_request", "/aws5_request"), mesh.ErrInvalidSignature, "valid terminator"},
	"unknown key":      {edit(testKey, "AKIAUNKNOWN"), mesh.ErrUnrecognizedClient, "security token"},
	"disabled key":     {edit(testKey, "FLAKDISABLED"), mesh.ErrUnrecognizedClient, "security token"},
	"key of another":   {edit(testKey, "FLAKOTHERUSER"), mesh.ErrUnrecognizedClient, "security token"},
	"session token":    {set("X-Amz-Security-Token", "t"), mesh.ErrUnrecognizedClient, "security token"},
	"empty token":      {set("X-Amz-Security-Token", ""), mesh.ErrUnrecognizedClient, "security token"},
	"long token":       {set("X-Amz-Security-Token", strings.Repeat("A", maxToken+1)), mesh.ErrUnrecognizedClient, "security token"},
	"two tokens": {func(r *Request) {
		r.Header["X-Amz-Security-Token"] = []string{"t", "t"}
	}, mesh.ErrIncompleteSignature, "allowed is one"},
	"temporary key alone": {edit(testKey, "FLASTESTTESTTESTTEST"), mesh.ErrUnrecognizedClient, "need their session token"},

	"no authorization":    {drop("Authorization"), mesh.ErrMissingAuthentication, "no Authorization header"},
	"empty authorization": {set("Authorization", ""), mesh.ErrMissingAuthentication, "no Authorization header"},
	"presigned": {func(r *Request) {
		r.Header.Del("Authorization")
		r.RawQuery = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00"
	}, mesh.ErrMissingAuthentication, "presigned"},
	"two authorizations": {func(r *Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }, mesh.ErrIncompleteSignature, "allowed is one"},
	"bearer":             {set("Authorization", "Bearer abc"), mesh.ErrIncompleteSignature, `"Bearer"`},
	"bare token":         {set("Authorization", testSecret), mesh.ErrIncompleteSignature, "names no algorithm"},
	"sigv4a":             {edit(algorithm, "AWS4-ECDSA-P256-SHA256"), mesh.ErrIncompleteSignature, "AWS4-ECDSA-P256-SHA256"},
	"only algorithm":     {set("Authorization", algorithm), mesh.ErrIncompleteSignature, "parameter"},
	"no credential":      {edit("Credential=", "Kredential="), mesh.ErrIncompleteSignature, "unknown"},
	"credential gone":    {set("Authorization", algorithm+" SignedHeaders=host;x-amz-date, Signature=00"), mesh.ErrIncompleteSignature, "'Credential'"},
	"two missing":        {set("Authorization", algorithm+" SignedHeaders=host;x-amz-date"), mesh.ErrIncompleteSignature, "'Signature'"},
	"credential twice":   {edit("Credential=", "Credential=x, Credential="), mesh.ErrIncompleteSignature, "repeated"},
	"credential short":   {edit("/aws4_request", ""), mesh.ErrIncompleteSignature, "KEY/DATE/REGION"},
	"signature":          {edit("Signature=", "Signature=0"), mesh.ErrIncompleteSignature, "65 characters"},
	"signature not hex":  {func(r *Request) { flip(r, 'g') }, mesh.ErrIncompleteSignature, "hexadecimal"},
	"signature wrong":    {func(r *Request) { flip(r, '0') }, mesh.ErrInvalidSignature, "does not match"},
	"host not signed":    {edit("content-type;host;", "content-type;"), mesh.ErrIncompleteSignature, "lacks host"},
	"date not signed":    {edit(";x-amz-date", ""), mesh.ErrIncompleteSignature, "lacks x-amz-date"},
	"note not signed":    {edit(";x-amz-note", ""), mesh.ErrInvalidSignature, "does not match"},
	"headers unsorted":   {edit("content-type;host;", "host;content-type;"), mesh.ErrIncompleteSignature, "ascending"},
	"headers upper case": {edit("content-type;host;", "Content-Type;host;"), mesh.ErrIncompleteSignature, "lower-case"},
	"headers repeated":   {edit(";host;", ";host;host;"), mesh.ErrIncompleteSignature, "each once"},
	"too long":           {set("Authorization", strings.Repeat("x", maxAuthorization+1)), mesh.ErrIncompleteSignature, "allowed are 8192"},
}

// flip makes the last digit of the signature c, or 1 if it is c already.
func flip(r *Request, c byte) {
	v := []byte(r.Header.Get("Authorization"))
	if last := &v[len(v)-1]; *last == c {
		*last = '1'
	} else {
		*last = c
	}
	r.Header.Set("Authorization", string(v))
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	a := offline(t, testNow)
	if _, err := a.Verify(putRequest(t, testNow)); err != nil {
		t.Fatalf("the request itself: %v", err)
	}
	for name, c := range refusals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := putRequest(t, testNow)
			c.change(&r)
			caller, err := a.Verify(r)
			if got := codeOf(t, err); got != c.code || !strings.Contains(err.Error(), c.say) {
				t.Errorf("got %v, want %s with %q", err, c.code, c.say)
			}
			if caller.KeyID != "" || caller.Allow != nil {
				t.Errorf("a refused caller is %+v", caller)
			}
			if err != nil && (strings.Contains(err.Error(), testSecret) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("message %q has a secret or a line break", err)
			}
		})
	}
}

// TestVerifyService holds that a request is signed for the service that it is for.
func TestVerifyService(t *testing.T) {
	t.Parallel()
	at := time.Now()
	a := offline(t, at)
	r := putRequest(t, at)
	for service, good := range map[string]bool{"": true, "appmesh": true, "servicediscovery": false} {
		r.Service = service
		_, err := a.Verify(r)
		if (err == nil) != good || err != nil && !strings.Contains(err.Error(), "allowed is "+service) {
			t.Errorf("signed for App Mesh, wanted for %q: %v", service, err)
		}
	}
}

func TestVerifyUnhashedBody(t *testing.T) {
	t.Parallel()
	r := putRequest(t, testNow)
	r.PayloadHash = ""
	if _, err := offline(t, testNow).Verify(r); err == nil || !strings.Contains(err.Error(), "not been hashed") {
		t.Errorf("got %v, want an internal error", err)
	}
}

func TestVerifyClock(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		signed time.Duration // from now on
		say    string
	}{
		"now":              {0, ""},
		"oldest allowed":   {-MaxClockSkew, ""},
		"newest allowed":   {MaxClockSkew, ""},
		"too old":          {-MaxClockSkew - time.Second, "Signature expired: 20261122T100611Z is now earlier than 20261122T100612Z (20261122T101112Z - 5 min.)"},
		"not yet":          {MaxClockSkew + time.Second, "Signature not yet current: 20261122T101613Z is still later than 20261122T101612Z (20261122T101112Z + 5 min.)"},
		"years before":     {-10 * 365 * 24 * time.Hour, "Signature expired"},
		"the day after it": {24 * time.Hour, "Signature not yet current"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := offline(t, testNow).Verify(putRequest(t, testNow.Add(c.signed)))
			if c.say == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if codeOf(t, err) != mesh.ErrInvalidSignature || !strings.Contains(err.Error(), c.say) {
				t.Errorf("got %v, want %q", err, c.say)
			}
		})
	}
}

// TestVerifyMidnight signs before midnight and arrives after it.
func TestVerifyMidnight(t *testing.T) {
	t.Parallel()
	midnight := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	a := offline(t, midnight.Add(time.Minute))
	for _, at := range []time.Time{midnight.Add(-time.Minute), midnight.Add(2 * time.Minute), midnight.Add(-time.Second)} {
		if _, err := a.Verify(putRequest(t, at)); err != nil {
			t.Errorf("signed at %s: %v", at, err)
		}
	}
}

// TestVerifyDecodedQuery checks that other spellings of the same query verify.
func TestVerifyDecodedQuery(t *testing.T) {
	t.Parallel()
	c := signCase{method: "GET", target: "/v20190125/tags?resourceArn=arn%3Aaws%3Ax%2Fy&b=1"}
	r := HTTPRequest(c.signed(t, "http://h.example", testKey, testSecret, "appmesh", testRegion, testNow), nil)
	for _, query := range []string{"b=1&resourceArn=arn:aws:x/y", "resourceArn=arn%3aaws%3ax%2fy&b=1", "&b=1&&resourceArn=arn:aws:x%2Fy"} {
		r.RawQuery = query
		if _, err := offline(t, testNow).Verify(r); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// TestVerifyStream checks what is special to streams: no body hash, te put back.
func TestVerifyStream(t *testing.T) {
	t.Parallel()
	a := offline(t, testNow)
	stream := func(header map[string]string, hash string) Request {
		hr, err := http.NewRequest(http.MethodPost, "http://h.example:9081/a.b.Service/Method", nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range header {
			hr.Header.Set(name, value)
		}
		creds := aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}
		if err := v4.NewSigner().SignHTTP(context.Background(), creds, hr, hash, "appmesh", testRegion, testNow); err != nil {
			t.Fatal(err)
		}
		metadata := map[string][]string{":authority": {"h.example:9081"}}
		for name, values := range hr.Header {
			if name != "Te" {
				metadata[strings.ToLower(name)] = values
			}
		}
		return StreamRequest("/a.b.Service/Method", metadata)
	}
	for name, c := range map[string]struct {
		header map[string]string
		hash   string
		code   mesh.Code
	}{
		"unsigned payload": {map[string]string{"X-Amz-Content-Sha256": unsignedPayload}, unsignedPayload, ""},
		"with te":          {map[string]string{"X-Amz-Content-Sha256": unsignedPayload, "Te": "trailers"}, unsignedPayload, ""},
		"empty body":       {nil, emptyHash, ""},
		"empty body said":  {map[string]string{"X-Amz-Content-Sha256": emptyHash}, emptyHash, ""},
		"a body":           {map[string]string{"X-Amz-Content-Sha256": hashOf("{}")}, hashOf("{}"), mesh.ErrInvalidSignature},
		"not said":         {nil, unsignedPayload, mesh.ErrInvalidSignature},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := a.Verify(stream(c.header, c.hash)); codeOf(t, err) != c.code {
				t.Errorf("got %v, want %q", err, c.code)
			}
		})
	}
}

// TestSigningKeys checks that an access key remembers no more than it may.
func TestSigningKeys(t *testing.T) {
	t.Parallel()
	k := &signer{secret: testSecret}
	for i := range 3 * maxDerived {
		day := testNow.AddDate(0, 0, i).Format(dayLayout)
		want := deriveKey(testSecret, day, testRegion, "appmesh")
		for range 2 {
			if k.signingKey(day, testRegion, "appmesh") != want {
				t.Fatalf("wrong key for %s", day)
			}
		}
		if n := len(*k.derived.Load()); n > maxDerived || n != min(i+1, maxDerived) {
			t.Fatalf("remembers %d keys after %d days", n, i+1)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	a := offline(b, testNow)
	r := putRequest(b, testNow)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Verify(r); err != nil {
			b.Fatal(err)
		}
	}
}
