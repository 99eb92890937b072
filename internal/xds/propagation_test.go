package xds

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// build is a rebuild of the rig's feed whose snapshot is of a revision; while it is under
// way, changes may be noticed.
func (r *rig) build(base int64, during func(), resources ...string) {
	r.t.Helper()
	r.feed.begin(base)
	if during != nil {
		during()
	}
	r.publish(resources...)
	r.feed.built(true)
}

// state returns the state of the rig's proxy for a revision, as Server.judge finds it.
func (r *rig) state(revision int64) ProxyState {
	r.t.Helper()
	if p := &r.feed.progress; p.stale > 0 && p.stale <= revision {
		return ProxyPending
	}
	return r.st.judge(r.feed.generationOf(revision)).state
}

// states expects a state for each revision from the first on: c, p or r.
func (r *rig) states(first int64, want string) {
	r.t.Helper()
	got := ""
	for i := range want {
		got += string(r.state(first + int64(i)))[:1]
	}
	if got != want {
		r.t.Errorf("from revision %d on the proxy is %q, want %q", first, got, want)
	}
}

// newBuiltRig is a rig whose proxy has what was built at revision 10.
func newBuiltRig(t *testing.T, full bool, resources ...string) *rig {
	r := newRig(t, full)
	r.feed.noticed(0, r.now)
	r.states(1, "p")
	r.build(10, nil, resources...)
	return r
}

func TestAProxyHasWhatItHasAcknowledged(t *testing.T) {
	t.Parallel()
	r := newBuiltRig(t, false, "c/a=1", "l/in=1", "r/r=1")
	r.states(9, "ppp") // it has not asked for anything
	r.subscribe()
	r.states(1, "ccccccccccccc") // up to 10, and what came later and is not read
	r.feed.noticed(12, r.now)    // something after 12
	r.states(11, "ccpp")
	r.build(15, nil, "c/a=2", "l/in=1", "r/r=1")
	r.states(11, "ccpppp")
	sent := r.expect(envoy.TypeCluster, []string{"a"}, nil)
	r.states(11, "ccpppp")
	r.ack(sent)
	r.expectNothing()
	r.states(11, "cccccc")
}

func TestARebuildThatChangesNothingMovesOn(t *testing.T) {
	t.Parallel()
	r := newBuiltRig(t, false, "c/a=1", "l/in=1", "r/r=1")
	r.subscribe()
	r.feed.noticed(20, r.now)
	r.states(19, "ccpp")
	r.build(25, nil, "c/a=1", "l/in=1", "r/r=1")
	r.states(19, "cccccccccc")
	if n := len(r.feed.progress.marks); n != 1 {
		t.Errorf("one generation has %d marks", n)
	}
}

// What changes while a rebuild is under way may or may not be in it.
func TestAChangeDuringARebuildStaysPending(t *testing.T) {
	t.Parallel()
	r := newBuiltRig(t, false, "c/a=1", "l/in=1", "r/r=1")
	r.subscribe()
	r.feed.noticed(20, r.now)
	r.build(25, func() { r.feed.noticed(27, r.now) }, "c/a=1", "l/in=1", "r/r=1")
	r.states(24, "ccpppp")
	r.build(28, nil, "c/a=1", "l/in=1", "r/r=1")
	r.states(24, "cccccc")
}

// A rebuild that failed leaves things as they were, and pending.
func TestAFailedRebuildStaysPending(t *testing.T) {
	t.Parallel()
	r := newBuiltRig(t, false, "c/a=1", "l/in=1", "r/r=1")
	r.subscribe()
	r.feed.noticed(20, r.now)
	r.feed.begin(25)
	r.feed.built(false)
	r.states(20, "cpppppppp")
}

// A proxy that is behind with the newest change has those before it nevertheless.
func TestAnOlderRevisionIsNotHeldUpByANewerOne(t *testing.T) {
	t.Parallel()
	r := newBuiltRig(t, false, "c/a=1", "l/in=1", "r/r=1")
	r.subscribe()
	for i, content := range []string{"2", "3"} {
		at := int64(20 + 10*i)
		r.feed.noticed(at-1, r.now)
		r.build(at, nil, "c/a="+content, "l/in=1", "r/r=1")
		sent := r.expect(envoy.TypeCluster, []string{"a"}, nil)
		if i == 0 {
			r.ack(sent)
			r.expectNothing()
		}
	}
	r.states(28, "ccppp")
}

// What a proxy had it has, though a newer change has it ask for something anew.
func TestWhatWasHadIsNotUnderWayAgain(t *testing.T) {
	t.Parallel()
	r := newBuiltRig(t, false, "c/a=1", "l/in=1", "r/r=1")
	r.subscribe()
	r.states(10, "c")
	anew := &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"r"}}
	r.ask(envoy.TypeRoute, anew)
	r.states(10, "p") // there is nothing newer that it could be for
	r.ack(r.expect(envoy.TypeRoute, []string{"r"}, nil))
	r.states(10, "c")
	r.feed.noticed(19, r.now)
	r.build(20, nil, "c/a=1", "l/in=2", "r/r=1")
	r.ask(envoy.TypeRoute, anew)
	r.states(9, "cccccccccccp")
}

