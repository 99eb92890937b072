package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/fairlead-mesh/fairlead/api/client"
	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/restapi"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

const region = "us-east-1"

// server is a real server, and something before it that a test can make fail.
type server struct {
	url   string
	creds aws.Credentials
	seen  atomic.Int64 // requests
	// before is asked before each request; true says that it has been answered.
	before atomic.Pointer[func(n int64, w http.ResponseWriter, r *http.Request) bool]
}

func newServer(t *testing.T) *server {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{DataDir: t.TempDir(), Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	a, err := access.Open(t.Context(), access.Config{Store: s, Regions: []string{region}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	out := &server{}
	if _, err := a.Bootstrap(t.Context(), "000000000001", func(c access.Credentials) error {
		out.creds = aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	h := restapi.New(restapi.Config{Store: s, Access: a, Verify: a.Verify})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := out.seen.Add(1)
		if f := out.before.Load(); f != nil && (*f)(n, w, r) {
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	out.url = srv.URL
	return out
}

// fail sets what is done before each request from now on, and counts from 1 again.
func (s *server) fail(f func(n int64, w http.ResponseWriter, r *http.Request) bool) {
	s.seen.Store(0)
	s.before.Store(&f)
}

func (s *server) client(t *testing.T, change func(*client.Config)) *client.Client {
	t.Helper()
	cfg := client.Config{
		Endpoint: s.url + "/", Region: region, UserAgent: "tester/1",
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return s.creds, nil }),
	}
	if change != nil {
		change(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const read = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"appmesh:Describe*","Resource":"*"}]}`

// TestClient makes, changes, lists and deletes users, with a name that needs escaping.
func TestClient(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c, ctx := s.client(t, nil), t.Context()
	names := []string{"a+b=c,d@e", "bob", "carl", "zoe"}
	for _, name := range names {
		out, err := c.CreateUser(ctx, &client.CreateUserInput{UserName: name, Policies: map[string]client.Document{"p": client.Document(read)}})
		if err != nil {
			t.Fatal(err)
		}
		if u := out.User; u.UserName != name || u.ARN != "arn:aws:iam::000000000001:user/"+name || time.Since(u.CreatedAt) > time.Minute || string(u.Policies["p"]) != read {
			t.Errorf("made %+v", u)
		}
	}
	var got []string
	for u, err := range c.AllUsers(ctx, &client.ListUsersInput{Limit: 2}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, u.UserName)
	}
	if want := []string{"a+b=c,d@e", "administrator", "bob", "carl", "zoe"}; !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
	for u, err := range c.AllUsers(ctx, nil) { // a loop that ends early
		if err != nil || u.UserName != names[0] {
			t.Errorf("%v %v", u, err)
		}
		break
	}
	if _, err := c.UpdateUser(ctx, &client.UpdateUserInput{UserName: names[0], Policies: map[string]client.Document{}}); err != nil {
		t.Error(err)
	}
	if out, err := c.DescribeUser(ctx, &client.DescribeUserInput{UserName: names[0]}); err != nil || len(out.User.Policies) != 0 {
		t.Errorf("described %+v, %v", out, err)
	}
	if _, err := c.DeleteUser(ctx, &client.DeleteUserInput{UserName: names[0]}); err != nil {
		t.Error(err)
	}
	if _, err := c.ListEvents(ctx, &client.ListEventsInput{StartTime: time.Now().Add(-time.Hour), EventName: "x y&z"}); err != nil {
		t.Error(err)
	}
}

// TestSessions signs with temporary credentials.
func TestSessions(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	out, err := s.client(t, nil).CreateSession(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	who, err := s.client(t, func(cfg *client.Config) {
		cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: out.Credentials.AccessKeyID, SecretAccessKey: out.Credentials.SecretAccessKey, SessionToken: out.Credentials.SessionToken}, nil
		})
	}).GetCallerIdentity(t.Context(), nil)
	if err != nil || who.ARN != "arn:aws:iam::000000000001:user/administrator" {
		t.Errorf("called as %+v, %v", who, err)
	}
	if left := time.Until(out.Credentials.Expiration); left < 11*time.Hour || left > 12*time.Hour {
		t.Errorf("a session lasts %s", left)
	}
}

// TestRefusals holds what an error says.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := s.client(t, nil)
	_, err := c.DescribeUser(t.Context(), &client.DescribeUserInput{UserName: "nobody"})
	var refusal *client.Error
	if !errors.As(err, &refusal) || refusal.Operation != "DescribeUser" || refusal.Status != 404 || refusal.Code != client.CodeNotFound ||
		refusal.Message != "user nobody is not present" || len(refusal.RequestID) != 36 || client.CodeOf(err) != client.CodeNotFound {
		t.Errorf("%#v", err)
	}
	if want := "DescribeUser: NotFoundException: user nobody is not present (request id " + refusal.RequestID + ")"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	if client.CodeOf(nil) != "" || client.CodeOf(errors.New("x")) != "" {
		t.Error("other errors have a code")
	}
	before := s.seen.Load()
	if _, err := c.DeleteAccessKey(t.Context(), nil); err == nil || err.Error() != "DeleteAccessKey: missing: userName, accessKeyId" {
		t.Errorf("without names: %v", err)
	}
	if s.seen.Load() != before {
		t.Error("a request without names was sent")
	}
	for _, cfg := range []client.Config{
		{Region: region, Credentials: aws.AnonymousCredentials{}},
		{Endpoint: "127.0.0.1:9080", Region: region, Credentials: aws.AnonymousCredentials{}},
		{Endpoint: s.url + "?x=1", Region: region, Credentials: aws.AnonymousCredentials{}},
		{Endpoint: s.url, Credentials: aws.AnonymousCredentials{}},
	} {
		if _, err := client.New(cfg); err == nil {
			t.Errorf("a client was made with %+v", cfg)
		}
	}
}

// status answers the first n requests with a status.
func status(n int64, code int) func(int64, http.ResponseWriter, *http.Request) bool {
	return func(i int64, w http.ResponseWriter, _ *http.Request) bool {
		if i > n {
			return false
		}
		w.WriteHeader(code)
		return true
	}
}

// hangUp ends the connection of the first n requests without an answer.
func hangUp(n int64) func(int64, http.ResponseWriter, *http.Request) bool {
	return func(i int64, _ http.ResponseWriter, _ *http.Request) bool {
		if i <= n {
			panic(http.ErrAbortHandler)
		}
		return false
	}
}

// TestRetries holds which requests are sent again, and how often.
func TestRetries(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c, ctx := s.client(t, nil), t.Context()
	list := func() error { _, err := c.ListUsers(ctx, nil); return err }
	create := func() error {
		_, err := c.CreateUser(ctx, &client.CreateUserInput{UserName: "ann"})
		return err
	}
	for _, tc := range []struct {
		name string
		fail func(int64, http.ResponseWriter, *http.Request) bool
		do   func() error
		sent int64
		ok   bool
	}{
		{"unavailable twice", status(2, 503), list, 3, true},
		{"too many twice", status(2, 429), list, 3, true},
		{"no answer twice", hangUp(2), list, 3, true},
		{"always unavailable", status(99, 503), list, client.DefaultAttempts, false},
		{"never an answer", hangUp(99), list, client.DefaultAttempts, false},
		{"refused", status(1, 400), list, 1, false},
		{"redirected", status(1, 307), list, 1, false},
		// What cannot be repeated is sent again only if it was certainly not done.
		{"create, unavailable", status(1, 503), create, 1, false},
		{"create, no answer", hangUp(1), create, 1, false},
		{"create, too many", status(1, 429), create, 2, true},
	} {
		s.fail(tc.fail)
		err := tc.do()
		sent := s.seen.Load()
		if tc.name == "never an answer" {
			sent = min(sent, tc.sent) // the transport itself tries once more where a connection had been used before
		}
		if (err == nil) != tc.ok || sent != tc.sent {
			t.Errorf("%s: sent %d times, %v; want %d, ok %t", tc.name, s.seen.Load(), err, tc.sent, tc.ok)
		}
	}
}

// TestCanceled holds that a context ends the waits between attempts too.
func TestCanceled(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := s.client(t, func(cfg *client.Config) { cfg.MaxAttempts = 1000 })
	ctx, cancel := context.WithCancel(t.Context())
	s.fail(func(n int64, w http.ResponseWriter, _ *http.Request) bool {
		if n == 3 {
			cancel()
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	if _, err := c.ListUsers(ctx, nil); err == nil || s.seen.Load() > 4 {
		t.Errorf("sent %d times, %v", s.seen.Load(), err)
	}
}

// TestNobodyThere holds that a server that cannot be reached is an error in the end, for
// what cannot be repeated too.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	c := s.client(t, func(cfg *client.Config) { cfg.Endpoint = gone.URL })
	if _, err := c.CreateUser(t.Context(), &client.CreateUserInput{UserName: "ann"}); err == nil || client.CodeOf(err) != "" || !strings.HasPrefix(err.Error(), "CreateUser: ") {
		t.Errorf("got %v", err)
	}
}

// TestRequest looks at what is sent.
func TestRequest(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var got atomic.Pointer[http.Request]
	s.fail(func(_ int64, _ http.ResponseWriter, r *http.Request) bool {
		got.Store(r.Clone(context.Background()))
		return false
	})
	if _, err := s.client(t, nil).ListUsers(t.Context(), &client.ListUsersInput{Limit: 3}); err != nil {
		t.Fatal(err)
	}
	r := got.Load()
	if ua := r.UserAgent(); !strings.HasPrefix(ua, "tester/1 fairlead-client/") {
		t.Errorf("user agent %q", ua)
	}
	if auth := r.Header.Get("Authorization"); !strings.Contains(auth, "/us-east-1/appmesh/aws4_request") {
		t.Errorf("authorization %q", auth)
	}
	if r.URL.RequestURI() != "/v1/users?limit=3" || r.Header.Get("Content-Type") != "" {
		t.Errorf("%s %v", r.URL.RequestURI(), r.Header)
	}
}
