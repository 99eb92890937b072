package intercept

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/intercept/rules"
)

// iptables is one of the two kinds of programs of that name.
type iptables struct {
	kind string            // nft or legacy
	base map[bool]string   // what the names of its programs begin with, by whether it is for IPv6
	path map[string]string // the programs
}

// commandTime is how long a program may take, waiting for others that change rules included.
const commandTime = 30 * time.Second

// findIPTables returns the programs that there are, of each kind the first: the one that
// the system has chosen before those with names of their own.
func findIPTables() []iptables {
	var out []iptables
	found := map[string]bool{}
	for _, suffix := range []string{"", "-legacy", "-nft"} {
		x := iptables{base: map[bool]string{}, path: map[string]string{}}
		for ipv6, base := range map[bool]string{false: "iptables" + suffix, true: "ip6tables" + suffix} {
			save, err1 := exec.LookPath(base + "-save")
			restore, err2 := exec.LookPath(base + "-restore")
			if err1 == nil && err2 == nil {
				x.base[ipv6] = base
				x.path[base+"-save"], x.path[base+"-restore"] = save, restore
			}
		}
		if x.base[false] == "" {
			continue
		}
		version, err := x.run("", x.base[false]+"-save", "--version")
		if err != nil {
			continue
		}
		x.kind = "legacy" // before 1.8 there was no other, and no word for it
		if strings.Contains(version, "nf_tables") {
			x.kind = "nft"
		}
		if !found[x.kind] {
			found[x.kind] = true
			out = append(out, x)
		}
	}
	return out
}

func (x iptables) name() string { return "iptables-" + x.kind }

// run runs one of the programs in the calling thread's network namespace.
func (x iptables) run(input, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, x.path[program], args...)
	var out, complaint bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", program, err, oneLine(complaint.String()))
	}
	return out.String(), nil
}

// oneLine makes what a program has complained of fit into an error.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func (x iptables) look() (state, error) {
	s := state{entries: map[bool][]entry{}, iptables: map[bool]rules.Installed{}}
	for ipv6, base := range x.base {
		// Without the name of a table, because naming one makes it.
		text, err := x.run("", base+"-save")
		if err != nil {
			return s, fmt.Errorf("reading the rules: %w", err)
		}
		in := rules.ReadIPTablesSave(text)
		s.iptables[ipv6] = in
		s.entries[ipv6] = entriesOf(in)
		for _, chain := range in.Others {
			kind := x.kind
			if kind == "nft" {
				kind = "nf_tables"
			}
			s.others = append(s.others, appMeshNote(chain, ipv6, kind))
		}
	}
	return s, nil
}

// entriesOf returns what is installed, chain by chain: chains, their rules, the jumps.
func entriesOf(in rules.Installed) []entry {
	var out []entry
	for _, t := range []rules.InstalledIn{in.NAT, in.Filter} {
		for _, c := range t.Chains {
			out = append(out, entry{key: "chain " + c, text: "the chain " + c})
		}
		for _, r := range slices.Concat(t.Rules, t.Jumps) {
			form := rules.IPTablesForm(r)
			out = append(out, entry{key: form, text: form})
		}
	}
	return sortEntries(out)
}

func (iptables) want(tables []rules.Table) map[bool][]entry {
	out := map[bool][]entry{}
	for _, t := range tables {
		var in rules.Installed // which of its tables things are in is no matter here
		for _, c := range t.Chains {
			if !c.Hooked() {
				in.NAT.Chains = append(in.NAT.Chains, rules.IPTablesChain(c.Name))
			}
		}
		in.NAT.Rules = t.IPTablesRules()
		out[t.IPv6] = entriesOf(in)
	}
	return out
}

// apply replaces the rules, each family's in one step.
func (x iptables) apply(tables []rules.Table, have state) error {
	inputs := map[bool]string{}
	for _, ipv6 := range []bool{false, true} {
		inputs[ipv6] = rules.IPTablesRemove(have.iptables[ipv6])
	}
	for _, t := range tables {
		if x.base[t.IPv6] == "" {
			return errors.New("setting the rules: there is no ip6tables-restore beside iptables-restore; APPMESH_ENABLE_IPV6=0 does without")
		}
		inputs[t.IPv6] = t.IPTablesRestore(have.iptables[t.IPv6])
	}
	for _, ipv6 := range []bool{false, true} {
		if inputs[ipv6] == "" {
			continue
		}
		if _, err := x.run(inputs[ipv6], x.base[ipv6]+"-restore", "--noflush", "--wait=10"); err != nil {
			return fmt.Errorf("setting the rules: %w", err)
		}
	}
	return nil
}

func (x iptables) remove(have state) error { return x.apply(nil, have) }
