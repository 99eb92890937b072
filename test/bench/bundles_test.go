package bench

import (
	"net/http"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// bundleStreams is how many agents of one mesh are connected, and bundleChanges how often
// the bundle changes.
const (
	bundleStreams = 500
	bundleChanges = 20
)

// BenchmarkBundles measures how long it takes until the agents of a mesh have a new trust
// bundle, each on a connection of its own: milliseconds from the answer to the call that
// changes it until half of them have it (p50-ms) and until the last has (last-ms; worst-ms of
// the slowest change), and from the beginning of the call, in which the store waits for the
// disk (call-p50-ms, call-last-ms). All but the worst are medians of the changes; a
// change is a root that joins the bundle or leaves it. The agents run in the same process,
// and take most of its time.
func BenchmarkBundles(b *testing.B) {
	p := meshtest.StartDurable(b)
	p.Put(b, "/meshes", `{"meshName":"bench"}`)
	p.Node(b, "bench", "front", "", 0)
	arrived := make(chan arrival, bundleStreams)
	for range bundleStreams {
		follow(b, p, arrived)
	}
	version := awaitVersion(b, arrived, "").version
	admin := p.Signed(b)
	var half, last, callHalf, callLast []time.Duration
	for i := range bundleChanges {
		step, body := "rotation", ""
		if i%2 == 1 { // the old root can go when the new one signs
			step, body = "rotation/retire", `{"force":true}`
			admin.Want(b, http.MethodPut, "/v1/meshes/bench/authority/rotation/switch", body, nil)
		}
		called := time.Now()
		admin.Want(b, http.MethodPut, "/v1/meshes/bench/authority/"+step, body, nil)
		answered := time.Now()
		r := awaitVersion(b, arrived, version)
		version = r.version
		half, last = append(half, max(0, r.half.Sub(answered))), append(last, max(0, r.last.Sub(answered)))
		callHalf, callLast = append(callHalf, r.half.Sub(called)), append(callLast, r.last.Sub(called))
	}
	for b.Loop() { // everything has been measured
		continue
	}
	b.ReportMetric(0, "ns/op")
	report(b, half, "p50-ms", 50)
	report(b, last, "last-ms", 50)
	report(b, last, "worst-ms", 100)
	report(b, callHalf, "call-p50-ms", 50)
	report(b, callLast, "call-last-ms", 50)
}

// arrival is a bundle that has come to an agent.
type arrival struct {
	version string
	at      time.Time
}

// follow opens the stream of one agent, and tells of each bundle that comes.
func follow(b *testing.B, p *meshtest.Plane, arrived chan<- arrival) {
	b.Helper()
	const name = "trust:" + meshtest.Account + "/bench"
	agent, err := meshtest.OpenBundles(b.Context(), p.Addrs.XDS, p.Creds)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(agent.Close)
	go func() { // ends with the stream
		for {
			changed := agent.Changed()
			if secrets, version, err := agent.Last(); err != nil {
				return
			} else if secrets[name] != nil {
				arrived <- arrival{version, time.Now()}
			}
			<-changed
		}
	}()
	agent.Begin(meshtest.ARN("bench", "front"), name)
	agent.Await(b, "a first bundle", name, func(*tlsv3.Secret) bool { return true })
}

// round is how one bundle came to all agents.
type round struct {
	version    string
	half, last time.Time
}

// awaitVersion waits until all agents have one bundle that is not the one of before.
func awaitVersion(b *testing.B, arrived <-chan arrival, before string) round {
	b.Helper()
	r := round{version: before}
	timeout := time.After(time.Minute)
	for have := 0; have < bundleStreams; {
		select {
		case a := <-arrived:
			if a.version == before {
				continue
			}
			if r.version != a.version {
				r.version, have = a.version, 0
			}
			if have++; have == bundleStreams/2 {
				r.half = a.at
			}
			r.last = a.at
		case <-timeout:
			b.Fatalf("%d of %d agents have a new bundle", have, bundleStreams)
		}
	}
	return r
}
