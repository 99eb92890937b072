package restapi_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	jose "github.com/go-jose/go-jose/v4"

	"github.com/fairlead-mesh/fairlead/api/client"
	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/standin"
)

// identityAudience is the name of the servers under test.
const identityAudience = "fairlead.test"

// vouched is what vouches for a workload: the providers cluster, authority and amazon of
// the management account trust it, and the role vouched lets it in by each.
type vouched struct {
	issuer *standin.Issuer
	token  string
	signed string // a request signed for AWS, as JSON
}

const (
	issuerURL  = "https://oidc.example.com/id/1"
	vouchedARN = "arn:aws:iam::" + testAccount + ":role/vouched"
)

// withCertificate has requests for a role by certificate come with one, as if they came
// by TLS; a whole handshake is in internal/server's tests.
func withCertificate(h http.Handler, chain func() []*x509.Certificate) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := chain(); c != nil && r.URL.Path == "/v1/assumedRoles/certificate" {
			r.TLS = &tls.ConnectionState{PeerCertificates: c}
		}
		h.ServeHTTP(w, r)
	})
}

// vouch makes the providers and the role.
func vouch(t testing.TB, p *plane) *vouched {
	t.Helper()
	v := &vouched{issuer: standin.NewIssuer(t, jose.ES256, false)}
	claims := standin.Kubernetes("shop", "cart", "fairlead")
	claims["iss"] = issuerURL
	v.token = v.issuer.Token(t, time.Now(), claims)

	authority := meshtest.NewAuthority(t)
	text, _ := authority.Issue(t, "cart", time.Hour)
	cert, err := x509.ParseCertificate(certificateDER(t, text))
	if err != nil {
		t.Fatal(err)
	}
	p.chain = []*x509.Certificate{cert}
	root, err := os.ReadFile(authority.File)
	if err != nil {
		t.Fatal(err)
	}

	sts := standin.NewSTS(t)
	creds := aws.Credentials{AccessKeyID: "ASIATESTTASK", SecretAccessKey: "not-a-real-secret", SessionToken: "not-a-real-token"}
	sts.Know(creds, standin.Who{ARN: "arn:aws:sts::111122223333:assumed-role/cart-task/1", ID: "AROATEST:1", Account: "111122223333"})
	v.signed = signedForAWS(t, sts.URL, creds)

	admin := p.client(t, p.admin)
	for _, in := range []*client.CreateIdentityProviderInput{
		{ProviderName: "cluster", Oidc: &client.OidcProvider{Issuer: issuerURL, Audiences: []string{"fairlead"}, KeySet: v.issuer.KeySet()}},
		{ProviderName: "authority", Certificate: &client.CertificateProvider{TrustAnchors: string(root)}},
		{ProviderName: "amazon", Aws: &client.AwsProvider{AccountIds: []string{"111122223333"}, Endpoints: []string{sts.URL}}},
	} {
		if _, err := admin.CreateIdentityProvider(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	statement := func(provider, action, condition string) string {
		return fmt.Sprintf(`{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::%s:%s"},"Action":"sts:%s","Condition":%s}`, testAccount, provider, action, condition)
	}
	trust := `{"Version":"2012-10-17","Statement":[` + strings.Join([]string{
		statement("oidc-provider/oidc.example.com/id/1", "AssumeRoleWithWebIdentity", `{"StringEquals":{"oidc.example.com/id/1:sub":"system:serviceaccount:shop:cart"}}`),
		statement("certificate-provider/authority", "AssumeRoleWithCertificate", `{"StringEquals":{"aws:PrincipalTag/x509Subject/CN":"cart"}}`),
		statement("aws-provider/amazon", "AssumeRoleWithAWSIdentity", `{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/cart-task"}}`),
	}, ",") + `]}`
	if _, err := admin.CreateRole(t.Context(), &client.CreateRoleInput{RoleName: "vouched", TrustPolicy: client.Document(trust)}); err != nil {
		t.Fatal(err)
	}
	return v
}

// fill puts the proofs into a request's text.
func (v *vouched) fill(text string) string {
	if v == nil {
		return text
	}
	return strings.NewReplacer("{token}", v.token, "{signed}", v.signed).Replace(text)
}

// signedForAWS returns a request that asks STS who signed it, as JSON.
func signedForAWS(t testing.TB, url string, creds aws.Credentials) string {
	t.Helper()
	const body = "Action=GetCallerIdentity&Version=2011-06-15"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	req.Header.Set("X-Fairlead-Server", identityAudience)
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(t.Context(), creds, req, hex.EncodeToString(sum[:]), "sts", "us-east-1", time.Now()); err != nil {
		t.Fatal(err)
	}
	headers := map[string]string{}
	for name := range req.Header {
		headers[name] = req.Header.Get(name)
	}
	out, err := json.Marshal(map[string]any{"method": "POST", "url": url + "/", "body": body, "headers": headers})
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestProofsAreKeptSecret holds that the audit log says who was let in and on whose word,
// and never has what proved it.
func TestProofsAreKeptSecret(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	v := vouch(t, p)
	for path, body := range map[string]string{
		"webIdentity": `{"roleArn":"` + vouchedARN + `","webIdentityToken":"{token}"}`,
		"awsIdentity": `{"roleArn":"` + vouchedARN + `","sessionName":"named","request":{signed}}`,
		"certificate": `{"roleArn":"` + vouchedARN + `"}`,
	} {
		for _, who := range []access.Credentials{{}, p.admin} { // a signature makes no difference
			req := request(t, p.srv, http.MethodPut, "/v1/assumedRoles/"+path, v.fill(body))
			if who.AccessKeyID != "" {
				req = p.signed(t, who, testRegion, http.MethodPut, "/v1/assumedRoles/"+path, v.fill(body))
			}
			a := send(t, p.srv, req)
			var out client.AssumeRoleWithWebIdentityOutput
			if err := json.Unmarshal([]byte(a.Body), &out); a.Status != http.StatusOK || err != nil {
				t.Fatalf("%s: %d %s", path, a.Status, a.Body)
			}
			creds := access.Credentials{AccessKeyID: out.Credentials.AccessKeyID, SecretAccessKey: out.Credentials.SecretAccessKey, SessionToken: out.Credentials.SessionToken}
			if me := p.must(t, creds, http.MethodGet, "/v1/caller", ""); !strings.Contains(me.Body, out.AssumedRoleARN) {
				t.Errorf("%s: it is %s, want %s", path, me.Body, out.AssumedRoleARN)
			}
			for _, secret := range []string{v.token, "not-a-real-token", out.Credentials.SecretAccessKey, out.Credentials.SessionToken} {
				if strings.Contains(p.auditLog(t), secret) {
					t.Errorf("%s: the audit log has a secret", path)
				}
			}
		}
	}
	log := p.auditLog(t)
	for _, want := range []string{
		`"type":"WebIdentityUser"`, "system:serviceaccount:shop:cart", "arn:aws:iam::000000000001:oidc-provider/oidc.example.com/id/1",
		`"type":"CertificateUser"`, `"type":"AWSIdentityUser"`, "assumed-role/cart-task/1", "assumed-role/vouched/named",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the audit log lacks %s", want)
		}
	}
}

// TestUnprovenIsLimited holds that guessing is limited by where it comes from, and costs
// the account nothing.
func TestUnprovenIsLimited(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	body := `{"roleArn":"` + vouchedARN + `","webIdentityToken":"a.b.c"}`
	for range 5000 {
		req := request(t, p.srv, http.MethodPut, "/v1/assumedRoles/webIdentity", body)
		switch a := send(t, p.srv, req); a.Status {
		case http.StatusBadRequest:
		case http.StatusTooManyRequests:
			if a := p.do(t, p.admin, http.MethodGet, "/v1/caller", ""); a.Status != http.StatusOK && a.Status != http.StatusTooManyRequests {
				t.Errorf("the administrator is told %d %s", a.Status, a.Body)
			}
			return
		default:
			t.Fatalf("got %d %s", a.Status, a.Body)
		}
	}
	t.Error("5000 guesses were answered")
}

// certificateDER returns what the first block of PEM has.
func certificateDER(t testing.TB, text []byte) []byte {
	t.Helper()
	b, _ := pem.Decode(text)
	if b == nil {
		t.Fatal("there is no PEM")
	}
	return b.Bytes
}
