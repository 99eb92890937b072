package meshtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/envoybin"
)

// Root returns the root of the checkout, where go.mod is.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working directory")
		}
		dir = parent
	}
}

// EnvoyPath returns the Envoy to test with: $ENVOY_PATH, else envoy on PATH, else the
// one that "make" fetches. It skips the test if there is none.
func EnvoyPath(t testing.TB) string {
	t.Helper()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	path, err := envoybin.Find(os.Getenv("ENVOY_PATH"), root)
	if errors.Is(err, envoybin.ErrNone) {
		t.Skipf("%v; \"make test\" fetches one", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// EnvoyMinor returns which Envoy 1.x the tests run, for those in which versions differ; one
// of no known version counts as the newest.
func EnvoyMinor(t testing.TB) int {
	t.Helper()
	version, err := envoybin.Version(t.Context(), EnvoyPath(t))
	if err != nil {
		t.Fatal(err)
	}
	if minor, ok := envoybin.Minor(version); ok {
		return minor
	}
	return math.MaxInt
}

// OlderEnvoys returns the programs of the older Envoys that "make test-versions" fetches,
// by their minor versions. It skips the test if there are none.
func OlderEnvoys(t testing.TB) map[int]string {
	t.Helper()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(root, ".tools", "envoy-1.*", "envoy"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[int]string{}
	for _, path := range paths {
		if minor, ok := envoybin.Minor(strings.TrimPrefix(filepath.Base(filepath.Dir(path)), "envoy-")); ok {
			out[minor] = path
		}
	}
	if len(out) == 0 {
		t.Skip("no older Envoy is here; \"make test-versions\" fetches them")
	}
	return out
}

// Address returns a loopback address that nothing else of the tests uses.
func Address(t testing.TB) string {
	t.Helper()
	for range 100 {
		ip := net.IPv4(127, byte(1+rand.IntN(250)), byte(rand.IntN(250)), byte(2+rand.IntN(250))).String()
		l, err := net.Listen("tcp", ip+":15001")
		if err == nil {
			_ = l.Close()
			return ip
		}
	}
	t.Skip("this system lets nobody bind addresses in 127.0.0.0/8 beside 127.0.0.1")
	return ""
}

// Serve runs an application on a free loopback address and the given port until the
// test ends, and returns the address.
func Serve(t testing.TB, port int, h http.Handler) string {
	t.Helper()
	addr := Address(t)
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", addr, port))
	if err != nil {
		t.Fatalf("starting an application: %v", err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: wait}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return addr
}

// Proxy is a real Envoy under fairlead-agent, bound to an address of its own.
type Proxy struct {
	// Bind is the address that it listens on.
	Bind string
	// Log holds what the agent and Envoy have written.
	Log *Log

	cmd  *exec.Cmd
	done chan struct{}
	// dial connects from where the proxy is; nil for this machine.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// ProxyConfig says what an Envoy stands for.
type ProxyConfig struct {
	// ARN is the virtual node, in full or from "mesh/" on.
	ARN string
	// Bind is the address to listen on, App that of the application.
	Bind, App string
	// Env is added to the agent's environment.
	Env []string
	// Command is what the agent runs when its Envoy serves; nil for nothing.
	Command []string
}

// agentArgs are the arguments with which an agent runs an Envoy, and a command.
func agentArgs(command []string, flags ...string) []string {
	args := append([]string{"run"}, flags...)
	if command != nil {
		args = append(append(args, "--"), command...)
	}
	return args
}

// Proxy starts an Envoy for a virtual node until the test ends, and does not wait for it.
func (p *Plane) Proxy(t testing.TB, c ProxyConfig) *Proxy {
	t.Helper()
	EnvoyPath(t) // skips before anything is started
	return startAgent(t, agentArgs(c.Command), c.Bind, fmt.Sprintf("proxy %s at %s", c.ARN, c.Bind), p.agentEnv(t, c))
}

// Relay starts an agent that serves the Envoys of a host at a socket, until the test ends.
func (p *Plane) Relay(t testing.TB, socket string, env ...string) *Proxy {
	t.Helper()
	c := ProxyConfig{Env: append([]string{"APPNET_RELAY_LISTENER_UDS_PATH=" + socket}, env...)}
	x := startAgent(t, []string{"relay"}, "", "relay", p.agentEnv(t, c))
	Eventually(t, "the relay listens", func() error {
		c, err := net.Dial("unix", socket)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
	return x
}

func startAgent(t testing.TB, args []string, bind, name string, env []string) *Proxy {
	t.Helper()
	agent, err := agentBinary()
	if err != nil {
		t.Fatal(err)
	}
	x := &Proxy{Bind: bind, Log: &Log{}, done: make(chan struct{})}
	x.cmd = exec.Command(agent, args...)
	x.cmd.Env = env
	x.cmd.Stdout, x.cmd.Stderr = x.Log, x.Log
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := x.cmd.Start(); err != nil {
		t.Fatalf("starting the agent: %v", err)
	}
	go func() { _ = x.cmd.Wait(); close(x.done) }()
	t.Cleanup(func() {
		x.Kill()
		if t.Failed() {
			t.Logf("%s:\n%s", name, tail(x.Log.String(), 4000))
		}
	})
	return x
}

// agentEnv returns the environment of an agent.
func (p *Plane) agentEnv(t testing.TB, c ProxyConfig) []string {
	t.Helper()
	transport := "FAIRLEAD_XDS_PLAINTEXT=1"
	if p.CA != nil {
		transport = "FAIRLEAD_XDS_CA_FILE=" + p.CA.File
	}
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir(),
		"ENVOY_PATH=" + EnvoyPath(t),
		"APPMESH_RESOURCE_ARN=" + c.ARN,
		"FAIRLEAD_XDS_ENDPOINT=" + p.Addrs.XDS,
		transport,
		"FAIRLEAD_BIND_ADDRESS=" + c.Bind,
		"FAIRLEAD_APPLICATION_ADDRESS=" + c.App,
		"AWS_REGION=" + Region,
		"AWS_ACCESS_KEY_ID=" + p.Creds.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + p.Creds.SecretAccessKey,
		"AWS_EC2_METADATA_DISABLED=true",
		"ENVOY_CONCURRENCY=1",
		"LISTENER_DRAIN_WAIT_TIME_S=5",
	}, c.Env...)
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// Kill ends agent and Envoy at once.
func (x *Proxy) Kill() {
	_ = syscall.Kill(-x.cmd.Process.Pid, syscall.SIGKILL)
	<-x.done
}

// EnvoyPid returns the process id of the Envoy that runs, as the agent's log has it.
func (x *Proxy) EnvoyPid(t testing.TB) int {
	t.Helper()
	all := envoyStarted.FindAllStringSubmatch(x.Log.String(), -1)
	if len(all) == 0 {
		t.Fatalf("the agent has started no Envoy:\n%s", tail(x.Log.String(), 4000))
	}
	pid, err := strconv.Atoi(all[len(all)-1][1])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

var envoyStarted = regexp.MustCompile(`msg="Envoy started[^"]*".* pid=(\d+)`)

// ExitCode returns the agent's exit code, once it has ended.
func (x *Proxy) ExitCode() int { return x.cmd.ProcessState.ExitCode() }

// Agent runs another command of the agent with the environment of this one, and returns what
// it writes and its exit code.
func (x *Proxy) Agent(t testing.TB, args ...string) (output string, code int) {
	t.Helper()
	cmd := exec.Command(x.cmd.Path, args...)
	cmd.Env, cmd.Dir = x.cmd.Env, x.cmd.Dir
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("running the agent: %v", err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// Drain tells the agent to drain Envoy and then to end, as whoever started it does, and
// does not wait: Ended does.
func (x *Proxy) Drain() { _ = syscall.Kill(x.cmd.Process.Pid, syscall.SIGTERM) }

// Ended is closed when the agent and with it Envoy has ended.
func (x *Proxy) Ended() <-chan struct{} { return x.done }

// Ready waits until Envoy has all its first configuration.
func (x *Proxy) Ready(t testing.TB) *Proxy {
	t.Helper()
	Eventually(t, "Envoy at "+x.Bind+" is ready", func() error {
		select {
		case <-x.done:
			t.Fatalf("the agent ended with code %d", x.cmd.ProcessState.ExitCode())
		default:
		}
		body, err := x.Admin("/ready")
		if err == nil && !strings.Contains(body, "LIVE") {
			return errors.New(body)
		}
		return err
	})
	return x
}

// Admin reads a page of Envoy's admin interface.
func (x *Proxy) Admin(path string) (string, error) {
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: x.dial, DisableKeepAlives: true}}
	resp, err := c.Get("http://" + x.Bind + ":9901" + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(bytes.TrimSpace(b)), err
}

// Outbound returns a client whose requests go through the Envoy's egress listener, as
// an application's do.
func (x *Proxy) Outbound() *http.Client {
	c := proxied(x.Bind)
	if x.dial != nil {
		c.Transport.(*http.Transport).DialContext = x.dial
	}
	return c
}

// Bootstrap returns the bootstrap that the agent would write for a configuration, as
// JSON, for tests that change it and give it back as ENVOY_CONFIG_FILE.
func (p *Plane) Bootstrap(t testing.TB, c ProxyConfig) map[string]any {
	t.Helper()
	agent, err := agentBinary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(agent, "bootstrap", "--format", "json")
	cmd.Env = p.agentEnv(t, c)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("asking the agent for its bootstrap: %v", err)
	}
	var b map[string]any
	if err := json.Unmarshal(out, &b); err != nil {
		t.Fatalf("the agent's bootstrap is not JSON: %v", err)
	}
	return b
}
