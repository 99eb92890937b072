package intercept_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/intercept"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/golden"
)

func TestMain(m *testing.M) {
	meshtest.Main(m, map[string]func(string) error{noNFTables: runWithoutNFTables, squat: runSquatter})
}

// host returns a host of its own for a test, with nothing but loopback and one interface.
func host(t *testing.T) *meshtest.Host {
	t.Helper()
	return meshtest.NewHosts(t).Add("host")
}

// need skips the test unless a program is there, and returns where.
func need(t *testing.T, program, debian string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("there is no %s; Debian's package is %s", program, debian)
	}
	return path
}

// call runs "fairlead-agent intercept" on a host, and fails the test unless it succeeds.
func call(t *testing.T, h *meshtest.Host, settings []string, args ...string) string {
	t.Helper()
	out, err := h.Output(h.Agent(settings, append([]string{"intercept"}, args...)...))
	if err != nil {
		t.Fatalf("intercept %s with %v: %v\n%s", args, settings, err, out)
	}
	return out
}

// status reads the status on a host, whatever its exit code.
func status(t *testing.T, h *meshtest.Host, settings ...string) intercept.Status {
	t.Helper()
	cmd := h.Agent(settings, "intercept", "status", "--format", "json")
	out, err := h.Output(cmd)
	var s intercept.Status
	if json.Unmarshal([]byte(out), &s) != nil {
		t.Fatalf("status: %q, %v", out, err)
	}
	if code := cmd.ProcessState.ExitCode(); (code == 0) != s.Enabled {
		t.Errorf("status ends with %d, enabled is %v", code, s.Enabled)
	}
	return s
}

// ruleset returns all rules of nftables on a host, those of iptables-nft included.
func ruleset(t *testing.T, h *meshtest.Host) string {
	t.Helper()
	out, err := h.Output(h.Command(need(t, "nft", "nftables"), "list", "ruleset"))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// counters are what iptables-save counts, and when it was run.
var counters = regexp.MustCompile(`\[\d+:\d+\]|(?m:^#.*$)`)

// saved returns all rules of a kind of iptables on a host.
func saved(t *testing.T, h *meshtest.Host, kind string) string {
	t.Helper()
	var all string
	for _, base := range []string{"iptables-", "ip6tables-"} {
		out, err := h.Output(h.Command(need(t, base+kind+"-save", "iptables")))
		if err != nil {
			t.Fatal(err)
		}
		all += counters.ReplaceAllString(out, "")
	}
	return all
}

// kinds are the ways to set rules, with the environment that has the agent choose each.
func kinds(t *testing.T) map[string][]string {
	t.Helper()
	return map[string][]string{
		"nftables":        {"FAIRLEAD_INTERCEPT_BACKEND=nftables"},
		"iptables-nft":    {"FAIRLEAD_INTERCEPT_BACKEND=iptables", "PATH=" + programs(t, "nft")},
		"iptables-legacy": {"FAIRLEAD_INTERCEPT_BACKEND=iptables", "PATH=" + programs(t, "legacy")},
	}
}

// eachKind runs a test for each kind that this machine has, beside each other, with the environment
// that has the agent choose it.
func eachKind(t *testing.T, test func(t *testing.T, kind string, env []string)) {
	t.Helper()
	for kind, env := range kinds(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			if kind != "nftables" {
				need(t, kind+"-restore", "iptables")
			}
			test(t, kind, env)
		})
	}
}

