package bench

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// agentRounds is how many times each start is measured.
const agentRounds = 15

// BenchmarkAgent measures what the agent costs beside its Envoy:
//
//   - binary-MiB: the size of its program, as "make build" builds it
//   - exec-ms: from its start until the process that is Envoy begins to run, less what that
//     process takes to begin by itself
//   - ready-ms and envoy-ready-ms: from the start until Envoy has its configuration and is
//     live, under the agent and with the same bootstrap by itself; extra-ms is the difference
//   - back-ms: from the end of an Envoy that is killed until the next one is ready
//
// Each is the median of rounds that alternate between the two that are compared.
func BenchmarkAgent(b *testing.B) {
	a := newAgentBench(b)
	info, err := os.Stat(a.agent)
	if err != nil {
		b.Fatal(err)
	}
	var execs, bare, ready, alone, back []float64
	for i := range 2 * agentRounds {
		if i%2 == 0 {
			execs = append(execs, a.untilFirstByte(a.agent, "run"))
			alone = append(alone, a.alone())
		} else {
			bare = append(bare, a.untilFirstByte(a.standIn()))
			r := a.underAgent()
			ready, back = append(ready, r.ready), append(back, r.back)
		}
	}
	for b.Loop() { // everything has been measured
		continue
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(info.Size())/(1<<20), "binary-MiB")
	b.ReportMetric(median(execs)-median(bare), "exec-ms")
	b.ReportMetric(median(ready), "ready-ms")
	b.ReportMetric(median(alone), "envoy-ready-ms")
	b.ReportMetric(median(ready)-median(alone), "extra-ms")
	b.ReportMetric(median(back), "back-ms")
}

// newAgentBench builds the agent and starts a control plane for it.
func newAgentBench(b *testing.B) *agentBench {
	b.Helper()
	envoy := meshtest.EnvoyPath(b)
	dir := b.TempDir()
	agent := meshtest.AgentPath(b)
	p := meshtest.Start(b)
	p.Put(b, "/meshes", `{"meshName":"bench"}`)
	p.Node(b, "bench", "app", "127.0.0.1", 8080)
	p.Put(b, "/meshes/bench/virtualNodes", `{"virtualNodeName":"secure","spec":{"listeners":[{"portMapping":{"port":8080,"protocol":"http"},`+
		`"tls":{"mode":"STRICT","certificate":{"acm":{"certificateArn":"arn:aws:acm:us-east-1:000000000001:certificate/x"}}}}],"serviceDiscovery":{"dns":{"hostname":"127.0.0.1"}}}}`)
	return &agentBench{b: b, plane: p, agent: agent, envoy: envoy, dir: dir}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// agentBench starts agents and Envoys.
type agentBench struct {
	b                 *testing.B
	plane             *meshtest.Plane
	agent, envoy, dir string
	stand             string
}

// standIn is a script in Envoy's place that writes a byte as soon as it runs.
func (a *agentBench) standIn() string {
	if a.stand == "" {
		a.stand = filepath.Join(a.dir, "stand-in")
		syscall.ForkLock.RLock() // a process forked now would hold the file open for writing
		err := os.WriteFile(a.stand, []byte("#!/bin/sh\necho x\nread line\n"), 0o755)
		syscall.ForkLock.RUnlock()
		if err != nil {
			a.b.Fatal(err)
		}
	}
	return a.stand
}

// environ is the environment of an agent at an address of its own.
func (a *agentBench) environ(bind, envoy string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + a.dir, "ENVOY_PATH=" + envoy, "ENVOY_LOG_LEVEL=error", "ENVOY_CONCURRENCY=1",
		"APPMESH_RESOURCE_ARN=" + meshtest.ARN("bench", "app"), "FAIRLEAD_XDS_ENDPOINT=" + a.plane.Addrs.XDS, "FAIRLEAD_XDS_PLAINTEXT=1",
		"FAIRLEAD_BIND_ADDRESS=" + bind, "AWS_REGION=" + meshtest.Region,
		"AWS_ACCESS_KEY_ID=" + a.plane.Creds.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + a.plane.Creds.SecretAccessKey,
		"APPNET_AGENT_ADMIN_MODE=tcp",
	}
}

