package intercept

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/intercept/rules"
)

// ErrNoPermission is the error of a process that may not change rules.
var ErrNoPermission = errors.New("setting rules needs the capability NET_ADMIN in this network namespace: " +
	"run this as root with that capability added to the container, or have the platform set the rules (ECS's proxyConfiguration, a CNI plugin)")

// Result says what Enable or Disable did.
type Result struct {
	// Backend is what holds the rules: nftables, iptables-nft or iptables-legacy; "" after
	// Disable, and where the process that watches has done it.
	Backend string
	// Changed says whether anything was changed; what was right already is left as it is.
	Changed bool
	// Told says that the process that watches has done it.
	Told bool
	// Warning is what the user should know; "" for nothing.
	Warning string
}

// Text returns a line for people.
func (r Result) Text(on bool) string {
	switch {
	case on && r.Told:
		return "interception is on, by the process that watches over it"
	case r.Told:
		return "interception is off, and the process that watches over it leaves it so"
	case on && r.Changed:
		return "interception is on, by " + r.Backend
	case on:
		return "interception was on already, by " + r.Backend
	case r.Changed:
		return "interception is off"
	}
	return "interception was off already"
}

// Status says what is installed of what the settings ask for.
type Status struct {
	// Enabled is whether all that the settings ask for is in force, and nothing else of
	// ours.
	Enabled bool `json:"enabled"`
	// Backend is nftables, iptables-nft or iptables-legacy.
	Backend string `json:"backend"`
	// WhileAway is what becomes of new connections while no Envoy listens, by what is
	// installed: refuse or wait; "" where nothing is.
	WhileAway string   `json:"whileAway"`
	Families  []Family `json:"families"`
	// Watched is whether a process of "intercept run" watches over the rules.
	Watched bool `json:"watched"`
	// Others are rules of others that redirect too, and what else should be known. They
	// are not touched.
	Others []string `json:"others"`
}

// Family says what is installed for one family of addresses.
type Family struct {
	Family    string `json:"family"` // ipv4 or ipv6
	Wanted    bool   `json:"wanted"`
	Installed bool   `json:"installed"` // at least in part
	// Missing are rules that are wanted and not there, Surplus those that are there, in
	// our table or chains, and not wanted.
	Missing []string `json:"missing"`
	Surplus []string `json:"surplus"`
}

// Text returns the status for people.
func (s Status) Text() string {
	var b strings.Builder
	switch {
	case s.Enabled:
		fmt.Fprintf(&b, "interception is on, by %s\n", s.Backend)
	case slices.ContainsFunc(s.Families, func(f Family) bool { return f.Installed }):
		fmt.Fprintf(&b, "interception is not as the settings ask for, by %s\n", s.Backend)
	default:
		fmt.Fprintf(&b, "interception is off (%s is there for it)\n", s.Backend)
	}
	for _, f := range s.Families {
		fmt.Fprintf(&b, "%s: %s\n", f.Family, f.summary())
		if !f.Installed {
			continue // all is missing
		}
		for _, m := range f.Missing {
			fmt.Fprintf(&b, "  missing: %s\n", m)
		}
		for _, m := range f.Surplus {
			fmt.Fprintf(&b, "  surplus: %s\n", m)
		}
	}
	switch s.WhileAway {
	case rules.Wait:
		b.WriteString("while Envoy is away, new connections wait\n")
	case rules.Refuse:
		b.WriteString("while Envoy is away, new connections are refused\n")
	}
	if s.Watched {
		b.WriteString("a process of \"intercept run\" watches over it\n")
	} else {
		b.WriteString("nobody watches over it\n")
	}
	for _, o := range s.Others {
		fmt.Fprintf(&b, "others: %s\n", o)
	}
	return b.String()
}

func (f Family) summary() string {
	right := len(f.Missing)+len(f.Surplus) == 0
	switch {
	case f.Wanted && f.Installed && right:
		return "installed"
	case f.Wanted && f.Installed:
		return "installed in part"
	case f.Wanted:
		return "not installed"
	case f.Installed:
		return "installed, but not wanted"
	}
	return "not wanted, not installed"
}

// entry is something that is installed, or wanted: a rule, or a chain itself.
type entry struct {
	key  string // equal if it is the same
	text string // for people
}

// state is what is installed of ours.
type state struct {
	entries map[bool][]entry // by whether it is IPv6; in order
	others  []string
	// iptables has what it needs to remove them.
	iptables map[bool]rules.Installed
}

func (s state) empty() bool { return len(s.entries[false])+len(s.entries[true]) == 0 }

// whileAway says what becomes of connections by what is installed. Waiting is what some
// rules are for that are in a chain of their own; a family without them refuses.
func (s state) whileAway() string {
	if s.empty() {
		return ""
	}
	for _, entries := range s.entries {
		waits := slices.ContainsFunc(entries, func(e entry) bool {
			return e.key == "chain "+rules.Away || e.key == "chain "+rules.IPTablesChain(rules.Away)
		})
		if len(entries) > 0 && !waits {
			return rules.Refuse
		}
	}
	return rules.Wait
}

// difference returns what is missing and what is there beside.
func difference(want, have []entry) (missing, surplus []string) {
	missing, surplus = []string{}, []string{} // lists in JSON too
	left := slices.Clone(have)
	for _, w := range want {
		if i := slices.IndexFunc(left, func(e entry) bool { return e.key == w.key }); i >= 0 {
			left = slices.Delete(left, i, i+1)
		} else {
			missing = append(missing, w.text)
		}
	}
	for _, e := range left {
		surplus = append(surplus, e.text)
	}
	same := slices.EqualFunc(want, have, func(a, b entry) bool { return a.key == b.key })
	if len(missing)+len(surplus) == 0 && !same {
		surplus = []string{"the rules are in another order"}
	}
	return missing, surplus
}

// compare makes the part of a status that is about rules.
func compare(want map[bool][]entry, have state) (families []Family, right bool) {
	right = true
	for _, ipv6 := range []bool{false, true} {
		f := Family{Family: (rules.Table{IPv6: ipv6}).Family(), Wanted: len(want[ipv6]) > 0, Installed: len(have.entries[ipv6]) > 0}
		f.Missing, f.Surplus = difference(want[ipv6], have.entries[ipv6])
		right = right && len(f.Missing)+len(f.Surplus) == 0
		families = append(families, f)
	}
	return families, right
}
