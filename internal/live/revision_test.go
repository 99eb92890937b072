package live_test

import (
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// What a revision brought is in the snapshot when the revision has been reached.
func TestRevisions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if at, newest := r.live.Revision(), r.live.Newest(shop); at == 0 || at != newest {
		t.Errorf("the mesh was made at %d, and %d has been reached", newest, at)
	}
	key := mesh.Key{Kind: mesh.KindVirtualNode, Name: "a"}
	typed, stored := r.decode(mesh.KindVirtualNode, node)
	for _, write := range []func() (*mesh.Object, error){
		func() (*mesh.Object, error) {
			return r.store.Create(t.Context(), store.System("test"), store.NewObject{ID: shop.Object(key.Kind, "", key.Name), Spec: typed, Stored: stored})
		},
		func() (*mesh.Object, error) {
			return r.store.Delete(t.Context(), store.System("test"), shop.Object(key.Kind, "", key.Name))
		},
	} {
		o, err := write()
		if err != nil {
			t.Fatal(err)
		}
		for next := r.live.Await(o.Revision); next != nil; next = r.live.Await(o.Revision) {
			<-next
		}
		if got := r.live.Newest(shop); got != o.Revision {
			t.Errorf("the newest revision is %d, want %d", got, o.Revision)
		}
		if there := r.live.Snapshot(shop).Get(key) != nil; there == (o.Version == 2) {
			t.Errorf("at revision %d the node is there: %t", o.Revision, there)
		}
	}
	if got := r.live.Newest(mesh.MeshID{Account: shop.Account, Region: shop.Region, Name: "none"}); got != 0 {
		t.Errorf("a mesh that is not there has revision %d", got)
	}
	if r.live.Await(r.live.Revision()+1) == nil {
		t.Error("a revision to come has been reached")
	}
}

func TestWhatAWatchReads(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.create(mesh.KindVirtualNode, "", "front", client)
	r.colour()
	route := mesh.Key{Kind: mesh.KindRoute, Parent: "router", Name: "all"}
	r.awaitVersion(route, 1)
	w := r.live.Watch(shop.Object(mesh.KindVirtualNode, "", "front"), func() {})
	defer w.Close()
	if w.Reads(route) {
		t.Error("before it was built it reads something")
	}
	w.Build()
	for key, want := range map[mesh.Key]bool{
		route: true,
		{Kind: mesh.KindRoute, Parent: "router", Name: "to come"}: true,
		{Kind: mesh.KindRoute, Parent: "other", Name: "all"}:      false,
		{Kind: mesh.KindVirtualService, Name: "colour"}:           true,
		{Kind: mesh.KindVirtualNode, Name: "blue"}:                true,
		{Kind: mesh.KindVirtualNode, Name: "red"}:                 false,
	} {
		if got := w.Reads(key); got != want {
			t.Errorf("reads %s: %t, want %t", key, got, want)
		}
	}
}
