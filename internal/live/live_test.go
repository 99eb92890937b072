package live_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/live"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

var shop = mesh.MeshID{Account: "000000000001", Region: "us-east-1", Name: "shop"}

// rig is a store and a Live that follows it.
type rig struct {
	t     *testing.T
	store *store.Store
	live  *live.Live
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigWith(t, nil)
}

func newRigWith(t *testing.T, registry live.Registry) *rig {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := store.Open(t.Context(), store.Config{DataDir: t.TempDir(), Logger: log, Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	l := live.New(st, registry, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	<-l.Ready()
	r := &rig{t, st, l}
	r.create(mesh.KindMesh, "", "shop", `{}`)
	r.awaitVersion(mesh.Key{Kind: mesh.KindMesh, Name: "shop"}, 1)
	return r
}

func (r *rig) decode(k mesh.Kind, spec string) (typed any, stored json.RawMessage) {
	r.t.Helper()
	typed, stored, bad := mesh.Decode(k, "spec", []byte(spec))
	if len(bad) > 0 {
		r.t.Fatal(bad)
	}
	return typed, stored
}

func (r *rig) create(k mesh.Kind, parent, name, spec string) {
	r.t.Helper()
	typed, stored := r.decode(k, spec)
	if _, err := r.store.Create(r.t.Context(), store.System("test"), store.NewObject{
		ID: shop.Object(k, parent, name), Spec: typed, Stored: stored,
	}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) update(k mesh.Kind, parent, name, spec string) {
	r.t.Helper()
	typed, stored := r.decode(k, spec)
	if _, err := r.store.Update(r.t.Context(), store.System("test"), store.Change{
		ID: shop.Object(k, parent, name), Spec: typed, Stored: stored,
	}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) delete(k mesh.Kind, parent, name string) {
	r.t.Helper()
	if _, err := r.store.Delete(r.t.Context(), store.System("test"), shop.Object(k, parent, name)); err != nil {
		r.t.Fatal(err)
	}
}

// await waits until the snapshot satisfies ok.
func (r *rig) await(what string, ok func(*mesh.Snapshot) bool) {
	r.t.Helper()
	meshtest.Eventually(r.t, what, func() error {
		if !ok(r.live.Snapshot(shop)) {
			return errors.New("not yet")
		}
		return nil
	})
}

func (r *rig) awaitVersion(k mesh.Key, version int64) {
	r.t.Helper()
	r.await(k.String(), func(s *mesh.Snapshot) bool {
		c := s.Get(k).Content()
		return c != nil && c.Version == version || c == nil && version == 0
	})
}

const (
	node    = `{"listeners":[{"portMapping":{"port":80,"protocol":"http"}}],"serviceDiscovery":{"dns":{"hostname":"a.local"}}}`
	client  = `{"backends":[{"virtualService":{"virtualServiceName":"colour"}}]}`
	routeTo = `{"httpRoute":{"match":{"prefix":"/"},"action":{"weightedTargets":[{"virtualNode":"blue","weight":1}]}}}`
)

// colour makes a service behind a router with a route to blue.
func (r *rig) colour() {
	r.create(mesh.KindVirtualNode, "", "blue", node)
	r.create(mesh.KindVirtualRouter, "", "router", `{"listeners":[{"portMapping":{"port":80,"protocol":"http"}}]}`)
	r.create(mesh.KindVirtualService, "", "colour", `{"provider":{"virtualRouter":{"virtualRouterName":"router"}}}`)
	r.create(mesh.KindRoute, "router", "all", routeTo)
}

func TestAChangeFindsTheViewsThatReadIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.create(mesh.KindVirtualNode, "", "front", client)
	r.colour()
	route := mesh.Key{Kind: mesh.KindRoute, Parent: "router", Name: "all"}
	r.awaitVersion(route, 1)

	var notices atomic.Int64
	w := r.live.Watch(shop.Object(mesh.KindVirtualNode, "", "front"), func() { notices.Add(1) })
	defer w.Close()
	view, _ := w.Build()
	if view == nil || len(view.Services) != 1 || view.Services[0].Router == nil || len(view.Services[0].Router.Routes) != 1 || view.Services[0].Node("blue") == nil {
		t.Fatalf("the view is not complete: %+v", view)
	}

	steps := []struct {
		name string
		do   func()
		seen mesh.Key
		ver  int64
		want int64
	}{
		{
			"a node nobody leads to", func() { r.create(mesh.KindVirtualNode, "", "other", node) },
			mesh.Key{Kind: mesh.KindVirtualNode, Name: "other"},
			1, 0,
		},
		{"the route", func() { r.update(mesh.KindRoute, "router", "all", routeTo) }, route, 2, 1},
		{
			"a new route of the router", func() { r.create(mesh.KindRoute, "router", "second", routeTo) },
			mesh.Key{Kind: mesh.KindRoute, Parent: "router", Name: "second"},
			1, 1,
		},
		{
			"the target", func() { r.update(mesh.KindVirtualNode, "", "blue", node) },
			mesh.Key{Kind: mesh.KindVirtualNode, Name: "blue"},
			2, 1,
		},
		{
			"the node itself", func() { r.update(mesh.KindVirtualNode, "", "front", client) },
			mesh.Key{Kind: mesh.KindVirtualNode, Name: "front"},
			2, 1,
		},
		{
			"a route that goes away", func() { r.delete(mesh.KindRoute, "router", "second") },
			mesh.Key{Kind: mesh.KindRoute, Parent: "router", Name: "second"},
			0, 1,
		},
		{
			"the mesh", func() { r.update(mesh.KindMesh, "", "shop", `{"egressFilter":{"type":"ALLOW_ALL"}}`) },
			mesh.Key{Kind: mesh.KindMesh, Name: "shop"},
			2, 1,
		},
	}
	for _, s := range steps {
		before := notices.Load()
		s.do()
		r.awaitVersion(s.seen, s.ver)
		// A notice is given after the snapshot is swapped: one more change of an object
		// that nobody reads shows that it would have come by now.
		r.marker()
		if got := notices.Load() - before; got != s.want {
			t.Errorf("%s: %d notices, want %d", s.name, got, s.want)
		}
		w.Build()
	}
}

// marker makes a change that no view reads and waits until it is there.
func (r *rig) marker() {
	r.t.Helper()
	k := mesh.Key{Kind: mesh.KindVirtualGateway, Name: "marker"}
	spec := `{"listeners":[{"portMapping":{"port":80,"protocol":"http"}}]}`
	if i := r.live.Snapshot(shop).Get(k); i == nil {
		r.create(k.Kind, "", k.Name, spec)
		r.awaitVersion(k, 1)
	} else {
		r.update(k.Kind, "", k.Name, spec)
		r.awaitVersion(k, i.Content().Version+1)
	}
}

func TestAbsentObjectsAreReadToo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	notices := make(chan struct{}, 100)
	w := r.live.Watch(shop.Object(mesh.KindVirtualNode, "", "front"), func() { notices <- struct{}{} })
	defer w.Close()
	if view, _ := w.Build(); view != nil {
		t.Fatalf("there is a view of a node that does not exist: %+v", view)
	}
	r.create(mesh.KindVirtualNode, "", "front", client)
	<-notices
	view, _ := w.Build()
	if view == nil || !view.Services[0].Missing {
		t.Fatalf("the missing service is not marked: %+v", view)
	}
	r.create(mesh.KindVirtualService, "", "colour", `{}`)
	<-notices
	if view, _ = w.Build(); view.Services[0].Missing {
		t.Error("the service is still marked as missing")
	}
}

func TestAClosedWatchHearsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.create(mesh.KindVirtualNode, "", "front", client)
	r.awaitVersion(mesh.Key{Kind: mesh.KindVirtualNode, Name: "front"}, 1)
	var notices atomic.Int64
	w := r.live.Watch(shop.Object(mesh.KindVirtualNode, "", "front"), func() { notices.Add(1) })
	w.Build()
	w.Close()
	w.Close()
	r.update(mesh.KindVirtualNode, "", "front", client)
	r.awaitVersion(mesh.Key{Kind: mesh.KindVirtualNode, Name: "front"}, 2)
	r.marker()
	if n := notices.Load(); n != 0 {
		t.Errorf("a closed watch got %d notices", n)
	}
}
