package store

import (
	"fmt"
	"slices"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// asks returns a caller that notes what its policies are asked, and refuses what
// deny says.
func (w world) asks(deny func(Question) bool) (world, *[]Question) {
	var asked []Question
	w.c.Allow = func(q Question) error {
		asked = append(asked, q)
		if deny != nil && deny(q) {
			return mesh.Errorf(mesh.ErrForbidden, "no")
		}
		return nil
	}
	return w, &asked
}

// TestQuestionsOfTags checks which tags come with each question.
func TestQuestionsOfTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old, sent := []mesh.TagRef{{Key: "team", Value: "a"}}, []mesh.TagRef{{Key: "stage", Value: "b"}, {Key: "team", Value: "c"}}
	keys := []string{"stage", "team"}
	var before []Question
	for _, p := range w.all("m") {
		o := w.object(p.id, p.spec)
		o.Tags = old
		asker, asked := w.asks(nil)
		if _, err := w.s.Create(t.Context(), asker.c, o); err != nil {
			t.Fatal(err)
		}
		arn := p.id.ARN(ownerID)
		create := Question{Action: action("Create", p.id.Kind), Resource: arn, RequestTags: old, TagKeys: []string{"team"}}
		diff(t, create, (*asked)[0])
		calls := asker.calls(p)
		want := map[string]Question{
			"get":    {Action: action("Describe", p.id.Kind), Resource: arn, ResourceTags: old},
			"update": {Action: action("Update", p.id.Kind), Resource: arn, ResourceTags: old},
			"delete": {Action: action("Delete", p.id.Kind), Resource: arn, ResourceTags: old},
			"tag":    {Action: "appmesh:TagResource", Resource: arn, ResourceTags: old, RequestTags: []mesh.TagRef{{Key: "k", Value: "v"}}, TagKeys: []string{"k"}},
			"untag":  {Action: "appmesh:UntagResource", Resource: arn, ResourceTags: old, TagKeys: []string{"x"}},
			"tags":   {Action: "appmesh:ListTagsForResource", Resource: arn, ResourceTags: old},
		}
		for name, q := range want {
			refuser, asked := w.asks(func(Question) bool { return true })
			wantCode(t, refuser.calls(p)[name](), mesh.ErrForbidden, "no")
			diff(t, []Question{q}, *asked)
		}
		if err := calls["update"](); err != nil {
			t.Fatal(err)
		}
		// What is missing is asked about without tags, and before it is said to be
		// missing.
		p.id.Name += "x"
		if p.id.Kind == mesh.KindMesh {
			p.id.Mesh.Name = p.id.Name
		}
		for name, q := range want {
			q.Resource, q.ResourceTags = p.id.ARN(ownerID), nil
			refuser, asked := w.asks(func(Question) bool { return true })
			wantCode(t, refuser.calls(p)[name](), mesh.ErrForbidden, "no")
			diff(t, []Question{q}, *asked)
			wantCode(t, w.calls(p)[name](), mesh.ErrNotFound)
		}
		before = append(before, create)
	}
	lists := []struct {
		kind   mesh.Kind
		parent string
		of     int // the container's place in before
	}{
		{mesh.KindVirtualNode, "", 0},
		{mesh.KindVirtualRouter, "", 0},
		{mesh.KindRoute, "r", 2},
		{mesh.KindVirtualService, "", 0},
		{mesh.KindVirtualGateway, "", 0},
		{mesh.KindGatewayRoute, "g", 5},
		{mesh.KindPolicy, "", 0},
	}
	for _, l := range lists {
		asker, asked := w.asks(nil)
		if _, _, err := w.s.List(t.Context(), asker.c, Query{Mesh: w.mesh("m"), Kind: l.kind, Parent: l.parent}); err != nil {
			t.Fatal(err)
		}
		diff(t, []Question{{Action: listAction(l.kind), Resource: before[l.of].Resource, ResourceTags: old}}, *asked)
	}
	// Tags that change decide at once.
	node := w.mesh("m").Object(mesh.KindVirtualNode, "", "n")
	if err := w.s.Tag(t.Context(), w.c, node, sent); err != nil {
		t.Fatal(err)
	}
	refuser, asked := w.asks(func(q Question) bool {
		return slices.Contains(q.ResourceTags, mesh.TagRef{Key: "team", Value: "c"})
	})
	_, err := w.s.Get(t.Context(), refuser.c, node)
	wantCode(t, err, mesh.ErrForbidden)
	diff(t, []mesh.TagRef{{Key: "team", Value: "c"}, {Key: "stage", Value: "b"}}, (*asked)[0].ResourceTags)
	diff(t, keys, tagKeys(sent))
}

