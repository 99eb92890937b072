package access

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// FuzzVerify sends anything as a signature. Whatever comes, Verify must answer with
// a refusal of one line, and accept only what says the same as the signed request.
func FuzzVerify(f *testing.F) {
	valid := putRequest(f, testNow)
	auth, date := valid.Header.Get("Authorization"), valid.Header.Get("X-Amz-Date")
	f.Add(auth, date, valid.EscapedPath, valid.RawQuery, "", true)
	f.Add(auth, date, valid.EscapedPath, valid.RawQuery, unsignedPayload, false)
	f.Add(strings.ReplaceAll(auth, ", ", ","), date, "//.././x", "a=%zz&&=;", emptyHash, true)
	f.Add(strings.Replace(auth, "content-type", "", 1), "", "", "", "", false)
	for _, a := range []string{
		"", " ", algorithm, algorithm + " ", algorithm + " ,", algorithm + " =", algorithm + " Credential", "Bearer x",
		algorithm + " Credential=////, SignedHeaders=;, Signature=", algorithm + " Credential=a/b/c/d/e, SignedHeaders=host, Signature=zz",
		algorithm + " Credential=" + testKey + "/20261122/us-east-1/appmesh/aws4_request, SignedHeaders=;;host, Signature=" + emptyHash,
		algorithm + " Credential=" + testKey + "/20261122/us-east-1/appmesh/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + emptyHash,
	} {
		f.Add(a, date, "/%", "%", "x", true)
	}
	service := offline(f, testNow)
	f.Fuzz(func(t *testing.T, authorization, date, path, query, bodyHash string, stream bool) {
		r := valid
		r.Header = http.Header{"Authorization": {authorization}, "X-Amz-Date": {date}}
		for _, name := range []string{"Content-Type", "X-Amz-Note"} {
			r.Header[name] = valid.Header[name]
		}
		if bodyHash != "" {
			r.Header["X-Amz-Content-Sha256"] = []string{bodyHash}
		}
		r.EscapedPath, r.RawQuery, r.AllowUnsignedPayload = path, query, stream
		caller, err := service.Verify(r)
		if err == nil {
			if date = strings.TrimSpace(date); date != valid.Header.Get("X-Amz-Date") || normalPath(path) != valid.EscapedPath || caller.KeyID != testKey {
				t.Fatalf("accepted %q at %q for %q", authorization, date, path)
			}
			return
		}
		var refusal *mesh.Error
		if !errors.As(err, &refusal) || !utf8.ValidString(refusal.Message) || strings.ContainsAny(refusal.Message, "\r\n") {
			t.Fatalf("refusal %q is no line for the caller", err)
		}
		if strings.Contains(refusal.Message, testSecret) {
			t.Fatalf("refusal %q has the secret", err)
		}
	})
}

// FuzzParsePolicy reads anything as a policy document.
func FuzzParsePolicy(f *testing.F) {
	f.Add(administratorPolicy, "appmesh:CreateMesh", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop")
	f.Add(`{"Statement":{"Effect":"Deny","Action":["a:*b?c"],"Resource":["arn:**","*"]}}`, "a:xbyc", "*")
	f.Add(`{"Statement":[]}`, "", "")
	f.Add(`{"Statement":[null]}{}`, "*", "::::")
	f.Fuzz(func(t *testing.T, document, action, resource string) {
		p, err := ParsePolicy([]byte(document))
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n") {
				t.Fatalf("error %q has several lines", err)
			}
			return
		}
		p.Evaluate(action, resource)
	})
}
