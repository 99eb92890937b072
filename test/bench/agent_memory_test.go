package bench

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// memoryRounds is how many agents of each kind are measured, and memoryLooks how often each
// is asked how it is, to use what memory it will; as often as it answers.
const (
	memoryRounds = 3
	memoryLooks  = 100
	memoryPause  = 110 * time.Millisecond
)

// BenchmarkAgentMemory measures what is resident of agents beside an Envoy that serves, each
// with its own server on: one that Envoy passes by on its way to the control plane, one with a relay and
// copies, one with a relay and the workload's certificate, and the relay of a host.
//
//   - rss-MiB: resident when Envoy has all its configuration
//   - used-rss-MiB: and after the agent was asked hundreds of times how it is, as an orchestrator does
//     while nothing else happens
//   - anon-MiB: the part of the latter that agents of one host do not share
//
// Each is the largest of all rounds.
func BenchmarkAgentMemory(b *testing.B) {
	a := newAgentBench(b)
	for _, mode := range []struct {
		name string
		env  func(dir string) []string
		node string
	}{
		{name: "direct", node: "app", env: func(string) []string { return nil }},
		{name: "relay", node: "app", env: func(dir string) []string { return []string{"FAIRLEAD_CACHE_DIR=" + dir} }},
		{name: "certificate", node: "secure", env: func(dir string) []string {
			return []string{"FAIRLEAD_CACHE_DIR=" + dir, "FAIRLEAD_API_ENDPOINT=" + a.plane.URL()}
		}},
	} {
		b.Run(mode.name, func(b *testing.B) {
			a := *a
			a.b = b
			var m footprint
			for range memoryRounds {
				m = m.larger(a.resident(mode.node, mode.env(b.TempDir())))
			}
			m.report(b)
		})
	}
}

// footprint is what is resident, in MiB.
type footprint struct{ ready, used, anon float64 }

func (m footprint) larger(o footprint) footprint {
	return footprint{max(m.ready, o.ready), max(m.used, o.used), max(m.anon, o.anon)}
}

func (m footprint) report(b *testing.B) {
	for b.Loop() { // everything has been measured
		continue
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(m.ready, "rss-MiB")
	b.ReportMetric(m.used, "used-rss-MiB")
	b.ReportMetric(m.anon, "anon-MiB")
}

// resident starts an agent for a node and measures it.
func (a *agentBench) resident(node string, env []string) footprint {
	a.b.Helper()
	bind := meshtest.Address(a.b)
	cmd := a.start(append(a.environ(bind, a.envoy), append(env, "APPMESH_RESOURCE_ARN="+meshtest.ARN("bench", node))...), "run")
	defer end(cmd)
	a.awaitReady(bind)
	return a.footprint(cmd.Process.Pid, "http://"+bind+":9902/status")
}

// footprint asks an agent how it is until Envoy serves, and then over and over, and measures a process.
func (a *agentBench) footprint(pid int, status string) (f footprint) {
	a.b.Helper()
	client := &http.Client{Timeout: 5 * time.Second}
	look := func() error {
		_, body, err := meshtest.Get(client, status)
		if err == nil && !strings.Contains(body, `"CONNECTED"`) {
			err = errors.New(body)
		}
		return err
	}
	meshtest.Eventually(a.b, "the agent says that Envoy serves", look)
	f.ready = memory(a.b, pid, "VmRSS")
	tick := time.NewTicker(memoryPause)
	defer tick.Stop()
	for range memoryLooks {
		<-tick.C
		if err := look(); err != nil {
			a.b.Fatalf("Envoy serves no longer: %v", err)
		}
	}
	f.used, f.anon = memory(a.b, pid, "VmRSS"), memory(a.b, pid, "RssAnon")
	return f
}
