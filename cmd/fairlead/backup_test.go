package main

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
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
	fairlead := func(args ...string) (int, string, string) { return fairlead(t, args...) }
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

// TestBackupOfEverything restores a store that has something of everything that a server
// keeps, and compares all of it, key by key.
func TestBackupOfEverything(t *testing.T) {
	t.Parallel()
	var cfg server.Config
	p := meshtest.StartWith(t, meshtest.Options{Change: func(c *server.Config) { cfg = *c }})
	s := newScript(t, p)
	registerInstances(t, p)
	s.write("shop.yaml", "kind: Mesh\nname: shop\nspec: {}\ntags: {team: a}\n---\nkind: VirtualNode\nmesh: shop\nname: cart\nspec: {serviceDiscovery: {dns: {hostname: localhost}}, listeners: [{portMapping: {port: 80, protocol: http}}]}\n"+
		"---\nkind: VirtualService\nmesh: shop\nname: cart.local\nspec: {provider: {virtualNode: {virtualNodeName: cart}}}\n")
	s.write("trust.json", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000001:root"},"Action":"sts:AssumeRole"}]}`)
	s.write("request.pem", certificateRequest(t))
	for _, command := range []string{
		"apply -f DIR/shop.yaml", "account create second --id 000000000002", "account create third --id 000000000003", "account delete 000000000003",
		"user create ann --administrator", "key create ann", "role create proxy --trust DIR/trust.json",
		"identity-provider create amazon --aws-account 111122223333", "quota set routes 77", "share add 000000000002 -m shop",
		"ca set -m shop --certificate-life 1h", "ca issue virtualNode/cart -m shop --csr DIR/request.pem",
	} {
		if out := s.command(command); strings.Contains("\n"+out, "\n? ") {
			t.Fatalf("fairlead %s: %s", command, out)
		}
	}
	p.Stop(t)
	first, second := filepath.Join(t.TempDir(), "first"), filepath.Join(t.TempDir(), "second")
	dir := filepath.Join(t.TempDir(), "restored")
	for _, args := range [][]string{
		{"backup", first, "--direct", "--with-seal-key", "--data-dir", cfg.Store.DataDir},
		{"restore", first, "--data-dir", dir},
		{"backup", second, "--direct", "--data-dir", dir},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, &out, &errs); code != 0 {
			t.Fatalf("fairlead %v: exit %d, %s", args, code, errs.String())
		}
	}
	want, got := backupLines(t, first), backupLines(t, second)
	if d := cmp.Diff(want[1:len(want)-1], got[1:len(got)-1]); d != "" {
		t.Errorf("(-before +after)\n%s", d)
	}
	all := strings.Join(want, "\n")
	for _, key := range []string{
		"gone/000000000003", "object/000000000001/us-east-1/mesh/shop", "object/000000000001/us-east-1/in/shop/virtualNode/cart", "ref/000000000001/", "slot/000000000001/",
		"setting/quota/000000000001", "setting/share/000000000001/", "shared/000000000002/",
		"record/iam/000000000002/account", "record/iam/000000000001/user/ann", "record/iam/000000000001/key/", "record/iam/000000000001/role/proxy", "record/iam/000000000001/provider/amazon",
		"record/iamused/000000000001/", "record/iamclosed/000000000003", "record/ca/000000000001/", "record/caissued/000000000001/",
		"record/registry/own/000000000001/us-east-1/namespace/", "record/registry/own/000000000001/us-east-1/service/", "record/registry/own/000000000001/us-east-1/instance/",
		"record/registry/own/000000000001/us-east-1/beat/", "record/registry/imported/000000000001/", "record/registry-operation/000000000001/", "store",
	} {
		if !strings.Contains(all, `"key":"fairlead/`+key) {
			t.Errorf("the backup has nothing of fairlead/%s", key)
		}
	}
}

// backupLines returns the lines of a backup.
func backupLines(t *testing.T, file string) []string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// certificateRequest returns a request for a certificate, in PEM form.
func certificateRequest(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}))
}
