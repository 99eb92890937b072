package envoy

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/fields"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/golden"
)

// How many fields may still be without a case of testdata that shows them, and without a
// test on a running Envoy. They only ever fall.
const (
	mostWithoutCase = 0
	mostWithoutTest = 0
)

const fieldsPage = "../../docs/reference/fields.md"

// TestFields takes every field out of every case of testdata that has it. A case shows a
// field if something else comes out then. What shows each field, and which tests say that
// they cover it on a running Envoy, is docs/reference/fields.md; -update writes it.
func TestFields(t *testing.T) { // not parallel: with -update the cases are written by tests that are
	shown, used := shownByCases(t)
	declared, err := fields.Declared("../..")
	if err != nil {
		t.Fatal(err)
	}
	var noCase, noTest []string
	for _, f := range fields.All() {
		switch reason := fields.NoEffect[f]; {
		case reason != "" && len(shown[f]) > 0:
			t.Errorf("%s has no effect, as fields.NoEffect says, but without it %s comes out otherwise", f, shown[f][0].Name)
		case reason != "" && len(used[f]) == 0:
			t.Errorf("%s has no effect, as fields.NoEffect says, but no case of testdata has it", f)
		case reason != "":
			continue
		case len(shown[f]) == 0:
			noCase = append(noCase, f+usedIn(used[f]))
		}
		if len(declared[f]) == 0 && fields.NoBehaviour[f] == "" {
			noTest = append(noTest, f)
		}
	}
	if len(noCase) > mostWithoutCase {
		t.Errorf("%d fields have no case in testdata whose output changes when they are taken out, at most %d may:\n%s", len(noCase), mostWithoutCase, strings.Join(noCase, "\n"))
	}
	if len(noTest) > mostWithoutTest {
		t.Errorf("%d fields have no test that covers them, at most %d may:\n%s", len(noTest), mostWithoutTest, strings.Join(noTest, "\n"))
	}
	t.Logf("without a case: %d, without a test: %d", len(noCase), len(noTest))
	golden.File(t, fieldsPage, fieldTable(shown, declared))
}

func usedIn(cases []*goldenCase) string {
	if len(cases) == 0 {
		return ", which no case uses"
	}
	return ", which has no effect in " + cases[0].Name
}

// shownByCases returns which cases show each field, and which use it; those first that use
// the fewest fields.
func shownByCases(t *testing.T) (shown, used map[string][]*goldenCase) {
	t.Helper()
	shown, used = map[string][]*goldenCase{}, map[string][]*goldenCase{}
	has := map[*goldenCase][]string{}
	cases := readCases(t)
	for _, c := range cases {
		has[c] = c.fields(t)
	}
	slices.SortStableFunc(cases, func(a, b *goldenCase) int { return cmp.Compare(len(has[a]), len(has[b])) })
	for _, c := range cases {
		whole := c.without(t, "")
		for _, f := range has[c] {
			used[f] = append(used[f], c)
			if !bytes.Equal(whole, c.without(t, f)) {
				shown[f] = append(shown[f], c)
			}
		}
	}
	return shown, used
}

// fields returns the fields that a case's mesh uses.
func (c *goldenCase) fields(t *testing.T) []string {
	t.Helper()
	seen := map[string]bool{}
	one := *c
	one.change = func(k mesh.Kind, spec any) {
		for _, f := range fields.Used(k, spec) {
			seen[f] = true
		}
	}
	one.translate(t, nil)
	return slices.Sorted(maps.Keys(seen))
}

// without returns what comes out of a case when a field is taken out of its mesh.
func (c *goldenCase) without(t *testing.T, field string) []byte {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("%s without %s: Translate panics: %v", c.Name, field, p)
		}
	}()
	one := *c
	one.change = func(k mesh.Kind, spec any) { fields.Take(k, spec, field) }
	resources, problems := one.translate(t, nil)
	out := []byte(printProblems(problems))
	for _, r := range resources {
		out = fmt.Appendf(out, "%s %s\n", r.Type, r.Name)
		var err error
		if out, err = (proto.MarshalOptions{Deterministic: true}).MarshalAppend(out, r.Message); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

const fieldsIntro = `# Fields, and what shows that they work

Every field of the App Mesh model that the data plane obeys, with what shows its effect. This page is made from the cases and tests: ` + "`make generate`" + `.

- A *golden case* is a file of ` + "`internal/envoy/testdata`" + `: a mesh, and what an Envoy is sent for it. It is listed for a field if something else is sent once that field is taken out of the mesh,
  which ` + "`go test ./internal/envoy`" + ` tries for each. The cases that are about the fewest fields come first.
- A *behaviour test* runs real Envoys with real traffic. It says itself what it covers, and must fail in a control plane that does not see the field, which ` + "`make fuzz`" + ` tries for each.

A path names members, lists without an index. What means one thing together is one line: a duration's value and unit, a range's start and end, a key and its value.
`

// fieldTable returns the page.
func fieldTable(shown map[string][]*goldenCase, declared map[string][]fields.Test) string {
	var b strings.Builder
	b.WriteString(fieldsIntro)
	kind := ""
	for _, f := range fields.All() {
		if k, _, _ := strings.Cut(f, "."); k != kind {
			kind = k
			fmt.Fprintf(&b, "\n## %s\n\n| field | golden cases | behaviour tests |\n|---|---|---|\n", kind)
		}
		if reason := fields.NoEffect[f]; reason != "" {
			fmt.Fprintf(&b, "| `%s` | no effect of its own | %s |\n", f, reason)
			continue
		}
		var cases, tests []string
		for _, c := range shown[f] {
			cases = append(cases, "`"+c.Name+"`")
		}
		for _, one := range declared[f] {
			tests = append(tests, "`"+one.String()+"`")
		}
		if len(tests) == 0 && fields.NoBehaviour[f] != "" {
			tests = []string{fields.NoBehaviour[f]}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f, some(cases, 3), some(tests, 4))
	}
	return b.String()
}

// some lists up to most names and says how many more there are.
func some(names []string, most int) string {
	switch n := len(names) - most; {
	case len(names) == 0:
		return "none yet"
	case n > 0:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n)
	}
	return strings.Join(names, ", ")
}
