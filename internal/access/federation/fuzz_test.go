package federation_test

import (
	"crypto/x509"
	"encoding/json"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/fairlead-mesh/fairlead/internal/access/federation"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/standin"
)

// FuzzProofs brings anything as a token, a certificate and a request signed for AWS, and
// has anything as a key set. Whatever comes, the answer is a refusal of one line.
func FuzzProofs(f *testing.F) {
	issuer := standin.NewIssuer(f, jose.ES256, false)
	good := issuer.Token(f, testNow, standin.Kubernetes("shop", "cart", "fairlead"))
	f.Add(good, []byte{}, `{"Authorization":"AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host;x-amz-date;x-fairlead-server, Signature=x","X-Amz-Date":"20261123T080000Z","X-Fairlead-Server":"s"}`, issuer.KeySet())
	f.Add(good+"x", []byte{0x30}, `{"authorization":""}`, []byte(`{"keys":[{}]}`))
	f.Add("..", []byte{0x30, 0x03, 0x02, 0x01, 0x01}, `{}`, []byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`))
	v := federation.New(federation.Config{Server: "s", AllowLoopback: false, Now: func() time.Time { return testNow }})
	settings := federation.Settings{OIDC: &federation.OIDC{Issuer: "https://issuer.test", Audiences: []string{"fairlead"}, KeySet: issuer.KeySet()}}
	p, err := v.Parse("p", settings)
	if err != nil {
		f.Fatal(err)
	}
	amazon, err := v.Parse("p", federation.Settings{AWS: &federation.AWS{Accounts: []string{"111122223333"}, Endpoints: []string{"https://sts.invalid"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token string, der []byte, headers string, keySet []byte) {
		check := func(err error) {
			if err == nil || federation.ReasonOf(err) == 0 || strings.ContainsAny(err.Error(), "\r\n") {
				t.Errorf("the refusal is %v", err)
			}
		}
		if _, err := federation.Issuer(token); err != nil {
			check(err)
		}
		_, err := v.Token(t.Context(), p, token) // its issuer is another one
		check(err)
		if c, err := x509.ParseCertificate(der); err == nil {
			_, err := v.Certificate(p, []*x509.Certificate{c})
			check(err)
		}
		r := federation.SignedRequest{Method: "POST", URL: "https://elsewhere.invalid/", Body: federation.CallerIdentityBody}
		if json.Unmarshal([]byte(headers), &r.Headers) == nil {
			_, err := v.AWS(t.Context(), []*federation.Provider{amazon}, r)
			check(err)
		}
		with := federation.Settings{OIDC: &federation.OIDC{Issuer: "https://issuer.test", Audiences: []string{token}, KeySet: keySet, CA: headers}}
		if _, err := v.Parse("p", with); err != nil && strings.ContainsAny(err.Error(), "\r\n") {
			t.Errorf("the refusal is %v", err)
		}
	})
}
