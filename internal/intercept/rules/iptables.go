package rules

import (
	"fmt"
	"slices"
	"strings"
)

// ours are our chains in the two tables of iptables that we use.
var ours = map[string][]string{
	natTable:    {IPTablesChain(Egress), IPTablesChain(Ingress), IPTablesChain(DNS)},
	filterTable: {IPTablesChain(Away)},
}

// Tables of iptables.
const (
	natTable    = "nat"
	filterTable = "filter"
)

// IPTablesChain returns what a chain is called in iptables.
func IPTablesChain(name string) string {
	if (Chain{Name: name}).Hooked() {
		return strings.ToUpper(name)
	}
	return "FAIRLEAD_" + strings.ToUpper(name)
}

// IPTablesRules returns the table's rules in the form of iptables-save, those of our own
// chains and the jumps to them.
func (t Table) IPTablesRules() []string {
	var out []string
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			out = append(out, "-A "+IPTablesChain(c.Name)+" "+iptablesRule(r))
		}
	}
	return out
}

// IPTablesRestore returns what iptables-restore --noflush, or for IPv6 ip6tables-restore,
// is given to have the table in force in place of what is installed: connections in one
// step, and before it, where there is something of it, what is done with their packets.
// The jumps come before all rules of others.
func (t Table) IPTablesRestore(installed Installed) string {
	return t.part(true, installed.Filter) + t.part(false, installed.NAT)
}

// part returns what iptables-restore is given for one of its tables; "" for nothing, so
// that a table that nobody has used yet is not made.
func (t Table) part(filters bool, installed InstalledIn) string {
	var declared, lines []string
	for _, c := range t.Chains {
		if c.Filters() != filters {
			continue
		}
		name := IPTablesChain(c.Name)
		if !c.Hooked() {
			// Of a chain that is there already this removes the rules.
			declared = append(declared, ":"+name+" - [0:0]")
		}
		for i, r := range c.Rules {
			command := "-A " + name
			if c.Hooked() {
				command = fmt.Sprintf("-I %s %d", name, i+1)
			}
			lines = append(lines, command+" "+iptablesRule(r))
		}
	}
	gone := slices.DeleteFunc(slices.Clone(installed.Chains), func(chain string) bool {
		return slices.Contains(declared, ":"+chain+" - [0:0]")
	})
	lines = append(installed.unhook(), lines...)
	return restore(filters, append(append(declared, lines...), drop(gone)...))
}

// IPTablesRemove returns what iptables-restore --noflush is given to remove what is
// installed; "" when there is nothing.
func IPTablesRemove(installed Installed) string {
	var nothing Table
	return nothing.part(false, installed.NAT) + nothing.part(true, installed.Filter)
}

// Installed is what is ours in the tables of iptables, in the form of iptables-save.
type Installed struct {
	NAT, Filter InstalledIn
	// Others are chains of App Mesh's own route manager.
	Others []string
}

// InstalledIn is what is ours in one of the tables.
type InstalledIn struct {
	Chains []string // names of our chains
	Rules  []string // rules in them
	Jumps  []string // rules of other chains that lead to ours
}

// ReadIPTablesSave finds what is ours in the output of iptables-save or ip6tables-save.
func ReadIPTablesSave(text string) Installed {
	var in Installed
	tables := map[string]*InstalledIn{natTable: &in.NAT, filterTable: &in.Filter}
	table := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "*"); ok {
			table = name
		}
		t, chains := tables[table], ours[table]
		switch {
		case t == nil:
		case strings.HasPrefix(line, ":"):
			name, _, _ := strings.Cut(line[1:], " ")
			if slices.Contains(chains, name) {
				t.Chains = append(t.Chains, name)
			}
			if table == natTable && IsAppMeshChain(name) {
				in.Others = append(in.Others, name)
			}
		case !strings.HasPrefix(line, "-A "):
		case slices.Contains(chains, strings.Fields(line)[1]):
			t.Rules = append(t.Rules, line)
		case leadsTo(line, chains):
			t.Jumps = append(t.Jumps, line)
		}
	}
	return in
}

// IsAppMeshChain reports whether App Mesh's own route manager has made a chain.
func IsAppMeshChain(name string) bool { return name == "APPMESH_EGRESS" || name == "APPMESH_INGRESS" }

// leadsTo reports whether a rule's target is one of some chains.
func leadsTo(rule string, chains []string) bool {
	words := strings.Fields(rule)
	for i, w := range words[:len(words)-1] {
		if (w == "-j" || w == "-g") && slices.Contains(chains, words[i+1]) {
			return true
		}
	}
	return false
}

// IPTablesForm returns a rule in one of the forms that mean the same: iptables-save adds
// what is implied, and which of it differs by version.
func IPTablesForm(rule string) string {
	words := strings.Fields(rule)
	var out []string
	for i := 0; i < len(words); i++ {
		w := words[i]
		if w == "-m" && i+1 < len(words) && (words[i+1] == TCP || words[i+1] == UDP) {
			i++
			continue
		}
		out = append(out, strings.TrimSuffix(strings.TrimSuffix(w, "/32"), "/128"))
	}
	return strings.Join(out, " ")
}

// unhook returns the commands that remove the jumps to us.
func (in InstalledIn) unhook() []string {
	var out []string
	for _, jump := range in.Jumps {
		out = append(out, "-D"+strings.TrimPrefix(jump, "-A"))
	}
	return out
}

// drop returns the commands that remove chains to which nothing leads.
func drop(chains []string) []string {
	var out []string
	for _, c := range chains {
		out = append(out, "-F "+c)
	}
	for _, c := range chains {
		out = append(out, "-X "+c)
	}
	return out
}

// restore returns the lines for one table; "" where there are none.
func restore(filters bool, lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	table := natTable
	if filters {
		table = filterTable
	}
	return "*" + table + "\n" + strings.Join(lines, "\n") + "\nCOMMIT\n"
}

// iptablesRule returns one rule without its chain, in the order in which iptables-save
// writes it.
func iptablesRule(r Rule) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if limited(r.From) {
		add("-s %s", r.From)
	}
	if limited(r.To) {
		add("-d %s", r.To)
	}
	if r.Protocol != "" {
		add("-p %s", r.Protocol)
	}
	if r.Port != 0 {
		add("-m %s --dport %d", r.Protocol, r.Port)
	}
	if r.Opening {
		add("--tcp-flags FIN,SYN,RST,ACK SYN")
	}
	if r.Redirected {
		add("-m conntrack --ctstate DNAT")
	}
	if r.Heard {
		add("-m socket --nowildcard") // listening on all addresses counts too
	}
	if r.UID != nil {
		add("-m owner --uid-owner %d", *r.UID)
	}
	if r.GID != nil {
		add("-m owner --gid-owner %d", *r.GID)
	}
	if r.FromOutside {
		add("-m addrtype ! --src-type LOCAL")
	}
	if r.ToOutside {
		add("-m addrtype ! --dst-type LOCAL")
	}
	switch {
	case r.Drop:
		add("-j DROP")
	case r.Redirect != 0:
		add("-j REDIRECT --to-ports %d", r.Redirect)
	case r.Jump != "":
		add("-j %s", IPTablesChain(r.Jump))
	default:
		add("-j RETURN")
	}
	return strings.Join(parts, " ")
}
