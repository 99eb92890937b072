package meshtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Signed returns a light client of the administrator.
func (p *Plane) Signed(t testing.TB) *Signed {
	s := p.signed()
	t.Cleanup(s.Close)
	return s
}

func (p *Plane) signed() *Signed {
	return &Signed{Endpoint: p.URL(), Creds: p.Creds, client: p.http, signer: v4.NewSigner()}
}

// Want makes a call that must be answered with 200, and reads the answer into out unless
// that is nil.
func (s *Signed) Want(t testing.TB, method, path, body string, out any) {
	t.Helper()
	a, err := s.Do(context.Background(), method, path, body)
	if err != nil || a.Status != http.StatusOK {
		t.Fatalf("%s %s %s: %s %v", method, path, body, a, err)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal([]byte(a.Body), out); err != nil {
		t.Fatalf("%s %s: cannot read %s: %v", method, path, a.Body, err)
	}
}

// Account makes an account and returns its administrator's credentials.
func (p *Plane) Account(t testing.TB, id string) aws.Credentials {
	t.Helper()
	var made struct{ Credentials secret }
	p.Signed(t).Want(t, http.MethodPut, "/v1/accounts", fmt.Sprintf(`{"accountId":%q,"accountName":"test"}`, id), &made)
	return made.Credentials.aws()
}

// SetQuota sets a quota of an account.
func (p *Plane) SetQuota(t testing.TB, account, quota string, value int) {
	t.Helper()
	p.Signed(t).Want(t, http.MethodPut, "/v1/quotas/"+quota+"?accountId="+account, fmt.Sprintf(`{"value":%d}`, value), nil)
}

// User makes a user with one policy document in the account of the client's credentials,
// and returns its credentials.
func (s *Signed) User(t testing.TB, name, policy string) aws.Credentials {
	t.Helper()
	s.Want(t, http.MethodPut, "/v1/users", fmt.Sprintf(`{"userName":%q,"policies":{"test":%s}}`, name, policy), nil)
	var made struct {
		AccessKey       struct{ AccessKeyID string }
		SecretAccessKey string
	}
	s.Want(t, http.MethodPut, "/v1/users/"+name+"/accessKeys", "{}", &made)
	return aws.Credentials{AccessKeyID: made.AccessKey.AccessKeyID, SecretAccessKey: made.SecretAccessKey}
}

// secret is how the API spells credentials.
type secret struct {
	AccessKeyID, SecretAccessKey, SessionToken string
}

func (s secret) aws() aws.Credentials {
	return aws.Credentials{AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretAccessKey, SessionToken: s.SessionToken}
}
