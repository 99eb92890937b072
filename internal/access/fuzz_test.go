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

// FuzzPolicy reads anything as a policy document, of both kinds, and asks it
// questions. A denial must stay one whatever else is allowed beside it.
func FuzzPolicy(f *testing.F) {
	f.Add(administratorPolicy, "appmesh:CreateMesh", shop, "team", "a")
	f.Add(`{"Statement":{"Effect":"Deny","Action":["a:*b?c"],"Resource":["arn:**","*"]}}`, "a:xbyc", "*", "", "")
	f.Add(`{"Statement":[]}`, "", "", "", "")
	f.Add(`{"Statement":[null]}{}`, "*", "::::", "", "")
	f.Add(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","NotAction":"iam:*","NotResource":"arn:aws:appmesh:*:*:mesh/${aws:username, 'x'}*",`+
		`"Condition":{"StringLikeIfExists":{"aws:ResourceTag/team":["${aws:username}","${*}${?}${$}*"]},"ForAnyValue:StringNotEquals":{"aws:TagKeys":"b"}}}}`, "appmesh:DeleteMesh", shop, "team", "*?$x")
	f.Add(`{"Statement":{"Effect":"Allow","Principal":{"AWS":["000000000001","arn:aws:iam::000000000001:user/ann"]},"Action":"*",`+
		`"Condition":{"NumericLessThan":{"aws:EpochTime":1e12},"DateGreaterThan":{"aws:CurrentTime":"2026-01"},"IpAddress":{"aws:SourceIp":"::/0"},"Bool":{"aws:SecureTransport":[true,"FALSE"]}}}}`, "sts:AssumeRole", "", "k", "")
	f.Add(`{"Statement":{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"ArnNotLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/${"},"Null":{"aws:userid":false}}}}`, "a:b", "", "", "")
	f.Fuzz(func(t *testing.T, document, action, resource, tag, value string) {
		ask := testFacts(func(q *facts) {
			q.Action, q.Resource = action, resource
			q.ResourceTags, q.TagKeys = []mesh.TagRef{{Key: tag, Value: value}}, []string{tag, value}
		})
		for _, kind := range []policyKind{identityPolicy, trustPolicy} {
			p, err := parsePolicy([]byte(document), kind)
			switch {
			case err != nil && (strings.ContainsAny(err.Error(), "\r\n") || !utf8.ValidString(err.Error())):
				t.Fatalf("error %q is not one line of text", err)
			case err != nil:
			case kind == trustPolicy:
				p.trusts(ask)
			default:
				all, err := ParsePolicy([]byte(administratorPolicy))
				if err != nil {
					t.Fatal(err)
				}
				if d := p.decide(ask); decideAll([]*Policy{all, p}, ask) != max(d, Allowed) {
					t.Fatalf("the policy says %d, and with everything allowed %d", d, decideAll([]*Policy{all, p}, ask))
				}
			}
		}
	})
}

// FuzzToken sends anything as a session token, and changes a good one.
func FuzzToken(f *testing.F) {
	a := openService(f, openStore(f), nil)
	creds := withAnn(f, a, allowing("*"))
	caller, err := signIn(f, a, creds)
	ok(f, err)
	temporary, err := a.SessionToken(f.Context(), caller, 0)
	ok(f, err)
	sealed, err := a.store.Seal([]byte("something else"))
	ok(f, err)
	f.Add(temporary.SessionToken)
	f.Add(temporary.SessionToken + "=")
	f.Add(temporary.SessionToken[1:])
	f.Add(tokenEncoding.EncodeToString(sealed))
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		s, ok := a.openToken(token)
		if ok != (token == temporary.SessionToken) || ok && s.signer.id != temporary.AccessKeyID {
			t.Fatalf("%q is accepted: %v", token, ok)
		}
		if _, err := parseToken([]byte(tokenMark + token)); err != nil && strings.ContainsAny(err.Error(), "\r\n") {
			t.Fatalf("error %q has several lines", err)
		}
	})
}
