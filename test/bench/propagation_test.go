// Package bench measures the control plane as a whole. It asserts nothing about time;
// run it with "make bench".
package bench

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// BenchmarkPropagation measures an UpdateRoute that 1, 10 and 100 connected proxies
// depend on, each its own connection: milliseconds from the call's answer until the
// last of them has acknowledged the route (p50-ms, p99-ms; 0 where it was there before
// the answer), and from the call's beginning, the store's fsync included (call-p50-ms).
func BenchmarkPropagation(b *testing.B) {
	p := meshtest.StartDurable(b)
	p.Put(b, "/meshes", `{"meshName":"bench"}`)
	p.Node(b, "bench", "blue", "10.0.0.1", 8080)
	p.Node(b, "bench", "green", "10.0.0.2", 8080)
	p.Routed(b, "bench", "colour.local", "colour", 8080, meshtest.Weights("blue", 50, "green", 50))
	p.Node(b, "bench", "front", "", 0, "colour.local")
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("clients=%d", n), func(b *testing.B) { propagate(b, p, n) })
	}
}

func propagate(b *testing.B, p *meshtest.Plane, n int) {
	b.Helper()
	acks := make(chan time.Time, n)
	for range n {
		connect(b, p, acks)
	}
	var fromAnswer, fromCall []time.Duration
	weight := 0
	for b.Loop() {
		weight = (weight + 1) % 100
		body := fmt.Sprintf(`{"spec":%s}`, meshtest.Weights("blue", 100-weight, "green", weight))
		called := time.Now()
		status, answer, err := p.Call(context.Background(), http.MethodPut, "/meshes/bench/virtualRouter/colour/routes/all", body)
		answered := time.Now()
		if err != nil || status != http.StatusOK {
			b.Fatalf("UpdateRoute: %d %s %v", status, answer, err)
		}
		var last time.Time
		for range n {
			if at := <-acks; at.After(last) {
				last = at
			}
		}
		fromAnswer = append(fromAnswer, max(0, last.Sub(answered)))
		fromCall = append(fromCall, last.Sub(called))
	}
	report(b, fromAnswer, "p50-ms", 50)
	report(b, fromAnswer, "p99-ms", 99)
	report(b, fromCall, "call-p50-ms", 50)
}

// connect opens a proxy of node front and waits until it has its first routes. After
// that every route response's acknowledgement is told to acks.
func connect(b *testing.B, p *meshtest.Plane, acks chan<- time.Time) {
	b.Helper()
	d, err := meshtest.OpenDelta(b.Context(), p.Addrs.XDS, p.Creds)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(d.Close)
	var first sync.Once
	ready := make(chan struct{})
	d.Answered = func(t envoy.Type, _ *discoveryv3.DeltaDiscoveryResponse) {
		if t != envoy.TypeRoute {
			return
		}
		initial := false
		first.Do(func() { initial = true; close(ready) })
		if !initial {
			acks <- time.Now()
		}
	}
	if err := d.Begin(&corev3.Node{Id: meshtest.ARN("bench", "front")}, nil); err != nil {
		b.Fatal(err)
	}
	select {
	case <-ready:
	case <-time.After(10 * time.Second):
		b.Fatalf("a proxy got no routes: %v", d.Err())
	}
}

func report(b *testing.B, all []time.Duration, unit string, percentile int) {
	slices.Sort(all)
	at := all[min(len(all)-1, len(all)*percentile/100)]
	b.ReportMetric(float64(at.Microseconds())/1000, unit)
}
