package xds_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/store"
	"github.com/fairlead-mesh/fairlead/internal/xds"
)

// change gives a virtual node another port, and returns the revision of that.
func (p *plane) change(name string, port int) int64 {
	p.t.Helper()
	typed, stored, bad := mesh.Decode(mesh.KindVirtualNode, "spec", []byte(meshtest.NodeSpec("127.0.0.9", port)))
	if len(bad) > 0 {
		p.t.Fatal(bad)
	}
	o, err := p.store.Update(p.t.Context(), as(owner), store.Change{ID: testMesh.Object(mesh.KindVirtualNode, "", name), Spec: typed, Stored: stored})
	if err != nil {
		p.t.Fatal(err)
	}
	return o.Revision
}

// ask asks the plane's server how far a revision has come, and waits.
func (p *plane) ask(q xds.PropagationQuery) xds.Propagation {
	p.t.Helper()
	q.Mesh = testMesh
	if q.Most == 0 {
		q.Most = 10
	}
	got, err := p.xds.Propagation(p.t.Context(), q)
	if err != nil {
		p.t.Fatal(err)
	}
	if q.Revision > 0 && got.Revision != q.Revision {
		p.t.Errorf("asked for revision %d, the answer is of %d", q.Revision, got.Revision)
	}
	return got
}

// long is a wait that a test never waits for.
const long = xds.MaxPropagationWait

func wantCounts(t *testing.T, got xds.Propagation, proxies, current, pending, rejected int) {
	t.Helper()
	want := xds.PropagationCounts{Proxies: proxies, Current: current, Pending: pending, Rejected: rejected}
	if diff := cmp.Diff(want, got.PropagationCounts); diff != "" {
		t.Errorf("counts (-want +got):\n%s\nbehind: %+v", diff, got.Behind)
	}
}

// begin opens a stream of a virtual node of the test's mesh that answers as refuse says.
func (p *plane) begin(name string, refuse func(envoy.Type, *discoveryv3.DeltaDiscoveryResponse) string) *meshtest.Delta {
	p.t.Helper()
	d, err := meshtest.OpenDelta(p.t.Context(), p.addr, p.owner)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(d.Close)
	d.Refuse = refuse
	if err := d.Begin(&corev3.Node{Id: meshtest.ARN("test", name)}, nil); err != nil {
		p.t.Fatal(err)
	}
	d.Await(p.t, "listeners", func() bool { return len(d.Resources(envoy.TypeListener)) > 0 })
	return d
}

func TestPropagation(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	p.node(owner, "back")
	p.node(owner, "idle")
	for range 3 {
		p.begin("front", nil)
	}
	good := make(chan bool, 1)
	good <- true
	p.begin("front", func(typ envoy.Type, resp *discoveryv3.DeltaDiscoveryResponse) string {
		if typ == envoy.TypeListener && len(good) == 0 && len(resp.GetResources()) > 0 {
			return "no such port"
		}
		return ""
	})
	p.begin("back", nil)
	all := p.ask(xds.PropagationQuery{Wait: long})
	wantCounts(t, all, 5, 5, 0, 0)
	if all.Unconnected != 1 || len(all.Behind)+len(all.Resources)+len(all.Incomplete) > 0 || all.Revision == 0 {
		t.Errorf("the answer is %+v", all)
	}
	if got := p.ask(xds.PropagationQuery{}); !cmp.Equal(got, all) {
		t.Errorf("without waiting the answer is %+v", got)
	}

	<-good
	before := time.Now()
	revision := p.change("front", 8081)
	got := p.ask(xds.PropagationQuery{Revision: revision, Wait: long})
	wantCounts(t, got, 5, 4, 0, 1)
	front := meshtest.ARN("test", "front")
	wantResources := []xds.ResourcePropagation{{ARN: front, PropagationCounts: xds.PropagationCounts{Proxies: 4, Current: 3, Rejected: 1}}}
	if diff := cmp.Diff(wantResources, got.Resources); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
	if len(got.Behind) != 1 || got.Behind[0].ARN != front || got.Behind[0].State != xds.ProxyRejected || got.Behind[0].Connection == "" ||
		!strings.HasPrefix(got.Behind[0].Peer, "127.0.0.1:") || got.Behind[0].Since.Before(before) ||
		!strings.HasPrefix(got.Behind[0].Reason, "Listener lds_") || !strings.HasSuffix(got.Behind[0].Reason, ": no such port") {
		t.Errorf("behind are %+v", got.Behind)
	}
	wantCounts(t, p.ask(xds.PropagationQuery{}), 5, 4, 0, 1)            // the newest
	wantCounts(t, p.ask(xds.PropagationQuery{Revision: 1}), 5, 5, 0, 0) // long ago
	wantCounts(t, p.ask(xds.PropagationQuery{Revision: all.Revision}), 5, 5, 0, 0)
	key := func(name string) mesh.Key { return mesh.Key{Kind: mesh.KindVirtualNode, Name: name} }
	wantCounts(t, p.ask(xds.PropagationQuery{Resource: key("front")}), 4, 3, 0, 1)
	wantCounts(t, p.ask(xds.PropagationQuery{Resource: key("back")}), 1, 1, 0, 0)
	idle := p.ask(xds.PropagationQuery{Resource: key("idle")})
	if wantCounts(t, idle, 0, 0, 0, 0); idle.Unconnected != 1 {
		t.Errorf("of a node without a proxy: %+v", idle)
	}
	wantCounts(t, p.ask(xds.PropagationQuery{Account: consumer}), 0, 0, 0, 0)
}

