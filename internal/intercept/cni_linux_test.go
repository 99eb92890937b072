package intercept_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// cniConfig is a configuration as App Mesh's own plugin took it.
const cniConfig = `{
	"cniVersion": "1.0.0", "name": "mesh", "type": "fairlead-cni",
	"prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}], "ips": [{"address": "10.1.2.3/16", "interface": 0}], "dns": {}},
	"ignoredUID": "1337", "ignoredGID": "1338", "proxyIngressPort": "15000", "proxyEgressPort": "15001",
	"appPorts": ["8080", "9090"], "egressIgnoredPorts": ["22", "2049"], "egressIgnoredIPs": ["169.254.169.254", "10.9.0.0/16", "fd00::/8"], "enableIPv6": true, "whileAway": "wait"
}`

// sameSettings are the variables that mean the same.
var sameSettings = []string{
	"APPMESH_IGNORE_UID=1337", "APPMESH_IGNORE_GID=1338", "APPMESH_APP_PORTS=8080,9090", "APPMESH_EGRESS_IGNORED_PORTS=2049",
	"APPMESH_EGRESS_IGNORED_IP=169.254.169.254,10.9.0.0/16,fd00::/8", "APPMESH_ENABLE_IPV6=1", "FAIRLEAD_INTERCEPT_WHILE_AWAY=wait",
}

// plugin calls the plugin from one host, as a container runtime does, for the namespace of
// another. It returns what is on standard output and whether the exit code is 0.
func plugin(h *meshtest.Host, command, namespace, config string) (string, bool) {
	cmd := h.Agent([]string{"CNI_COMMAND=" + command, "CNI_NETNS=" + namespace, "CNI_CONTAINERID=x", "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin"}, "cni")
	cmd.Stdin = strings.NewReader(config)
	out, err := h.Output(cmd)
	return out, err == nil
}

// The plugin sets the rules in the namespace that it is given and nowhere else, checks
// them, and removes them as often as it is asked.
func TestCNI(t *testing.T) {
	t.Parallel()
	hosts := meshtest.NewHosts(t)
	runtime, pod := hosts.Add("runtime"), hosts.Add("pod")
	before := ruleset(t, pod)
	must := func(command, namespace string) string {
		t.Helper()
		out, ok := plugin(runtime, command, namespace, cniConfig)
		if !ok {
			t.Fatalf("%s: %s", command, out)
		}
		return out
	}
	var config struct{ PrevResult json.RawMessage }
	if err := json.Unmarshal([]byte(cniConfig), &config); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := must("ADD", pod.Namespace()); got != string(config.PrevResult)+"\n" {
			t.Errorf("ADD answers %q, want what the plugin before has made", got)
		}
	}
	if s := status(t, pod, sameSettings...); !s.Enabled {
		t.Errorf("after ADD: %+v", s)
	}
	if got := ruleset(t, runtime); got != "" {
		t.Errorf("the runtime's own namespace has rules:\n%s", got)
	}
	if got := must("CHECK", pod.Namespace()); got != "" {
		t.Errorf("CHECK answers %q", got)
	}
	if out, err := pod.Output(pod.Command(need(t, "nft", "nftables"), "flush chain ip fairlead ingress")); err != nil {
		t.Fatal(err, out)
	}
	if out, ok := plugin(runtime, "CHECK", pod.Namespace(), cniConfig); ok || !strings.Contains(out, `"code":101`) || !strings.Contains(out, "ingress: tcp dport 8080 redirect to :15000") {
		t.Errorf("CHECK where rules are missing: %v %s", ok, out)
	}
	for range 2 {
		if got := must("DEL", pod.Namespace()); got != "" {
			t.Errorf("DEL answers %q", got)
		}
		if got := ruleset(t, pod); got != before {
			t.Errorf("after DEL: %s", got)
		}
	}
	// Runtimes find a plugin by its name alone.
	agent := runtime.Agent([]string{"CNI_COMMAND=VERSION"})
	agent.Path = runtime.Program(agent.Path, "fairlead-cni")
	agent.Args = []string{agent.Path}
	if out, err := runtime.Output(agent); err != nil || !strings.Contains(out, "supportedVersions") {
		t.Errorf("by the plugin's name: %q %v", out, err)
	}
	must("DEL", "/var/run/netns/gone")
	must("DEL", "")
}

