package api_test

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the table of operations into docs/reference/api-v1.md")

const (
	reference = "../docs/reference/api-v1.md"
	begin     = "<!-- operations: written by \"go test ./api -update\" from api/fairlead.json -->\n"
	end       = "<!-- end of operations -->\n"
)

// TestReference holds that the page for users has the operations as the model has them.
func TestReference(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(page), begin)
	table, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table of operations", reference)
	}
	want := operationsTable(t)
	if *update {
		if err := os.WriteFile(reference, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := gocmp.Diff(want, table); diff != "" {
		t.Errorf("%s is not what api/fairlead.json says, \"go test ./api -update\" writes it (-want +got):\n%s", reference, diff)
	}
}

// operationsTable returns the table, in the order of the paths.
func operationsTable(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("fairlead.json")
	if err != nil {
		t.Fatal(err)
	}
	type operation struct {
		Name          string
		HTTP          struct{ Method, RequestURI string }
		Input         struct{ Shape string }
		Documentation string
	}
	var model struct {
		Operations map[string]operation
		Shapes     map[string]struct {
			Required []string
			Members  map[string]struct{ Location string }
		}
	}
	if err := json.Unmarshal(raw, &model); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("\n| operation | request | members in query and body | |\n|---|---|---|---|\n")
	for _, op := range slices.SortedFunc(maps.Values(model.Operations), func(a, b operation) int {
		return cmp.Or(cmp.Compare(a.HTTP.RequestURI, b.HTTP.RequestURI), cmp.Compare(a.HTTP.Method, b.HTTP.Method))
	}) {
		in := model.Shapes[op.Input.Shape]
		var members []string
		for _, name := range slices.Sorted(maps.Keys(in.Members)) {
			switch {
			case in.Members[name].Location == "uri":
			case slices.Contains(in.Required, name):
				members = append(members, "`"+name+"`")
			default:
				members = append(members, "`"+name+"`?")
			}
		}
		fmt.Fprintf(&b, "| %s | `%s %s` | %s | %s |\n", op.Name, op.HTTP.Method, op.HTTP.RequestURI, strings.Join(members, ", "), op.Documentation)
	}
	return b.String() + "\n"
}
