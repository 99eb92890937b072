package envoy

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// versions.yaml says which Envoys are tested: the oldest is the one that an unknown Envoy
// is taken for, the newest that of the cases, and the others can be fetched.
func TestTestedVersions(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../versions.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var versions map[string]map[string]string
	if err := yaml.Unmarshal(raw, &versions); err != nil {
		t.Fatal(err)
	}
	tested := strings.Fields(versions["envoy"]["tested"])
	if len(tested) < 4 {
		t.Fatalf("tested are %q, want the newest and the three before it", tested)
	}
	if want := "1." + strconv.Itoa(oldestMinor); tested[0] != want {
		t.Errorf("the oldest that is tested is %s, oldestMinor says %s", tested[0], want)
	}
	if last := tested[len(tested)-1]; last != newest {
		t.Errorf("the newest that is tested is %s, the cases are for %s", last, newest)
	}
	for _, minor := range tested {
		section, older := versions["envoy-"+minor]
		if !older {
			section = versions["envoy"]
		}
		if got := section["version"]; !strings.HasPrefix(got, minor+".") {
			t.Errorf("Envoy %s is fetched as %q", minor, got)
		}
	}
}
