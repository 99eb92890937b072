package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the tests run the command itself, as a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("FAIRLEAD_AGENT_TEST_COMMAND") != "" {
		os.Exit(command(os.Args, os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// agentCommand is the command with an environment of its own, and nothing of ours.
func agentCommand(t *testing.T, environ []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{"FAIRLEAD_AGENT_TEST_COMMAND=1", "PATH=/usr/bin:/bin", "TMPDIR=" + t.TempDir()}, environ...)
	return cmd
}

var enough = []string{
	"APPMESH_RESOURCE_ARN=mesh/shop/virtualNode/cart", "AWS_REGION=us-east-1",
	"FAIRLEAD_XDS_ENDPOINT=127.0.0.1:1", "FAIRLEAD_XDS_PLAINTEXT=1", "FAIRLEAD_BIND_ADDRESS=127.0.0.2",
	"AWS_ACCESS_KEY_ID=AKIDTEST", "AWS_SECRET_ACCESS_KEY=test-secret-nobody-uses",
}

// readinessOnce has -envoyReadiness ask once.
const readinessOnce = "APPNET_AGENT_POLL_ENVOY_READINESS_TIMEOUT_S=0"

func exitCode(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0
}

func TestCommand(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "none")
	cases := map[string]struct {
		args    []string
		environ []string
		code    int
		stdout  string // a part; "" nothing at all
		stderr  string
	}{
		"no command":             {nil, nil, 2, "", "a command is missing"},
		"unknown command":        {[]string{"walk"}, nil, 2, "", `no command "walk"`},
		"a slip":                 {[]string{"bootstrap"}, append([]string{"APPNET_ENVOY_RESTARTCOUNT=1"}, enough...), 0, "fairlead_xds", "APPNET_ENVOY_RESTART_COUNT has a similar one"},
		"bad timeout":            {[]string{"ready", "--timeout", "soon"}, nil, 2, "", "timeout"},
		"nobody to ask":          {[]string{"ready"}, []string{"FAIRLEAD_BIND_ADDRESS=127.0.0.2", "ENVOY_ADMIN_ACCESS_PORT=1"}, 1, "", "not ready: asking Envoy: dial tcp 127.0.0.2:1"},
		"nobody to wait":         {[]string{"wait", "--timeout", "10ms"}, []string{"FAIRLEAD_BIND_ADDRESS=127.0.0.2", "ENVOY_ADMIN_ACCESS_PORT=1"}, 1, "", "not ready: "},
		"their readiness":        {[]string{"-envoyReadiness"}, []string{"APPNET_AGENT_ADMIN_MODE=uds", "APPNET_AGENT_ADMIN_UDS_PATH=" + none, readinessOnce}, 1, "", "not ready: asking the agent at " + none},
		"no status":              {[]string{"status"}, nil, 1, "", "APPNET_AGENT_ADMIN_MODE is not set"},
		"bad variable":           {[]string{"ready"}, []string{"APPNET_AGENT_ADMIN_MODE=x"}, 1, "", "APPNET_AGENT_ADMIN_MODE is"},
		"no command to run":      {[]string{"run", "--", "/none/such"}, enough, 2, "", "the command to run"},
		"nobody's user":          {[]string{"run", "--user", "nobody-such", "--", "/bin/true"}, enough, 2, "", "--user is"},
		"user of nothing":        {[]string{"run", "--user", "0"}, enough, 2, "", "no command to run as that user"},
		"command without dashes": {[]string{"run", "/bin/true"}, enough, 2, "", "run takes no argument"},
		"log nowhere":            {[]string{"run"}, append([]string{"APPNET_ENVOY_LOG_DESTINATION=" + none}, enough...), 1, "", "APPNET_ENVOY_LOG_DESTINATION is"},
		"unknown flag":           {[]string{"run", "--fast"}, nil, 2, "", "fast"},
		"argument":               {[]string{"run", "now"}, nil, 2, "", `run takes no argument "now"`},
		"format":                 {[]string{"bootstrap", "--format", "xml"}, enough, 2, "", `--format is "xml", allowed are yaml and json`},
		"help":                   {[]string{"help"}, nil, 0, "APPMESH_RESOURCE_ARN", ""},
		"help flag":              {[]string{"run", "--help"}, nil, 0, "APPMESH_RESOURCE_ARN", ""},
		"version":                {[]string{"version"}, nil, 0, "fairlead-agent ", ""},
		"nothing set":            {[]string{"bootstrap"}, nil, 1, "", "APPMESH_RESOURCE_ARN is not set"},
		"nothing set, run":       {[]string{"run"}, nil, 1, "", "APPMESH_RESOURCE_ARN is not set"},
		"yaml":                   {[]string{"bootstrap"}, enough, 0, "\nstatic_resources:\n  clusters:\n    - name: \"fairlead_xds\"\n", ""},
		"json":                   {[]string{"bootstrap", "--format=json"}, enough, 0, `"name": "fairlead_xds"`, ""},
		"no Envoy":               {[]string{"run"}, append([]string{"PATH=/none"}, enough...), 1, "", "no Envoy found"},
		"no such Envoy":          {[]string{"run"}, append([]string{"ENVOY_PATH=" + none}, enough...), 1, "", "ENVOY_PATH is"},
		"own bootstrap":          {[]string{"bootstrap"}, []string{"ENVOY_CONFIG_FILE=" + none}, 1, "", "ENVOY_CONFIG_FILE"},
		"intercept":              {[]string{"intercept"}, nil, 2, "", "intercept needs one of enable, disable, status and run"},
		"intercept what":         {[]string{"intercept", "on"}, nil, 2, "", `intercept has no command "on"`},
		"intercept help":         {[]string{"intercept", "enable", "--help"}, nil, 0, "APPMESH_APP_PORTS", ""},
		"intercept flag":         {[]string{"intercept", "enable", "--format", "json"}, nil, 2, "", "format"},
		"intercept format":       {[]string{"intercept", "status", "--format", "xml"}, nil, 2, "", `--format is "xml", allowed are text and json`},
		"intercept more":         {[]string{"intercept", "disable", "all"}, nil, 2, "", `intercept disable takes no argument "all"`},
		"intercept value":        {[]string{"intercept", "status"}, []string{"APPMESH_APP_PORTS=80,http"}, 1, "", `APPMESH_APP_PORTS holds "http", allowed are ports`},
		"cni version":            {[]string{"cni"}, []string{"CNI_COMMAND=VERSION"}, 0, `"supportedVersions":["0.3.0"`, ""},
		"cni nothing":            {[]string{"cni"}, nil, 1, `"code":6`, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := agentCommand(t, c.environ, c.args...)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if code := exitCode(t, cmd.Run()); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if (c.stdout == "") != (stdout.Len() == 0) || !strings.Contains(stdout.String(), c.stdout) {
				t.Errorf("standard output %q, want %q", &stdout, c.stdout)
			}
			if !strings.Contains(stderr.String(), c.stderr) || (c.stderr == "") != (stderr.Len() == 0) || strings.Count(stderr.String(), "\n") > 1 {
				t.Errorf("standard error %q, want one line with %q", &stderr, c.stderr)
			}
		})
	}
}

