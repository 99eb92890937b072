package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

const (
	ownerID    = "000000000001"
	consumerID = "000000000002"
	strangerID = "000000000003"
)

// as returns the world of another account. Its mesh is that of the first.
func (w world) as(account string) world {
	w.c = caller(account)
	return w
}

func (w world) share(m mesh.MeshID, account string) Share {
	w.t.Helper()
	share, err := w.s.Share(w.t.Context(), w.c, m, account)
	if err != nil {
		w.t.Fatal(err)
	}
	return share
}

func (w world) unshare(m mesh.MeshID, account string) {
	w.t.Helper()
	if _, err := w.s.Unshare(w.t.Context(), w.c, m, account); err != nil {
		w.t.Fatal(err)
	}
}

// calls are all calls that a caller can make about an object; each returns an error.
func (w world) calls(p part) map[string]func() error {
	w.t.Helper()
	ctx, o, ch := w.t.Context(), w.object(p.id, p.spec), w.change(p.id, p.spec)
	_, inside := p.id.ParentID()
	q := Query{Mesh: p.id.Mesh, Kind: p.id.Kind, Parent: p.id.Parent}
	all := map[string]func() error{
		"get":    func() error { _, err := w.s.Get(ctx, w.c, p.id); return err },
		"create": func() error { _, err := w.s.Create(ctx, w.c, o); return err },
		"update": func() error { _, err := w.s.Update(ctx, w.c, ch); return err },
		"delete": func() error { _, err := w.s.Delete(ctx, w.c, p.id); return err },
		"tag":    func() error { return w.s.Tag(ctx, w.c, p.id, []mesh.TagRef{{Key: "k", Value: "v"}}) },
		"untag":  func() error { return w.s.Untag(ctx, w.c, p.id, []string{"x"}) },
		"tags":   func() error { _, err := w.s.Tags(ctx, w.c, p.id); return err },
	}
	if inside {
		all["list"] = func() error { _, _, err := w.s.List(ctx, w.c, q); return err }
	}
	return all
}

// TestStrangersLearnNothing checks that to somebody it is not shared with a mesh is the
// same as none, whatever is asked.
func TestStrangersLearnNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.makeAll("m")
	m := w.mesh("m")
	w.share(m, consumerID)
	stranger := w.as(strangerID)
	theirs := world{t: t, s: w.s, c: w.c}
	for i, p := range theirs.all("m") {
		none := theirs.all("none")[i]
		missing := stranger.calls(none)
		for name, call := range stranger.calls(p) {
			got, want := call(), missing[name]()
			wantCode(t, got, mesh.ErrForbidden, "is not authorized to use mesh m of account 000000000001")
			diff(t, strings.ReplaceAll(want.Error(), "mesh none", "mesh m"), got.Error())
		}
	}
	for _, id := range []mesh.MeshID{m, w.mesh("none")} {
		for _, c := range []Caller{stranger.c, caller(consumerID)} {
			_, err := w.s.Share(t.Context(), c, id, strangerID)
			wantCode(t, err, mesh.ErrForbidden)
			_, err = w.s.Unshare(t.Context(), c, id, consumerID)
			wantCode(t, err, mesh.ErrForbidden)
			_, err = w.s.Shares(t.Context(), c, id)
			wantCode(t, err, mesh.ErrForbidden)
		}
	}
}