// Who waits is answered when the last proxy has acknowledged, and told what is missing
// when the time is over.
func TestPropagationWaits(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	p.begin("front", nil)
	hold, held := make(chan struct{}), make(chan struct{}, 8)
	var slow atomic.Bool
	p.begin("front", func(typ envoy.Type, _ *discoveryv3.DeltaDiscoveryResponse) string {
		if slow.Load() && typ == envoy.TypeListener {
			held <- struct{}{}
			<-hold
		}
		return ""
	})
	first := p.ask(xds.PropagationQuery{Wait: long})
	wantCounts(t, first, 2, 2, 0, 0)
	slow.Store(true)
	revision := p.change("front", 8081)
	answer := make(chan xds.Propagation, 1)
	go func() {
		got, err := p.xds.Propagation(t.Context(), xds.PropagationQuery{Mesh: testMesh, Revision: revision, Wait: long})
		if err != nil {
			t.Error(err)
		}
		answer <- got
	}()
	<-held
	got := p.ask(xds.PropagationQuery{Revision: revision, Wait: 50 * time.Millisecond})
	if got.Pending == 0 || got.Rejected > 0 || got.Proxies != 2 || len(got.Behind) != got.Pending || got.Behind[0].State != xds.ProxyPending {
		t.Errorf("while one has not answered: %+v", got)
	}
	meshtest.Eventually(t, "the other has it", func() error {
		got = p.ask(xds.PropagationQuery{Revision: revision})
		if got.Pending != 1 {
			return errNotYet
		}
		return nil
	})
	if why := got.Behind[0].Reason; why != "it has not answered what it was sent of type Listener" || got.Behind[0].Since.IsZero() {
		t.Errorf("behind is %+v", got.Behind[0])
	}
	wantCounts(t, p.ask(xds.PropagationQuery{Revision: first.Revision, Wait: long}), 2, 2, 0, 0) // it still has what was before
	select {
	case early := <-answer:
		t.Errorf("answered before the acknowledgement: %+v", early)
	default:
	}
	close(hold)
	wantCounts(t, <-answer, 2, 2, 0, 0)
	// A revision that has not come yet.
	got = p.ask(xds.PropagationQuery{Revision: revision + 1000, Wait: 10 * time.Millisecond})
	if wantCounts(t, got, 2, 0, 2, 0); !strings.Contains(got.Behind[0].Reason, "has not arrived") {
		t.Errorf("of a revision to come: %+v", got.Behind)
	}
}

// A proxy that goes is not waited for.
func TestPropagationDoesNotWaitForWhoHasGone(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	p.begin("front", nil)
	var slow atomic.Bool
	held, never := make(chan struct{}, 8), make(chan struct{})
	silent := p.begin("front", func(envoy.Type, *discoveryv3.DeltaDiscoveryResponse) string {
		if slow.Load() {
			held <- struct{}{}
			<-never
		}
		return ""
	})
	t.Cleanup(func() { close(never) })
	wantCounts(t, p.ask(xds.PropagationQuery{Wait: long}), 2, 2, 0, 0)
	slow.Store(true)
	revision := p.change("front", 8081)
	<-held
	answer := make(chan xds.Propagation, 1)
	go func() {
		got, err := p.xds.Propagation(t.Context(), xds.PropagationQuery{Mesh: testMesh, Revision: revision, Wait: long})
		if err != nil {
			t.Error(err)
		}
		answer <- got
	}()
	silent.Close()
	wantCounts(t, <-answer, 1, 1, 0, 0)
}