// programs returns a folder where the programs of iptables are those of one kind, the
// others by their own names; "" where there are none.
func programs(t *testing.T, kind string) string {
	t.Helper()
	dir := t.TempDir()
	for _, base := range []string{"iptables", "ip6tables"} {
		for _, what := range []string{"save", "restore"} {
			path, err := exec.LookPath(base + "-" + kind + "-" + what)
			if err != nil {
				return ""
			}
			if path, err = filepath.EvalSymlinks(path); err == nil {
				err = os.Symlink(path, filepath.Join(dir, base+"-"+what))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir + ":" + os.Getenv("PATH")
}

// goldens returns the cases of package rules: their settings, and the text for nft.
func goldens(t *testing.T) map[string]*golden.Case {
	t.Helper()
	out := map[string]*golden.Case{} // so that they come in another order each time
	for _, c := range golden.ReadAll(t, "rules/testdata/*.txtar") {
		out[c.Name] = c
	}
	return out
}

func environ(c *golden.Case) []string {
	return strings.Fields(strings.ReplaceAll(c.Section("env"), ", ", ","))
}

// What is set over netlink is what nft makes of the golden text.
func TestNetlinkSetsTheGoldenRules(t *testing.T) {
	t.Parallel()
	nft := need(t, "nft", "nftables")
	hosts := meshtest.NewHosts(t)
	for name, c := range goldens(t) {
		t.Run(name, func(t *testing.T) {
			ours, theirs := hosts.Add("ours-"+name), hosts.Add("theirs-"+name)
			settings := append(environ(c), "FAIRLEAD_INTERCEPT_BACKEND=nftables")
			call(t, ours, settings, "enable")
			for _, section := range c.Names() {
				if !strings.HasSuffix(section, ".nft") {
					continue
				}
				path := filepath.Join(t.TempDir(), section)
				if err := os.WriteFile(path, []byte(c.Section(section)), 0o600); err != nil {
					t.Fatal(err)
				}
				if out, err := theirs.Output(theirs.Command(nft, "-f", path)); err != nil {
					t.Fatal(err, out)
				}
			}
			if diff := cmp.Diff(ruleset(t, theirs), ruleset(t, ours)); diff != "" {
				t.Errorf("the rules differ (-golden +set):\n%s", diff)
			}
			if s := status(t, ours, settings...); !s.Enabled {
				t.Errorf("status: %+v", s)
			}
		})
	}
}

// All goldens can be set by each kind of iptables, take each other's place, and are found
// to be as they should.
func TestIPTablesTakesTheGoldenRules(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, kind string, env []string) {
		if kind == "nftables" {
			return
		}
		short := strings.TrimPrefix(kind, "iptables-")
		h := host(t)
		for name, c := range goldens(t) {
			settings := append(environ(c), env...)
			call(t, h, settings, "enable")
			s := status(t, h, settings...)
			if !s.Enabled || s.Backend != kind {
				t.Errorf("%s: %+v", name, s)
			}
			if want, got := strings.Count(c.Section("ipv4.restore"), "FAIRLEAD_"), strings.Count(saved4(t, h, short), "FAIRLEAD_"); want != got {
				t.Errorf("%s: %d times our names, want %d", name, got, want)
			}
		}
	})
}

func saved4(t *testing.T, h *meshtest.Host, kind string) string {
	t.Helper()
	out, err := h.Output(h.Command(need(t, "iptables-"+kind+"-save", "iptables")))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// everything asks for rules of all kinds.
var everything = []string{
	"APPMESH_APP_PORTS=8080,9090", "APPMESH_ENABLE_IPV6=1", "APPMESH_EGRESS_IGNORED_IP=10.1.0.0/16,fd00::/8", "FAIRLEAD_DNS_PORT=15053",
	"FAIRLEAD_INGRESS_IGNORED_IPS=10.77.0.99", "FAIRLEAD_INTERCEPT_WHILE_AWAY=wait",
}

// foreign sets rules of others in all three ways, among them those of App Mesh's own route
// manager from an earlier life.
func foreign(t *testing.T, h *meshtest.Host) {
	t.Helper()
	const rules = `*nat
:APPMESH_EGRESS - [0:0]
:APPMESH_INGRESS - [0:0]
:DOCKER - [0:0]
-A APPMESH_EGRESS -m owner --uid-owner 4000 -j RETURN
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT -p tcp -m addrtype ! --dst-type LOCAL -j APPMESH_EGRESS
-A PREROUTING -p tcp -m addrtype ! --src-type LOCAL -j APPMESH_INGRESS
COMMIT
*filter
-A INPUT -p tcp -m tcp --dport 23 -j DROP
COMMIT
`
	for _, base := range []string{"iptables-legacy", "ip6tables-legacy", "iptables-nft", "ip6tables-nft"} {
		text := rules
		if strings.HasPrefix(base, "ip6") {
			text = strings.Replace(text, "127.0.0.0/8", "::1/128", 1)
		}
		cmd := h.Command(need(t, base+"-restore", "iptables"))
		cmd.Stdin = strings.NewReader(text)
		if out, err := h.Output(cmd); err != nil {
			t.Fatal(err, out)
		}
	}
	cmd := h.Command(need(t, "nft", "nftables"), "-f", "-")
	cmd.Stdin = strings.NewReader(`
table inet fairlead {
	chain x {
		type filter hook input priority 0
		tcp dport 24 drop
	}
}
table ip theirs {
	chain x {
		type nat hook output priority -110
		tcp dport 25 redirect to :2525
	}
}
`)
	if out, err := h.Output(cmd); err != nil {
		t.Fatal(err, out)
	}
}

// Disabling leaves exactly what was there before, be it a table of our own name in another
// family; and enabling twice changes nothing.
func TestDisableLeavesWhatWasThere(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, kind string, env []string) {
		h := host(t)
		foreign(t, h)
		settings := append(env, everything...)
		all := func() string { return ruleset(t, h) + saved(t, h, "legacy") + saved(t, h, "nft") }
		before := all()
		if s := status(t, h, settings...); s.Enabled || len(s.Others) != 8 {
			t.Errorf("before: %+v, want 8 chains of others", s)
		}
		if out := call(t, h, settings, "enable"); out != "interception is on, by "+kind+"\n" {
			t.Errorf("enable says %q", out)
		}
		once := all()
		if once == before {
			t.Fatal("nothing was set")
		}
		if s := status(t, h, settings...); !s.Enabled || s.Backend != kind || len(s.Others) != 8 {
			t.Errorf("enabled: %+v", s)
		}
		if out := call(t, h, settings, "enable"); out != "interception was on already, by "+kind+"\n" {
			t.Errorf("enabling a second time says %q", out)
		}
		if diff := cmp.Diff(once, all()); diff != "" {
			t.Errorf("enabling a second time changes (-once +twice):\n%s", diff)
		}
		if out := call(t, h, env[1:], "disable"); out != "interception is off\n" { // whatever the backend
			t.Errorf("disable says %q", out)
		}
		if diff := cmp.Diff(before, all()); diff != "" {
			t.Errorf("disabling does not leave what was there (-before +after):\n%s", diff)
		}
		if out := call(t, h, nil, "disable"); out != "interception was off already\n" {
			t.Errorf("disabling a second time says %q", out)
		}
	})
}

