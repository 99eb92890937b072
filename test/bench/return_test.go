package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// kills are how often BenchmarkReturn kills one Envoy, as often as an agent starts one again
// at most, and it has two.
const kills = 10

// BenchmarkReturn measures how long an Envoy is away that is killed with SIGKILL, again and
// again, each time as soon as the one before serves: from the kill until the first request is
// answered through the next one. p50-ms and worst-ms are of 20 kills, of which half are of an
// Envoy that connections leave by and half of one that they come in by; dead-ms is the part
// of the median that the kernel takes to end the process, and started-ms that until the
// agent has started the next one.
func BenchmarkReturn(b *testing.B) {
	meshtest.EnvoyPath(b)
	app := meshtest.Address(b)
	responder(b, net.JoinHostPort(app, "8080"), 100)
	for _, c := range []struct {
		name string
		env  func(b *testing.B) []string
	}{
		{"direct", func(*testing.B) []string { return nil }},
		{"relay", func(b *testing.B) []string { return []string{"FAIRLEAD_CACHE_DIR=" + b.TempDir()} }},
	} {
		b.Run(c.name, func(b *testing.B) {
			back, front := meshtest.Address(b), meshtest.Address(b)
			p := benchMesh(b, back, "")
			config := func(node, bind, app string) meshtest.ProxyConfig {
				return meshtest.ProxyConfig{
					ARN: meshtest.ARN("bench", node), Bind: bind, App: app,
					Env: append(c.env(b), fmt.Sprintf("APPNET_ENVOY_RESTART_COUNT=%d", kills)),
				}
			}
			in, out := p.Proxy(b, config("app", back, app)), p.Proxy(b, config("front", front, meshtest.Address(b)))
			in.Ready(b)
			out.Ready(b)
			call := &side{name: "the application", addr: net.JoinHostPort(front, "15001"), request: request("GET /", "app.local:8080")}
			awaitAnswer(b, call)
			var served, dead, started []float64
			for _, x := range []*meshtest.Proxy{in, out} {
				for range kills {
					d, s, r := killed(b, x, call)
					dead, started, served = append(dead, d), append(started, s), append(served, r)
				}
			}
			for b.Loop() { // everything has been measured
				continue
			}
			b.Logf("ms until served again: %.0f", served)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(slices.Max(served), "worst-ms")
			b.ReportMetric(median(served), "p50-ms")
			b.ReportMetric(median(dead), "dead-ms")
			b.ReportMetric(median(started), "started-ms")
		})
	}
}

// killed kills a proxy's Envoy, and returns after how many milliseconds it was dead, the next
// one started, and a request answered.
func killed(b *testing.B, x *meshtest.Proxy, call *side) (dead, started, served float64) {
	b.Helper()
	pid, said := x.EnvoyPid(b), len(x.Log.String())
	began := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		b.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := began.Add(time.Minute)
	for served == 0 {
		<-tick.C
		now := milliseconds(time.Since(began))
		_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
		switch {
		case time.Now().After(deadline):
			b.Fatalf("no request is answered a minute after Envoy was killed")
		case dead == 0 && !errors.Is(err, fs.ErrNotExist):
		case dead == 0:
			dead = now
		case started == 0 && !strings.Contains(x.Log.String()[said:], "Envoy started again"):
		case started == 0:
			started = now
		case call.answers() == nil:
			served = milliseconds(time.Since(began))
		}
	}
	return dead, started, served
}