func TestARefusalIsNotHadAndNotPending(t *testing.T) {
	t.Parallel()
	r := newBuiltRig(t, false, "c/old=1", "l/in=1", "r/r=1")
	r.subscribe()
	r.feed.noticed(19, r.now)
	r.build(20, nil, "l/in=1", "r/r=bad") // and the cluster is to go, but the route may use it
	r.nack(r.expect(envoy.TypeRoute, []string{"r"}, nil))
	r.expectNothing()
	r.states(18, "ccrrr")
	v := r.st.judge(r.feed.generationOf(20))
	if v.reason != "RouteConfiguration r: no" || v.since.IsZero() {
		t.Errorf("the verdict is %+v", v)
	}
	// Another edit that is refused too: 20 was never had.
	r.feed.noticed(29, r.now)
	r.build(30, nil, "l/in=1", "r/r=worse")
	r.nack(r.expect(envoy.TypeRoute, []string{"r"}, nil))
	r.expectNothing()
	r.states(19, "crrrrrrrrrrr")
	// And one that is good, with a removal at the end.
	r.feed.noticed(39, r.now)
	r.states(38, "rrpp")
	r.build(40, nil, "l/in=1", "r/r=2")
	r.ack(r.expect(envoy.TypeRoute, []string{"r"}, nil))
	r.states(20, "p")
	removal := r.expect(envoy.TypeCluster, nil, []string{"old"})
	r.states(40, "p")
	r.ack(removal)
	r.expectNothing()
	r.states(20, "ccccccccccccccccccccc")
}

// A refusal of a newer change does not take an older one away.
func TestARefusalOfANewerChange(t *testing.T) {
	t.Parallel()
	r := newBuiltRig(t, false, "c/a=1", "c/b=1", "l/in=1", "r/r=1")
	r.subscribe()
	r.feed.noticed(19, r.now)
	r.build(20, nil, "c/a=2", "c/b=1", "l/in=1", "r/r=1")
	r.ack(r.expect(envoy.TypeCluster, []string{"a"}, nil))
	r.expectNothing()
	r.feed.noticed(29, r.now)
	r.build(30, nil, "c/a=bad", "c/b=2", "l/in=1", "r/r=1")
	r.nack(r.expect(envoy.TypeCluster, []string{"a", "b"}, nil))
	r.states(29, "pp") // until they are sent one by one
	r.nack(r.expect(envoy.TypeCluster, []string{"a"}, nil))
	r.ack(r.expect(envoy.TypeCluster, []string{"b"}, nil))
	r.expectNothing()
	r.states(28, "ccrr")
}

func TestAStateOfTheWorldProxyHasWhatItHasAcknowledged(t *testing.T) {
	t.Parallel()
	r := newBuiltRig(t, true, "c/a=1", "l/in=1")
	ask := func(typ envoy.Type, s *sent) {
		t.Helper()
		req := &discoveryv3.DiscoveryRequest{TypeUrl: typ.URL()}
		if s != nil {
			req.ResponseNonce, req.VersionInfo = s.Nonce, s.Version
		}
		if err := r.st.handleFull(req); err != nil {
			t.Fatal(err)
		}
	}
	ask(envoy.TypeCluster, nil)
	ask(envoy.TypeCluster, r.expect(envoy.TypeCluster, []string{"a"}, nil))
	r.expectNothing()
	r.states(10, "p") // it has not asked for listeners
	ask(envoy.TypeListener, nil)
	ask(envoy.TypeListener, r.expect(envoy.TypeListener, []string{"in"}, nil))
	r.expectNothing()
	r.states(10, "cc")
	r.feed.noticed(19, r.now)
	r.build(20, nil, "c/b=1", "l/in=1")
	both := r.expect(envoy.TypeCluster, []string{"a", "b"}, nil)
	r.states(19, "cp")
	ask(envoy.TypeCluster, both)
	one := r.expect(envoy.TypeCluster, []string{"b"}, nil)
	r.states(19, "cp")
	ask(envoy.TypeCluster, one)
	r.expectNothing()
	r.states(19, "cc")
}

// However many changes there are, a feed remembers a few, and says of older ones no more
// than is true.
func TestMarksAreBounded(t *testing.T) {
	t.Parallel()
	r := newBuiltRig(t, false, "c/a=1", "l/in=1", "r/r=1")
	r.subscribe()
	for i := range int64(200) {
		r.feed.noticed(19+10*i, r.now)
		r.build(20+10*i, nil, "c/a="+string(rune('2'+i%7)), "l/in=1", "r/r=1")
		r.ack(r.next())
	}
	r.expectNothing()
	if n := len(r.feed.progress.marks); n != mostMarks {
		t.Errorf("%d marks are kept", n)
	}
	r.states(5, "ccc")
	r.states(2005, "ccccccc")
}

