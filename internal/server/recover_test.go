package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/appmesh"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/server"
)

func TestRecover(t *testing.T) {
	t.Parallel()
	var cfg server.Config
	p := meshtest.StartWith(t, meshtest.Options{Change: func(c *server.Config) { cfg = *c }})
	r := server.RecoverConfig{
		Store: cfg.Store, Region: meshtest.Region, CredentialsFile: filepath.Join(t.TempDir(), "recovered"),
	}
	refused := func(what, says string) {
		t.Helper()
		_, err := server.Recover(t.Context(), r)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line with %q", what, err, says)
		}
		if _, err := os.Stat(r.CredentialsFile); err == nil {
			t.Errorf("%s: credentials were written", what)
		}
	}
	refused("the server runs", "is in use by another server (process ")
	p.Stop(t)
	r.AccountID = "000000000002"
	refused("an account that is not there", "account 000000000002")
	r.AccountID = ""
	good := r
	r.CredentialsFile = filepath.Join(t.TempDir(), "nowhere", "credentials")
	refused("a file that cannot be written", "writing credentials")
	r = good
	r.Store.DataDir = filepath.Join(t.TempDir(), "mistyped")
	refused("a store that is not there", "holds no store")
	if _, err := os.Stat(r.Store.DataDir); err == nil {
		t.Error("a store was made")
	}

	key, err := server.Recover(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(good.CredentialsFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v %v", info.Mode(), err)
	}
	creds := meshtest.ReadCredentials(t, good.CredentialsFile)
	if creds.AccessKeyID != key {
		t.Errorf("key %s was announced, %s was written", key, creds.AccessKeyID)
	}
	p.Run(t)
	for who, c := range map[string]*appmesh.Client{"the new administrator": p.Client(creds), "the old one": p.Client(p.Creds)} {
		if _, err := c.ListMeshes(t.Context(), &appmesh.ListMeshesInput{}); err != nil {
			t.Errorf("%s: %v", who, err)
		}
	}
}
