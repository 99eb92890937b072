package xds

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
)

// Streams that change what they ask for at random hold what they would if nothing were
// shared, and those that ask for the same hold the same set.
func TestSharedNames(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		var sets nameSets
		held := make([]*nameSet, 5)
		want := make([]map[string]struct{}, len(held))
		for step := range 200 {
			i := rnd.IntN(len(held))
			switch rnd.IntN(10) {
			case 0: // the stream ends, and another begins
				sets.release(held[i])
				held[i], want[i] = nil, nil
			case 1, 2:
				list := someOf(rnd)
				held[i], want[i] = sets.replace(held[i], list), map[string]struct{}{}
				for _, name := range list {
					want[i][name] = struct{}{}
				}
			default:
				add, remove := someOf(rnd), someOf(rnd)
				held[i], want[i] = sets.change(held[i], add, remove), maps.Clone(want[i])
				if want[i] == nil {
					want[i] = map[string]struct{}{}
				}
				for _, name := range remove {
					delete(want[i], name)
				}
				for _, name := range add {
					want[i][name] = struct{}{}
				}
			}
			checkSets(t, fmt.Sprintf("seed %d, step %d", seed, step), &sets, held, want)
		}
	}
}

// someOf returns up to three of six names, some of them twice.
func someOf(rnd *rand.Rand) []string {
	list := make([]string, rnd.IntN(4))
	for i := range list {
		list[i] = string(rune('a' + rnd.IntN(6)))
	}
	return list
}

func checkSets(t *testing.T, when string, sets *nameSets, held []*nameSet, want []map[string]struct{}) {
	t.Helper()
	distinct := map[*nameSet]int{}
	for i, s := range held {
		if s == nil && len(want[i]) == 0 {
			continue
		}
		if s == nil || !maps.Equal(s.names, want[i]) || s.identity().n != len(want[i]) {
			t.Fatalf("%s: stream %d holds %+v, want %v", when, i, s, want[i])
		}
		distinct[s]++
		for j, other := range held[:i] {
			if maps.Equal(want[i], want[j]) && other != s {
				t.Fatalf("%s: streams %d and %d ask for the same and do not share it", when, j, i)
			}
		}
	}
	for s, n := range distinct {
		if s.refs != n || sets.sets[s.key] != s {
			t.Fatalf("%s: a set that %d streams hold has %d holders", when, n, s.refs)
		}
	}
	if len(sets.sets) != len(distinct) {
		t.Fatalf("%s: %d sets are kept of which %d are held", when, len(sets.sets), len(distinct))
	}
}

// An idle stream holds nothing of what it was sent, and nothing of its own of what it asks
// for: what 1,000 names take is there once.
func TestAnIdleStreamHoldsLittle(t *testing.T) {
	t.Parallel()
	for _, full := range []bool{false, true} {
		r := newRig(t, full)
		var resources, names []string
		for i := range 1000 {
			names = append(names, fmt.Sprint("c", i))
			resources = append(resources, "c/"+names[i]+"=1", "e/"+names[i]+"=1")
		}
		r.publish(resources...)
		for range 3 {
			r.st = r.addStream()
			r.askFor(envoy.TypeCluster, nil)
			r.askFor(envoy.TypeCluster, r.next())
			r.askFor(envoy.TypeEndpoint, nil, names...)
			r.askFor(envoy.TypeEndpoint, r.next(), names...)
			r.expectNothing()
		}
		if n := len(r.feed.names.sets); n != 1 {
			t.Errorf("full %t: %d sets of names are kept, want one", full, n)
		}
		lists := map[**resource]struct{}{}
		for st := range r.feed.streams {
			for typ := range st.types {
				ts := &st.types[typ]
				if ts.inflight != nil || ts.again != nil || ts.sentBefore != nil || ts.have != nil {
					t.Errorf("full %t: %s holds %+v", full, envoy.Type(typ), ts)
				}
				if len(ts.last) > 0 && envoy.Type(typ) == envoy.TypeEndpoint {
					lists[&ts.last[0]] = struct{}{}
				}
			}
		}
		if full && len(lists) != 1 {
			t.Errorf("%d lists of endpoints are kept, want one", len(lists))
		}
		for _, st := range slices.Collect(maps.Keys(r.feed.streams)) {
			r.feed.leave(st)
		}
		if n := len(r.feed.names.sets); n != 0 {
			t.Errorf("full %t: %d sets of names outlive the streams", full, n)
		}
		if err := r.st.handleDelta(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: envoy.TypeEndpoint.URL(), ResourceNamesSubscribe: names}); err == nil || len(r.feed.names.sets) != 0 {
			t.Errorf("full %t: a stream that has ended takes requests: %v", full, err)
		}
	}
}

// addStream returns one more stream of the feed.
func (r *rig) addStream() *stream {
	st := &stream{feed: r.feed, full: r.st.full, wake: make(chan struct{}, 1), log: r.st.log, met: r.st.met}
	r.feed.join(st)
	return st
}

// askFor asks for names, or acknowledges a response.
func (r *rig) askFor(t envoy.Type, s *sent, names ...string) {
	r.t.Helper()
	nonce, version := "", ""
	if s != nil {
		nonce, version = s.Nonce, s.Version
	}
	if r.st.full {
		if err := r.st.handleFull(&discoveryv3.DiscoveryRequest{TypeUrl: t.URL(), ResourceNames: names, ResponseNonce: nonce, VersionInfo: version}); err != nil {
			r.t.Fatal(err)
		}
		return
	}
	if nonce != "" {
		names = nil
	}
	r.ask(t, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: names, ResponseNonce: nonce})
}