// untilFirstByte returns how many milliseconds pass from the start of a command until
// something is written.
func (a *agentBench) untilFirstByte(path string, args ...string) float64 {
	a.b.Helper()
	stand := a.standIn()
	cmd := exec.Command(path, args...)
	cmd.Env = a.environ(meshtest.Address(a.b), stand)
	out, err := cmd.StdoutPipe()
	if err != nil {
		a.b.Fatal(err)
	}
	in, err := cmd.StdinPipe() // the stand-in runs until it is closed
	if err != nil {
		a.b.Fatal(err)
	}
	defer in.Close()
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		a.b.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }() // it may have ended
	if _, err := out.Read(make([]byte, 1)); err != nil {
		a.b.Fatalf("%s writes nothing: %v", path, err)
	}
	return milliseconds(time.Since(begin))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// figures are what one round gives, in milliseconds.
type figures struct{ ready, back float64 }

// start starts the agent with an environment.
func (a *agentBench) start(env []string, args ...string) *exec.Cmd {
	a.b.Helper()
	cmd := exec.Command(a.agent, args...)
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		a.b.Fatal(err)
	}
	return cmd
}

// end ends an agent and its Envoy.
func end(cmd *exec.Cmd) { _ = cmd.Process.Signal(syscall.SIGINT); _ = cmd.Wait() }

// underAgent starts an agent with an Envoy and kills that Envoy.
func (a *agentBench) underAgent() (f figures) {
	bind := meshtest.Address(a.b)
	begin := time.Now()
	cmd := a.start(a.environ(bind, a.envoy), "run")
	defer end(cmd)
	a.awaitReady(bind)
	f.ready = milliseconds(time.Since(begin))
	began := time.Now()
	for _, pid := range children(a.b, cmd.Process.Pid) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			a.b.Fatal(err)
		}
		meshtest.Eventually(a.b, "Envoy is gone", func() error {
			if slices.Contains(children(a.b, cmd.Process.Pid), pid) {
				return errors.New("not yet")
			}
			return nil
		})
	}
	a.awaitReady(bind)
	f.back = milliseconds(time.Since(began))
	return f
}

// alone starts an Envoy with the bootstrap that the agent would write.
func (a *agentBench) alone() float64 {
	bind := meshtest.Address(a.b)
	file := filepath.Join(a.dir, bind+".json")
	show := exec.Command(a.agent, "bootstrap", "--format", "json")
	show.Env = a.environ(bind, a.envoy)
	text, err := show.Output()
	if err != nil {
		a.b.Fatal(err)
	}
	meshtest.WriteFile(a.b, file, text)
	cmd := exec.Command(a.envoy, "-c", file, "-l", "error", "--concurrency", "1", "--disable-hot-restart", "--skip-deprecated-logs", "--drain-time-s", "20")
	cmd.Env = show.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		a.b.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	a.awaitReady(bind)
	return milliseconds(time.Since(begin))
}

// awaitReady waits until an Envoy is live.
func (a *agentBench) awaitReady(bind string) {
	a.b.Helper()
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		status, _, err := meshtest.Get(client, "http://"+bind+":9901/ready")
		if err == nil && status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			a.b.Fatalf("Envoy at %s is not ready: %d %v", bind, status, err)
		}
	}
}

// children returns the processes that a process has started and that run.
func children(b *testing.B, parent int) []int {
	b.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	var out []int
	for _, file := range all {
		if pid, _, fields := stat(file); fields != nil && number(fields[1]) == parent && fields[0] != "Z" {
			out = append(out, pid)
		}
	}
	return out
}

// memory returns MiB of a line of what the system says of a process's memory.
func memory(b *testing.B, pid int, line string) float64 {
	b.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(raw), "\n"+line+":")
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		b.Fatalf("the system does not tell %s", line)
	}
	kib, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}
