// Command scale measures Fairlead with hundreds and thousands of proxies, and beside it, in
// the same run and with the same resources, go-control-plane's SnapshotCache and
// LinearCache. "make bench-scale" runs it.
//
// The server is bin/fairlead as users start it, the peers a program of a module of their
// own (folder peers), and the proxies a load client (package load) in a process of its own,
// so that the processor time and memory of each are told apart. Latency counts from just
// before a call until the last proxy has received the change.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/test/bench/scale/load"
)

func main() { load.Main(run) }

func run(ctx context.Context) error {
	pattern := flag.String("scenarios", ".", "regular expression of the scenarios to run; \"-list\" lists them")
	list := flag.Bool("list", false, "list the scenarios")
	quick := flag.Bool("quick", false, "small sizes, to see that it works: the figures mean nothing")
	sotw := flag.Bool("sotw", false, "let the proxies that see all use state-of-the-world, not delta")
	out := flag.String("out", "", "file that the table is written to, as Markdown")
	profiles := flag.String("profiles", "", "directory that profiles of the server are written to")
	flag.Parse()
	if *list {
		for _, s := range scenarios {
			fmt.Println(strings.Join(s.names, "\n"))
		}
		return nil
	}
	wanted, err := regexp.Compile(*pattern)
	if err != nil {
		return fmt.Errorf("-scenarios: %w", err)
	}
	root, err := meshtest.Root()
	if err != nil {
		return err
	}
	b := &bench{sizes: fullSizes, scenarios: wanted, profiles: *profiles, sotw: *sotw, root: root}
	if *quick {
		b.sizes = quickSizes
	}
	b.say = func(format string, args ...any) { fmt.Printf(time.Now().Format("15:04:05 ")+format+"\n", args...) }
	b.table.told = func(s string) { b.say("%s", s) }
	if b.dir, err = os.MkdirTemp("", "fairlead-scale-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if *profiles != "" {
		if err := os.MkdirAll(*profiles, 0o755); err != nil { //nolint:gosec // nothing secret goes there
			return err
		}
	}
	defer meshtest.RemovePrograms()
	if err := b.build(); err != nil {
		return err
	}
	before := machine()
	failed := b.run(ctx)
	text := fmt.Sprintf("%s\n%s", b.about(ctx, before), b.table.markdown())
	fmt.Println(text)
	if *out != "" {
		if err := os.MkdirAll(filepath.Dir(*out), 0o755); err != nil { //nolint:gosec // nothing secret goes there
			return err
		}
		if err := os.WriteFile(*out, []byte(text), 0o644); err != nil { //nolint:gosec // nothing secret
			return err
		}
	}
	return failed
}

// machine says what the machine does besides, in processes that want to run.
func machine() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(raw))[:3], " ")
}

var model = regexp.MustCompile(`(?m)^model name\s*: (.*)$`)

// about says what was measured on what.
func (b *bench) about(ctx context.Context, before string) string {
	name := "unknown processor"
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := model.FindSubmatch(raw); m != nil {
			name = string(m[1])
		}
	}
	version := func(dir string, args ...string) string {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir = dir
		out, err := cmd.Output()
		if err != nil {
			return "unknown"
		}
		return strings.TrimSpace(string(out))
	}
	peers := version(filepath.Join(b.root, "test", "bench", "scale", "peers"), "go", "list", "-m", "github.com/envoyproxy/go-control-plane", "google.golang.org/grpc")
	return fmt.Sprintf("Measured on %s: %d cores (%s), shared with the load client and the peers; load average before %s, after %s.\n"+
		"Cores that other processes took meanwhile: %s.\n"+
		"Fairlead %s, %s; peers: %s.\n"+
		"Each figure is the median of its rounds, in brackets the least and the greatest; %d rounds of %d changes for Fairlead, %d of %d for the peers and where each proxy has a node of its own.\n",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), name, before, machine(), strings.Join(b.heard, ", "),
		version(b.root, "git", "describe", "--always", "--dirty"), runtime.Version(), strings.ReplaceAll(peers, "\n", ", "),
		b.rounds, b.changes, b.peerRounds, b.peerChanges)
}
