package archtest

import (
	"maps"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const module = "github.com/fairlead-mesh/fairlead"

// Modules that a room is named to import.
const (
	radix      = "github.com/hashicorp/go-immutable-radix/v2"
	envoyProto = "github.com/envoyproxy/go-control-plane/envoy"
	xdsProto   = "github.com/cncf/xds/go"
	protobuf   = "google.golang.org/protobuf"
	genproto   = "google.golang.org/genproto"
	grpc       = "google.golang.org/grpc"
	awsSDK     = "github.com/aws/aws-sdk-go-v2"
	smithy     = "github.com/aws/smithy-go"
	yamlV3     = "go.yaml.in/yaml/v3"
	cobra      = "github.com/spf13/cobra"
	pflag      = "github.com/spf13/pflag"
	xsync      = "golang.org/x/sync"
	xnet       = "golang.org/x/net"
	xsys       = "golang.org/x/sys"
	nftables   = "github.com/google/nftables"
	mdNetlink  = "github.com/mdlayher/netlink"
)

// A room is a folder of the checkout with all packages below it.
type room struct {
	// rooms are the others of this module that it may import.
	rooms []string
	// modules are the third parties' that it may import; anything means no limit.
	modules []string
	// not are packages of the standard library that it must not import.
	not []string
}

var anything = []string{"*"}

// impure is what a pure room keeps away from. The linter knows single functions too: the clock's, and net's that do more than text.
var impure = []string{"context", "log", "log/slog", "math/rand", "math/rand/v2", "os", "os/exec"}

// rooms are the import rules. Tests are free, except that nothing imports internal/gen.
// A new package needs a line here, and .golangci.yml says the same (TestLinterKnowsTheRooms).
var rooms = map[string]room{
	"internal/mesh":      {modules: []string{radix}, not: impure},
	"internal/envoy":     {rooms: []string{"internal/mesh"}, modules: []string{envoyProto, xdsProto, protobuf, genproto}, not: append([]string{"net/http"}, impure...)},
	"internal/intercept": {rooms: []string{"internal/intercept/rules"}, modules: []string{nftables, mdNetlink, xsys}},
	// What the rules are is decided apart from how they are set.
	"internal/intercept/rules": {not: impure},
	"internal/envoybin":        {},
	"internal/netns":           {modules: []string{xsys}},
	"internal/lazy":            {not: impure},
	// The form of backup files, which a client of the API writes as well as the store.
	"internal/backup": {},
	"internal/store":  {rooms: []string{"internal/backup", "internal/mesh"}, modules: anything},
	"internal/live":   {rooms: []string{"internal/mesh", "internal/store"}, modules: anything},
	"internal/access": {rooms: []string{"internal/access/federation", "internal/mesh", "internal/store"}, modules: anything},
	// A room of its own: it knows nothing of callers, and those who write to it need not know access.
	"internal/access/audit": {rooms: []string{"internal/mesh"}, modules: anything},
	// Who vouches for whom: it knows nothing of accounts and what they allow.
	"internal/access/federation": {modules: anything},
	"internal/registry":          {rooms: []string{"internal/mesh", "internal/store"}, modules: anything},
	// A client of AWS, which knows nothing of where its answers are kept.
	"internal/registry/cloudmap": {rooms: []string{"internal/mesh"}, modules: anything},
	"internal/ca":                {rooms: []string{"internal/mesh", "internal/store"}, modules: anything},
	// What servers of one store know of each other; what they ask is the wiring's.
	"internal/replica": {rooms: []string{"internal/store"}, modules: anything},
	"internal/quota":   {rooms: []string{"internal/mesh", "internal/store"}, modules: anything},
	"internal/restapi": {rooms: []string{"api", "internal/access", "internal/access/audit", "internal/backup", "internal/ca", "internal/mesh", "internal/store"}, modules: anything},
	"internal/xds": {
		rooms: []string{
			"internal/access", "internal/access/audit", "internal/ca", "internal/envoy", "internal/live", "internal/mesh", "internal/quota",
		},
		modules: anything,
	},
	"internal/agent": {
		rooms:   []string{"api/client", "internal/envoybin", "internal/intercept", "internal/intercept/rules", "internal/lazy"},
		modules: []string{envoyProto, xdsProto, protobuf, genproto, grpc, awsSDK, smithy, yamlV3, xsync, xnet, xsys},
	},
	// JSON in, JSON out.
	"internal/agent/ecs": {rooms: []string{"internal/lazy"}, not: append([]string{"net/http"}, impure...)},
	"internal/kube":      {rooms: []string{"api/client", "internal/mesh"}, modules: anything},
	"internal/cli":       {rooms: []string{"api/client", "internal/backup", "internal/mesh"}, modules: []string{awsSDK, smithy, yamlV3, cobra, xsync}},
	// A client of the server like cli: it starts the binaries and calls the API.
	"internal/demo": {rooms: []string{"api/client", "internal/cli", "internal/envoybin", "internal/mesh", "internal/netns"}, modules: []string{awsSDK, smithy, yamlV3, xsync}},
	"internal/ui":   {},
	// The wiring: what cmd/fairlead and the test harness both start.
	"internal/server": {
		rooms: []string{
			"internal/access", "internal/access/audit", "internal/backup", "internal/ca", "internal/envoy", "internal/live", "internal/mesh", "internal/quota",
			"internal/registry", "internal/registry/cloudmap", "internal/replica", "internal/restapi", "internal/store", "internal/ui", "internal/xds",
		},
		modules: anything,
	},
	"internal/meshtest": {
		rooms: []string{
			"internal/access", "internal/access/audit", "internal/agent", "internal/envoy", "internal/envoybin", "internal/intercept",
			"internal/intercept/rules", "internal/live", "internal/mesh", "internal/netns", "internal/restapi", "internal/server", "internal/store", "internal/xds",
		},
		modules: anything,
	},
	"internal/archtest": {},
	"internal/gen":      {},
	"api":               {modules: anything},
	"api/client":        {modules: anything},
	"test":              {rooms: []string{"internal/envoy", "internal/mesh", "internal/meshtest", "internal/server", "internal/store"}, modules: anything},
	"cmd/fairlead": {
		rooms:   []string{"internal/cli", "internal/demo", "internal/kube", "internal/mesh", "internal/server", "internal/store"},
		modules: []string{cobra, pflag, xsync, yamlV3},
	},
	"cmd/fairlead-agent": {
		rooms:   []string{"internal/agent", "internal/agent/ecs", "internal/envoybin", "internal/intercept", "internal/intercept/rules"},
		modules: []string{cobra},
	},
}

// roomOf returns the room that the package in folder belongs to, "" for none.
func roomOf(folder string) string {
	for d := folder; d != "."; d = path.Dir(d) {
		if _, ok := rooms[d]; ok {
			return d
		}
	}
	return ""
}

func TestImports(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		from := roomOf(path.Dir(f.name))
		if from == "" {
			t.Errorf("%s: its package has no line in the table of rooms_test.go", f.name)
			continue
		}
		for _, imp := range f.imports {
			if why := refused(from, imp, f.test); why != "" {
				t.Errorf("%s imports %s: %s", f.name, imp, why)
			}
		}
	}
}