// Only those count that depend on an object.
func TestPropagationOfAnObject(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	p.create(owner, testMesh.Object(mesh.KindVirtualService, "", "front.local"), `{"provider":{"virtualNode":{"virtualNodeName":"front"}}}`)
	p.create(owner, testMesh.Object(mesh.KindVirtualNode, "", "caller"), `{"backends":[{"virtualService":{"virtualServiceName":"front.local"}}],"listeners":[{"portMapping":{"port":80,"protocol":"http"}}],"serviceDiscovery":{"dns":{"hostname":"127.0.0.9"}}}`)
	p.begin("front", nil)
	p.begin("caller", nil)
	p.node(owner, "apart")
	p.begin("apart", nil)
	revision := p.change("front", 8082)
	for _, c := range []struct {
		object mesh.Key
		want   int
	}{
		{mesh.Key{Kind: mesh.KindVirtualNode, Name: "front"}, 2},
		{mesh.Key{Kind: mesh.KindVirtualService, Name: "front.local"}, 1},
		{mesh.Key{Kind: mesh.KindVirtualNode, Name: "caller"}, 1},
		{mesh.Key{Kind: mesh.KindVirtualRouter, Name: "none"}, 0},
	} {
		got := p.ask(xds.PropagationQuery{Object: c.object, Revision: revision, Wait: long})
		if wantCounts(t, got, c.want, c.want, 0, 0); got.Unconnected != -1 {
			t.Errorf("%s: who is not connected cannot be known to depend on it: %+v", c.object, got)
		}
	}
}

// What is said to be had has been acknowledged, whatever comes in between: each edit gives
// the node a greater port, and proxies answer when it pleases them.
func TestPropagationIsTrue(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	const edits, first = 60, 9000
	ports := make([]atomic.Int64, 6) // the greatest port that each proxy was sent before it answered
	for i := range ports {
		p.begin("front", func(typ envoy.Type, resp *discoveryv3.DeltaDiscoveryResponse) string {
			for _, r := range resp.GetResources() {
				var port int64
				if _, err := fmt.Sscanf(r.GetName(), "lds_ingress_0.0.0.0_%d", &port); err == nil && typ == envoy.TypeListener {
					for range i * 100 {
						runtime.Gosched()
					}
					ports[i].Store(max(ports[i].Load(), port))
				}
			}
			return ""
		})
	}
	var wg sync.WaitGroup
	for n := range edits {
		revision, want := p.change("front", first+n), int64(first+n)
		wg.Go(func() {
			got, err := p.xds.Propagation(t.Context(), xds.PropagationQuery{Mesh: testMesh, Revision: revision, Wait: long})
			if err != nil || got.Proxies != len(ports) || got.Current != len(ports) {
				t.Errorf("of port %d: %+v, %v", want, got, err)
			}
			for i := range ports {
				if have := ports[i].Load(); have < want {
					t.Errorf("proxy %d is said to have port %d, and has answered up to %d", i, want, have)
				}
			}
		})
		if n%7 == 0 {
			wg.Wait()
		}
	}
	wg.Wait()
}

// peers are the other replicas that a server asks.
type peers map[string]func(context.Context, json.RawMessage) (any, error)

func (p peers) ask(ctx context.Context, question string, in any) (out []xds.Answer) {
	raw, err := json.Marshal(in)
	for name, answer := range p {
		a := xds.Answer{Replica: name, Err: err}
		if question != xds.PropagationQuestion {
			a.Err = errors.New("there is no such question")
		}
		if a.Err == nil {
			var body any
			if body, a.Err = answer(ctx, raw); a.Err == nil {
				a.Body, a.Err = json.Marshal(body)
			}
		}
		out = append(out, a)
	}
	return out
}

