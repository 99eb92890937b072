// Command cells calculates what a fleet of proxies takes: replicas, cells, etcd's load,
// machines and money, and what limits first. It prints the tables of docs/design/scale.md,
// or, with -update, writes them there; a test holds that they are the same.
//
// What things cost is in costs.go, with where each figure was measured; how they add up is in
// model.go. It imports nothing but the standard library.
package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
)

// note is where the tables stand, from the checkout's root.
const note = "docs/design/scale.md"

func main() {
	if err := command(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func command() error {
	x := ordinaryCalculation()
	f := &x.fleet
	flag.Float64Var(&f.proxies, "proxies", f.proxies, "how many proxies there are")
	flag.Float64Var(&f.perNode, "per-node", f.perNode, "proxies of a virtual node")
	flag.Float64Var(&f.services, "services", f.services, "services that a node calls")
	flag.Float64Var(&f.edits, "edits", f.edits, "edits a day for each node")
	flag.Float64Var(&f.replaced, "replaced", f.replaced, "how often a day a proxy is replaced")
	flag.Float64Var(&f.life, "certificate-life", f.life, "life of certificates in seconds")
	flag.BoolVar(&f.certificates, "certificates", f.certificates, "agents have certificates for their workloads")
	flag.Float64Var(&f.lease, "lease", f.lease, "leases of instances in seconds")
	flag.BoolVar(&f.leases, "leases", f.leases, "agents register their instances")
	flag.Float64Var(&x.most, "cell", x.most, "proxies of a cell at most, 0 for as many as will do")
	flag.Float64Var(&x.m.cores, "cores", x.m.cores, "cores of a machine")
	flag.Float64Var(&x.m.bytes, "memory", x.m.bytes, "memory of a machine in bytes")
	flag.Float64Var(&x.prices.coreHour, "core-hour", x.prices.coreHour, "price of a core, US$ an hour")
	flag.Float64Var(&x.prices.gigabyteHour, "gigabyte-hour", x.prices.gigabyteHour, "price of a GB of memory, US$ an hour")
	update := flag.Bool("update", false, "write the tables to "+note+", with the flags' defaults")
	flag.Parse()
	if f.proxies < 1 || f.perNode < 1 || f.services < 1 || x.m.cores <= 0 || x.m.bytes <= 0 || f.lease <= 0 || f.life <= 0 {
		return fmt.Errorf("there must be at least one proxy, one to a node, and one service, and machines, leases and lives of some size")
	}
	if *update {
		return updateNote(note)
	}
	all := x.tables()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Printf("## %s\n\n%s\n", name, all[name])
	}
	return nil
}

// place is where a table stands in the note: between two lines that name it.
var place = regexp.MustCompile(`(?ms)^<!-- table ([a-z]+) -->\n.*?^<!-- end -->\n`)

// filled returns the note with the tables in their places. One without a place, and a place
// without a table, is an error.
func filled(text string) (string, error) {
	all := ordinaryCalculation().tables()
	var unknown error
	out := place.ReplaceAllStringFunc(text, func(s string) string {
		name := place.FindStringSubmatch(s)[1]
		t, ok := all[name]
		if !ok {
			unknown = fmt.Errorf("there is no table %q", name)
		}
		delete(all, name)
		return fmt.Sprintf("<!-- table %s -->\n%s<!-- end -->\n", name, t)
	})
	for name := range all {
		unknown = fmt.Errorf("there is no place for the table %q", name)
	}
	return out, unknown
}

func updateNote(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("run it in the checkout's root: %w", err)
	}
	out, err := filled(string(text))
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(out), 0o644) //nolint:gosec // a file of the checkout
}
