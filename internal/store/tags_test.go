package store

import (
	"fmt"
	"slices"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

func TestTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mesh("m")
	tag := func(s string) []mesh.TagRef {
		var out []mesh.TagRef
		for i := 0; i+1 < len(s); i += 2 {
			out = append(out, mesh.TagRef{Key: s[i : i+1], Value: s[i+1 : i+2]})
		}
		return out
	}
	o := w.object(m.MeshObject(), specMesh)
	o.Tags = tag("b1a2")
	made, err := w.s.Create(t.Context(), w.c, o)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, tag("b1a2"), made.Tags)
	want := func(s string) {
		t.Helper()
		got, err := w.s.Tags(t.Context(), w.c, o.ID)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, tag(s), got)
		diff(t, tag(s), w.get(o.ID).Tags)
	}
	add := func(s string) {
		t.Helper()
		if err := w.s.Tag(t.Context(), w.c, o.ID, tag(s)); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(keys ...string) {
		t.Helper()
		if err := w.s.Untag(t.Context(), w.c, o.ID, keys); err != nil {
			t.Fatal(err)
		}
	}
	want("b1a2")
	add("c3b4")
	want("b4a2c3")
	revision := w.get(o.ID).Revision
	add("b4")
	remove("z")
	if got := w.get(o.ID).Revision; got != revision {
		t.Errorf("a change that changes nothing was written")
	}
	remove("a", "z")
	want("b4c3")
	add("a5")
	want("b4c3a5")
	wantCode(t, w.s.Tag(t.Context(), w.c, o.ID, tag("d1e1d2")), mesh.ErrBadRequest, `"d"`)
	want("b4c3a5")
	if got := w.get(o.ID); got.Version != 1 || !got.UpdatedAt.Equal(made.UpdatedAt) {
		t.Errorf("tags changed version %d or time %v", got.Version, got.UpdatedAt)
	}
	w.update(o.ID, specMesh)
	want("b4c3a5")
	remove("a", "b", "c")
	want("")

	absent := m.Object(mesh.KindVirtualNode, "", "n")
	wantCode(t, w.s.Tag(t.Context(), w.c, absent, tag("a1")), mesh.ErrNotFound)
	wantCode(t, w.s.Untag(t.Context(), w.c, absent, []string{"a"}), mesh.ErrNotFound)
	_, err = w.s.Tags(t.Context(), w.c, absent)
	wantCode(t, err, mesh.ErrNotFound)
}

func TestTooManyTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var tags []mesh.TagRef
	for i := range maxTags + 1 {
		tags = append(tags, mesh.TagRef{Key: fmt.Sprint(i), Value: "x"})
	}
	o := w.object(w.mesh("m").MeshObject(), specMesh)
	o.Tags = tags
	_, err := w.s.Create(t.Context(), w.c, o)
	wantCode(t, err, mesh.ErrTooManyTags, "51", "50")
	w.wantGone(o.ID)
	o.Tags = tags[:maxTags]
	if _, err := w.s.Create(t.Context(), w.c, o); err != nil {
		t.Fatal(err)
	}
	wantCode(t, w.s.Tag(t.Context(), w.c, o.ID, []mesh.TagRef{{Key: "0", Value: "y"}, tags[maxTags]}), mesh.ErrTooManyTags)
	diff(t, tags[:maxTags], w.get(o.ID).Tags)
	if err := w.s.Tag(t.Context(), w.c, o.ID, []mesh.TagRef{{Key: "0", Value: "y"}}); err != nil {
		t.Error(err)
	}
	want := slices.Clone(tags[:maxTags])
	want[0].Value = "y"
	diff(t, want, w.get(o.ID).Tags)
}
