package store

import (
	"slices"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// TestActions checks what each call asks the caller's policies for, and that it does
// so before anything is read.
func TestActions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.makeAll("m")
	before, err := w.s.client.Get(t.Context(), storeKey)
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	c := w.c
	c.Allow = func(q Question) error {
		asked = append(asked, q.Action+" "+q.Resource)
		return mesh.Errorf(mesh.ErrForbidden, "no")
	}
	arn := "arn:aws:appmesh:us-east-1:000000000001:mesh/m"
	arns := []string{
		"", "/virtualNode/n", "/virtualRouter/r", "/virtualRouter/r/route/x",
		"/virtualService/a.local/v1", "/virtualGateway/g", "/virtualGateway/g/gatewayRoute/x", "/policy/p",
	}
	lists := []string{"", arn, arn, arn + "/virtualRouter/r", arn, arn, arn + "/virtualGateway/g", arn}
	for i, p := range w.all("m") {
		asked = nil
		o, title, self := w.object(p.id, p.spec), p.id.Kind.Title(), arn+arns[i]
		check := func(err error) { t.Helper(); wantCode(t, err, mesh.ErrForbidden) }
		_, err := w.s.Create(t.Context(), c, o)
		check(err)
		_, err = w.s.Get(t.Context(), c, p.id)
		check(err)
		_, err = w.s.Update(t.Context(), c, w.change(p.id, p.spec))
		check(err)
		_, err = w.s.Delete(t.Context(), c, p.id)
		check(err)
		check(w.s.Tag(t.Context(), c, p.id, nil))
		check(w.s.Untag(t.Context(), c, p.id, nil))
		_, err = w.s.Tags(t.Context(), c, p.id)
		check(err)
		m := p.id.Mesh
		list := lists[i]
		if p.id.Kind == mesh.KindMesh {
			m.Name, list = "", "*"
		}
		_, _, err = w.s.List(t.Context(), c, Query{Mesh: m, Kind: p.id.Kind, Parent: p.id.Parent})
		check(err)
		lists := title + "s"
		service := "appmesh:"
		switch p.id.Kind {
		case mesh.KindMesh:
			lists = "Meshes"
		case mesh.KindPolicy:
			lists, service = "Policies", "fairlead:"
		}
		diff(t, []string{
			service + "Create" + title + " " + self, service + "Describe" + title + " " + self,
			service + "Update" + title + " " + self, service + "Delete" + title + " " + self,
			"appmesh:TagResource " + self, "appmesh:UntagResource " + self, "appmesh:ListTagsForResource " + self,
			service + "List" + lists + " " + list,
		}, asked)
		diff(t, made[i], w.get(p.id))
	}
	after, err := w.s.client.Get(t.Context(), storeKey)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, before.Header.Revision, after.Header.Revision)
}

func TestStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.makeAll("m")
	for name, c := range map[string]Caller{
		"another account": caller("000000000002"),
		"no policies":     {Account: w.c.Account, Region: "us-east-1", ARN: "arn:aws:iam::000000000001:user/x"},
		"nobody":          {},
	} {
		t.Run(name, func(t *testing.T) {
			check := func(err error) { t.Helper(); wantCode(t, err, mesh.ErrForbidden, "is not authorized to") }
			for _, p := range w.all("m") {
				_, err := w.s.Get(t.Context(), c, p.id)
				check(err)
				_, err = w.s.Create(t.Context(), c, w.object(p.id, p.spec))
				check(err)
				check(w.s.Untag(t.Context(), c, p.id, nil))
			}
			_, _, err := w.s.List(t.Context(), c, Query{Mesh: w.mesh(""), Kind: mesh.KindMesh})
			check(err)
			check(w.s.Follow(t.Context(), c, func(Batch) {}))
			check(w.s.FollowRecords(t.Context(), c, "", func(RecordBatch) {}))
			check(w.s.PutRecords(t.Context(), c, nil))
			check(w.s.DeleteRecord(t.Context(), c, "x"))
			_, err = w.s.Records(t.Context(), c, "")
			check(err)
		})
	}
	w.c = System("test")
	for i, p := range w.all("m") {
		diff(t, made[i], w.get(p.id))
	}
	for _, p := range slices.Backward(w.all("m")) {
		w.delete(p.id)
	}
	for i, o := range w.makeAll("m") {
		diff(t, made[i].ARN(), o.ARN())
	}
}
