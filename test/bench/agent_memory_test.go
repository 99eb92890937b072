package bench

import (
	"errors"
	"net/http"
	"path/filepath"
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
// with its own server on: one whose Envoy goes to the control plane itself (direct), one with
// a relay and copies, one that keeps the workload's certificate too, and the relay of a host,
// which runs no Envoy (host).
//
//   - rss-MiB: resident when Envoy has all its configuration
//   - used-rss-MiB: and after the agent was asked over and over how it is, as an orchestrator
//     does while nothing else happens
//   - anon-MiB: the part of the latter that agents of one host do not share
//
// Each is the largest of all rounds.
func BenchmarkAgentMemory(b *testing.B) {
	a := newAgentBench(b)
	for _, mode := range []struct {
		name, node string
		env        func(dir string) []string
	}{
		{"direct", "app", func(string) []string { return nil }},
		{"relay", "app", func(dir string) []string { return []string{"FAIRLEAD_CACHE_DIR=" + dir} }},
		{"certificate", "secure", func(dir string) []string {
			return []string{"FAIRLEAD_CACHE_DIR=" + dir, "FAIRLEAD_API_ENDPOINT=" + a.plane.URL()}
		}},
	} {
		b.Run(mode.name, func(b *testing.B) {
			a := *a
			a.b = b
			measureRounds(b, func() footprint { return a.resident(mode.node, mode.env(b.TempDir())) })
		})
	}
	b.Run("host", func(b *testing.B) {
		a := *a
		a.b = b
		measureRounds(b, func() footprint { return a.hostRelay(filepath.Join(b.TempDir(), "relay")) })
	})
}

func measureRounds(b *testing.B, one func() footprint) {
	var m footprint
	for range memoryRounds {
		m = m.larger(one())
	}
	for b.Loop() { // everything has been measured
		continue
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(m.ready, "rss-MiB")
	b.ReportMetric(m.used, "used-rss-MiB")
	b.ReportMetric(m.anon, "anon-MiB")
}

// footprint is what is resident, in MiB.
type footprint struct{ ready, used, anon float64 }

func (m footprint) larger(o footprint) footprint {
	return footprint{max(m.ready, o.ready), max(m.used, o.used), max(m.anon, o.anon)}
}

// resident starts an agent for a node and measures it.
func (a *agentBench) resident(node string, env []string) footprint {
	a.b.Helper()
	bind := meshtest.Address(a.b)
	cmd := a.start(append(a.environ(bind, a.envoy), append(env, "APPMESH_RESOURCE_ARN="+meshtest.ARN("bench", node))...), "run")
	defer end(cmd)
	return a.footprint(cmd.Process.Pid, bind)
}

// hostRelay starts the relay of a host at a socket, and an agent whose Envoy goes to it, and
// measures the relay.
func (a *agentBench) hostRelay(socket string) footprint {
	a.b.Helper()
	bind := meshtest.Address(a.b)
	relay := a.start(append(a.environ(bind, a.envoy), "APPNET_RELAY_LISTENER_UDS_PATH="+socket), "relay")
	defer end(relay)
	agent := a.start(append(a.environ(bind, a.envoy), "FAIRLEAD_XDS_ENDPOINT=unix://"+socket), "run")
	defer end(agent)
	return a.footprint(relay.Process.Pid, bind)
}

// footprint waits until the Envoy of an agent serves, asks the agent over and over how it is,
// and measures a process.
func (a *agentBench) footprint(pid int, bind string) (f footprint) {
	a.b.Helper()
	a.awaitReady(bind)
	client := &http.Client{Timeout: 5 * time.Second}
	look := func() error {
		_, body, err := meshtest.Get(client, "http://"+bind+":9902/status")
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
