package restapi_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/fairlead-mesh/fairlead/api/client"
	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/access/audit"
	"github.com/fairlead-mesh/fairlead/internal/ca"
	"github.com/fairlead-mesh/fairlead/internal/restapi"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// plane is a server with everything behind it: a real store, real access, a real audit
// log. What is known of proxies is the test's.
type plane struct {
	srv    *httptest.Server
	store  *store.Store
	access *access.Service
	log    string              // the audit log's file
	admin  access.Credentials  // of the management account's administrator
	chain  []*x509.Certificate // that requests by certificate come with
}

// newPlane starts a server. change may change its settings.
func newPlane(tb testing.TB, change func(*restapi.Config)) *plane {
	tb.Helper()
	p := &plane{store: openStore(tb), log: filepath.Join(tb.TempDir(), "audit.log")}
	a, err := access.Open(tb.Context(), access.Config{
		Store: p.store, Regions: []string{testRegion, "eu-west-1"}, IdentityServer: identityAudience, LoopbackIdentity: true,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := a.Close(); err != nil {
			tb.Error(err)
		}
	})
	p.access = a
	if _, err := a.Bootstrap(tb.Context(), testAccount, func(c access.Credentials) error { p.admin = c; return nil }); err != nil {
		tb.Fatal(err)
	}
	log, err := audit.Open(audit.Config{Path: p.log})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := log.Close(); err != nil {
			tb.Error(err)
		}
	})
	authority, err := ca.Open(tb.Context(), ca.Config{Store: p.store})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := authority.Close(); err != nil {
			tb.Error(err)
		}
	})
	cfg := restapi.Config{Store: p.store, Access: a, CA: authority, Verify: a.Verify, Audit: log, Logger: testLogger(tb)}
	if change != nil {
		change(&cfg)
	}
	p.srv = serve(tb, withCertificate(restapi.New(cfg), func() []*x509.Certificate { return p.chain }))
	return p
}

// awsCredentials returns credentials as the AWS SDK has them.
func awsCredentials(c access.Credentials) aws.Credentials {
	return aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken}
}

// client returns a client that signs with credentials and does not retry.
func (p *plane) client(tb testing.TB, c access.Credentials) *client.Client {
	tb.Helper()
	out, err := client.New(client.Config{
		Endpoint: p.srv.URL, Region: testRegion, HTTPClient: p.srv.Client(), MaxAttempts: 1, UserAgent: "tester/1",
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return awsCredentials(c), nil }),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// signed returns a request, signed for a region.
func (p *plane) signed(tb testing.TB, c access.Credentials, region, method, path, body string) *http.Request {
	tb.Helper()
	return p.signedFor(tb, c, "appmesh", region, method, path, body)
}

// signedFor is signed for a service.
func (p *plane) signedFor(tb testing.TB, c access.Credentials, service, region, method, path, body string) *http.Request {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), method, p.srv.URL+path, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	hash := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(tb.Context(), awsCredentials(c), req, hex.EncodeToString(hash[:]), service, region, time.Now()); err != nil {
		tb.Fatal(err)
	}
	return req
}

// do signs and sends a request.
func (p *plane) do(tb testing.TB, c access.Credentials, method, path, body string) answer {
	tb.Helper()
	return send(tb, p.srv, p.signed(tb, c, testRegion, method, path, body))
}

// must does a request that has to succeed.
func (p *plane) must(tb testing.TB, c access.Credentials, method, path, body string) answer {
	tb.Helper()
	a := p.do(tb, c, method, path, body)
	if a.Status != http.StatusOK {
		tb.Fatalf("%s %s %s: %d %s", method, path, body, a.Status, a.Body)
	}
	return a
}

// account makes an account and returns its administrator's credentials.
func (p *plane) account(tb testing.TB, id string) access.Credentials {
	tb.Helper()
	out, err := p.client(tb, p.admin).CreateAccount(tb.Context(), &client.CreateAccountInput{AccountID: id, AccountName: "account " + id})
	if err != nil {
		tb.Fatal(err)
	}
	return access.Credentials{AccessKeyID: out.Credentials.AccessKeyID, SecretAccessKey: out.Credentials.SecretAccessKey}
}

// user makes a user in the account of an administrator, with one policy, "" for none.
func (p *plane) user(tb testing.TB, admin access.Credentials, name, policy string) access.Credentials {
	tb.Helper()
	c := p.client(tb, admin)
	in := &client.CreateUserInput{UserName: name, Policies: map[string]client.Document{}}
	if policy != "" {
		in.Policies["p"] = client.Document(policy)
	}
	if _, err := c.CreateUser(tb.Context(), in); err != nil {
		tb.Fatal(err)
	}
	out, err := c.CreateAccessKey(tb.Context(), &client.CreateAccessKeyInput{UserName: name})
	if err != nil {
		tb.Fatal(err)
	}
	return access.Credentials{AccessKeyID: out.AccessKey.AccessKeyID, SecretAccessKey: out.SecretAccessKey}
}

// auditLog returns what the audit log has.
func (p *plane) auditLog(tb testing.TB) string {
	tb.Helper()
	b, err := os.ReadFile(p.log)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}