// refused says why room from must not import imp, "" if it may.
func refused(from, imp string, test bool) string {
	r := rooms[from]
	folder, own := strings.CutPrefix(imp, module+"/")
	to := roomOf(folder)
	switch {
	case own && to == from:
		return ""
	case own && to == "internal/gen":
		return "nothing imports the generators"
	case test:
		return ""
	case own:
		if !slices.Contains(r.rooms, to) {
			return from + " may import of this module only: " + list(r.rooms)
		}
	case !strings.Contains(strings.Split(imp, "/")[0], "."):
		if slices.Contains(r.not, imp) {
			return from + " is pure: no files, network, logs, contexts or chance"
		}
	case !slices.Equal(r.modules, anything) && !slices.ContainsFunc(r.modules, func(m string) bool { return imp == m || strings.HasPrefix(imp, m+"/") }):
		return from + " may import of third parties only: " + list(r.modules)
	}
	return ""
}

func list(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// TestAgentIsSmall holds because the agent runs beside every Envoy: thousands of times where the server runs once.
func TestAgentIsSmall(t *testing.T) {
	t.Parallel()
	// Read so that the cached result of this test lasts no longer than what it saw.
	goFiles(t)
	readFile(t, "go.mod")
	cmd := exec.Command("go", "list", "-deps", "./cmd/fairlead-agent")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing what the agent links: %v", err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		for _, heavy := range []string{"go.etcd.io/", "k8s.io/", "sigs.k8s.io/", module + "/internal/store"} {
			if strings.HasPrefix(dep, heavy) {
				t.Errorf("fairlead-agent links %s", dep)
			}
		}
	}
}

type lintRule struct {
	ListMode string   `yaml:"list-mode"`
	Files    []string `yaml:"files"`
	Allow    []string `yaml:"allow"`
	Deny     []struct {
		Pkg  string `yaml:"pkg"`
		Desc string `yaml:"desc"`
	} `yaml:"deny"`
}

// TestLinterKnowsTheRooms compares the depguard rules of .golangci.yml, which show a forbidden
// import in the editor, with the table above.
func TestLinterKnowsTheRooms(t *testing.T) {
	t.Parallel()
	var config struct {
		Linters struct {
			Settings struct {
				Depguard struct {
					Rules map[string]lintRule `yaml:"rules"`
				} `yaml:"depguard"`
			} `yaml:"settings"`
		} `yaml:"linters"`
	}
	if err := yaml.Unmarshal([]byte(readFile(t, ".golangci.yml")), &config); err != nil {
		t.Fatalf("decoding .golangci.yml: %v", err)
	}
	got := config.Linters.Settings.Depguard.Rules
	for _, name := range slices.Sorted(maps.Keys(rooms)) {
		want := wantRule(name)
		key := strings.TrimPrefix(strings.ReplaceAll(name, "/", "-"), "internal-")
		if diff := cmp.Diff(want, got[key]); diff != "" {
			text, _ := yaml.Marshal(map[string]lintRule{key: want})
			t.Errorf("rule %q of .golangci.yml is not what the table says (-want +got):\n%s\nwanted:\n%s", key, diff, text)
		}
	}
}

func wantRule(name string) lintRule {
	r := rooms[name]
	rule := lintRule{ListMode: "strict", Files: []string{"${config-path}/" + name + "/**", "!$test"}, Allow: []string{"$gostd"}}
	if slices.Equal(r.modules, anything) {
		rule.ListMode, rule.Allow = "lax", nil
	} else {
		rule.Allow = append(rule.Allow, r.modules...)
	}
	for _, to := range r.rooms {
		rule.Allow = append(rule.Allow, module+"/"+to+"$")
	}
	rule.Allow = append(rule.Allow, module+"/"+name+"/")
	if rule.ListMode == "lax" {
		rule.Deny = append(rule.Deny, struct {
			Pkg  string `yaml:"pkg"`
			Desc string `yaml:"desc"`
		}{module, "not among the rooms that internal/archtest lets it import"})
	}
	return rule
}
