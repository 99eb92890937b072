//go:build linux

package ecs

import (
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// hostPlace is a network namespace, as the network mode awsvpc gives one to each task.
type hostPlace struct {
	*meshtest.Host
	t         *testing.T
	installed map[string]string
}

func (h *hostPlace) start(cmd *exec.Cmd, uid int) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid: true, Pdeathsig: syscall.SIGKILL,
		Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)},
	}
	return h.Start(cmd)
}

func (h *hostPlace) install(file, name string) string {
	if h.installed[name] == "" {
		h.installed[name] = h.Install(file, name)
	}
	return h.installed[name]
}

func (h *hostPlace) environment(string) []string { return nil }

func (h *hostPlace) admin() (*http.Client, string) {
	return h.HTTP("tcp4"), "http://127.0.0.1:9901"
}

// redirect sets the rules that ECS sets on its platforms: its own two addresses of metadata
// are left alone whether they are named or not.
func (h *hostPlace) redirect(d definition) {
	h.t.Helper()
	restore, err := exec.LookPath("iptables-restore")
	if err != nil {
		h.t.Skip("there is no iptables-restore, by which the stand-in for ECS sets its rules; Debian's package is iptables")
	}
	rules := []string{"*nat", ":ECS_EGRESS - [0:0]"}
	add := func(format string, args ...any) { rules = append(rules, fmt.Sprintf(format, args...)) }
	if uid := d.property("IgnoredUID"); uid != "" {
		add("-A ECS_EGRESS -m owner --uid-owner %s -j RETURN", uid)
	}
	if gid := d.property("IgnoredGID"); gid != "" {
		add("-A ECS_EGRESS -m owner --gid-owner %s -j RETURN", gid)
	}
	if ports := d.property("EgressIgnoredPorts"); ports != "" {
		add("-A ECS_EGRESS -p tcp -m multiport --dports %s -j RETURN", ports)
	}
	for ip := range strings.SplitSeq(d.property("EgressIgnoredIPs")+",169.254.170.2,169.254.169.254", ",") {
		if ip != "" {
			add("-A ECS_EGRESS -d %s -j RETURN", ip)
		}
	}
	add("-A ECS_EGRESS -p tcp -j REDIRECT --to-ports %s", d.property("ProxyEgressPort"))
	add("-A OUTPUT -p tcp -m addrtype ! --dst-type LOCAL -j ECS_EGRESS")
	if ports := d.property("AppPorts"); ports != "" {
		add("-A PREROUTING -p tcp -m addrtype ! --src-type LOCAL -m multiport --dports %s -j REDIRECT --to-ports %s", ports, d.property("ProxyIngressPort"))
	}
	cmd := exec.Command(restore, "--noflush")
	var out strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(strings.Join(append(rules, "COMMIT", ""), "\n")), &out, &out
	if err := h.start(cmd, 0); err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		h.t.Fatalf("setting rules: %v: %s", err, out.String())
	}
}

// boundPlace is a pair of loopback addresses of this machine: one for Envoy, one for the
// containers beside it. No connection is redirected.
type boundPlace struct {
	bind, app, database string
}

// start starts it as the user that the test is.
func (b *boundPlace) start(cmd *exec.Cmd, _ int) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd.Start()
}

func (b *boundPlace) install(file, _ string) string { return file }
func (b *boundPlace) redirect(definition)           {}

func (b *boundPlace) admin() (*http.Client, string) {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}, "http://" + b.bind + ":9901"
}

func (b *boundPlace) environment(image string) []string {
	if image == agentImage {
		return []string{
			"FAIRLEAD_BIND_ADDRESS=" + b.bind, "FAIRLEAD_APPLICATION_ADDRESS=" + b.app,
			"AWS_XRAY_DAEMON_ADDRESS=" + b.app, "STATSD_ADDRESS=" + b.app,
		}
	}
	return []string{"LISTEN_ADDRESS=" + b.app, "HTTP_PROXY=http://" + b.bind + ":15001", "DATABASE_URL=tcp://" + b.database}
}
