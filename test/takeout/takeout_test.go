// Package takeout takes the fields of the model out of the control plane, one by one, and
// expects the tests that say they cover a field to fail without it. A test that does not
// shows nothing of what it says it does.
package takeout

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/fields"
)

var (
	all  = flag.Bool("all", false, "take out every field, which takes long; without it, those that TestPriority of test/envoy covers")
	only = flag.String("fields", "", "with -all: only the fields whose paths begin so")
)

// longest bounds one run of one test.
const longest = 5 * time.Minute

// TestWithoutAField runs each test that covers a field where no control plane sees the
// field. It must fail then, and pass if nothing is taken out: so it fails for want of the
// field and of nothing else.
func TestWithoutAField(t *testing.T) {
	t.Parallel()
	meshtest.EnvoyPath(t) // without one the tests would be skipped
	root, err := meshtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	declared, err := fields.Declared(root)
	if err != nil {
		t.Fatal(err)
	}
	b := &builds{t: t, root: root, dir: t.TempDir(), programs: map[string]string{}}
	covered := map[fields.Test][]string{}
	for _, field := range fields.All() {
		for _, test := range declared[field] {
			if *all && strings.HasPrefix(field, *only) || !*all && test.Name == "TestPriority" {
				covered[test] = append(covered[test], field)
			}
		}
	}
	if len(covered) == 0 {
		t.Fatal("no test covers any of the fields")
	}
	agent, slots := b.agent(), make(chan struct{}, 2)
	for test, paths := range covered {
		r := &runner{test: test, program: b.test(test.Dir), root: root, agent: agent, slots: slots}
		t.Run(test.Name, func(t *testing.T) {
			t.Parallel()
			switch out, err := r.run(t, meshtest.WithoutNothing); {
			case errors.Is(err, errSkipped):
				t.Skipf("%s cannot be run here:\n%s", test, out)
			case err != nil:
				t.Fatalf("%s, with nothing taken out: %v\n%s", test, err, out)
			}
			for _, field := range paths {
				t.Run(field, func(t *testing.T) {
					t.Parallel()
					switch out, err := r.run(t, field); {
					case err == nil:
						t.Errorf("%s says that it covers %s, and passes in a control plane that does not see it", test, field)
					case !errors.Is(err, errFailed):
						t.Errorf("%s without %s: %v\n%s", test, field, err, out)
					}
				})
			}
		})
	}
}

func TestMain(m *testing.M) { meshtest.Main(m, nil) }

// builds builds what is run, once.
type builds struct {
	t         *testing.T
	root, dir string
	programs  map[string]string // of the tests of each folder
}

// test returns the program of a folder's tests.
func (b *builds) test(dir string) string {
	b.t.Helper()
	path := b.programs[dir]
	if path == "" {
		path = filepath.Join(b.dir, strings.ReplaceAll(dir, "/", "-")+".test")
		b.build("test", "-c", "-o", path, "./"+dir)
		b.programs[dir] = path
	}
	return path
}

func (b *builds) agent() string {
	b.t.Helper()
	path, err := meshtest.Program("cmd/fairlead-agent")
	if err != nil {
		b.t.Fatal(err)
	}
	return path
}

func (b *builds) build(args ...string) {
	b.t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = b.root
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// runner runs one test, in a process of its own each time.
type runner struct {
	test                 fields.Test
	program, root, agent string
	// slots bounds how many tests run at the same time: each has several Envoys, and all
	// share the machine.
	slots chan struct{}
}

// errFailed says that a test failed, as tests do, and errSkipped that it was skipped.
var errFailed, errSkipped = errors.New("it failed"), errors.New("it was skipped")

// run runs the test without a field. The error is nil if it passed, errFailed or
// errSkipped if it says so itself, and else what kept it from being run to its end.
func (r *runner) run(t *testing.T, field string) (out string, err error) {
	t.Helper()
	r.slots <- struct{}{}
	defer func() { <-r.slots }()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.program, "-test.run", "^"+r.test.Name+"$", "-test.v", "-test.timeout", longest.String(), "-without", field)
	cmd.Dir = filepath.Join(r.root, r.test.Dir)
	cmd.Env = append(os.Environ(), meshtest.AgentVariable+"="+r.agent)
	raw, err := cmd.CombinedOutput()
	out = string(raw)
	said := func(what string) bool { return strings.Contains("\n"+out, "\n--- "+what+": "+r.test.Name+" ") }
	switch {
	case said("SKIP"):
		return out, errSkipped
	case err == nil && said("PASS"):
		return out, nil
	case said("FAIL") && !strings.Contains(out, "\npanic: "):
		return out, errFailed
	}
	return out, fmt.Errorf("it did not run to its end: %w", err)
}
