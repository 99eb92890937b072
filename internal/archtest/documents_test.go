package archtest

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestPointersLead checks that every path which AGENTS.md names is there.
func TestPointersLead(t *testing.T) {
	t.Parallel()
	code := regexp.MustCompile("`([^`\n]+)`")
	link := regexp.MustCompile(`\]\(([^)#]+)`)
	text := readFile(t, "AGENTS.md")
	for _, m := range append(code.FindAllStringSubmatch(text, -1), link.FindAllStringSubmatch(text, -1)...) {
		name := m[1]
		if !looksLikePath(name) {
			continue
		}
		if found, err := filepath.Glob(filepath.Join(root, name)); err != nil || len(found) == 0 {
			t.Errorf("AGENTS.md names %s, which is not there", name)
		}
	}
}

// looksLikePath tells a path of the checkout from a command, a flag or a Go name.
func looksLikePath(s string) bool {
	if strings.ContainsAny(s, " :=\"$<>()") || strings.HasPrefix(s, "-") || strings.HasPrefix(s, "*") || strings.HasPrefix(s, ".tools") || strings.HasPrefix(s, "bin/") {
		return false
	}
	switch filepath.Ext(s) {
	case ".md", ".go", ".yaml", ".yml", ".mod", ".txt", ".py", ".sh", ".txtar":
		return true
	}
	return strings.Contains(s, "/") && !strings.HasPrefix(s, "/") && !strings.Contains(s, "...") && !strings.Contains(strings.Split(s, "/")[0], ".")
}

// TestCommandsAreNamed checks that a newcomer finds the two commands.
func TestCommandsAreNamed(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"README.md", "AGENTS.md"} {
		text := readFile(t, file)
		for _, command := range []string{"make demo", "make test"} {
			if !strings.Contains(text, command) {
				t.Errorf("%s does not name %q", file, command)
			}
		}
	}
}

// TestDependenciesHaveReasons checks that docs/design/dependencies.md has a line for each direct
// dependency of go.mod, and none for what is gone.
func TestDependenciesHaveReasons(t *testing.T) {
	t.Parallel()
	line := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| .{20,}")
	reasons := map[string]bool{}
	for _, m := range line.FindAllStringSubmatch(readFile(t, "docs/design/dependencies.md"), -1) {
		reasons[m[1]] = true
	}
	// A line "module version" of go.mod without the comment "// indirect".
	direct := regexp.MustCompile(`(?m)^(?:require )?\s*(\S+) v\S+$`)
	for _, m := range direct.FindAllStringSubmatch(readFile(t, "go.mod"), -1) {
		if !reasons[m[1]] {
			t.Errorf("docs/design/dependencies.md gives no reason for %s, a direct dependency", m[1])
		}
		delete(reasons, m[1])
	}
	for name := range reasons {
		t.Errorf("docs/design/dependencies.md has a line for %s, which go.mod does not require directly", name)
	}
}

// TestVersionsAgree compares versions.yaml with the places where other tools want the same versions.
func TestVersionsAgree(t *testing.T) {
	t.Parallel()
	var versions map[string]map[string]string
	if err := yaml.Unmarshal([]byte(readFile(t, "versions.yaml")), &versions); err != nil {
		t.Fatalf("decoding versions.yaml: %v", err)
	}
	for _, file := range []string{"go.mod", "tools/go.mod", "test/clients/gosdk1/go.mod", "test/telemetry/receivers/go.mod", "test/spire/servers/go.mod", "test/bench/scale/peers/go.mod"} {
		if want := versions["go"]["minimum"]; !strings.Contains(readFile(t, file), "\ngo "+want+"\n") {
			t.Errorf("%s does not say 'go %s', as versions.yaml does", file, want)
		}
	}
	for name, place := range map[string]struct{ file, form string }{
		"go-v1":      {"test/clients/gosdk1/go.mod", "\tgithub.com/aws/aws-sdk-go v%s\n"},
		"go-v2":      {"go.mod", "\tgithub.com/aws/aws-sdk-go-v2/service/appmesh v%s\n"},
		"java":       {"test/clients/java/pom.xml", "<awssdk.version>%s</awssdk.version>"},
		"javascript": {"test/clients/javascript/package-lock.json", "\"node_modules/@aws-sdk/client-app-mesh\": {\n      \"version\": \"%s\","},
	} {
		if want := fmt.Sprintf(place.form, versions["sdks"][name]); !strings.Contains(readFile(t, place.file), want) {
			t.Errorf("%s does not have %q, which versions.yaml asks for", place.file, want)
		}
	}
	locked := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^([\w-]+)==(\S+)`).FindAllStringSubmatch(readFile(t, "tools/clients.txt"), -1) {
		locked[m[1]] = m[2]
	}
	for name, want := range versions["clients"] {
		if got := locked[name]; got != want {
			t.Errorf("tools/clients.txt has %s %q, versions.yaml %q: run 'make lock'", name, got, want)
		}
	}
}
