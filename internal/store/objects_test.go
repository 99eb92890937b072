package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

func TestLifeOfEachKind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	parts := w.all("shop")
	for _, p := range parts {
		w.wantGone(p.id)
		made := w.create(p.id, p.spec)
		if _, err := uuid.Parse(made.UID); err != nil {
			t.Errorf("uid %q: %v", made.UID, err)
		}
		if made.CreatedAt.IsZero() || !made.CreatedAt.Equal(made.CreatedAt.Truncate(time.Millisecond)) || made.CreatedAt.Location() != time.UTC {
			t.Errorf("created at %v", made.CreatedAt)
		}
		diff(t, &mesh.Object{
			ID: p.id, ResourceOwner: "000000000001", UID: made.UID, Version: 1,
			CreatedAt: made.CreatedAt, UpdatedAt: made.CreatedAt, Spec: w.object(p.id, p.spec).Stored, Revision: made.Revision,
		}, made)
		diff(t, made, w.get(p.id))

		_, err := w.s.Create(t.Context(), w.c, w.object(p.id, p.spec))
		wantCode(t, err, mesh.ErrConflict, p.id.Kind.Title()+" with name "+p.id.Name+" is already present")

		updated := w.update(p.id, p.spec)
		want := *made
		want.Version, want.UpdatedAt, want.Revision = 2, updated.UpdatedAt, updated.Revision
		if updated.Revision <= made.Revision || updated.UpdatedAt.Before(made.UpdatedAt) {
			t.Errorf("%s: update at %d, %v", p.id.Key, updated.Revision, updated.UpdatedAt)
		}
		diff(t, &want, updated)
		diff(t, updated, w.get(p.id))
	}
	for _, p := range slices.Backward(parts) {
		before := w.get(p.id)
		deleted := w.delete(p.id)
		want := *before
		want.UpdatedAt, want.Revision = deleted.UpdatedAt, deleted.Revision
		if p.id.Kind != mesh.KindMesh {
			want.Version++
		}
		diff(t, &want, deleted)
		w.wantGone(p.id)
		_, err := w.s.Delete(t.Context(), w.c, p.id)
		wantCode(t, err, mesh.ErrNotFound)
		_, err = w.s.Update(t.Context(), w.c, w.change(p.id, p.spec))
		wantCode(t, err, mesh.ErrNotFound)
	}
	w.wantNoKeys()
	// A name is free again at once.
	if again := w.create(parts[0].id, specMesh); again.Version != 1 {
		t.Errorf("version %d after creating again", again.Version)
	}
}

// wantNoKeys checks that nothing is left behind.
func (w world) wantNoKeys() {
	w.t.Helper()
	for _, prefix := range []string{objectPrefix, refPrefix, slotPrefix, settingPrefix, sharedPrefix} {
		_, all, err := w.s.listAll(w.t.Context(), prefix)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, kv := range all {
			w.t.Errorf("key %q is left", kv.Key)
		}
	}
}

func TestMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m, none := w.makeNodes("m", 1), w.mesh("none")
	w.create(m.Object(mesh.KindVirtualRouter, "", "r"), specRouter)
	w.create(m.Object(mesh.KindVirtualGateway, "", "g"), specGateway)
	for _, c := range []struct {
		name, want string
		id         mesh.ID
		spec       string
	}{
		{"mesh", "Mesh with name none is not present for account 000000000001", none.Object(mesh.KindVirtualNode, "", "n"), specNode},
		{"mesh of a child", "Mesh with name none is not present", none.Object(mesh.KindRoute, "r", "x"), specRoute("n0")},
		{"router", "VirtualRouter with name no is not present under mesh m for account 000000000001", m.Object(mesh.KindRoute, "no", "x"), specRoute("n0")},
		{"gateway", "VirtualGateway with name no is not present", m.Object(mesh.KindGatewayRoute, "no", "x"), specGatewayRoute("s")},
		{"target", "VirtualNode with name n1 is missing", m.Object(mesh.KindRoute, "r", "x"), specRoute("n0", "n1")},
		{"node", "VirtualNode with name n1 is missing", m.Object(mesh.KindVirtualService, "", "s"), specService(mesh.KindVirtualNode, "n1")},
		{"provider", "VirtualRouter with name no is missing", m.Object(mesh.KindVirtualService, "", "s"), specService(mesh.KindVirtualRouter, "no")},
		{"service", "VirtualService with name s/1 is missing", m.Object(mesh.KindGatewayRoute, "g", "x"), specGatewayRoute("s/1")},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := w.s.Create(t.Context(), w.c, w.object(c.id, c.spec))
			wantCode(t, err, mesh.ErrNotFound, c.want)
			w.wantGone(c.id)
		})
	}
	// A node may name a service that is not there.
	w.create(m.Object(mesh.KindVirtualNode, "", "n1"), `{"backends":[{"virtualService":{"virtualServiceName":"absent"}}]}`)
	_, err := w.s.Get(t.Context(), w.c, m.Object(mesh.KindRoute, "r", "x"))
	wantCode(t, err, mesh.ErrNotFound, "Route with name x is not present under VirtualRouter r in mesh m for account 000000000001")
}

func TestDeleteInUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mesh("m")
	parts := w.all("m")
	w.makeAll("m")
	w.create(m.Object(mesh.KindVirtualNode, "", "n2"), specNode)
	w.create(m.Object(mesh.KindVirtualService, "", "s2"), specService(mesh.KindVirtualNode, "n2"))
	for _, c := range []struct {
		id   mesh.ID
		want string
	}{
		{parts[0].id, "Mesh m for account 000000000001 has active VirtualNodes, please delete VirtualNodes before deleting the Mesh"},
		{parts[1].id, "VirtualNode with name n cannot be deleted because it is the target of one or more routes."},
		{parts[2].id, "VirtualRouter with name r cannot be deleted because it has active Routes"},
		{parts[4].id, "VirtualService a.local/v1 is being referenced in the following: GATEWAY_ROUTE: [g/x]"},
		{parts[5].id, "VirtualGateway with name g cannot be deleted because it has active GatewayRoutes"},
		{m.Object(mesh.KindVirtualNode, "", "n2"), "VirtualNode with name n2 cannot be deleted because it is a VirtualService provider"},
	} {
		_, err := w.s.Delete(t.Context(), w.c, c.id)
		wantCode(t, err, mesh.ErrResourceInUse, c.want)
		w.get(c.id)
	}
	w.delete(parts[3].id)
	_, err := w.s.Delete(t.Context(), w.c, parts[2].id)
	wantCode(t, err, mesh.ErrResourceInUse, "VirtualRouter with name r cannot be deleted because it is a VirtualService provider")
	w.delete(parts[6].id)
	for _, name := range []string{"s2", "a.local/v1"} {
		w.delete(m.Object(mesh.KindVirtualService, "", name))
	}
	for _, name := range []string{"n", "n2"} {
		w.delete(m.Object(mesh.KindVirtualNode, "", name))
	}
	for i, want := range []string{"VirtualRouters", "VirtualGateways"} {
		_, err := w.s.Delete(t.Context(), w.c, parts[0].id)
		wantCode(t, err, mesh.ErrResourceInUse, want)
		w.delete(parts[[]int{2, 5}[i]].id)
	}
	w.delete(parts[0].id)
	w.wantNoKeys()
}

func TestUpdateMovesReferences(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 4)
	w.create(m.Object(mesh.KindVirtualRouter, "", "r"), specRouter)
	route := m.Object(mesh.KindRoute, "r", "x")
	node := func(i int) mesh.ID { return m.Object(mesh.KindVirtualNode, "", fmt.Sprintf("n%d", i)) }
	w.create(route, specRoute("n0", "n1"))
	w.update(route, specRoute("n1", "n2"))
	_, err := w.s.Update(t.Context(), w.c, w.change(route, specRoute("n1", "n9")))
	wantCode(t, err, mesh.ErrNotFound, "VirtualNode with name n9 is missing")
	w.delete(node(0))
	for _, i := range []int{1, 2} {
		_, err := w.s.Delete(t.Context(), w.c, node(i))
		wantCode(t, err, mesh.ErrResourceInUse)
	}
	w.delete(node(3))
	_, err = w.s.Update(t.Context(), w.c, w.change(route, specRoute("n3")))
	wantCode(t, err, mesh.ErrNotFound, "n3")
	if v := w.get(route).Version; v != 2 {
		t.Errorf("version %d after refused updates", v)
	}
	w.delete(route)
	w.delete(node(1))
	w.delete(node(2))
}

