package randmesh

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/cli"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/fields"
)

// TestMeshesAreValid has the rules between objects checked by what people check their
// files with, and counts which fields the meshes have.
func TestMeshesAreValid(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for seed := range uint64(120) {
		m, err := New(Config{Seed: seed, Mesh: "shop", Dir: "/certificates", LeastPort: 1024, Hosts: []string{"localhost"}})
		if err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		term := cli.Terminal{In: strings.NewReader(m.Documents()), Out: &out, Err: &errs}
		if err := cli.Validate(term, cli.FilesConfig{Paths: []string{"-"}, Complete: true}); err != nil {
			t.Errorf("mesh %d: %v\n%s", seed, err, errs.String())
		}
		for _, o := range m.Objects {
			for _, f := range fields.Used(o.Kind, o.Spec) {
				seen[f] = true
			}
		}
	}
	for _, f := range fields.All() {
		if !seen[f] {
			t.Errorf("no mesh has %s", f)
		}
	}
}

func TestTheSameSeedGivesTheSameMesh(t *testing.T) {
	t.Parallel()
	var docs [3]string
	for i := range docs {
		m, err := New(Config{Seed: uint64(i / 2), Mesh: "shop", Dir: "/d"})
		if err != nil {
			t.Fatal(err)
		}
		docs[i] = m.Documents()
	}
	if docs[0] != docs[1] {
		t.Error(cmp.Diff(docs[0], docs[1]))
	}
	if docs[1] == docs[2] {
		t.Error("two seeds give the same mesh")
	}
}
