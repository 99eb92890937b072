package cli

import (
	"context"
	"encoding/pem"
	"errors"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// keys sets the variables that AWS's clients read, and nothing of the machine's own.
func keys(t *testing.T) {
	t.Helper()
	none := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		depthVariable: "", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none,
		"AWS_PROFILE": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_APP_MESH": "", "AWS_CA_BUNDLE": "",
	} {
		t.Setenv(name, value)
		if value == "" {
			os.Unsetenv(name) // t.Setenv brings it back
		}
	}
}

func TestWhereTheServerIs(t *testing.T) {
	keys(t)
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte("[profile shop]\naws_access_key_id = a\naws_secret_access_key = b\nregion = eu-west-1\nservices = local\n[services local]\napp_mesh =\n  endpoint_url = http://profile:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect := func(o Options, endpoint, region string) {
		t.Helper()
		s, err := Connect(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if s.Endpoint() != endpoint || s.Region() != region {
			t.Errorf("%+v: %s in %s, want %s in %s", o, s.Endpoint(), s.Region(), endpoint, region)
		}
	}
	expect(Options{}, DefaultEndpoint, DefaultRegion)
	t.Setenv("AWS_CONFIG_FILE", file)
	expect(Options{Profile: "shop"}, "http://profile:1", "eu-west-1")
	t.Setenv("AWS_ENDPOINT_URL", "http://all:1")
	t.Setenv("AWS_REGION", "eu-west-2")
	expect(Options{}, "http://all:1", "eu-west-2")
	t.Setenv("AWS_ENDPOINT_URL_APP_MESH", "http://mesh:1")
	expect(Options{Profile: "shop"}, "http://mesh:1", "eu-west-2")
	expect(Options{Endpoint: "https://flag", Region: "us-east-2"}, "https://flag", "us-east-2")
}

func TestNoCredentials(t *testing.T) {
	keys(t)
	os.Unsetenv("AWS_ACCESS_KEY_ID")
	os.Unsetenv("AWS_SECRET_ACCESS_KEY")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("[other]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		o    Options
		says string
	}{
		{Options{}, "no access key was found: give --credentials-file"},
		{Options{Profile: "shop"}, "shop"},
		{Options{CredentialsFile: empty}, "default"},
		{Options{CredentialsFile: empty, Profile: "other"}, "gives no credentials"},
	} {
		_, err := Connect(t.Context(), c.o)
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v, want one line with %q", c.o, err, c.says)
		}
	}
}

func TestGuardCredentials(t *testing.T) {
	t.Setenv(depthVariable, "")
	for range mostDepth {
		if err := GuardCredentials(); err != nil {
			t.Fatal(err)
		}
	}
	if err := GuardCredentials(); err == nil {
		t.Error("fairlead may start itself for ever")
	}
}

// TestOverTLS talks to a server behind a certificate of its own.
func TestOverTLS(t *testing.T) {
	t.Parallel()
	plane := meshtest.Start(t)
	u := newUser(t, plane)
	target, err := url.Parse("http://" + plane.Addrs.API)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
	}})
	defer front.Close()
	ca := filepath.Join(u.dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{Endpoint: front.URL, CredentialsFile: filepath.Join(u.dir, "credentials"), CAFile: ca}
	s, err := Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.meshes(t.Context()); err != nil {
		t.Errorf("App Mesh's API over TLS: %v", err)
	}
	if account, err := s.account(t.Context()); err != nil || account != meshtest.Account {
		t.Errorf("/v1 over TLS: %s, %v", account, err)
	}
	o.CAFile, o.Once = "", true
	if s, err = Connect(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	var unreachable *ConnectionError
	if _, err := s.meshes(t.Context()); !errors.As(err, &unreachable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown certificate gives %v", err)
	}
}

// TestNoServer is told in one line, with what to do.
func TestNoServer(t *testing.T) {
	t.Parallel()
	plane := meshtest.Start(t)
	u := newUser(t, plane)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	other := httptest.NewServer(nil)
	defer other.Close()
	for endpoint, says := range map[string]string{
		gone:                              "no answer from " + gone,
		other.URL:                         "is it a Fairlead server?",
		"http://no.such.host.invalid":     "no answer from",
		"http://" + plane.Addrs.Ops + "/": "is it a Fairlead server?",
	} {
		s, err := Connect(t.Context(), Options{Endpoint: endpoint, CredentialsFile: filepath.Join(u.dir, "credentials"), Once: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.list(t.Context(), 1, Ref{}); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("App Mesh's API at %s: %v, want one line with %q", endpoint, err, says)
		}
		if _, err := s.account(t.Context()); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("/v1 at %s: %v, want one line with %q", endpoint, err, says)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := u.list(ctx, 1, Ref{}); !errors.Is(err, errInterrupted) {
		t.Errorf("an interrupted call: %v", err)
	}
}
