package xds

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/live"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// BenchmarkPropagation asks how far a revision has come among 10,000 proxies of 1,000
// nodes, all of which have it.
func BenchmarkPropagation(b *testing.B) {
	id := mesh.MeshID{Account: "000000000001", Region: "us-east-1", Name: "shop"}
	s := New(Config{Live: live.New(nil, nil, slog.New(slog.DiscardHandler))})
	for n := range 1000 {
		f := newFeed(feedKey{id: id.Object(mesh.KindVirtualNode, "", fmt.Sprint("n", n)), owner: id.Account})
		f.noticed(0, time.Now())
		f.begin(1)
		f.publish(nil)
		f.built(true)
		for c := range 10 {
			st := &stream{feed: f, met: s.met}
			for _, t := range []envoy.Type{envoy.TypeCluster, envoy.TypeListener, envoy.TypeRoute} {
				st.types[t] = typeState{subscribed: true, sent: 1, removed: 1, acked: 1}
			}
			one := &session{id: fmt.Sprint(n, "-", c), key: f.key, feed: f, stream: st, shared: true}
			s.index(id).sessions[one] = struct{}{}
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		got, err := s.Propagation(b.Context(), PropagationQuery{Mesh: id, Wait: time.Second, Most: 100})
		if err != nil || got.Current != 10_000 {
			b.Fatalf("%+v, %v", got.PropagationCounts, err)
		}
	}
}

// BenchmarkPause is what is done for each stream that has acknowledged a change.
func BenchmarkPause(b *testing.B) {
	f := newFeed(feedKey{})
	st := &stream{feed: f, met: newMetrics(nil), observed: 1}
	for _, t := range []envoy.Type{envoy.TypeCluster, envoy.TypeListener, envoy.TypeRoute} {
		st.types[t] = typeState{subscribed: true, sent: 2, removed: 2, acked: 2}
	}
	f.generation = 2
	f.progress.marks = []mark{{1, 1, time.Now()}, {2, 2, time.Now()}}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		st.observed = 1
		st.pause(now)
	}
}