// fakeEnvoy writes a script that stands in for Envoy.
func fakeEnvoy(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "envoy")
	syscall.ForkLock.RLock() // a process forked now would hold the file open for writing
	err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("waited in vain for: %s", what)
}

// alive reports whether a process runs; one that has ended and that nobody has
// fetched yet does not.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// startWithPid runs the agent with a stand-in for Envoy that notes its process id and
// goes on for ever.
func startWithPid(t *testing.T, body string) (agent *exec.Cmd, envoy int) {
	t.Helper()
	note := filepath.Join(t.TempDir(), "pid")
	script := fakeEnvoy(t, body+"\necho $$ >"+note+".new; mv "+note+".new "+note+"\nwhile :; do sleep 0.05; done")
	agent = agentCommand(t, append([]string{"ENVOY_PATH=" + script}, enough...), "run")
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	eventually(t, "Envoy's process id", func() bool {
		text, err := os.ReadFile(note)
		if err != nil {
			return false
		}
		envoy, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	})
	return agent, envoy
}

func TestSignalEndsBoth(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		send syscall.Signal
		want int
	}{"terminate": {syscall.SIGTERM, 9}, "interrupt": {syscall.SIGINT, 9}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			agent, envoy := startWithPid(t, "trap 'exit 9' TERM")
			if err := agent.Process.Signal(c.send); err != nil {
				t.Fatal(err)
			}
			if code := exitCode(t, agent.Wait()); code != c.want {
				t.Errorf("exit code %d, want %d", code, c.want)
			}
			if alive(envoy) {
				t.Error("Envoy is still there")
			}
		})
	}
}

