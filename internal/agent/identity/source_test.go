package identity_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/appmesh"
	jose "github.com/go-jose/go-jose/v4"

	"github.com/fairlead-mesh/fairlead/api/client"
	"github.com/fairlead-mesh/fairlead/internal/agent/identity"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/standin"
	"github.com/fairlead-mesh/fairlead/internal/server"
)

const (
	roleARN  = "arn:aws:iam::" + meshtest.Account + ":role/cart"
	audience = "fairlead.test"
)

// world is a control plane with a role that lets in a workload by each way.
type world struct {
	plane   *meshtest.Plane
	admin   *client.Client
	issuer  *standin.Issuer
	sts     *standin.STS
	clients *meshtest.Authority // of client certificates
	task    aws.Credentials
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{issuer: standin.NewIssuer(t, jose.RS256, true), sts: standin.NewSTS(t), clients: meshtest.NewAuthority(t)}
	w.plane = meshtest.StartWith(t, meshtest.Options{TLS: true, Change: func(c *server.Config) {
		c.LoopbackIdentity, c.IdentityAudience = true, audience
	}})
	var err error
	w.admin, err = client.New(client.Config{
		Endpoint: w.plane.URL(), Region: meshtest.Region, HTTPClient: w.plane.HTTP(),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return w.plane.Creds, nil }),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.task = aws.Credentials{AccessKeyID: "ASIATESTTASK", SecretAccessKey: "not-a-real-secret", SessionToken: "not-a-real-token", Expires: time.Now().Add(time.Hour)}
	w.sts.Know(w.task, standin.Who{ARN: "arn:aws:sts::111122223333:assumed-role/cart-task/1", ID: "AROATEST:1", Account: "111122223333"})
	anchors, err := os.ReadFile(w.clients.File)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range []*client.CreateIdentityProviderInput{
		{ProviderName: "cluster", Oidc: &client.OidcProvider{Issuer: w.issuer.URL, Audiences: []string{"fairlead"}, CaCertificate: w.issuer.CA}},
		{ProviderName: "authority", Certificate: &client.CertificateProvider{TrustAnchors: string(anchors)}},
		{ProviderName: "amazon", Aws: &client.AwsProvider{AccountIds: []string{"111122223333"}, Endpoints: []string{w.sts.URL}}},
	} {
		if _, err := w.admin.CreateIdentityProvider(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	_, host, _ := strings.Cut(w.issuer.URL, "://")
	statement := func(provider, action, condition string) string {
		return fmt.Sprintf(`{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::%s:%s"},"Action":"sts:%s","Condition":%s}`, meshtest.Account, provider, action, condition)
	}
	_, err = w.admin.CreateRole(t.Context(), &client.CreateRoleInput{
		RoleName: "cart",
		TrustPolicy: client.Document(`{"Version":"2012-10-17","Statement":[` + strings.Join([]string{
			statement("oidc-provider/"+host, "AssumeRoleWithWebIdentity", `{"StringEquals":{"`+host+`:sub":"system:serviceaccount:shop:cart"}}`),
			statement("certificate-provider/authority", "AssumeRoleWithCertificate", `{"StringEquals":{"aws:PrincipalTag/x509Subject/CN":"cart"}}`),
			statement("aws-provider/amazon", "AssumeRoleWithAWSIdentity", `{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/cart-task"}}`),
		}, ",") + `]}`),
		Policies: map[string]client.Document{"proxy": client.Document(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"appmesh:*","Resource":"*"}]}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// source runs a Source until the test ends.
func (w *world) source(t *testing.T, variables map[string]string, change func(*identity.Config)) (*identity.Source, *meshtest.Log) {
	t.Helper()
	text := func(name string) string { return variables[name] }
	set, err := identity.Read(text, meshtest.Region)
	if err != nil {
		t.Fatal(err)
	}
	set.API.Endpoint, set.API.CAFile = w.plane.URL(), w.plane.CA.File
	log := &meshtest.Log{}
	cfg := identity.Config{Settings: set, Dir: t.TempDir(), Text: text, Logger: slog.New(slog.NewTextHandler(log, nil))}
	if change != nil {
		change(&cfg)
	}
	s, err := identity.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(s.Path()); s.Path() != "" && err == nil {
			t.Error("the credentials are still there")
		}
	})
	select {
	case <-s.First():
	case <-time.After(20 * time.Second):
		t.Fatal("the first exchange does not end")
	}
	return s, log
}

// tokenFile writes a token of a service account.
func (w *world) tokenFile(t *testing.T, account string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	meshtest.WriteFile(t, path, []byte(w.issuer.Token(t, time.Now(), standin.Kubernetes("shop", account, "fairlead"))+"\n"))
	return path
}

// works holds that the file's credentials are good, and for whom.
func (w *world) works(t *testing.T, s *identity.Source, session string) {
	t.Helper()
	st := s.Status()
	if want := "arn:aws:sts::" + meshtest.Account + ":assumed-role/cart/" + session; st.Identity != want || st.Error != "" || st.Expires.IsZero() {
		t.Errorf("the status is %+v, want %s", st, want)
	}
	info, err := os.Stat(s.Path())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	key := readFile(t, s.Path())
	if _, err := w.plane.Client(key).ListMeshes(t.Context(), &appmesh.ListMeshesInput{}); err != nil {
		t.Errorf("the credentials are refused: %v", err)
	}
}

// readFile reads the key that a credentials file has.
func readFile(t *testing.T, path string) aws.Credentials {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
		values[name] = value
	}
	return aws.Credentials{AccessKeyID: values["aws_access_key_id"], SecretAccessKey: values["aws_secret_access_key"], SessionToken: values["aws_session_token"]}
}

func TestWays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cert, key := w.clients.Issue(t, "cart", time.Hour)
	certFile, keyFile := filepath.Join(t.TempDir(), "tls.crt"), filepath.Join(t.TempDir(), "tls.key")
	meshtest.WriteFile(t, certFile, cert)
	meshtest.WriteFile(t, keyFile, key)
	ecs, open := standin.NewECS(t, w.task, "Basic not-a-real-token"), standin.NewECS(t, w.task, "")
	ecsToken := filepath.Join(t.TempDir(), "token")
	meshtest.WriteFile(t, ecsToken, []byte("Basic not-a-real-token\n"))
	ec2 := standin.NewEC2(t, w.task, "cart-task")
	amazon := func(more map[string]string) map[string]string {
		out := map[string]string{"FAIRLEAD_IDENTITY_AUDIENCE": audience, "FAIRLEAD_STS_ENDPOINT": w.sts.URL, "FAIRLEAD_IDENTITY": "aws"}
		for name, value := range more {
			out[name] = value
		}
		return out
	}
	for name, c := range map[string]struct {
		variables map[string]string
		session   string
	}{
		"token":           {map[string]string{"FAIRLEAD_WEB_IDENTITY_TOKEN_FILE": w.tokenFile(t, "cart")}, "system-serviceaccount-shop-cart"},
		"named":           {map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": w.tokenFile(t, "cart"), "AWS_ROLE_SESSION_NAME": "me", "FAIRLEAD_SESSION_SECONDS": "900"}, "me"},
		"certificate":     {map[string]string{"FAIRLEAD_CLIENT_CERT_FILE": certFile, "FAIRLEAD_CLIENT_KEY_FILE": keyFile}, "cart"},
		"AWS environment": {amazon(map[string]string{"AWS_ACCESS_KEY_ID": w.task.AccessKeyID, "AWS_SECRET_ACCESS_KEY": w.task.SecretAccessKey, "AWS_SESSION_TOKEN": w.task.SessionToken}), "cart-task-1"},
		"ECS":             {amazon(map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": ecs.URL + "/v2/credentials/1", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "Basic not-a-real-token"}), "cart-task-1"},
		"ECS, in a file":  {amazon(map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": ecs.URL + "/v2/credentials/1", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": ecsToken}), "cart-task-1"},
		"ECS, open":       {amazon(map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": open.URL + "/v2/credentials/1"}), "cart-task-1"},
		"EC2":             {amazon(map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": ec2.URL}), "cart-task-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.variables["FAIRLEAD_ROLE_ARN"] = roleARN
			s, log := w.source(t, c.variables, nil)
			w.works(t, s, c.session)
			text := log.String()
			if !strings.Contains(text, "got credentials of a role") {
				t.Errorf("the log is %s", text)
			}
			for _, secret := range []string{readFile(t, s.Path()).SecretAccessKey, "not-a-real"} {
				if strings.Contains(text, secret) {
					t.Error("the log has a secret")
				}
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gone := filepath.Join(t.TempDir(), "none")
	strangers := meshtest.NewAuthority(t)
	cert, key := strangers.Issue(t, "cart", time.Hour)
	certFile, keyFile := filepath.Join(t.TempDir(), "tls.crt"), filepath.Join(t.TempDir(), "tls.key")
	meshtest.WriteFile(t, certFile, cert)
	meshtest.WriteFile(t, keyFile, key)
	other := w.task
	other.SecretAccessKey = "another"
	ecs := standin.NewECS(t, w.task, "Basic not-a-real-token")
	amazon := map[string]string{"FAIRLEAD_IDENTITY": "aws", "FAIRLEAD_STS_ENDPOINT": w.sts.URL, "FAIRLEAD_IDENTITY_AUDIENCE": audience}
	with := func(more map[string]string) map[string]string {
		out := map[string]string{}
		for _, m := range []map[string]string{amazon, more} {
			for name, value := range m {
				out[name] = value
			}
		}
		return out
	}
	keys := map[string]string{"AWS_ACCESS_KEY_ID": w.task.AccessKeyID, "AWS_SECRET_ACCESS_KEY": w.task.SecretAccessKey, "AWS_SESSION_TOKEN": w.task.SessionToken}
	for name, c := range map[string]struct {
		variables map[string]string
		say       string
		change    func(*identity.Config)
	}{
		"another service account": {map[string]string{"FAIRLEAD_WEB_IDENTITY_TOKEN_FILE": w.tokenFile(t, "till")}, "ForbiddenException", nil},
		"no token":                {map[string]string{"FAIRLEAD_WEB_IDENTITY_TOKEN_FILE": gone}, "reading the token", nil},
		"another authority":       {map[string]string{"FAIRLEAD_CLIENT_CERT_FILE": certFile, "FAIRLEAD_CLIENT_KEY_FILE": keyFile}, "does not lead to a trust anchor", nil},
		"no certificate":          {map[string]string{"FAIRLEAD_CLIENT_CERT_FILE": gone, "FAIRLEAD_CLIENT_KEY_FILE": keyFile}, "reading the client certificate", nil},
		"another secret":          {with(map[string]string{"AWS_ACCESS_KEY_ID": other.AccessKeyID, "AWS_SECRET_ACCESS_KEY": other.SecretAccessKey, "AWS_SESSION_TOKEN": other.SessionToken}), "SignatureDoesNotMatch", nil},
		"another server":          {with(map[string]string{"AWS_ACCESS_KEY_ID": keys["AWS_ACCESS_KEY_ID"], "AWS_SECRET_ACCESS_KEY": keys["AWS_SECRET_ACCESS_KEY"], "FAIRLEAD_IDENTITY_AUDIENCE": "other.test"}), "bound to another server", nil},
		"ECS refuses":             {with(map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": ecs.URL + "/v2/credentials/1"}), "status 401", nil},
		"no metadata":             {with(map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"}), "hop limit of 2", nil},
		"no control plane":        {map[string]string{"FAIRLEAD_WEB_IDENTITY_TOKEN_FILE": w.tokenFile(t, "cart")}, "asking the control plane", func(c *identity.Config) { c.Settings.API.Endpoint = "https://127.0.0.1:1" }},
		"not trusted":             {map[string]string{"FAIRLEAD_WEB_IDENTITY_TOKEN_FILE": w.tokenFile(t, "cart")}, "certificate", func(c *identity.Config) { c.Settings.API.CAFile = strangers.File }},
		"something else":          {map[string]string{"FAIRLEAD_WEB_IDENTITY_TOKEN_FILE": w.tokenFile(t, "cart")}, "is FAIRLEAD_API_ENDPOINT where", func(c *identity.Config) { c.Settings.API.Endpoint = "https://" + w.plane.Addrs.Ops }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.variables["FAIRLEAD_ROLE_ARN"] = roleARN
			s, log := w.source(t, c.variables, c.change)
			if st := s.Status(); !strings.Contains(st.Error, c.say) || st.Identity != "" || st.FailingSince.IsZero() {
				t.Errorf("the status is %+v, want an error with %q", st, c.say)
			}
			if !strings.Contains(log.String(), "trying on") || readFile(t, s.Path()).AccessKeyID != "" {
				t.Errorf("the log is %s", log)
			}
		})
	}
}

// TestRenewal holds when credentials are renewed: after two thirds of their time, after
// failures again and again, ever more rarely, and when they are refused.
func TestRenewal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	type pause struct {
		d     time.Duration
		early <-chan struct{}
	}
	pauses, goOn := make(chan pause), make(chan struct{})
	token := w.tokenFile(t, "cart")
	s, log := w.source(t, map[string]string{"FAIRLEAD_ROLE_ARN": roleARN, "FAIRLEAD_WEB_IDENTITY_TOKEN_FILE": token}, func(c *identity.Config) {
		c.Wait = func(ctx context.Context, d time.Duration, early <-chan struct{}) {
			select {
			case pauses <- pause{d, early}:
			case <-ctx.Done():
				return
			}
			select {
			case <-goOn:
			case <-early:
			case <-ctx.Done():
			}
		}
	})
	next := func() pause {
		t.Helper()
		select {
		case p := <-pauses:
			return p
		case <-time.After(20 * time.Second):
			t.Fatal("nothing is waited for")
		}
		return pause{}
	}
	// An hour: two thirds are 40 minutes, or up to a tenth less, of which the first seconds
	// cannot be cut short.
	least := next()
	goOn <- struct{}{}
	rest := next()
	if all := least.d + rest.d; least.early != nil || rest.early == nil || all < 35*time.Minute || all > 40*time.Minute {
		t.Errorf("it is renewed after %s and %s", least.d, rest.d)
	}
	before := readFile(t, s.Path())
	s.Renew()
	if next(); readFile(t, s.Path()) == before {
		t.Error("nothing was renewed when it was asked for")
	}
	goOn <- struct{}{}
	next()

	// The file is read anew each time.
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	goOn <- struct{}{}
	last := time.Duration(0)
	for i := range 10 {
		p := next()
		if most := min(time.Second<<i, time.Minute); p.early != nil || p.d < most/2 || p.d > most {
			t.Errorf("after %d failures it waits for %s", i+1, p.d)
		}
		last = p.d
		if i < 9 {
			goOn <- struct{}{}
		}
	}
	if st := s.Status(); last < 30*time.Second || st.Error == "" || st.Identity == "" || st.Expires.IsZero() {
		t.Errorf("the status is %+v", st)
	}
	if n := strings.Count(log.String(), "trying on"); n != 1 {
		t.Errorf("the log has %d lines of the same failure", n)
	}
	meshtest.WriteFile(t, token, []byte(w.issuer.Token(t, time.Now(), standin.Kubernetes("shop", "cart", "fairlead"))))
	goOn <- struct{}{}
	next()
	w.works(t, s, "system-serviceaccount-shop-cart")
}

// TestNothingIsExchanged holds that a Source of an access key does nothing.
func TestNothingIsExchanged(t *testing.T) {
	t.Parallel()
	s, err := identity.New(identity.Config{Settings: identity.Settings{Kind: identity.Keys}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	<-s.First()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Run(ctx)
	s.Renew()
	if s.Path() != "" || s.Status() != (identity.Status{Source: identity.Keys}) || s.Close() != nil {
		t.Errorf("it is %+v at %q", s.Status(), s.Path())
	}
}

// TestFolder holds that a Source's own folder is private, and goes.
func TestFolder(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s, err := identity.New(identity.Config{Settings: identity.Settings{Kind: identity.WebIdentity}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(s.Path())
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v", info.Mode(), err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the folder is still there")
	}
}

// TestOddAnswers tries what may answer in place of a control plane.
func TestOddAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token := w.tokenFile(t, "cart")
	for name, answer := range map[string]any{
		"nothing": map[string]any{}, "a list": []string{},
		"a line break": map[string]any{"credentials": map[string]any{"accessKeyId": "a\nb", "secretAccessKey": "c", "sessionToken": "d", "expiration": time.Now()}},
		"no end":       map[string]any{"credentials": map[string]any{"accessKeyId": "a", "secretAccessKey": "c", "sessionToken": "d"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := meshtest.Serve(t, 8123, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(answer) }))
			s, _ := w.source(t, map[string]string{"FAIRLEAD_ROLE_ARN": roleARN, "FAIRLEAD_WEB_IDENTITY_TOKEN_FILE": token}, func(c *identity.Config) {
				c.Settings.API.Endpoint = "http://" + at + ":8123"
			})
			if st := s.Status(); !strings.Contains(st.Error, "the control plane's answer") {
				t.Errorf("the status is %+v", st)
			}
		})
	}
}