// TestPrefixes checks that no name is taken for the beginning of another.
func TestPrefixes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m, m2 := w.makeNodes("m", 0), w.makeNodes("m2", 0)
	for _, name := range []string{"r", "r2", "r.x", "r-1"} {
		w.create(m.Object(mesh.KindVirtualRouter, "", name), specRouter)
	}
	for _, name := range []string{"n", "n2"} {
		w.create(m.Object(mesh.KindVirtualNode, "", name), specNode)
	}
	w.create(m.Object(mesh.KindRoute, "r2", "x"), specRoute("n2"))
	// These services' names look like keys of others.
	for _, name := range []string{"s", "s/x", "s%2Fx", "../in/m2/virtualNode/n", "s/gatewayRoute/g/x", "sé ✓", "..."} {
		id := m.Object(mesh.KindVirtualService, "", name)
		w.create(id, specService(mesh.KindVirtualRouter, "r2"))
		diff(t, id, w.get(id).ID)
	}
	w.create(m.Object(mesh.KindVirtualGateway, "", "g"), specGateway)
	w.create(m.Object(mesh.KindGatewayRoute, "g", "x"), specGatewayRoute("s/x"))
	for _, name := range []string{"s", "s%2Fx", "s/gatewayRoute/g/x", "../in/m2/virtualNode/n", "sé ✓", "..."} {
		w.delete(m.Object(mesh.KindVirtualService, "", name))
	}
	_, err := w.s.Delete(t.Context(), w.c, m.Object(mesh.KindVirtualService, "", "s/x"))
	wantCode(t, err, mesh.ErrResourceInUse)
	w.delete(m.Object(mesh.KindVirtualNode, "", "n"))
	for _, name := range []string{"r", "r.x", "r-1"} {
		w.delete(m.Object(mesh.KindVirtualRouter, "", name))
	}
	w.delete(m2.MeshObject())
}

func TestBadIDs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mesh("m")
	for _, id := range []mesh.ID{
		{},
		m.Object(99, "", "x"),
		m.Object(mesh.KindVirtualNode, "", ""),
		m.Object(mesh.KindVirtualNode, "", "a/b"),
		m.Object(mesh.KindVirtualNode, "parent", "a"),
		m.Object(mesh.KindVirtualService, "", "a\x00b"),
		m.Object(mesh.KindRoute, "", "a"),
		m.Object(mesh.KindRoute, "r/route", "a"),
		m.Object(mesh.KindMesh, "", "other"),
		w.mesh("m/in").Object(mesh.KindVirtualNode, "", "a"),
		mesh.MeshID{Account: "1", Region: "us-east-1", Name: "m"}.MeshObject(),
		mesh.MeshID{Account: m.Account, Region: "us/east", Name: "m"}.MeshObject(),
		mesh.MeshID{Account: m.Account, Region: "", Name: "m"}.MeshObject(),
	} {
		_, err := w.s.Get(t.Context(), w.c, id)
		wantCode(t, err, mesh.ErrBadRequest)
		_, err = w.s.Create(t.Context(), w.c, NewObject{ID: id, Stored: json.RawMessage(`{}`)})
		wantCode(t, err, mesh.ErrBadRequest)
		_, err = w.s.Update(t.Context(), w.c, Change{ID: id, Stored: json.RawMessage(`{}`)})
		wantCode(t, err, mesh.ErrBadRequest)
		_, err = w.s.Delete(t.Context(), w.c, id)
		wantCode(t, err, mesh.ErrBadRequest)
		wantCode(t, w.s.Untag(t.Context(), w.c, id, nil), mesh.ErrBadRequest)
	}
}

// TestSpecIsKept checks that what was sent comes back byte for byte.
func TestSpecIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 0)
	id := m.Object(mesh.KindVirtualNode, "", "n")
	spec := json.RawMessage(`{"z":"<&> ` + "\u2028" + `","a":1.50,"listeners":[]}`)
	if _, err := w.s.Create(t.Context(), w.c, NewObject{ID: id, Spec: &mesh.VirtualNodeSpec{}, Stored: spec}); err != nil {
		t.Fatal(err)
	}
	diff(t, string(spec), string(w.get(id).Spec))
	if err := w.s.Tag(t.Context(), w.c, id, []mesh.TagRef{{Key: "k", Value: "<v>"}}); err != nil {
		t.Fatal(err)
	}
	diff(t, string(spec), string(w.get(id).Spec))
}