// TestQuestionsOfDependents checks that creating and updating asks about what the spec
// names, with the owners and tags of that.
func TestQuestionsOfDependents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 1)
	w.share(m, consumerID)
	guest := w.as(consumerID)
	tags := []mesh.TagRef{{Key: "k", Value: "v"}}
	tagged := guest.object(m.Object(mesh.KindVirtualNode, "", "theirs"), specNode)
	tagged.Tags = tags
	if _, err := guest.s.Create(t.Context(), guest.c, tagged); err != nil {
		t.Fatal(err)
	}
	w.create(m.Object(mesh.KindVirtualRouter, "", "r"), specRouter)
	guest.create(m.Object(mesh.KindVirtualService, "", "s"), `{}`)
	w.create(m.Object(mesh.KindVirtualGateway, "", "g"), specGateway)
	owners, theirs := "arn:aws:appmesh:us-east-1:000000000001:mesh/m/", "arn:aws:appmesh:us-east-1:000000000002:mesh/m@000000000001/"
	foreign := "arn:aws:appmesh:us-east-1:000000000009:mesh/x/virtualService/f"
	for _, c := range []struct {
		id      mesh.ID
		spec    string
		asked   []string // besides the object itself: ARN and tags
		updates bool
	}{
		{
			m.Object(mesh.KindVirtualNode, "", "n"),
			fmt.Sprintf(`{"backends":[{"virtualService":{"virtualServiceName":"s"}},{"virtualService":{"virtualServiceName":"absent"}},{"virtualService":{"virtualServiceName":%q}}]}`, foreign),
			[]string{theirs + "virtualService/s []", owners + "virtualService/absent []", foreign + " []"},
			false,
		},
		{
			m.Object(mesh.KindRoute, "r", "x"), specRoute("n0", "theirs", "n0"),
			[]string{owners + "virtualNode/n0 []", theirs + "virtualNode/theirs [{k v}]"},
			true,
		},
		{
			m.Object(mesh.KindVirtualService, "", "t"), specService(mesh.KindVirtualNode, "theirs"),
			[]string{theirs + "virtualNode/theirs [{k v}]"},
			true,
		},
		{
			m.Object(mesh.KindGatewayRoute, "g", "x"), specGatewayRoute("s"),
			[]string{theirs + "virtualService/s []"},
			true,
		},
		{m.Object(mesh.KindVirtualRouter, "", "r2"), specRouter, nil, true},
	} {
		want := func(verb string, asked []string) []string {
			out := []string{"appmesh:" + verb + c.id.Kind.Title() + " " + c.id.ARN(ownerID) + " []"}
			for _, a := range asked {
				out = append(out, "appmesh:"+verb+c.id.Kind.Title()+" "+a)
			}
			return out
		}
		got := func(asked []Question) []string {
			var out []string
			for _, q := range asked {
				out = append(out, fmt.Sprintf("%s %s %v", q.Action, q.Resource, q.ResourceTags))
			}
			return out
		}
		// Each question can refuse.
		for i := range c.asked {
			n := 0
			refuser, asked := w.asks(func(Question) bool { n++; return n == i+2 })
			_, err := w.s.Create(t.Context(), refuser.c, w.object(c.id, c.spec))
			wantCode(t, err, mesh.ErrForbidden, "no")
			diff(t, want("Create", c.asked[:i+1]), got(*asked))
			w.wantGone(c.id)
		}
		asker, asked := w.asks(nil)
		asker.create(c.id, c.spec)
		diff(t, want("Create", c.asked), got(*asked))
		*asked = nil
		asker.update(c.id, c.spec)
		if c.updates {
			diff(t, want("Update", c.asked), got(*asked))
		} else {
			diff(t, want("Update", nil), got(*asked))
		}
		if c.updates && len(c.asked) > 0 {
			n := 0
			refuser, _ := w.asks(func(Question) bool { n++; return n == 2 })
			_, err := w.s.Update(t.Context(), refuser.c, w.change(c.id, c.spec))
			wantCode(t, err, mesh.ErrForbidden, "no")
		}
	}
	// What is missing is asked about too, as the caller's own.
	refuser, asked := guest.asks(func(q Question) bool { return q.Resource == theirs+"virtualNode/absent" })
	_, err := w.s.Create(t.Context(), refuser.c, w.object(m.Object(mesh.KindRoute, "r", "y"), specRoute("absent")))
	wantCode(t, err, mesh.ErrForbidden, "no")
	diff(t, 2, len(*asked))
	_, err = w.s.Create(t.Context(), guest.c, w.object(m.Object(mesh.KindRoute, "r", "y"), specRoute("absent")))
	wantCode(t, err, mesh.ErrNotFound, "VirtualNode with name absent is missing")
}

// TestManyBackends checks that a node with more backends than a transaction holds is
// asked about and stored.
func TestManyBackends(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 0)
	var all []any
	for i := range 2*maxOps + 3 {
		all = append(all, map[string]any{"virtualService": map[string]any{"virtualServiceName": fmt.Sprint(i)}})
	}
	w.create(m.Object(mesh.KindVirtualService, "", fmt.Sprint(2*maxOps)), `{}`)
	asker, asked := w.asks(nil)
	asker.create(m.Object(mesh.KindVirtualNode, "", "n"), toJSON(map[string]any{"backends": all}))
	diff(t, 1+len(all), len(*asked))
}
