package agent

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
)

var reconnects = flag.Int("reconnects", 6, "how often Envoy loses the control plane in TestNothingGrows")

// TestNothingGrows has Envoy lose the control plane over and over, get its configuration
// again, and the agent asked and told to reload meanwhile. What the agent holds in this
// process (files, goroutines, memory) is the same at the end as after the first tenth.
func TestNothingGrows(t *testing.T) { // not in parallel: it counts what the process has
	r, ads, url := served(t, vars{"APPNET_AGENT_ADMIN_MODE": "tcp", "ENVOY_LOG_LEVEL": "warning"}, nil)
	probe := r.probe()
	if err := probe.Wait(t.Context(), 0, waitTime); err != nil {
		t.Fatal(err)
	}
	var before held
	for i := range *reconnects {
		ads.next(t)
		if !answers(url) {
			t.Fatalf("after %d reconnects Envoy does not serve", i)
		}
		if _, err := probe.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := (reloadDir{base: r.reloadBase()}).trigger(); err != nil {
			t.Fatal(err)
		}
		if i == max(1, *reconnects/10) {
			before = holding(t)
		}
		ads.drop()
	}
	ads.next(t)
	var after held
	eventually(t, fmt.Sprintf("no more is held than %v", before), func() bool {
		after = holding(t)
		return after.files <= before.files && after.goroutines <= before.goroutines && after.heap <= before.heap+before.heap/4
	})
	t.Logf("after %d reconnects: %v, before: %v", *reconnects, after, before)
}

// reloadBase is the folder of the agent's reload directory.
func (r *running) reloadBase() string {
	r.t.Helper()
	d, err := newReloadDir(r.settings) // a name of its own: the agent's is in use
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(d.remove)
	return d.base
}

// held is what a process holds.
type held struct {
	files, goroutines int
	heap              uint64
}

func (h held) String() string {
	return fmt.Sprintf("%d files, %d goroutines, %d KiB of heap", h.files, h.goroutines, h.heap>>10)
}

func holding(t *testing.T) held {
	t.Helper()
	runtime.GC()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return held{len(files), runtime.NumGoroutine(), m.HeapAlloc}
}
