package store

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

func TestCreateToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 1)
	w.create(m.Object(mesh.KindVirtualRouter, "", "r"), specRouter)
	id := m.Object(mesh.KindRoute, "r", "x")
	first := w.object(id, specRoute("n0"))
	first.Token, first.Tags = "t1", []mesh.TagRef{{Key: "a", Value: "1"}}
	made, err := w.s.Create(t.Context(), w.c, first)
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.s.Create(t.Context(), w.c, first)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, made, again)

	other := first
	other.Tags = nil
	_, err = w.s.Create(t.Context(), w.c, other)
	wantCode(t, err, mesh.ErrConflict, "clientToken")
	other = first
	other.Stored = []byte(`{}`)
	_, err = w.s.Create(t.Context(), w.c, other)
	wantCode(t, err, mesh.ErrConflict, "clientToken")
	for _, token := range []string{"", "t2"} {
		other = first
		other.Token = token
		_, err = w.s.Create(t.Context(), w.c, other)
		wantCode(t, err, mesh.ErrConflict, "already present")
	}

	// The token is known after an update too, even if what the first request
	// referred to is gone.
	w.create(m.Object(mesh.KindVirtualNode, "", "n1"), specNode)
	updated := w.update(id, specRoute("n1"))
	w.delete(m.Object(mesh.KindVirtualNode, "", "n0"))
	again, err = w.s.Create(t.Context(), w.c, first)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, updated, again)

	w.s.now = func() time.Time { return made.CreatedAt.Add(tokenLife) }
	_, err = w.s.Create(t.Context(), w.c, first)
	wantCode(t, err, mesh.ErrConflict, "already present")
}

func TestUpdateToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 1)
	id := m.Object(mesh.KindVirtualNode, "", "n0")
	change := w.change(id, specNode)
	update := func(token string, want int64) {
		t.Helper()
		change.Token = token
		o, err := w.s.Update(t.Context(), w.c, change)
		if err != nil {
			t.Fatal(err)
		}
		if o.Version != want {
			t.Errorf("version %d, want %d", o.Version, want)
		}
	}
	update("t1", 2)
	update("t1", 2)
	update("", 3)
	update("t1", 4)
	update("t2", 5)
	update("t2", 5)
	other := w.change(id, `{}`)
	other.Token = "t2"
	_, err := w.s.Update(t.Context(), w.c, other)
	wantCode(t, err, mesh.ErrConflict, "clientToken")
	later := time.Now().Add(tokenLife)
	w.s.now = func() time.Time { return later }
	update("t2", 6)
}

// TestPlainDocument holds that the quick way to write a document writes what the slow
// one does.
func TestPlainDocument(t *testing.T) {
	t.Parallel()
	at, slot := time.Date(2026, 11, 23, 1, 2, 3, 45_000_000, time.UTC), 7
	for _, d := range []document{
		{UID: "u", ResourceOwner: "000000000001", Version: 1, CreatedAt: at, UpdatedAt: at, Spec: json.RawMessage(`{"a":["<&>"]}`)},
		{
			UID: "u", ResourceOwner: "000000000001", Version: 12, CreatedAt: at, UpdatedAt: at.Add(time.Hour), Spec: json.RawMessage(`{}`),
			Slot: &slot, CreateToken: &token{Token: hash([]byte("t")), Parameters: hash([]byte("p")), At: at},
		},
	} {
		d.Format = documentFormat
		want, err := marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.plain(); string(got) != string(want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