// TestConsumers goes through what an account may do in a mesh that is shared with it.
func TestConsumers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.makeAll("m")
	m := w.mesh("m")
	w.share(m, consumerID)
	guest := w.as(consumerID)
	owned := w.all("m")
	for _, p := range owned {
		calls := guest.calls(p)
		if err := calls["get"](); err != nil {
			t.Errorf("getting %s: %v", p.id.Key, err)
		}
		if p.id.Kind != mesh.KindMesh {
			if err := calls["list"](); err != nil {
				t.Errorf("listing %s: %v", p.id.Kind, err)
			}
			wantCode(t, calls["create"](), mesh.ErrConflict)
		} else {
			wantCode(t, calls["create"](), mesh.ErrForbidden)
		}
		for _, name := range []string{"update", "delete", "tag", "untag", "tags"} {
			wantCode(t, calls[name](), mesh.ErrForbidden, "it belongs to account 000000000001")
		}
	}
	// What a consumer makes is its own, be it under the owner's router or gateway.
	var made []part
	for _, p := range owned[1:] {
		p.id.Name += "2"
		if p.id.Kind == mesh.KindPolicy {
			p.spec = specFault(`{"virtualNode":{"virtualNodeName":"n2"}}`, "") // a guest's are about its own
		}
		made = append(made, p)
		o := guest.create(p.id, p.spec)
		diff(t, consumerID, o.ResourceOwner)
		diff(t, "arn:aws:appmesh:us-east-1:000000000002:mesh/m@000000000001/"+p.id.Key.String(), o.ARN())
		diff(t, o, guest.get(p.id))
		diff(t, o, w.get(p.id))
		guest.update(p.id, p.spec)
		for _, name := range []string{"tag", "untag", "tags"} {
			if err := guest.calls(p)[name](); err != nil {
				t.Errorf("%s %s: %v", name, p.id.Key, err)
			}
			wantCode(t, w.calls(p)[name](), mesh.ErrForbidden, "it belongs to account 000000000002")
		}
		wantCode(t, w.calls(p)["update"](), mesh.ErrForbidden, "it belongs to account 000000000002")
	}
	// Tokens are those of an account.
	o := guest.object(m.Object(mesh.KindVirtualNode, "", "tokens"), specNode)
	o.Token = "t"
	if _, err := guest.s.Create(t.Context(), guest.c, o); err != nil {
		t.Fatal(err)
	}
	if _, err := guest.s.Create(t.Context(), guest.c, o); err != nil {
		t.Fatal(err)
	}
	_, err := w.s.Create(t.Context(), w.c, o)
	wantCode(t, err, mesh.ErrConflict, "already present")
	guest.delete(o.ID)

	// Half is deleted by the consumer, what is left stays when it is shut out.
	guest.delete(made[len(made)-1].id)
	w.unshare(m, consumerID)
	for _, p := range append(made, owned...) {
		for name, call := range guest.calls(p) {
			wantCode(t, call(), mesh.ErrForbidden, "is not authorized to use mesh m")
			_ = name
		}
	}
	for _, p := range slices.Backward(made[:len(made)-1]) {
		w.get(p.id)
		wantCode(t, w.calls(p)["update"](), mesh.ErrForbidden)
		w.delete(p.id)
	}
	for _, p := range slices.Backward(owned) {
		w.delete(p.id)
	}
	w.wantNoKeys()
}

func TestQuotasCountConsumers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 2)
	w.share(m, consumerID)
	guest := w.as(consumerID)
	w.limit(map[mesh.Quota]int{mesh.QuotaVirtualNodes: 3})
	if err := w.s.SetQuotas(t.Context(), system, consumerID, map[mesh.Quota]int{mesh.QuotaVirtualNodes: 0}); err != nil {
		t.Fatal(err)
	}
	guest.create(m.Object(mesh.KindVirtualNode, "", "c"), specNode)
	for _, w := range []world{w, guest} {
		_, err := w.s.Create(t.Context(), w.c, w.object(m.Object(mesh.KindVirtualNode, "", "d"), specNode))
		wantCode(t, err, mesh.ErrLimitExceeded, "the limit of 3 is reached")
	}
}

