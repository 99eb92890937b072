package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// The tables of the design note are those that the program prints.
func TestNote(t *testing.T) {
	t.Parallel()
	root, err := meshtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(root, note))
	if err != nil {
		t.Fatal(err)
	}
	want, err := filled(string(raw))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(raw)); diff != "" {
		t.Errorf("%s is not what is calculated; run \"go run ./test/bench/cells -update\" and read the difference (-calculated +there):\n%s", note, diff)
	}
}

func TestPlacesOfTables(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"no place at all": "there is no place for the table",
		"<!-- table nonsense -->\n| x |\n<!-- end -->\n": "there is no",
	} {
		if _, err := filled(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gave %v, want an error with %q", text, err, want)
		}
	}
}

// plain is a fleet with round figures: each node has a proxy and calls one service.
var plain = fleet{proxies: 1000, perNode: 1, services: 1, objects: 4, edits: day / 100, replaced: 0, age: 1000, life: 1000, lease: 30}

// A cell by hand.
func TestCellByHand(t *testing.T) {
	t.Parallel()
	c := costs{
		base: 1e6, stream: 1e3, feedService: 100, object: 10, idle: 1e-3, sync: 1e-2, write: 1e-3, rebuildService: 2e-3, push: 1e-3, watch: 1e-4,
		question: 1e-2, etcdWrite: 1e-2, etcdEvent: 1e-3, recordBytes: 100, historySeconds: 10, pushBytes: 50, pingBytes: 20, pingSeconds: 10,
	}
	got := with(c, plain, machine{cores: 10, bytes: 1e9}, knownLimits, 4)
	// 1000 nodes edited every 100 s each are 10 edits a second, told to 4 replicas.
	for what, x := range map[string][2]float64{
		"idle":            {got.parts[0].cores, 1000 * 1e-3},
		"coming back":     {got.parts[1].cores, 1 * 1e-2}, // 1000 in 1000 s
		"edits":           {got.parts[2].cores, 10 * (1e-3 + 2e-3 + 1e-3)},
		"instances":       {got.parts[3].cores, 0},
		"certificates":    {got.parts[4].cores, 0},
		"leases":          {got.parts[5].cores, 0},
		"watches":         {got.parts[6].cores, 4 * 10 * 1e-4},
		"questions":       {got.parts[7].cores, 6 * 1e-2}, // 4 ask 3 others every other second
		"memory":          {got.memory, 1e6 + 5000*10 + 250*1e3 + 250*100},
		"storm":           {got.storm, 1000 * 1e-2 / (4 * 10 * 0.75)},
		"one moved":       {got.moved, 250 * 1e-2 / (3 * 10 * 0.75)},
		"start":           {got.start, 5000 * 1e-4},
		"etcd's bytes":    {got.etcdBytes, 5000*100 + 10*10*100},
		"etcd's cores":    {got.etcdCores, 10*1e-2 + 4*10*1e-3},
		"sent to proxies": {got.sent, 10*50 + 1000*2},
		"watched":         {got.watched, 4 * 10 * 100},
	} {
		if math.Abs(x[0]-x[1]) > 1e-9*math.Abs(x[1]) {
			t.Errorf("%s: %g, by hand %g", what, x[0], x[1])
		}
	}
}

// Certificates and leases are renewed, and what is replaced has both anew.
func TestRates(t *testing.T) {
	t.Parallel()
	f := plain
	f.certificates, f.leases, f.replaced = true, true, 86.4 // one in a second
	want := rates{edits: 10, instances: 2, returns: 2, certificates: 2 + 1, renewals: 100, writes: 10 + 2 + 6, changes: 12}
	if diff := cmp.Diff(want, f.rates(), cmp.AllowUnexported(rates{}), cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-9 })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := f.streams(); got != 2000 {
		t.Errorf("%g streams, want one for the bundle beside each", got)
	}
}

func TestFeeds(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]float64{{1, 100, 1}, {4, 1, 1}, {2, 2, 1.5}, {10, 1000, 10}} {
		if got := feeds(c[0], c[1]); math.Abs(got-c[2]) > 1e-3 {
			t.Errorf("%g proxies over %g replicas are on %g, want %g", c[1], c[0], got, c[2])
		}
	}
}

// Each limit is found, and none where all is small.
func TestLimits(t *testing.T) {
	t.Parallel()
	base := func() calculation {
		x := ordinaryCalculation()
		x.fleet.proxies = 10_000
		return x
	}
	small := base()
	if got := fit(small.costs, small.fleet, small.m, small.limits); got.first != "" || got.replicas != 3 {
		t.Errorf("10,000 proxies need %g replicas and are beyond %q, want 3 and nothing", got.replicas, got.first)
	}
	for want, change := range map[string]func(*calculation){
		"processors":           func(x *calculation) { x.costs.idle *= 300 },
		"memory":               func(x *calculation) { x.costs.stream *= 10 },
		"the return of all":    func(x *calculation) { x.costs.sync *= 100 },
		"streams of a replica": func(x *calculation) { x.limits.streams = 5000 },
	} {
		x := base()
		change(&x)
		if got := fit(x.costs, x.fleet, x.m, x.limits); got.decides != want || got.replicas <= 3 || got.first != "" {
			t.Errorf("%g replicas, decided by %q, beyond %q; want more than 3 because of %q", got.replicas, got.decides, got.first, want)
		}
	}
	for want, change := range map[string]func(*calculation){
		"etcd's leases":           func(x *calculation) { x.limits.etcdLeases = 10 },
		"etcd's writes":           func(x *calculation) { x.limits.etcdWrites = 1 },
		"etcd's size":             func(x *calculation) { x.limits.etcdBytes = 1e6 },
		"etcd's processors":       func(x *calculation) { x.costs.etcdWrite = 1 },
		"the start of a replica":  func(x *calculation) { x.limits.start = 0.1 },
		"objects on each replica": func(x *calculation) { x.costs.object *= 100 },
		"replicas":                func(x *calculation) { x.limits.streams = 100 },
	} {
		x := base()
		change(&x)
		if got := fit(x.costs, x.fleet, x.m, x.limits); got.first != want {
			t.Errorf("beyond %q, want %q", got.first, want)
		}
	}
}

// A fleet is spread over as few cells as will do, and the largest cell is one that will.
func TestSpread(t *testing.T) {
	t.Parallel()
	x := ordinaryCalculation()
	size, ends := largest(x.costs, x.fleet, x.m, x.limits)
	p := spread(x.costs, x.fleet, x.m, x.limits, x.prices, 0)
	if want := math.Ceil(x.fleet.proxies / size); p.cells != want || p.first != ends {
		t.Errorf("%g cells, one fewer is beyond %q; the largest has %g proxies and ends at %q", p.cells, p.first, size, ends)
	}
	if p = spread(x.costs, x.fleet, x.m, x.limits, x.prices, 50_000); p.cells != 20 || p.machines != 20*(p.cell.replicas+etcdMembers) {
		t.Errorf("%g cells of 50,000 and %g machines", p.cells, p.machines)
	}
}

func TestShow(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 0.004: "0", 0.006: "below 0.01", 0.25: "0.25", 1: "1", 1.25: "1.2", 12.5: "12.5", 99.999: "100", 999: "999", 1500.4: "1,500", 20_000: "20,000", 1e6: "1 million", 2.56e6: "2.6 million"} {
		if got := show(v); got != want {
			t.Errorf("%g is shown as %s, want %s", v, got, want)
		}
	}
}
