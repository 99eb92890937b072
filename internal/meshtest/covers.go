package meshtest

import (
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/fields"
)

// WithoutNothing is what -without names to run tests as it does, with no field taken out.
const WithoutNothing = "nothing"

// without names the field that no control plane of this process sees.
var without = flag.String("without", "", "the `field` that the control plane does not see, for example Route.priority: only tests that cover it are run, and should fail; \"nothing\" takes none out")

// Covers says which fields a test shows to work: with one of them taken out, by -without,
// the test must fail. A pattern is that of fields.Expand, and must be a literal, for
// docs/reference/fields.md is made from the source. Covers belongs at a test's beginning: it
// skips the test if -without names another field.
func Covers(t testing.TB, patterns ...string) {
	t.Helper()
	var all []string
	for _, pattern := range patterns {
		paths, err := fields.Expand(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, paths...)
	}
	if *without != "" && *without != WithoutNothing && !slices.Contains(all, *without) {
		t.Skipf("it does not cover %s", *without)
	}
}

// takeOut returns what takes the field out of each spec; nil if none is to be taken.
func takeOut(t testing.TB) func(mesh.Kind, any) {
	t.Helper()
	if *without == "" || *without == WithoutNothing {
		return nil
	}
	if !fields.Known(*without) {
		t.Fatalf("-without %s: the model has no such field", *without)
	}
	return func(k mesh.Kind, spec any) { fields.Take(k, spec, *without) }
}

// patience is how long Eventually tries: less where a field is taken out, for most tests
// then wait for what cannot come.
func patience() time.Duration {
	if *without != "" {
		return 12 * time.Second
	}
	return wait
}
