package intercept

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fairlead-mesh/fairlead/internal/intercept/rules"
)

// backend is a way to set rules.
type backend interface {
	name() string
	// look reads what is installed.
	look() (state, error)
	// want returns what has to be there for tables to be in force.
	want(tables []rules.Table) map[bool][]entry
	// apply puts tables into the place of what is there.
	apply(tables []rules.Table, have state) error
	remove(have state) error
}

// found is a backend and what it has installed.
type found struct {
	backend
	state
}

// find returns the backends that work here, those first that the setting asks for. The
// error says why none of them does.
func find(setting string) (chosen, rest []found, err error) {
	if !mayChange() {
		return nil, nil, ErrNoPermission
	}
	var why []error
	all := []backend{nft{}}
	for _, x := range findIPTables() {
		all = append(all, x)
	}
	for _, b := range all {
		s, err := b.look()
		if errors.Is(err, ErrNoPermission) {
			return nil, nil, err
		}
		wanted := setting == rules.Auto || strings.HasPrefix(b.name(), setting)
		switch {
		case err != nil && wanted:
			why = append(why, fmt.Errorf("%s: %w", b.name(), err))
		case err != nil:
		case wanted:
			chosen = append(chosen, found{b, s})
		default:
			rest = append(rest, found{b, s})
		}
	}
	if len(chosen) > 0 {
		return chosen, rest, nil
	}
	if len(why) == 0 {
		why = []error{errors.New("there is no iptables-restore; Debian's package is iptables")}
	}
	return nil, rest, fmt.Errorf("there is no way to set rules here (FAIRLEAD_INTERCEPT_BACKEND is %s): %w", setting, oneLineOf(why))
}

// oneLineOf joins errors without line breaks.
func oneLineOf(errs []error) error {
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return errors.New(oneLine(strings.Join(texts, "; ")))
}

// Enable sets the rules that settings ask for in the network namespace of the calling
// thread, in place of those that were set before, without a moment in between. Where
// they are there already nothing is done.
func Enable(s rules.Settings) (Result, error) {
	chosen, rest, err := find(s.Backend)
	if err != nil {
		return Result{}, err
	}
	tables, warning := tablesFor(s)
	var result Result
	for i, f := range chosen {
		result = Result{Backend: f.name(), Warning: warning}
		if _, right := compare(f.want(tables), f.state); !right {
			result.Changed = true
			err = f.apply(tables, f.state)
		}
		if err != nil && s.Backend == rules.Auto && i+1 < len(chosen) && unsupported(err) {
			err = nil
			continue // the kernel has not all that nftables needs
		}
		if err == nil {
			err = removeAll(slices.Concat(chosen[:i], chosen[i+1:], rest))
		} else {
			err = explain(s, err)
		}
		return result, err
	}
	return result, err
}

// explain adds to an error of setting rules what the settings ask of the kernel that not
// every kernel has.
func explain(s rules.Settings, err error) error {
	if s.WhileAway != rules.Wait {
		return err
	}
	return fmt.Errorf("%w; %s is %q, for which the kernel needs to find sockets (nft_socket, with iptables xt_socket); %q does without",
		err, rules.WhileAwayName, rules.Wait, rules.Refuse)
}

// Disable removes what is ours from the network namespace of the calling thread.
func Disable() (Result, error) {
	chosen, _, err := find(rules.Auto)
	if err != nil {
		return Result{}, err
	}
	changed := slices.ContainsFunc(chosen, func(f found) bool { return !f.empty() })
	return Result{Changed: changed}, removeAll(chosen)
}

func removeAll(all []found) error {
	for _, f := range all {
		if f.empty() {
			continue
		}
		if err := f.remove(f.state); err != nil {
			return fmt.Errorf("removing rules of %s: %w", f.name(), err)
		}
	}
	return nil
}

// Look compares what is installed in the network namespace of the calling thread with
// what settings ask for.
func Look(s rules.Settings) (Status, error) {
	chosen, rest, err := find(s.Backend)
	if err != nil {
		return Status{}, err
	}
	tables, warning := tablesFor(s)
	out := Status{Others: []string{}, Watched: watched()}
	note := func(text string) {
		if text != "" && !slices.Contains(out.Others, text) {
			out.Others = append(out.Others, text)
		}
	}
	note(warning)
	// What holds rules of ours is what counts; the first choice where none does.
	main := chosen[0]
	if i := slices.IndexFunc(chosen, func(f found) bool { return !f.empty() }); i >= 0 {
		main = chosen[i]
	}
	out.Backend = main.name()
	out.WhileAway = main.whileAway()
	out.Families, out.Enabled = compare(main.want(tables), main.state)
	for _, f := range slices.Concat(chosen, rest) {
		if f.name() != main.name() && !f.empty() {
			out.Enabled = false
			note("rules of ours by " + f.name() + " are there too; \"intercept enable\" removes them")
		}
		for _, o := range f.others {
			note(o)
		}
	}
	slices.Sort(out.Others)
	return out, nil
}

// present reports whether rules of ours are there at all.
func present() (bool, error) {
	chosen, _, err := find(rules.Auto)
	return slices.ContainsFunc(chosen, func(f found) bool { return !f.empty() }), err
}

// tablesFor leaves IPv6 out where the system has none, and says so.
func tablesFor(s rules.Settings) (tables []rules.Table, warning string) {
	if s.IPv6 {
		if _, err := os.Stat("/proc/thread-self/net/if_inet6"); os.IsNotExist(err) {
			s.IPv6 = false
			warning = "this system has no IPv6, so there is nothing to intercept of it"
		}
	}
	return s.Tables(), warning
}

func appMeshNote(chain string, ipv6 bool, kind string) string {
	return fmt.Sprintf("chain %s of App Mesh's own route manager is in the table nat of %s for %s; it redirects too and is left alone: remove it with its own disable",
		chain, kind, (rules.Table{IPv6: ipv6}).Family())
}

// mayChange reports whether the calling thread has the capability NET_ADMIN. Where that
// cannot be told the kernel says so.
func mayChange() bool {
	text, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			return err != nil || mask&(1<<unix.CAP_NET_ADMIN) != 0
		}
	}
	return true
}

// sortEntries puts chains first, then rules by their chain, each chain's in their order:
// iptables-save does not keep the order of chains.
func sortEntries(in []entry) []entry {
	slices.SortStableFunc(in, func(a, b entry) int {
		return cmp.Compare(chainOf(a.key), chainOf(b.key))
	})
	return in
}

// chainOf returns the two words that begin a key: "chain NAME" or "-A NAME".
func chainOf(key string) string {
	words := strings.SplitN(key, " ", 3)
	return strings.Join(words[:min(2, len(words))], " ")
}

// ErrOwnNamespace is the error of In for the namespace in which the caller is.
var ErrOwnNamespace = errors.New("it is the network namespace of this process itself")

// In runs a function in the network namespace that a file stands for, on a thread that
// then ends. The error wraps os.ErrNotExist where there is no such file.
func In(path string, f func() error) error {
	ns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening the network namespace: %w", err)
	}
	defer ns.Close()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this function
		done <- enter(ns, f)
	}()
	return <-done
}

func enter(ns *os.File, f func() error) error {
	here, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("looking for the own network namespace: %w", err)
	}
	there, err := ns.Stat()
	if err != nil {
		return fmt.Errorf("looking at the network namespace: %w", err)
	}
	if os.SameFile(here, there) {
		return ErrOwnNamespace
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering the network namespace: %w", err)
	}
	return f()
}