// Other settings take the place of those before, by whatever these were set.
func TestEnableReplaces(t *testing.T) {
	t.Parallel()
	h := host(t)
	names := []string{"nftables", "iptables-legacy", "iptables-nft", "nftables"}
	all := kinds(t)
	for i, kind := range names {
		if kind != "nftables" {
			need(t, kind+"-restore", "iptables")
		}
		settings := append([]string{fmt.Sprintf("APPMESH_APP_PORTS=%d", 8080+i), fmt.Sprintf("APPMESH_ENABLE_IPV6=%d", i%2)}, all[kind]...)
		call(t, h, settings, "enable")
		if s := status(t, h, settings...); !s.Enabled || s.Backend != kind || len(s.Others) != 0 {
			t.Errorf("%d, %s: %+v", i, kind, s)
		}
	}
	// What was set with others' settings is not what these ask for.
	if s := status(t, h, "APPMESH_APP_PORTS=1"); s.Enabled {
		t.Errorf("with other settings: %+v", s)
	}
}

// The status tells what somebody has changed.
func TestStatusTellsWhatIsMissing(t *testing.T) {
	t.Parallel()
	nft := need(t, "nft", "nftables")
	for name, c := range map[string]struct {
		change           string
		missing, surplus int
	}{
		"a rule more":             {"add rule ip fairlead egress tcp dport 80 return", 0, 1},
		"a chain's rules":         {"flush chain ip fairlead ingress", 3, 0},
		"a chain more":            {"add chain ip fairlead x", 0, 1},
		"a chain's policy":        {"chain ip fairlead output { policy drop; }", 1, 1},
		"the table":               {"delete table ip fairlead", 29, 0},
		"a rule for waiting":      {"flush chain ip fairlead away", 2, 0},
		"no look for a socket":    {"flush chain ip fairlead away ; add rule ip fairlead away drop", 1, 0},
		"another look at sockets": {"add rule ip fairlead away socket wildcard 1 return", 0, 1},
		"another order":           {"insert rule ip fairlead egress meta l4proto tcp redirect to :15001", 0, 1},
		"the table asleep":        {"add table ip fairlead { flags dormant; }", 1, 1},
		"a table of others":       {"add table ip6 x", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := host(t)
			call(t, h, everything, "enable")
			if out, err := h.Output(h.Command(nft, c.change)); err != nil {
				t.Fatal(err, out)
			}
			s := status(t, h, everything...)
			v4 := s.Families[0]
			if s.Enabled != (c.missing+c.surplus == 0) || len(v4.Missing) != c.missing || len(v4.Surplus) != c.surplus {
				t.Errorf("%d missing, %d surplus: %+v", len(v4.Missing), len(v4.Surplus), s)
			}
			call(t, h, everything, "enable")
			if s := status(t, h, everything...); !s.Enabled {
				t.Errorf("enabled again: %+v", s)
			}
		})
	}
}

