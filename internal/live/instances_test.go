package live_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/live"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

var mapped = meshtest.Key("shop.internal", "blue")

const mappedNode = `{"listeners":[{"portMapping":{"port":80,"protocol":"http"}}],
	"serviceDiscovery":{"awsCloudMap":{"namespaceName":"shop.internal","serviceName":"blue"}}}`

// discovering makes a front that calls a node which Cloud Map discovers.
func discovering(t *testing.T) (*rig, *meshtest.Registry) {
	t.Helper()
	registry := &meshtest.Registry{}
	r := newRigWith(t, registry)
	r.create(mesh.KindVirtualNode, "", "front", client)
	r.create(mesh.KindVirtualNode, "", "blue", mappedNode)
	r.create(mesh.KindVirtualService, "", "colour", `{"provider":{"virtualNode":{"virtualNodeName":"blue"}}}`)
	r.awaitVersion(mesh.Key{Kind: mesh.KindVirtualService, Name: "colour"}, 1)
	return r, registry
}

func ids(v *mesh.View) []string {
	var out []string
	for _, i := range v.Services[0].Node("blue").Discovered.Instances {
		out = append(out, i.ID)
	}
	return out
}

func TestInstancesFindTheViewsThatReadThem(t *testing.T) {
	t.Parallel()
	r, registry := discovering(t)
	var notices, others atomic.Int64
	w := r.live.Watch(shop.Object(mesh.KindVirtualNode, "", "front"), func() { notices.Add(1) })
	defer w.Close()
	if _, ok := w.Refresh(); ok {
		t.Error("a view that was never built was refreshed")
	}
	first, _ := w.Build()
	if d := first.Services[0].Node("blue").Discovered; d.Exists || d.Key != mapped {
		t.Fatalf("the view has the instances %v", d)
	}
	stranger := r.live.Watch(shop.Object(mesh.KindVirtualNode, "", "blue"), func() { others.Add(1) })
	defer stranger.Close()
	stranger.Build()

	registry.Register(mapped, mesh.Instance{ID: "a"})
	registry.Register(meshtest.Key("shop.internal", "green"), mesh.Instance{ID: "a"})
	registry.Register(mapped, mesh.Instance{ID: "b"})
	if n := notices.Load(); n != 2 {
		t.Errorf("%d notices, want one for each change of the service", n)
	}
	changed, ok := w.Refresh()
	if !ok || !slices.Equal(changed, []mesh.InstancesKey{mapped}) {
		t.Errorf("refreshed: %t, changed %v", ok, changed)
	}
	if changed, ok := w.Refresh(); !ok || len(changed) > 0 {
		t.Errorf("refreshed again: %t, changed %v", ok, changed)
	}
	if view, _ := w.Build(); !slices.Equal(ids(view), []string{"a", "b"}) {
		t.Errorf("the instances are %v", ids(view))
	}
	if len(ids(first)) != 0 {
		t.Error("the view before has changed")
	}

	registry.Deregister(mapped, "a")
	r.update(mesh.KindVirtualNode, "", "blue", node)
	r.awaitVersion(mesh.Key{Kind: mesh.KindVirtualNode, Name: "blue"}, 2)
	r.marker()
	if _, ok := w.Refresh(); ok {
		t.Error("a view of which an object has changed was refreshed")
	}
	if view, _ := w.Build(); view.Services[0].Node("blue").Discovered != nil {
		t.Errorf("discovered are %v, want none", view.Services[0].Node("blue").Discovered)
	}
	before := notices.Load()
	registry.Deregister(mapped, "b")
	if n := notices.Load() - before; n != 0 {
		t.Errorf("%d notices of what is read no more", n)
	}
	if n := others.Load(); n != 1 { // of its own update
		t.Errorf("a view that reads no instances has %d notices", n)
	}
}

func TestAClosedWatchHearsNothingOfInstances(t *testing.T) {
	t.Parallel()
	r, registry := discovering(t)
	var notices atomic.Int64
	w := r.live.Watch(shop.Object(mesh.KindVirtualNode, "", "front"), func() { notices.Add(1) })
	w.Build()
	w.Close()
	registry.Register(mapped, mesh.Instance{ID: "a"})
	if n := notices.Load(); n != 0 {
		t.Errorf("a closed watch got %d notices", n)
	}
	if _, ok := w.Refresh(); ok {
		t.Error("a closed watch was refreshed")
	}
}

// More changes than are remembered: a view that was not refreshed in the meantime must
// not take itself for current.
func TestManyChangesOfInstances(t *testing.T) {
	t.Parallel()
	r, registry := discovering(t)
	w := r.live.Watch(shop.Object(mesh.KindVirtualNode, "", "front"), func() {})
	defer w.Close()
	w.Build()
	registry.Register(mapped, mesh.Instance{ID: "a"})
	for i := range 1000 {
		registry.Register(meshtest.Key("shop.internal", "green"), mesh.Instance{ID: fmt.Sprint(i)})
	}
	if changed, ok := w.Refresh(); !ok || !slices.Equal(changed, []mesh.InstancesKey{mapped}) {
		t.Errorf("refreshed: %t, changed %v", ok, changed)
	}
}

// Instances and objects change while views are built: the last notice leads to a view of
// how things are in the end.
func TestNothingIsMissedWhileAViewIsBuilt(t *testing.T) {
	t.Parallel()
	r, registry := discovering(t)
	notice := make(chan struct{}, 1)
	w := r.live.Watch(shop.Object(mesh.KindVirtualNode, "", "front"), func() {
		select {
		case notice <- struct{}{}:
		default:
		}
	})
	defer w.Close()
	const changes = 2000
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range changes {
			registry.Register(mapped, mesh.Instance{ID: "a", Port: uint32(i)})
		}
	})
	wg.Go(func() {
		for range 20 {
			r.update(mesh.KindVirtualNode, "", "blue", mappedNode)
		}
	})
	view, _ := w.Build()
	last := func() mesh.Instance {
		if d := view.Services[0].Node("blue").Discovered; len(d.Instances) > 0 {
			return d.Instances[0]
		}
		return mesh.Instance{}
	}
	for now := last(); now.Port != changes-1; {
		<-notice
		if changed, ok := w.Refresh(); !ok {
			view, _ = w.Build()
			now = last()
		} else if len(changed) > 0 {
			all, _ := r.live.Instances(mapped)
			now = all[0]
		}
	}
	wg.Wait()
}

var _ live.Registry = (*meshtest.Registry)(nil)