// A proxy may be quicker than the rebuild is in coming to its end: what it waited for is
// measured all the same.
func TestAnAcknowledgementBeforeTheRebuildEnds(t *testing.T) {
	t.Parallel()
	r := newBuiltRig(t, false, "c/a=1", "l/in=1", "r/r=1")
	r.subscribe()
	reg := prometheus.NewRegistry()
	reg.MustRegister(r.st.met.acked)
	r.feed.noticed(19, r.now)
	r.feed.begin(20)
	r.publish("c/a=2", "l/in=1", "r/r=1")
	r.ack(r.expect(envoy.TypeCluster, []string{"a"}, nil))
	r.expectNothing()
	r.states(18, "ccpp") // until it is known that nothing else has changed meanwhile
	r.feed.built(true)
	r.states(18, "cccc")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if n := families[0].GetMetric()[0].GetHistogram().GetSampleCount(); n != 1 {
		t.Errorf("%d acknowledgements were measured, not one", n)
	}
}

func TestWhoWaitsForAStreamIsTold(t *testing.T) {
	t.Parallel()
	r := newBuiltRig(t, false, "c/a=1", "l/in=1", "r/r=1")
	r.subscribe()
	r.build(20, nil, "c/a=2", "l/in=1", "r/r=1")
	sent := r.expect(envoy.TypeCluster, []string{"a"}, nil)
	r.expectNothing()
	told := make(chan struct{})
	r.st.settled = told
	r.ack(sent)
	r.expectNothing()
	select {
	case <-told:
	default:
		t.Error("the acknowledgement was not told of")
	}
	r.st.settled = make(chan struct{})
	told = r.st.settled
	r.st.leave()
	select {
	case <-told:
	default:
		t.Error("the end was not told of")
	}
	if !r.st.judge(1).gone {
		t.Error("a stream that has ended is not gone")
	}
}

func TestMergePropagation(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 11, 23, 8, 15, 30, 0, time.UTC)
	proxy := func(arn, connection string, state ProxyState) ProxyPropagation {
		return ProxyPropagation{ARN: arn, Connection: connection, State: state, Reason: "because", Since: since}
	}
	one := Propagation{
		Revision: 7, Newest: 7, PropagationCounts: PropagationCounts{Proxies: 3, Current: 1, Pending: 2}, Unconnected: -1,
		Resources: []ResourcePropagation{{"a", PropagationCounts{Proxies: 2, Current: 1, Pending: 1}}, {"c", PropagationCounts{Proxies: 1, Pending: 1}}},
		Behind:    []ProxyPropagation{proxy("a", "1", ProxyPending), proxy("c", "2", ProxyPending)},
	}
	two := Propagation{
		Revision: 7, Newest: 9, PropagationCounts: PropagationCounts{Proxies: 2, Current: 1, Rejected: 1}, Unconnected: -1,
		Resources: []ResourcePropagation{{"a", PropagationCounts{Proxies: 1, Rejected: 1}}, {"b", PropagationCounts{Proxies: 1, Current: 1}}},
		Behind:    []ProxyPropagation{proxy("a", "3", ProxyRejected)},
	}
	want := Propagation{
		Revision: 7, Newest: 9, PropagationCounts: PropagationCounts{Proxies: 5, Current: 2, Pending: 2, Rejected: 1}, Unconnected: -1,
		Resources: []ResourcePropagation{
			{"a", PropagationCounts{Proxies: 3, Current: 1, Pending: 1, Rejected: 1}},
			{"b", PropagationCounts{Proxies: 1, Current: 1}},
			{"c", PropagationCounts{Proxies: 1, Pending: 1}},
		},
		Behind: []ProxyPropagation{proxy("a", "3", ProxyRejected), proxy("a", "1", ProxyPending)},
	}
	for _, order := range [][]Propagation{{one, two}, {two, one}} {
		// As they come from another replica.
		var read []Propagation
		raw, err := json.Marshal(order)
		if err == nil {
			err = json.Unmarshal(raw, &read)
		}
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, mergePropagation(read, 2)); diff != "" {
			t.Errorf("merged (-want +got):\n%s", diff)
		}
	}
}

// A question survives the way to another replica.
func TestPropagationQueryAsJSON(t *testing.T) {
	t.Parallel()
	q := PropagationQuery{
		Mesh: mesh.MeshID{Account: "000000000001", Region: "us-east-1", Name: "shop"}, Revision: 1 << 60, Wait: 3 * time.Second,
		Resource: mesh.Key{Kind: mesh.KindVirtualNode, Name: "cart"}, Object: mesh.Key{Kind: mesh.KindRoute, Parent: "r", Name: "all"},
		Account: "000000000002", Most: 7,
	}
	raw, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	var got PropagationQuery
	if err := json.Unmarshal(raw, &got); err != nil || got != q {
		t.Errorf("%s is read as %+v: %v", raw, got, err)
	}
	if strings.Contains(string(raw), "null") {
		t.Errorf("%s", raw)
	}
}