// An agent that is killed leaves no Envoy behind.
func TestKilledAgentTakesEnvoyAlong(t *testing.T) {
	t.Parallel()
	agent, envoy := startWithPid(t, "trap '' TERM INT HUP")
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Envoy is gone", func() bool { return !alive(envoy) })
}

// A signal to the agent's process group, such as a Ctrl-C, does not reach Envoy past
// the agent.
func TestEnvoyHasItsOwnGroup(t *testing.T) {
	t.Parallel()
	_, envoy := startWithPid(t, "")
	group, err := syscall.Getpgid(envoy)
	if err != nil || group != envoy {
		t.Errorf("Envoy %d is in group %d, %v", envoy, group, err)
	}
}

// Envoy may open as many files as the hard limit allows.
func TestFileLimit(t *testing.T) {
	t.Parallel()
	note := filepath.Join(t.TempDir(), "limit")
	inner := agentCommand(t, append([]string{"ENVOY_PATH=" + fakeEnvoy(t, "ulimit -S -n >"+note)}, enough...), "run")
	cmd := exec.Command("/bin/sh", "-c", `ulimit -S -n 200 && ulimit -H -n 300 && exec "$0" run`, inner.Path)
	cmd.Env, cmd.Dir = inner.Env, inner.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(note)
	if err != nil || strings.TrimSpace(string(text)) != "300" {
		t.Errorf("Envoy's limit is %q, %v, want 300", text, err)
	}
}

// messages are the packages of generated messages that the agent links. It registers each
// of them when it starts, whether it is used or not: with the types of a bootstrap,
// and what they draw in, an idle agent has five megabytes more resident. A bootstrap
// is written without them (internal/agent, message).
var messages = []string{
	"github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3",                // the relay, secrets
	"github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3", // secrets
	// What these draw in.
	"github.com/envoyproxy/go-control-plane/envoy/annotations",
	"github.com/envoyproxy/go-control-plane/envoy/config/core/v3",
	"github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3",
	"github.com/envoyproxy/go-control-plane/envoy/type/v3",
	"github.com/envoyproxy/protoc-gen-validate/validate",
	"github.com/cncf/xds/go/udpa/annotations",
	"github.com/cncf/xds/go/xds/annotations/v3",
	"github.com/cncf/xds/go/xds/core/v3",
	"google.golang.org/genproto/googleapis/rpc/status",
}

// TestLinks keeps the agent small: it runs beside every workload.
func TestLinks(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-tags", "grpcnotrace", "-deps", "-f", "{{.ImportPath}}", ".").Output()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("needs the go command")
	}
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{
		"github.com/fairlead-mesh/fairlead/cmd/fairlead-agent", "github.com/fairlead-mesh/fairlead/internal/agent", "github.com/fairlead-mesh/fairlead/api/client",
		"github.com/fairlead-mesh/fairlead/internal/envoybin", "github.com/fairlead-mesh/fairlead/internal/intercept", "github.com/fairlead-mesh/fairlead/internal/lazy",
		"google.golang.org/protobuf/",
		"go.yaml.in/yaml/v3",                      // parts of a bootstrap that users write
		"google.golang.org/grpc", "golang.org/x/", // the relay
		"github.com/aws/aws-sdk-go-v2/aws", "github.com/aws/aws-sdk-go-v2/internal/", "github.com/aws/smithy-go", // the signer
		"github.com/google/nftables", "github.com/mdlayher/", // interception
	}
	for path := range strings.FieldsSeq(string(out)) {
		if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") {
			// With either of them the linker can no longer tell which methods are called.
			if path == "text/template" || path == "html/template" {
				t.Errorf("the agent links %s, and so all methods of everything", path)
			}
			continue
		}
		if !slices.Contains(messages, path) && !slices.ContainsFunc(allowed, func(prefix string) bool { return strings.HasPrefix(path, prefix) }) {
			t.Errorf("the agent links %s", path)
		}
	}
}
