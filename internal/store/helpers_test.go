package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// noContext is for what has no test to take one from.
var noContext = context.Background()

var discard = slog.New(slog.DiscardHandler)

func diff(t testing.TB, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// wantError checks that an error is one line that holds some texts.
func wantError(t testing.TB, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", texts)
		return
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error has more than one line: %v", err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q lacks %q", err, text)
		}
	}
}

// wantCode checks for a refusal.
func wantCode(t testing.TB, err error, code mesh.Code, texts ...string) {
	t.Helper()
	var e *mesh.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("error %v, want %s", err, code)
		return
	}
	wantError(t, err, texts...)
}

// caller may do all in an account.
func caller(account string) Caller {
	return Caller{
		Account: account, Region: "us-east-1", ARN: "arn:aws:iam::" + account + ":user/test",
		Allow: func(Question) error { return nil },
	}
}

// lead has a store do what one server is enough for, until the test ends or the store is
// closed.
func lead(t testing.TB, s *Store) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Lead(t.Context()); !errors.Is(err, context.Canceled) {
			t.Errorf("leading ended with %v", err)
		}
	}()
	t.Cleanup(func() { <-ended }) // the test's context has ended by then
}

// world makes objects in a store on behalf of a caller.
type world struct {
	t testing.TB
	s *Store
	c Caller
}

func newWorld(t testing.TB) world {
	return world{t: t, s: openTemp(t), c: caller("000000000001")}
}

func (w world) mesh(name string) mesh.MeshID {
	account := w.c.Account
	if account == "" {
		account = "000000000001"
	}
	return mesh.MeshID{Account: account, Region: "us-east-1", Name: name}
}

func (w world) object(id mesh.ID, spec string) NewObject {
	w.t.Helper()
	typed, stored, bad := mesh.Decode(id.Kind, "spec", []byte(spec))
	if bad != nil {
		w.t.Fatalf("spec %s of %s: %v", spec, id.Key, bad)
	}
	return NewObject{ID: id, Spec: typed, Stored: stored}
}

func (w world) change(id mesh.ID, spec string) Change {
	w.t.Helper()
	o := w.object(id, spec)
	return Change{ID: o.ID, Spec: o.Spec, Stored: o.Stored}
}

func (w world) create(id mesh.ID, spec string) *mesh.Object {
	w.t.Helper()
	o, err := w.s.Create(w.t.Context(), w.c, w.object(id, spec))
	if err != nil {
		w.t.Fatalf("creating %s: %v", id.Key, err)
	}
	return o
}

func (w world) update(id mesh.ID, spec string) *mesh.Object {
	w.t.Helper()
	o, err := w.s.Update(w.t.Context(), w.c, w.change(id, spec))
	if err != nil {
		w.t.Fatalf("updating %s: %v", id.Key, err)
	}
	return o
}

func (w world) get(id mesh.ID) *mesh.Object {
	w.t.Helper()
	o, err := w.s.Get(w.t.Context(), w.c, id)
	if err != nil {
		w.t.Fatalf("getting %s: %v", id.Key, err)
	}
	return o
}

func (w world) delete(id mesh.ID) *mesh.Object {
	w.t.Helper()
	o, err := w.s.Delete(w.t.Context(), w.c, id)
	if err != nil {
		w.t.Fatalf("deleting %s: %v", id.Key, err)
	}
	return o
}

// wantGone checks that an object is not there.
func (w world) wantGone(id mesh.ID) {
	w.t.Helper()
	_, err := w.s.Get(w.t.Context(), w.c, id)
	wantCode(w.t, err, mesh.ErrNotFound)
}

const (
	specMesh    = `{"egressFilter":{"type":"DROP_ALL"}}`
	specNode    = `{"listeners":[{"portMapping":{"port":8080,"protocol":"http"}}],"serviceDiscovery":{"dns":{"hostname":"localhost"}}}`
	specRouter  = `{"listeners":[{"portMapping":{"port":8080,"protocol":"http"}}]}`
	specGateway = `{"listeners":[{"portMapping":{"port":8080,"protocol":"http"}}]}`
)

// specRoute is a route to some virtual nodes.
func specRoute(nodes ...string) string {
	var targets []map[string]any
	for _, n := range nodes {
		targets = append(targets, map[string]any{"virtualNode": n, "weight": 1})
	}
	return toJSON(map[string]any{"httpRoute": map[string]any{
		"match": map[string]any{"prefix": "/"}, "action": map[string]any{"weightedTargets": targets},
	}})
}

func specService(kind mesh.Kind, name string) string {
	return toJSON(map[string]any{"provider": map[string]any{kind.String(): map[string]any{kind.NameMember(): name}}})
}

func specGatewayRoute(service string) string {
	return toJSON(map[string]any{"httpRoute": map[string]any{
		"match":  map[string]any{"prefix": "/"},
		"action": map[string]any{"target": map[string]any{"virtualService": map[string]any{"virtualServiceName": service}}},
	}})
}

func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// part is one object of makeAll.
type part struct {
	id   mesh.ID
	spec string
}

// all returns an object of each kind in the order in which they can be created.
func (w world) all(name string) []part {
	m := w.mesh(name)
	return []part{
		{m.MeshObject(), specMesh},
		{m.Object(mesh.KindVirtualNode, "", "n"), specNode},
		{m.Object(mesh.KindVirtualRouter, "", "r"), specRouter},
		{m.Object(mesh.KindRoute, "r", "x"), specRoute("n")},
		{m.Object(mesh.KindVirtualService, "", "a.local/v1"), specService(mesh.KindVirtualRouter, "r")},
		{m.Object(mesh.KindVirtualGateway, "", "g"), specGateway},
		{m.Object(mesh.KindGatewayRoute, "g", "x"), specGatewayRoute("a.local/v1")},
		{m.Object(mesh.KindPolicy, "", "p"), specFault(atNode, "")},
	}
}

// makeAll creates a mesh with an object of each kind.
func (w world) makeAll(name string) []*mesh.Object {
	w.t.Helper()
	var out []*mesh.Object
	for _, p := range w.all(name) {
		out = append(out, w.create(p.id, p.spec))
	}
	return out
}

// makeNodes creates a mesh with virtual nodes n0, n1, ….
func (w world) makeNodes(name string, n int) mesh.MeshID {
	w.t.Helper()
	m := w.mesh(name)
	w.create(m.MeshObject(), specMesh)
	for i := range n {
		w.create(m.Object(mesh.KindVirtualNode, "", fmt.Sprintf("n%d", i)), specNode)
	}
	return m
}