// What is wrong is said in the form of the specification, with the names of the
// configuration.
func TestCNIRefusals(t *testing.T) {
	t.Parallel()
	hosts := meshtest.NewHosts(t)
	runtime, pod := hosts.Add("runtime"), hosts.Add("pod")
	there := pod.Namespace()
	const least = `"cniVersion":"0.4.0","ignoredUID":"1337","proxyEgressPort":15001`
	for name, c := range map[string]struct {
		command, namespace, config string
		code                       int // 0: not refused
		text                       string
	}{
		"least":              {"ADD", there, `{` + least + `}`, 0, `{"cniVersion":"0.4.0"}`},
		"ECS's spelling":     {"ADD", there, `{"cniVersion":"0.3.0","IgnoredGID":"1","ProxyEgressPort":"15001","AppPorts":"80,81","ProxyIngressPort":"15000","EgressIgnoredIPs":"10.0.0.1"}`, 0, `0.3.0`},
		"empty entries":      {"ADD", there, `{` + least + `,"proxyIngressPort":"15000","appPorts":[""],"egressIgnoredPorts":[""],"egressIgnoredIPs":[""]}`, 0, `0.4.0`},
		"result of before":   {"ADD", there, `{` + least + `,"prevResult":{"ips":[{"version":"4","address":"10.1.2.3/16"}]}}`, 0, `{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.1.2.3/16"}]}`},
		"version":            {"VERSION", "", ``, 0, `"supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]`},
		"status":             {"STATUS", "", `{"cniVersion":"1.1.0"}`, 0, ``},
		"unknown version":    {"ADD", there, `{"cniVersion":"9.0.0"}`, 1, `cniVersion is \"9.0.0\", allowed are`},
		"unknown command":    {"JOIN", there, `{` + least + `}`, 4, `CNI_COMMAND is \"JOIN\"`},
		"no namespace":       {"ADD", "", `{` + least + `}`, 4, `CNI_NETNS is not set`},
		"namespace gone":     {"ADD", "/var/run/netns/gone", `{` + least + `}`, 4, `CNI_NETNS is \"/var/run/netns/gone\"`},
		"own namespace":      {"ADD", "/proc/self/ns/net", `{` + least + `}`, 4, `it is the network namespace of this process itself`},
		"own namespace, DEL": {"DEL", "/proc/self/ns/net", `{` + least + `}`, 4, `it is the network namespace of this process itself`},
		"no namespace file":  {"ADD", "/etc/passwd", `{` + least + `}`, 100, `entering the network namespace`},
		"not JSON":           {"ADD", there, `{`, 6, `decoding the configuration`},
		"no owner":           {"ADD", there, `{"proxyEgressPort":"15001"}`, 7, `neither ignoredUID nor ignoredGID is set`},
		"no egress port":     {"ADD", there, `{"ignoredUID":"1"}`, 7, `proxyEgressPort is not set`},
		"ports alone":        {"ADD", there, `{` + least + `,"appPorts":["80"]}`, 7, `appPorts is set and proxyIngressPort is not`},
		"ingress alone":      {"ADD", there, `{` + least + `,"proxyIngressPort":"15000"}`, 7, `proxyIngressPort is set and appPorts is not`},
		"bad port":           {"ADD", there, `{` + least + `,"proxyIngressPort":"15000","appPorts":["http"]}`, 7, `appPorts holds \"http\", allowed are ports`},
		"bad setting":        {"ADD", there, `{` + least + `,"whileAway":"queue"}`, 7, `whileAway is \"queue\", allowed are refuse, wait`},
		"bad address":        {"CHECK", there, `{` + least + `,"egressIgnoredIPs":["10.0.0.0/40"]}`, 7, `egressIgnoredIPs holds \"10.0.0.0/40\"`},
	} {
		out, ok := plugin(runtime, c.command, c.namespace, c.config)
		if ok != (c.code == 0) || !strings.Contains(out, c.text) || c.code != 0 && !strings.Contains(out, fmt.Sprintf(`"code":%d`, c.code)) {
			t.Errorf("%s: %v %s", name, ok, out)
		}
		if (c.code != 0 || out != "") && !json.Valid([]byte(out)) {
			t.Errorf("%s: not JSON: %s", name, out)
		}
	}
}