func TestShares(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 0)
	changed := w.s.SettingsChanged()
	first := w.share(m, consumerID)
	<-changed
	diff(t, Share{Mesh: m, Account: consumerID, CreatedAt: first.CreatedAt}, first)
	diff(t, first, w.share(m, consumerID))
	second := w.share(m, strangerID)
	shares, err := w.s.Shares(t.Context(), w.c, m)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, []Share{first, second}, shares)
	other := w.mesh("n")
	for account, want := range map[string]bool{ownerID: true, consumerID: true, strangerID: true, "000000000004": false} {
		diff(t, want, w.s.Shared(m, account))
		diff(t, account == ownerID, w.s.Shared(other, account))
	}
	gone, err := w.s.Unshare(t.Context(), w.c, m, consumerID)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, first, gone)
	diff(t, false, w.s.Shared(m, consumerID))
	_, err = w.s.Unshare(t.Context(), w.c, m, consumerID)
	wantCode(t, err, mesh.ErrNotFound, "mesh m is not shared with account 000000000002")

	for _, c := range []struct {
		m       mesh.MeshID
		account string
		code    mesh.Code
		want    string
	}{
		{m, "2", mesh.ErrBadRequest, `accountId "2" is not allowed: twelve digits`},
		{m, ownerID, mesh.ErrBadRequest, "it owns the mesh"},
		{other, consumerID, mesh.ErrNotFound, "Mesh with name n is not present"},
		{mesh.MeshID{}, consumerID, mesh.ErrBadRequest, "account"},
	} {
		_, err := w.s.Share(t.Context(), w.c, c.m, c.account)
		wantCode(t, err, c.code, c.want)
		_, err = w.s.Unshare(t.Context(), w.c, c.m, c.account)
		wantCode(t, err, c.code, c.want)
	}
	// A mesh takes its shares with it, and a new one of its name has none.
	w.delete(m.MeshObject())
	w.wantNoKeys()
	w.makeNodes("m", 0)
	eventually(t, "the shares' end", func() bool { return !w.s.Shared(m, strangerID) })
	wantCode(t, w.as(strangerID).calls(part{m.MeshObject(), specMesh})["get"](), mesh.ErrForbidden)
}

func TestManyShares(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 0)
	account := func(i int) string { return fmt.Sprintf("%012d", 100+i) }
	for i := range maxShares {
		w.share(m, account(i))
	}
	_, err := w.s.Share(t.Context(), w.c, m, account(maxShares))
	wantCode(t, err, mesh.ErrLimitExceeded, "is shared with 100 accounts, at most 100 are allowed")
	w.delete(m.MeshObject())
	w.wantNoKeys()
}

// meshes lists meshes page by page, as NAME@OWNER.
func (w world) meshes(limit int) []string {
	w.t.Helper()
	q := Query{Mesh: mesh.MeshID{Account: w.c.Account, Region: "us-east-1"}, Kind: mesh.KindMesh, Limit: limit}
	var out []string
	for more := true; more; {
		var objects []*mesh.Object
		var err error
		if objects, more, err = w.s.List(w.t.Context(), w.c, q); err != nil {
			w.t.Fatal(err)
		}
		if limit > 0 && len(objects) > limit || more && len(objects) < limit {
			w.t.Fatalf("%d objects for a limit of %d", len(objects), limit)
		}
		for _, o := range objects {
			out = append(out, o.ID.Name+"@"+o.ID.Mesh.Account)
			q.After, q.AfterOwner = o.ID.Name, o.ID.Mesh.Account
		}
	}
	return out
}

