package store

import (
	"fmt"
	"slices"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// names lists the names of a query, page by page.
func (w world) names(q Query) []string {
	w.t.Helper()
	var names []string
	for more := true; more; {
		var objects []*mesh.Object
		var err error
		objects, more, err = w.s.List(w.t.Context(), w.c, q)
		if err != nil {
			w.t.Fatal(err)
		}
		if q.Limit > 0 && len(objects) > q.Limit || more && len(objects) < q.Limit {
			w.t.Fatalf("%d objects for a limit of %d", len(objects), q.Limit)
		}
		for _, o := range objects {
			names = append(names, o.ID.Name)
			q.After = o.ID.Name
		}
	}
	return names
}

func TestList(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 0)
	w.makeNodes("m2", 1)
	other := world{t: t, s: w.s, c: caller("000000000002")}
	other.makeNodes("m", 3)
	services := []string{"a", "a!b", "a/", "a/b", "a/b/c", "a0", "b", "b/in/m2", "\u00e9"}
	for _, name := range slices.Backward(services) {
		w.create(m.Object(mesh.KindVirtualService, "", name), `{}`)
	}
	w.create(m.Object(mesh.KindVirtualNode, "", "n"), specNode)
	for _, router := range []string{"r", "r1"} {
		w.create(m.Object(mesh.KindVirtualRouter, "", router), specRouter)
		for i := range 3 {
			w.create(m.Object(mesh.KindRoute, router, fmt.Sprintf("%s-%d", router, i)), specRoute("n"))
		}
	}
	for _, c := range []struct {
		name string
		q    Query
		want []string
	}{
		{"meshes", Query{Mesh: w.mesh(""), Kind: mesh.KindMesh}, []string{"m", "m2"}},
		{"services", Query{Mesh: m, Kind: mesh.KindVirtualService}, services},
		{"services after", Query{Mesh: m, Kind: mesh.KindVirtualService, After: "a/"}, services[3:]},
		{"services after one that is not there", Query{Mesh: m, Kind: mesh.KindVirtualService, After: "a/b/"}, services[4:]},
		{"services after the last", Query{Mesh: m, Kind: mesh.KindVirtualService, After: "\u00ea"}, nil},
		{"routes", Query{Mesh: m, Kind: mesh.KindRoute, Parent: "r"}, []string{"r-0", "r-1", "r-2"}},
		{"gateways", Query{Mesh: m, Kind: mesh.KindVirtualGateway}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for limit := range 11 {
				c.q.Limit = limit
				diff(t, c.want, w.names(c.q))
			}
		})
	}
	o, more, err := w.s.List(t.Context(), w.c, Query{Mesh: m, Kind: mesh.KindVirtualNode, Limit: 1})
	if err != nil || more || len(o) != 1 {
		t.Fatalf("%v, %v, %v", o, more, err)
	}
	diff(t, w.get(o[0].ID), o[0])
}

func TestListRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 1)
	for _, c := range []struct {
		q    Query
		code mesh.Code
		want string
	}{
		{Query{Mesh: w.mesh("x"), Kind: mesh.KindVirtualNode}, mesh.ErrNotFound, "Mesh with name x is not present"},
		{Query{Mesh: w.mesh("x"), Kind: mesh.KindRoute, Parent: "r"}, mesh.ErrNotFound, "Mesh with name x is not present"},
		{Query{Mesh: m, Kind: mesh.KindRoute, Parent: "r"}, mesh.ErrNotFound, "VirtualRouter with name r is not present under mesh m"},
		{Query{Mesh: m, Kind: mesh.KindRoute}, mesh.ErrBadRequest, "virtualRouterName"},
		{Query{Mesh: m, Kind: mesh.KindVirtualNode, Limit: -1}, mesh.ErrBadRequest, "limit -1"},
		{Query{Mesh: w.mesh(""), Kind: mesh.KindVirtualNode}, mesh.ErrBadRequest, "meshName"},
		{Query{Mesh: mesh.MeshID{Account: "1"}, Kind: mesh.KindMesh}, mesh.ErrBadRequest, "account"},
		{Query{Mesh: m}, mesh.ErrBadRequest, "kind"},
	} {
		_, _, err := w.s.List(t.Context(), w.c, c.q)
		wantCode(t, err, c.code, c.want)
	}
}

// TestListPassesOverBadObjects checks that objects that cannot be read cost
// themselves only.
func TestListPassesOverBadObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 6)
	for _, i := range []int{1, 2, 3, 5} {
		key := objectKey(m.Object(mesh.KindVirtualNode, "", fmt.Sprintf("n%d", i)))
		if _, err := w.s.client.Put(t.Context(), key, "no"); err != nil {
			t.Fatal(err)
		}
	}
	for limit := range 4 {
		diff(t, []string{"n0", "n4"}, w.names(Query{Mesh: m, Kind: mesh.KindVirtualNode, Limit: limit}))
	}
}