func TestLargeObject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 0)
	big := json.RawMessage(`{"x":"` + string(slices.Repeat([]byte("x"), 2<<20)) + `"}`)
	_, err := w.s.Create(t.Context(), w.c, NewObject{ID: m.Object(mesh.KindVirtualNode, "", "n"), Spec: &mesh.VirtualNodeSpec{}, Stored: big})
	wantCode(t, err, mesh.ErrBadRequest, "too large")
	route := &mesh.RouteSpec{HttpRoute: &mesh.HttpRoute{Action: &mesh.HttpRouteAction{}}}
	for i := range 200 {
		route.HttpRoute.Action.WeightedTargets = append(route.HttpRoute.Action.WeightedTargets, mesh.WeightedTarget{VirtualNode: fmt.Sprint(i)})
	}
	_, err = w.s.Create(t.Context(), w.c, NewObject{ID: m.Object(mesh.KindRoute, "r", "x"), Spec: route, Stored: json.RawMessage(`{}`)})
	wantCode(t, err, mesh.ErrBadRequest, "at most 128")
}

func TestEndedContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.s.Get(ctx, w.c, w.mesh("m").MeshObject())
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	w.s.timeout.Store(int64(time.Nanosecond))
	_, err = w.s.Get(t.Context(), w.c, w.mesh("m").MeshObject())
	wantCode(t, err, mesh.ErrServiceUnavailable)
	w.s.timeout.Store(int64(callTimeout))
}

// TestNewerBuild checks that what a newer build wrote survives this one.
func TestNewerBuild(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 1)
	id := m.Object(mesh.KindVirtualNode, "", "n0")
	write := func(value string) {
		t.Helper()
		if _, err := w.s.client.Put(t.Context(), objectKey(id), value); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"format":1,"uid":"u","resourceOwner":"000000000001","version":7,"spec":{"newer":{"b":1,"a":2}},"quota":{"slot":3},"tags":[{"key":"a","value":"1"}]}`)
	if err := w.s.Tag(t.Context(), w.c, id, []mesh.TagRef{{Key: "b", Value: "2"}}); err != nil {
		t.Fatal(err)
	}
	if got := w.get(id); got.Version != 7 || string(got.Spec) != `{"newer":{"b":1,"a":2}}` {
		t.Errorf("object %+v", got)
	}
	w.update(id, specNode)
	if err := w.s.Untag(t.Context(), w.c, id, []string{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	resp, err := w.s.client.Get(t.Context(), objectKey(id))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(resp.Kvs[0].Value, &got); err != nil {
		t.Fatal(err)
	}
	diff(t, map[string]any{"slot": 3.0}, got["quota"].(map[string]any))
	if _, ok := got["tags"]; ok {
		t.Errorf("tags are left: %v", got)
	}

	for _, value := range []string{`{"format":2,"spec":{}}`, `{"spec":{}}`, `no`} {
		write(value)
		_, err := w.s.Get(t.Context(), w.c, id)
		wantError(t, err, "reading a stored object")
		_, err = w.s.Update(t.Context(), w.c, w.change(id, specNode))
		wantError(t, err, "reading a stored object")
	}
}

// TestMembers checks that the document's members are all in the list that says which
// are known.
func TestMembers(t *testing.T) {
	t.Parallel()
	d := document{Tags: []mesh.TagRef{{}}, References: []string{""}, Slot: new(int), CreateToken: &token{}, UpdateToken: &token{}, Spec: json.RawMessage(`{}`)}
	value, err := d.encode()
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(value, &got); err != nil {
		t.Fatal(err)
	}
	for name := range got {
		if !slices.Contains(members, name) {
			t.Errorf("member %s is not listed", name)
		}
	}
	diff(t, len(members), len(got))
}

func TestKeys(t *testing.T) {
	t.Parallel()
	w := world{t: t, c: caller("000000000001")}
	for _, p := range w.all("m") {
		id, ok := parseObjectKey(objectKey(p.id))
		if !ok || !cmp.Equal(id, p.id) {
			t.Errorf("key %q is read as %v, %v", objectKey(p.id), id, ok)
		}
		if p.id.Kind != mesh.KindMesh {
			k, ok := parseTail(tail(p.id.Key))
			if !ok || k != p.id.Key {
				t.Errorf("tail %q is read as %v, %v", tail(p.id.Key), k, ok)
			}
		}
	}
	for _, key := range []string{
		"", storeKey, objectPrefix, objectPrefix + "1/us-east-1/mesh", objectPrefix + "1/us-east-1/other/x",
		objectPrefix + "1/us-east-1/in/m", objectPrefix + "1/us-east-1/in/m/virtualNode", objectPrefix + "1/us-east-1/in/m/virtualNode/",
		objectPrefix + "1/us-east-1/in/m/kite/x", objectPrefix + "1/us-east-1/in/m/mesh/x", objectPrefix + "1/us-east-1/in/m/route/x",
	} {
		if id, ok := parseObjectKey(key); ok {
			t.Errorf("key %q is read as %v", key, id)
		}
	}
}