func TestListSharedMeshes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var worlds []world
	for _, account := range []string{ownerID, consumerID, strangerID} {
		o := w.as(account)
		worlds = append(worlds, o)
		for _, name := range []string{"a", "a-b", "a.b", "ab", "B" + account} {
			o.create(o.mesh(name).MeshObject(), specMesh)
		}
	}
	first, second, third := worlds[0], worlds[1], worlds[2]
	for _, name := range []string{"a", "a-b", "ab"} {
		first.share(first.mesh(name), consumerID)
		third.share(third.mesh(name), consumerID)
	}
	// Another region's are not listed.
	far := mesh.MeshID{Account: ownerID, Region: "eu-west-1", Name: "far"}
	first.create(far.MeshObject(), specMesh)
	first.share(far, consumerID)
	want := []string{
		"B000000000002@000000000002", "a@000000000001", "a@000000000002", "a@000000000003",
		"a-b@000000000001", "a-b@000000000002", "a-b@000000000003", "a.b@000000000002",
		"ab@000000000001", "ab@000000000002", "ab@000000000003",
	}
	for limit := range len(want) + 2 {
		diff(t, want, second.meshes(limit))
	}
	diff(t, []string{"B000000000001@000000000001", "a@000000000001", "a-b@000000000001", "a.b@000000000001", "ab@000000000001"}, first.meshes(2))
	// Without an owner a page begins behind all meshes of the name.
	q := Query{Mesh: second.mesh(""), Kind: mesh.KindMesh, After: "a", Limit: 1}
	o, more, err := w.s.List(t.Context(), second.c, q)
	if err != nil || !more || len(o) != 1 || o[0].ID.Name != "a-b" || o[0].ID.Mesh.Account != ownerID {
		t.Errorf("%v, %v, %v", o, more, err)
	}
	// One that cannot be read costs itself.
	if _, err := w.s.client.Put(t.Context(), objectKey(third.mesh("a").MeshObject()), "no"); err != nil {
		t.Fatal(err)
	}
	for limit := range 4 {
		diff(t, slices.Concat(want[:3], want[4:]), second.meshes(limit))
	}
	_, _, err = w.s.List(t.Context(), first.c, Query{Mesh: second.mesh(""), Kind: mesh.KindMesh})
	wantCode(t, err, mesh.ErrForbidden)
	first.unshare(first.mesh("a"), consumerID)
	diff(t, slices.Concat(want[:1], want[2:3], want[4:]), second.meshes(2))
}

// TestUnshareAgainstCreates checks that nothing is created once Unshare has returned.
func TestUnshareAgainstCreates(t *testing.T) {
	t.Parallel()
	const clients, rounds = 4, 15
	w := newWorld(t)
	m := w.makeNodes("m", 0)
	guest := w.as(consumerID)
	var next atomic.Int64
	for range rounds {
		w.share(m, consumerID)
		var out atomic.Bool
		var wg sync.WaitGroup
		started := make(chan struct{}, clients)
		for range clients {
			wg.Go(func() {
				for first := true; ; first = false {
					after := out.Load()
					id := m.Object(mesh.KindVirtualNode, "", fmt.Sprint(next.Add(1)))
					_, err := guest.s.Create(t.Context(), guest.c, guest.object(id, specNode))
					if first {
						started <- struct{}{}
					}
					if err == nil && after {
						t.Errorf("%s was created after the mesh was unshared", id.Key)
					}
					if err != nil {
						wantCode(t, err, mesh.ErrForbidden)
						return
					}
				}
			})
		}
		<-started
		w.unshare(m, consumerID)
		out.Store(true)
		wg.Wait()
	}
	w.wantWhole()
}

// TestDeleteMeshAgainstShares lets a mesh's end race with shares of it and with what
// consumers create, and checks that nothing is left of it.
func TestDeleteMeshAgainstShares(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	guest := w.as(consumerID)
	for i := range 40 {
		m := w.makeNodes(fmt.Sprintf("m%d", i), 0)
		w.share(m, consumerID)
		node := m.Object(mesh.KindVirtualNode, "", "n")
		var deleted, created error
		var wg sync.WaitGroup
		wg.Go(func() { _, deleted = w.s.Delete(t.Context(), w.c, m.MeshObject()) })
		wg.Go(func() {
			if _, err := w.s.Share(t.Context(), w.c, m, strangerID); !acceptable(err, mesh.ErrNotFound) {
				t.Error(err)
			}
		})
		wg.Go(func() { _, created = guest.s.Create(t.Context(), guest.c, guest.object(node, specNode)) })
		wg.Wait()
		if created == nil {
			wantCode(t, deleted, mesh.ErrResourceInUse)
			guest.delete(node)
			w.delete(m.MeshObject())
		} else {
			wantCode(t, created, mesh.ErrForbidden)
			if deleted != nil {
				t.Error(deleted)
			}
		}
	}
	w.wantNoKeys()
}

func TestDeleteAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 1)
	guest := w.as(consumerID)
	theirs := guest.makeNodes("t", 1)
	w.share(m, consumerID)
	guest.share(theirs, ownerID)
	guest.create(m.Object(mesh.KindVirtualNode, "", "left"), specNode)
	for i := range 2 * sharesAtOnce {
		other := w.makeNodes(fmt.Sprintf("more%d", i), 0)
		w.share(other, consumerID)
	}
	if err := w.s.SetQuotas(t.Context(), system, consumerID, map[mesh.Quota]int{mesh.QuotaMeshes: 3}); err != nil {
		t.Fatal(err)
	}
	records := []Record{{Key: "user/" + consumerID + "/a"}, {Key: "user/" + consumerID + "0/b"}, {Key: "account/" + consumerID}}
	if err := w.s.PutRecords(t.Context(), system, records); err != nil {
		t.Fatal(err)
	}
	deleteAccount := func() error {
		return w.s.DeleteAccount(t.Context(), system, consumerID, []string{"user/" + consumerID + "/", "account/" + consumerID})
	}
	wantCode(t, w.s.DeleteAccount(t.Context(), guest.c, consumerID, nil), mesh.ErrForbidden)
	wantCode(t, w.s.DeleteAccount(t.Context(), system, "x", nil), mesh.ErrBadRequest)
	wantError(t, w.s.DeleteAccount(t.Context(), system, consumerID, []string{""}), "prefixes")
	wantCode(t, deleteAccount(), mesh.ErrResourceInUse, "account 000000000002 cannot be deleted because it owns mesh t in region us-east-1")
	diff(t, 3, len(w.records("")))
	guest.delete(theirs.Object(mesh.KindVirtualNode, "", "n0"))
	guest.delete(theirs.MeshObject())
	for range 2 { // again is no error
		if err := deleteAccount(); err != nil {
			t.Fatal(err)
		}
	}
	diff(t, map[string]string{"user/" + consumerID + "0/b": ""}, w.records(""))
	diff(t, map[string]string{}, w.values(sharedPrefix))
	diff(t, map[string]string{}, w.values(settingPrefix))
	diff(t, false, w.s.Shared(m, consumerID))
	diff(t, mesh.DefaultQuotas(), w.s.Quotas(consumerID))
	_, err := guest.s.Create(t.Context(), guest.c, guest.object(theirs.MeshObject(), specMesh))
	wantCode(t, err, mesh.ErrForbidden, "account 000000000002 was deleted")
	_, err = w.s.Share(t.Context(), w.c, m, consumerID)
	wantCode(t, err, mesh.ErrNotFound, "account 000000000002 was deleted")
	wantCode(t, w.s.SetQuotas(t.Context(), system, consumerID, map[mesh.Quota]int{mesh.QuotaMeshes: 1}), mesh.ErrNotFound)
	for account, want := range map[string]bool{ownerID: false, consumerID: true} {
		got, err := w.s.AccountDeleted(t.Context(), system, account)
		if err != nil || got != want {
			t.Errorf("%s deleted: %v, %v", account, got, err)
		}
	}
	diff(t, consumerID, w.get(m.Object(mesh.KindVirtualNode, "", "left")).ResourceOwner)
	w.delete(m.Object(mesh.KindVirtualNode, "", "left"))
}

// TestDeleteAccountAgainstMeshes checks that an account is gone or has its mesh, never
// both.
func TestDeleteAccountAgainstMeshes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 60 {
		account := fmt.Sprintf("%012d", 1000+i)
		o := w.as(account)
		m := o.mesh("m")
		var created, deleted error
		var wg sync.WaitGroup
		wg.Go(func() { _, created = o.s.Create(t.Context(), o.c, o.object(m.MeshObject(), specMesh)) })
		wg.Go(func() { deleted = w.s.DeleteAccount(t.Context(), system, account, nil) })
		wg.Wait()
		var refusal *mesh.Error
		switch {
		case created == nil:
			wantCode(t, deleted, mesh.ErrResourceInUse)
		case errors.As(created, &refusal):
			wantCode(t, created, mesh.ErrForbidden)
			if deleted != nil {
				t.Error(deleted)
			}
		default:
			t.Error(created)
		}
	}
}
