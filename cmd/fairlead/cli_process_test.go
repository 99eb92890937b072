package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/appmesh"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// asCommand makes the test's program be fairlead.
const asCommand = "FAIRLEAD_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	meshtest.Main(m, map[string]func(string) error{asCommand: func(string) error { main(); return nil }})
}

// TestCredentialProcess has AWS's clients get their credentials from "fairlead credentials".
func TestCredentialProcess(t *testing.T) {
	s := newScript(t, meshtest.Start(t))
	s.write("trust.json", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}`)
	s.write("shop.json", `{"kind": "Mesh", "name": "shop"}`)
	for _, command := range []string{"role create reader --trust DIR/trust.json --administrator", "apply -f DIR/shop.json"} {
		if out := s.command(command); strings.Contains(out, "? ") {
			t.Fatalf("%s: %s", command, out)
		}
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	base := fmt.Sprintf("env %s=1 %s credentials --endpoint %s", asCommand, program, s.endpoint)
	command := base + " --credentials-file " + filepath.Join(s.dir, "credentials")
	s.write("config", fmt.Sprintf(`[profile user]
region = us-east-1
credential_process = %s
[profile role]
region = us-east-1
credential_process = %s --role-arn arn:aws:iam::%s:role/reader --session-name test --duration 15m
[profile ring]
region = us-east-1
credential_process = %s
`, command, command, meshtest.Account, base+" --profile ring"))
	for name, value := range map[string]string{"AWS_CONFIG_FILE": filepath.Join(s.dir, "config"), "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(s.dir, "none"), "AWS_ENDPOINT_URL_APP_MESH": s.endpoint} {
		t.Setenv(name, value)
	}
	for _, name := range []string{"AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL"} {
		t.Setenv(name, "")
		os.Unsetenv(name) // t.Setenv brings it back
	}
	for _, profile := range []string{"user", "role"} {
		cfg, err := config.LoadDefaultConfig(t.Context(), config.WithSharedConfigProfile(profile))
		if err != nil {
			t.Fatal(err)
		}
		out, err := appmesh.NewFromConfig(cfg).ListMeshes(t.Context(), &appmesh.ListMeshesInput{})
		if err != nil || len(out.Meshes) != 1 {
			t.Errorf("the SDK with profile %s: %+v, %v", profile, out, err)
		}
		creds, err := cfg.Credentials.Retrieve(t.Context())
		if err != nil || !creds.CanExpire || !strings.HasPrefix(creds.AccessKeyID, "FLAS") {
			t.Errorf("the credentials of profile %s are not temporary: %v", profile, err)
		}
		awsCLI(t, profile)
	}
	// A profile that needs itself is refused, not followed for ever.
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithSharedConfigProfile("ring"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cfg.Credentials.Retrieve(t.Context()); err == nil {
		t.Error("a profile that needs itself gives credentials")
	}
}

// awsCLI lists meshes with AWS's own command, where there is one.
func awsCLI(t *testing.T, profile string) {
	t.Helper()
	clients, err := filepath.Abs("../../.tools/clients")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(clients, "awscli")); err != nil {
		t.Logf("not tried with the AWS CLI, which 'make tools' fetches: %v", err)
		return
	}
	cmd := exec.Command("python3", "-m", "awscli", "appmesh", "list-meshes", "--profile", profile)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+clients)
	raw, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("the AWS CLI with profile %s: %v\n%s", profile, err, exit.Stderr)
	}
	var out struct {
		Meshes []struct {
			MeshName string `json:"meshName"`
		} `json:"meshes"`
	}
	if err := json.Unmarshal(raw, &out); err != nil || len(out.Meshes) != 1 || out.Meshes[0].MeshName != "shop" {
		t.Errorf("the AWS CLI with profile %s: %v\n%s", profile, err, raw)
	}
}
