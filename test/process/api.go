package process

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"golang.org/x/sync/errgroup"
)

const (
	// Region is where everything is.
	Region = "us-east-1"
	// Account is the first account, which manages the others.
	Account = "000000000001"
	// Writers is how many calls Each has under way.
	Writers = 64
)

// API is a client of Fairlead's APIs that does no more than it must. It may be used by
// several goroutines.
type API struct {
	// Endpoint is the server's URL, Creds what calls are signed with.
	Endpoint string
	Creds    aws.Credentials

	client *http.Client
	signer *v4.Signer
}

// NewAPI returns a client of the server at a URL.
func NewAPI(endpoint string, creds aws.Credentials) *API {
	return &API{
		Endpoint: endpoint, Creds: creds, signer: v4.NewSigner(),
		client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: Writers}},
	}
}

// Call makes a call of the App Mesh API or of /v1, and reads the answer into out unless
// that is nil.
func (a *API) Call(ctx context.Context, method, path, body string, out any) error {
	_, err := a.do(ctx, "appmesh", "", method, path, body, out)
	return err
}

// Edit makes a call that writes, and returns the revision of the change, by which the
// proxies that have it can be asked for.
func (a *API) Edit(ctx context.Context, method, path, body string) (revision string, err error) {
	h, err := a.do(ctx, "appmesh", "", method, path, body, nil)
	return h.Get("X-Fairlead-Revision"), err
}

// CloudMap makes a call of the Cloud Map API.
func (a *API) CloudMap(ctx context.Context, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	_, err = a.do(ctx, "servicediscovery", "Route53AutoNaming_v20170314."+operation, http.MethodPost, "/", string(body), out)
	return err
}

func (a *API) do(ctx context.Context, service, target, method, path, body string, out any) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.Endpoint+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if target != "" {
		req.Header.Set("Content-Type", "application/x-amz-json-1.1")
		req.Header.Set("X-Amz-Target", target)
	}
	sum := sha256.Sum256([]byte(body))
	if err := a.signer.SignHTTP(ctx, a.Creds, req, hex.EncodeToString(sum[:]), service, Region, time.Now()); err != nil {
		return nil, err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s %s: %s %s", method, path, target, resp.Status, answer)
	}
	if out == nil {
		return resp.Header, nil
	}
	return resp.Header, json.Unmarshal(answer, out)
}

// Close gives up the connections that wait for the next call.
func (a *API) Close() { a.client.CloseIdleConnections() }

// Each calls f for 0 to n-1, some at once.
func Each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(Writers)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error { return f(ctx, i) })
	}
	return g.Wait()
}

// RaiseQuotas lets an account have what a world needs, as an operator would.
func (a *API) RaiseQuotas(ctx context.Context, of string) error {
	for quota, value := range map[string]int{
		"meshes": 100_000, "virtual-nodes": 1_000_000, "virtual-routers": 1_000_000, "routes": 1_000_000, "virtual-services": 1_000_000,
		"backends": 10_000, "node-proxies": 1_000_000, "read-rate": 1_000_000, "write-rate": 1_000_000,
	} {
		if err := a.Call(ctx, http.MethodPut, "/v1/quotas/"+quota+"?accountId="+of, fmt.Sprintf(`{"value":%d}`, value), nil); err != nil {
			return err
		}
	}
	return nil
}

// NewAccount makes an account and returns a client of its administrator.
func (a *API) NewAccount(ctx context.Context, id string) (*API, error) {
	var made struct {
		Credentials struct{ AccessKeyID, SecretAccessKey string }
	}
	if err := a.Call(ctx, http.MethodPut, "/v1/accounts", fmt.Sprintf(`{"accountId":%q,"accountName":"other"}`, id), &made); err != nil {
		return nil, err
	}
	c := made.Credentials
	return NewAPI(a.Endpoint, aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey}), a.RaiseQuotas(ctx, id)
}

var credentialsLine = regexp.MustCompile(`(?m)^aws_(access_key_id|secret_access_key)\s*=\s*(\S+)$`)

// readCredentials returns the access key of the file that a server's first start writes.
func readCredentials(file string) (aws.Credentials, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return aws.Credentials{}, err
	}
	m := credentialsLine.FindAllSubmatch(raw, -1)
	if len(m) != 2 {
		return aws.Credentials{}, fmt.Errorf("%s does not hold an access key and its secret", file)
	}
	return aws.Credentials{AccessKeyID: string(m[0][2]), SecretAccessKey: string(m[1][2])}, nil
}