// Without the capability there is one line that says so.
func TestWithoutNetAdmin(t *testing.T) {
	t.Parallel()
	h := host(t)
	for _, name := range []string{"enable", "disable", "status", "run"} {
		cmd := h.AgentAs(1000, everything, "intercept", name)
		_, err := h.Output(cmd)
		if err == nil || !strings.Contains(err.Error(), "needs the capability NET_ADMIN") || strings.Contains(err.Error(), "\n") || cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A list of the greatest length is set, and found again.
func TestTheLongestLists(t *testing.T) {
	t.Parallel()
	h := host(t)
	var ports, ids, nets []string
	for i := range 255 {
		ports = append(ports, fmt.Sprint(20000+i))
		ids = append(ids, fmt.Sprint(5000+i))
		nets = append(nets, fmt.Sprintf("10.%d.0.0/16", i), fmt.Sprintf("fd00:%x::/32", i))
	}
	settings := []string{
		"APPMESH_ENABLE_IPV6=1", "APPMESH_APP_PORTS=" + strings.Join(ports, ","), "APPMESH_EGRESS_IGNORED_PORTS=" + strings.Join(ports, ","),
		"FAIRLEAD_IGNORE_UIDS=" + strings.Join(ids, ","), "FAIRLEAD_IGNORE_GIDS=" + strings.Join(ids, ","),
		"APPMESH_EGRESS_IGNORED_IP=" + strings.Join(nets[:256], ","), "FAIRLEAD_DNS_PORT=15053",
	}
	for kind, env := range kinds(t) {
		if kind != "nftables" && programs(t, strings.TrimPrefix(kind, "iptables-")) == "" {
			continue
		}
		call(t, h, append(settings, env...), "enable")
		if s := status(t, h, append(settings, env...)...); !s.Enabled {
			t.Errorf("%s: %+v", kind, s.Families)
		}
	}
}
