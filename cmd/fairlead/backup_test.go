package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/appmesh"
	"github.com/aws/aws-sdk-go-v2/service/appmesh/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/server"
)

// TestBackupAndRestore backs up a server that runs, through its API, and starts another one
// on what was restored.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	var cfg server.Config
	p := meshtest.StartWith(t, meshtest.Options{Change: func(c *server.Config) { cfg = *c }})
	for _, name := range []string{"shop", "till"} {
		if _, err := p.Client(p.Creds).CreateMesh(t.Context(), &appmesh.CreateMeshInput{MeshName: aws.String(name)}); err != nil {
			t.Fatal(err)
		}
	}
	describe := func() *types.ResourceMetadata {
		t.Helper()
		out, err := p.Client(p.Creds).DescribeMesh(t.Context(), &appmesh.DescribeMeshInput{MeshName: aws.String("shop")})
		if err != nil {
			t.Fatal(err)
		}
		return out.Mesh.Metadata
	}
	before := describe()
	fairlead := func(args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		code := run(t.Context(), args, &out, &errs)
		return code, out.String(), errs.String()
	}
	file := filepath.Join(t.TempDir(), "backup")
	online := []string{"backup", file, "--endpoint", p.URL(), "--credentials-file", cfg.CredentialsFile}
	if code, out, errs := fairlead(online...); code != 0 || out != "" || !strings.Contains(errs, "backup of all accounts at revision ") || !strings.Contains(errs, "2 of them objects") {
		t.Fatalf("exit %d, %q, %q", code, out, errs)
	}
	if code, out, errs := fairlead(append([]string{"backup", "-"}, online[2:]...)...); code != 0 || len(out) < 500 || errs == "" {
		t.Errorf("to standard output: exit %d, %d bytes, %q", code, len(out), errs)
	}
	dir := cfg.Store.DataDir
	if code, _, errs := fairlead("backup", file, "--direct", "--data-dir", dir); code != 1 || !strings.Contains(errs, "in use by another server") {
		t.Errorf("directly, while the server runs: exit %d, %q", code, errs)
	}
	if code, _, errs := fairlead("restore", file, "--replace", "--data-dir", dir); code != 1 || !strings.Contains(errs, "in use by another server") {
		t.Errorf("restoring while the server runs: exit %d, %q", code, errs)
	}
	if _, err := p.Client(p.Creds).DeleteMesh(t.Context(), &appmesh.DeleteMeshInput{MeshName: aws.String("shop")}); err != nil {
		t.Fatal(err)
	}
	p.Stop(t)

	other := filepath.Join(t.TempDir(), "other")
	if code, out, errs := fairlead("backup", other, "--direct", "--with-seal-key", "--data-dir", dir); code != 0 || out != "" || !strings.Contains(errs, "1 of them objects") {
		t.Errorf("directly: exit %d, %q, %q", code, out, errs)
	}
	if code, out, errs := fairlead("restore", file, "--data-dir", dir, "--replace", "--dry-run"); code != 0 || !strings.Contains(out, "can be restored") {
		t.Errorf("dry run: exit %d, %q, %q", code, out, errs)
	}
	if code, _, errs := fairlead("restore", file, "--data-dir", dir); code != 1 || !strings.Contains(errs, "say --replace") {
		t.Errorf("without --replace: exit %d, %q", code, errs)
	}
	code, out, errs := fairlead("restore", file, "--data-dir", dir, "--replace")
	if code != 0 || !strings.Contains(out, "keys were restored") || !strings.Contains(out, filepath.Join(dir, "etcd.before-restore")) {
		t.Fatalf("exit %d, %q, %q", code, out, errs)
	}
	p.Run(t)
	if d := cmp.Diff(before, describe(), cmpopts.IgnoreUnexported(types.ResourceMetadata{})); d != "" {
		t.Errorf("(-before +after)\n%s", d)
	}
	fresh := filepath.Join(t.TempDir(), "fresh")
	if code, out, errs := fairlead("restore", other, "--data-dir", fresh); code != 0 || !strings.Contains(out, "the seal key was written to") {
		t.Errorf("into a new directory: exit %d, %q, %q", code, out, errs)
	}
	if info, err := os.Stat(filepath.Join(fresh, "seal.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the seal key file: %v", err)
	}
}
