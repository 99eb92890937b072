package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// acceptable reports whether a refusal may come of a race.
func acceptable(err error, codes ...mesh.Code) bool {
	var e *mesh.Error
	if err == nil || !errors.As(err, &e) {
		return err == nil
	}
	for _, c := range codes {
		if e.Code == c {
			return true
		}
	}
	return false
}

// TestRaces lets many clients create, update and delete what refers to each other,
// and checks that what is left is whole. Two stores stand for two replicas.
func TestRaces(t *testing.T) {
	t.Parallel()
	const clients, rounds, things = 8, 100, 3
	endpoint := serveEtcd(t).endpoint
	a, b := openExternal(t, endpoint, keyFile(t, 1)), openExternal(t, endpoint, keyFile(t, 1))
	w := world{t: t, s: a, c: System("test")}
	m := w.makeNodes("m", 0)
	name := func() string { return fmt.Sprint(rand.N(things)) }
	objects := []func() (mesh.ID, string){
		func() (mesh.ID, string) { return m.Object(mesh.KindVirtualNode, "", name()), specNode },
		func() (mesh.ID, string) { return m.Object(mesh.KindVirtualRouter, "", name()), specRouter },
		func() (mesh.ID, string) { return m.Object(mesh.KindRoute, name(), name()), specRoute(name(), name()) },
		func() (mesh.ID, string) {
			return m.Object(mesh.KindVirtualService, "", name()), specService(mesh.KindVirtualRouter, name())
		},
		func() (mesh.ID, string) {
			return m.Object(mesh.KindVirtualService, "", name()), specService(mesh.KindVirtualNode, name())
		},
		func() (mesh.ID, string) { return m.Object(mesh.KindVirtualGateway, "", name()), specGateway },
		func() (mesh.ID, string) {
			return m.Object(mesh.KindGatewayRoute, name(), name()), specGatewayRoute(name())
		},
	}
	var wg sync.WaitGroup
	for i := range clients {
		s := []*Store{a, b}[i%2]
		wg.Go(func() {
			for range rounds {
				id, spec := objects[rand.N(len(objects))]()
				o, err := w.object(id, spec), error(nil)
				switch rand.N(3) {
				case 0:
					_, err = s.Create(t.Context(), w.c, o)
				case 1:
					_, err = s.Update(t.Context(), w.c, Change{ID: id, Spec: o.Spec, Stored: o.Stored})
				case 2:
					_, err = s.Delete(t.Context(), w.c, id)
				}
				if !acceptable(err, mesh.ErrNotFound, mesh.ErrConflict, mesh.ErrResourceInUse) {
					t.Errorf("%s: %v", id.Key, err)
				}
			}
		})
	}
	wg.Wait()
	w.wantWhole()
}

// wantWhole checks every object of the store: that its mesh, parent and targets
// exist, and that reverse references and slots are exactly those of the objects.
func (w world) wantWhole() {
	w.t.Helper()
	there, refs, slots := w.values(objectPrefix), map[string]string{}, map[string]string{}
	for key, value := range there {
		id, _ := parseObjectKey(key)
		for p, ok := id.ParentID(); ok; p, ok = p.ParentID() {
			if there[objectKey(p)] == "" {
				w.t.Errorf("%s lacks its parent %s", id.Key, p.Key)
			}
		}
		doc, err := w.s.parseDocument([]byte(value))
		if err != nil {
			w.t.Fatal(err)
		}
		spec, err := mesh.ParseSpec(id.Kind, doc.Spec)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, k := range mesh.References(spec) {
			if there[objectKey(mesh.ID{Mesh: id.Mesh, Key: k})] == "" {
				w.t.Errorf("%s refers to %s, which is not there", id.Key, k)
			}
		}
		for _, r := range references(spec) {
			refs[refKey(id, r.target)] = r.note
		}
		slots[slotKey(within(slotPrefix, id.Mesh, id.Kind, id.Parent), *doc.Slot)] = tail(id.Key)
	}
	diff(w.t, refs, w.values(refPrefix))
	diff(w.t, slots, w.values(slotPrefix))
}

// values returns all keys with a prefix.
func (w world) values(prefix string) map[string]string {
	w.t.Helper()
	_, all, err := w.s.listAll(w.t.Context(), prefix)
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]string{}
	for _, kv := range all {
		out[string(kv.Key)] = string(kv.Value)
	}
	return out
}

// TestCreateRouteAgainstDeleteNode hammers the one race that leaves a dangling
// reference where references are checked by reads.
func TestCreateRouteAgainstDeleteNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 0)
	w.create(m.Object(mesh.KindVirtualRouter, "", "r"), specRouter)
	node, route := m.Object(mesh.KindVirtualNode, "", "n"), m.Object(mesh.KindRoute, "r", "x")
	created, deleted := 0, 0
	for range 200 {
		w.create(node, specNode)
		var wg sync.WaitGroup
		var createErr, deleteErr error
		o := w.object(route, specRoute("n"))
		wg.Go(func() { _, createErr = w.s.Create(t.Context(), w.c, o) })
		wg.Go(func() { _, deleteErr = w.s.Delete(t.Context(), w.c, node) })
		wg.Wait()
		switch {
		case createErr == nil:
			created++
			wantCode(t, deleteErr, mesh.ErrResourceInUse)
			w.delete(route)
			w.delete(node)
		case deleteErr == nil:
			deleted++
			wantCode(t, createErr, mesh.ErrNotFound)
		default:
			t.Fatalf("both were refused: %v, %v", createErr, deleteErr)
		}
	}
	t.Logf("the route won %d times, the delete %d times", created, deleted)
}

// TestUpdatesOfOneObject checks that no update is lost.
func TestUpdatesOfOneObject(t *testing.T) {
	t.Parallel()
	const clients, rounds = 8, 20
	w := newWorld(t)
	m := w.makeNodes("m", 1)
	id := m.Object(mesh.KindVirtualNode, "", "n0")
	change := w.change(id, specNode)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for j := range rounds {
				if _, err := w.s.Update(t.Context(), w.c, change); err != nil {
					t.Error(err)
				}
				if err := w.s.Tag(t.Context(), w.c, id, []mesh.TagRef{{Key: fmt.Sprint(i), Value: fmt.Sprint(j)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	o := w.get(id)
	diff(t, int64(1+clients*rounds), o.Version)
	diff(t, clients, len(o.Tags))
}

// TestSameTokenAtOnce checks that of equal requests sent at once all get the same
// object.
func TestSameTokenAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.object(w.mesh("m").MeshObject(), specMesh)
	o.Token = "t"
	uids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range uids {
		wg.Go(func() {
			made, err := w.s.Create(context.WithoutCancel(t.Context()), w.c, o)
			if err != nil {
				t.Error(err)
				return
			}
			uids[i] = made.UID
		})
	}
	wg.Wait()
	for _, u := range uids {
		diff(t, uids[0], u)
	}
}