// It is the same whichever replica is asked.
func TestPropagationOverReplicas(t *testing.T) {
	t.Parallel()
	ofFirst, ofSecond := peers{}, peers{}
	first := newPlane(t, func(cfg *xds.Config) { cfg.Ask = ofFirst.ask })
	second := *first
	end := second.replicate(slog.New(slog.DiscardHandler), func(cfg *xds.Config) { cfg.Ask = ofSecond.ask })
	ofFirst["second"], ofSecond["first"] = second.xds.AnswerPropagation, first.xds.AnswerPropagation

	refuse := func(typ envoy.Type, _ *discoveryv3.DeltaDiscoveryResponse) string {
		if typ == envoy.TypeCluster {
			return "not here"
		}
		return ""
	}
	first.begin("front", nil)
	second.begin("front", nil)
	second.begin("front", refuse)
	revision := first.change("front", 8081)
	var answers []xds.Propagation
	for _, p := range []*plane{first, &second, first, &second} {
		got := p.ask(xds.PropagationQuery{Revision: revision, Wait: long})
		wantCounts(t, got, 3, 2, 0, 1)
		answers = append(answers, got, p.ask(xds.PropagationQuery{}))
	}
	for _, a := range answers[1:] {
		if diff := cmp.Diff(answers[0], a); diff != "" {
			t.Errorf("replicas differ:\n%s", diff)
		}
	}
	ofFirst["third"] = func(context.Context, json.RawMessage) (any, error) { return nil, errors.New("cannot be reached") }
	got := first.ask(xds.PropagationQuery{Revision: revision, Wait: long})
	wantCounts(t, got, 3, 2, 0, 1)
	if diff := cmp.Diff([]xds.ReplicaFailure{{Replica: "third", Reason: "cannot be reached"}}, got.Incomplete); diff != "" || got.Unconnected != -1 {
		t.Errorf("a replica that is away: %+v", got)
	}

	// One that ends says so, rather than that there are no proxies.
	waits := make(chan error, 1)
	go func() {
		_, err := second.xds.Propagation(t.Context(), xds.PropagationQuery{Mesh: testMesh, Revision: revision + 1000, Wait: long})
		waits <- err
	}()
	end()
	var refusal *mesh.Error
	if err := <-waits; !errors.As(err, &refusal) || refusal.Code != mesh.ErrServiceUnavailable {
		t.Errorf("of a server that ends: %v", err)
	}
	got = first.ask(xds.PropagationQuery{Revision: revision})
	if !slices.ContainsFunc(got.Incomplete, func(f xds.ReplicaFailure) bool { return f.Replica == "second" }) {
		t.Errorf("of a replica that has ended: %+v", got)
	}
	wantCounts(t, got, 1, 1, 0, 0)
}

func TestPropagationMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	p := newPlane(t, func(cfg *xds.Config) { cfg.Metrics = reg })
	p.begin("front", nil)
	p.begin("front", func(typ envoy.Type, _ *discoveryv3.DeltaDiscoveryResponse) string {
		if typ == envoy.TypeCluster {
			return "not here"
		}
		return ""
	})
	p.ask(xds.PropagationQuery{Wait: long})
	var before map[string]float64
	meshtest.Eventually(t, "the beginning is measured", func() error {
		if before = p.metrics(reg); before["fairlead_xds_published_seconds"] == 0 {
			return errNotYet
		}
		return nil
	})
	// The first synchronisation is not measured, and whether a change belongs to it is the
	// sender's to know, which may still be on its way to find out.
	changes := 0
	meshtest.Eventually(t, "a change is measured", func() error {
		changes++
		p.ask(xds.PropagationQuery{Revision: p.change("front", 9000+changes), Wait: long})
		if p.metrics(reg)["fairlead_xds_acknowledged_seconds"] == before["fairlead_xds_acknowledged_seconds"] {
			return errNotYet
		}
		return nil
	})
	meshtest.Eventually(t, "all changes so far are measured", func() error {
		now := p.metrics(reg)
		if now["fairlead_xds_published_seconds"] != before["fairlead_xds_published_seconds"]+float64(changes) {
			return fmt.Errorf("%v after %d changes, before them %v", now, changes, before)
		}
		before = now
		return nil
	})
	p.ask(xds.PropagationQuery{Revision: p.change("front", 8081), Wait: long})
	want := map[string]float64{
		"fairlead_xds_proxies current": 1, "fairlead_xds_proxies pending": 0, "fairlead_xds_proxies rejected": 1,
		"fairlead_xds_published_seconds": before["fairlead_xds_published_seconds"] + 1,
	}
	const acknowledged = "fairlead_xds_acknowledged_seconds"
	meshtest.Eventually(t, "the change is measured", func() error {
		now := p.metrics(reg)
		if n := now[acknowledged]; n <= before[acknowledged] || n > float64(changes+1) { // who refuses has not acknowledged
			return fmt.Errorf("acknowledged %v times after %d changes, before the last %v", n, changes+1, before[acknowledged])
		}
		delete(now, acknowledged)
		if diff := cmp.Diff(want, now); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
}

// metrics returns the gauges and the counts of the histograms of propagation.
func (p *plane) metrics(reg *prometheus.Registry) map[string]float64 {
	p.t.Helper()
	families, err := reg.Gather()
	if err != nil {
		p.t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetName() {
			case "fairlead_xds_proxies":
				out[f.GetName()+" "+m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			case "fairlead_xds_published_seconds", "fairlead_xds_acknowledged_seconds":
				out[f.GetName()] = float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return out
}
