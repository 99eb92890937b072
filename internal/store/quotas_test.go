package store

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// limit sets quotas of the world's account.
func (w world) limit(change map[mesh.Quota]int) {
	w.t.Helper()
	if err := w.s.SetQuotas(w.t.Context(), system, "000000000001", change); err != nil {
		w.t.Fatal(err)
	}
}

func TestQuotasOfObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 0)
	w.create(m.Object(mesh.KindVirtualNode, "", "base"), specNode)
	w.create(m.Object(mesh.KindVirtualRouter, "", "base"), specRouter)
	w.create(m.Object(mesh.KindVirtualRouter, "", "base2"), specRouter)
	w.create(m.Object(mesh.KindVirtualService, "", "base"), `{}`)
	w.create(m.Object(mesh.KindVirtualGateway, "", "base"), specGateway)
	specs := map[mesh.Kind]string{
		mesh.KindMesh: specMesh, mesh.KindVirtualNode: specNode, mesh.KindVirtualRouter: specRouter, mesh.KindRoute: specRoute("base"),
		mesh.KindVirtualService: `{}`, mesh.KindVirtualGateway: specGateway, mesh.KindGatewayRoute: specGatewayRoute("base"),
		mesh.KindPolicy: `{"target":{"mesh":{}},"match":{"path":{"exact":"/%s"}},"action":{"fault":{"abort":{"percentage":1,"httpStatus":503}}}}`,
	}
	spec := func(kind mesh.Kind, i int) string { // policies for the same would contradict each other
		return strings.ReplaceAll(specs[kind], "%s", strconv.Itoa(i))
	}
	have := map[mesh.Kind]int{mesh.KindMesh: 1, mesh.KindVirtualNode: 1, mesh.KindVirtualRouter: 2, mesh.KindVirtualService: 1, mesh.KindVirtualGateway: 1}
	for _, kind := range mesh.Kinds {
		q := mesh.ObjectQuota(kind)
		id := func(i int) mesh.ID {
			if kind == mesh.KindMesh {
				return w.mesh(fmt.Sprintf("x%d", i)).MeshObject()
			}
			parent := ""
			if kind.Parent() != 0 {
				parent = "base"
			}
			return m.Object(kind, parent, fmt.Sprintf("x%d", i))
		}
		refused := func(i, limit int) {
			t.Helper()
			_, err := w.s.Create(t.Context(), w.c, w.object(id(i), spec(kind, i)))
			wantCode(t, err, mesh.ErrLimitExceeded, fmt.Sprintf("%s (%s): the limit of %d is reached", q.Title(), q, limit))
		}
		limit := have[kind] + 3
		w.limit(map[mesh.Quota]int{q: limit})
		for i := range 3 {
			w.create(id(i), spec(kind, i))
		}
		refused(3, limit)
		// Updates go on, and so does what is not at its limit.
		w.update(id(0), spec(kind, 0))
		// A name that is taken is the better answer.
		_, err := w.s.Create(t.Context(), w.c, w.object(id(0), spec(kind, 0)))
		wantCode(t, err, mesh.ErrConflict)
		// One goes, one can come.
		w.delete(id(1))
		w.create(id(3), spec(kind, 3))
		refused(1, limit)
		// A limit below what is there refuses new ones until enough have gone.
		w.limit(map[mesh.Quota]int{q: limit - 1})
		refused(1, limit-1)
		w.delete(id(0))
		refused(1, limit-1)
		w.delete(id(2))
		w.create(id(1), spec(kind, 1))
		refused(2, limit-1)
		w.limit(map[mesh.Quota]int{q: 0})
		refused(2, 0)
		w.limit(map[mesh.Quota]int{q: DefaultQuota})
		w.create(id(2), spec(kind, 2))
	}
	// Scopes do not disturb each other.
	w.limit(map[mesh.Quota]int{mesh.QuotaRoutes: 1, mesh.QuotaVirtualNodes: 1, mesh.QuotaMeshes: 1})
	w.create(m.Object(mesh.KindRoute, "base2", "y"), specRoute("base"))
	other := mesh.MeshID{Account: m.Account, Region: "eu-west-1", Name: "m"}
	w.create(other.MeshObject(), specMesh)
	w.create(other.Object(mesh.KindVirtualNode, "", "n"), specNode)
	stranger := world{t: t, s: w.s, c: caller("000000000002")}
	stranger.makeNodes("m", 2)
	w.wantWhole()
}

// TestMissingBeforeFull checks that what is missing is named even where a quota is
// used up.
func TestMissingBeforeFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.object(w.mesh("m").MeshObject(), specMesh)
	o.Token = "t"
	made, err := w.s.Create(t.Context(), w.c, o)
	if err != nil {
		t.Fatal(err)
	}
	w.limit(map[mesh.Quota]int{mesh.QuotaMeshes: 1, mesh.QuotaVirtualNodes: 0})
	again, err := w.s.Create(t.Context(), w.c, o)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, made, again)
	_, err = w.s.Create(t.Context(), w.c, w.object(w.mesh("none").Object(mesh.KindVirtualNode, "", "n"), specNode))
	wantCode(t, err, mesh.ErrNotFound, "Mesh with name none")
}

func TestQuotasOfLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 4)
	w.create(m.Object(mesh.KindVirtualRouter, "", "r"), specRouter)
	node, route := m.Object(mesh.KindVirtualNode, "", "n"), m.Object(mesh.KindRoute, "r", "x")
	backends := func(n int) string {
		var all []any
		for i := range n {
			all = append(all, map[string]any{"virtualService": map[string]any{"virtualServiceName": fmt.Sprint(i)}})
		}
		return toJSON(map[string]any{"backends": all})
	}
	targets := func(n int) string { return specRoute(strings.Fields("n0 n1 n2 n3")[:n]...) }
	w.limit(map[mesh.Quota]int{mesh.QuotaBackends: 2, mesh.QuotaWeightedTargets: 2})
	for _, c := range []struct {
		id   mesh.ID
		spec func(int) string
		want string
	}{
		{node, backends, "Backends per virtual node (backends): the limit is %d, %d were given"},
		{route, targets, "Weighted targets per route (weighted-targets): the limit is %d, %d were given"},
	} {
		_, err := w.s.Create(t.Context(), w.c, w.object(c.id, c.spec(3)))
		wantCode(t, err, mesh.ErrLimitExceeded, fmt.Sprintf(c.want, 2, 3))
		w.create(c.id, c.spec(2))
		_, err = w.s.Update(t.Context(), w.c, w.change(c.id, c.spec(3)))
		wantCode(t, err, mesh.ErrLimitExceeded, fmt.Sprintf(c.want, 2, 3))
	}
	w.limit(map[mesh.Quota]int{mesh.QuotaBackends: 4, mesh.QuotaWeightedTargets: 4})
	w.update(node, backends(4))
	w.update(route, targets(4))
	// What is there may stay, and become less.
	w.limit(map[mesh.Quota]int{mesh.QuotaBackends: 1, mesh.QuotaWeightedTargets: 1})
	for _, n := range []int{4, 3, 3} {
		w.update(node, backends(n))
		w.update(route, targets(n))
	}
	_, err := w.s.Update(t.Context(), w.c, w.change(node, backends(4)))
	wantCode(t, err, mesh.ErrLimitExceeded, "the limit is 1, 4 were given")
}

func TestSetQuotas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const account = "000000000001"
	diff(t, mesh.DefaultQuotas(), w.s.Quotas(account))
	changed := w.s.SettingsChanged()
	w.limit(map[mesh.Quota]int{mesh.QuotaMeshes: 7, mesh.QuotaReadRate: 9})
	<-changed
	want := mesh.DefaultQuotas()
	want[mesh.QuotaMeshes], want[mesh.QuotaReadRate] = 7, 9
	diff(t, want, w.s.Quotas(account))
	diff(t, map[mesh.Quota]int{mesh.QuotaMeshes: 7, mesh.QuotaReadRate: 9}, w.s.QuotaOverrides(account))
	diff(t, mesh.DefaultQuotas(), w.s.Quotas("000000000002"))

	// A newer build's quota is kept.
	if _, err := w.s.client.Put(t.Context(), quotaKey(account), `{"format":1,"values":{"meshes":7,"kites":3}}`); err != nil {
		t.Fatal(err)
	}
	w.limit(map[mesh.Quota]int{mesh.QuotaMeshes: DefaultQuota})
	diff(t, `{"format":1,"values":{"kites":3}}`, w.values(quotaPrefix)[quotaKey(account)])
	if _, err := w.s.client.Delete(t.Context(), quotaKey(account)); err != nil {
		t.Fatal(err)
	}
	w.limit(map[mesh.Quota]int{mesh.QuotaMeshes: DefaultQuota})
	w.limit(map[mesh.Quota]int{mesh.QuotaMeshes: 1})
	w.limit(map[mesh.Quota]int{mesh.QuotaMeshes: DefaultQuota})
	diff(t, map[string]string{}, w.values(quotaPrefix))
	diff(t, mesh.DefaultQuotas(), w.s.Quotas(account))

	for _, c := range []struct {
		account string
		change  map[mesh.Quota]int
		want    string
	}{
		{"1", nil, `accountId "1" is not allowed: twelve digits`},
		{account, map[mesh.Quota]int{mesh.QuotaMeshes: -2}, "value -2 of quota meshes is not allowed: 0 to 100000"},
		{account, map[mesh.Quota]int{mesh.QuotaWeightedTargets: 11}, "value 11 of quota weighted-targets is not allowed: 0 to 10"},
		{account, map[mesh.Quota]int{99: 1}, "quota 99 is not allowed"},
	} {
		wantCode(t, w.s.SetQuotas(t.Context(), system, c.account, c.change), mesh.ErrBadRequest, c.want)
	}
	wantCode(t, w.s.SetQuotas(t.Context(), w.c, account, nil), mesh.ErrForbidden)
}

// TestQuotasOfReplicas checks that a limit holds at once where it was not set, and that
// a store's own defaults hold for accounts without values.
func TestQuotasOfReplicas(t *testing.T) {
	t.Parallel()
	endpoint := serveEtcd(t).endpoint
	a := world{t: t, s: openExternal(t, endpoint, keyFile(t, 1)), c: caller("000000000001")}
	b, err := Open(t.Context(), Config{Endpoints: []string{endpoint}, SealKeyFile: keyFile(t, 1), Quotas: mesh.AppMeshQuotas()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	diff(t, mesh.AppMeshQuotas(), b.Quotas("000000000001"))
	m := a.makeNodes("m", 0)
	next := 0
	for limit := 1; limit < 30; limit++ {
		a.limit(map[mesh.Quota]int{mesh.QuotaVirtualNodes: limit})
		for range 2 {
			o := a.object(m.Object(mesh.KindVirtualNode, "", fmt.Sprint(next)), specNode)
			next++
			_, err := b.Create(t.Context(), a.c, o)
			if next%2 == 1 && err != nil {
				t.Error(err)
			} else if next%2 == 0 {
				wantCode(t, err, mesh.ErrLimitExceeded, fmt.Sprintf("the limit of %d is reached", limit))
			}
		}
	}
}

// TestQuotaRaces lets many clients create at the limit, delete, and move the limit, and
// checks that there are never more objects than the limit, and in the end as many.
func TestQuotaRaces(t *testing.T) {
	t.Parallel()
	const clients, limit, rounds = 16, 40, 6
	w := newWorld(t)
	m := w.makeNodes("m", 0)
	w.limit(map[mesh.Quota]int{mesh.QuotaVirtualNodes: limit})
	var next atomic.Int64
	for round := range rounds {
		var created atomic.Int64
		before := len(w.names(Query{Mesh: m, Kind: mesh.KindVirtualNode}))
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for range limit / clients * 2 {
					o := w.object(m.Object(mesh.KindVirtualNode, "", fmt.Sprint(next.Add(1))), specNode)
					_, err := w.s.Create(t.Context(), w.c, o)
					if err == nil {
						created.Add(1)
					} else if !acceptable(err, mesh.ErrLimitExceeded) {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		names := w.names(Query{Mesh: m, Kind: mesh.KindVirtualNode})
		if len(names) != limit || before+int(created.Load()) != limit {
			t.Fatalf("round %d: %d objects, %d were there, %d were created: the limit is %d", round, len(names), before, created.Load(), limit)
		}
		// Now some go while others come.
		for _, name := range names {
			wg.Go(func() { w.delete(m.Object(mesh.KindVirtualNode, "", name)) })
		}
		for range limit / 2 {
			wg.Go(func() {
				o := w.object(m.Object(mesh.KindVirtualNode, "", fmt.Sprint(next.Add(1))), specNode)
				if _, err := w.s.Create(t.Context(), w.c, o); !acceptable(err, mesh.ErrLimitExceeded) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	w.wantWhole()
}

// TestLoweredLimitInRaces checks that objects beyond a lowered limit count.
func TestLoweredLimitInRaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 0)
	id := func(i int) mesh.ID { return m.Object(mesh.KindVirtualNode, "", fmt.Sprint(i)) }
	// Slots are taken at random over a wide range, so most are beyond what follows.
	w.limit(map[mesh.Quota]int{mesh.QuotaVirtualNodes: 100_000})
	const there, limit = 20, 50
	for i := range there {
		w.create(id(i), specNode)
	}
	w.limit(map[mesh.Quota]int{mesh.QuotaVirtualNodes: limit})
	var created atomic.Int64
	var wg sync.WaitGroup
	for i := range 2 * limit {
		wg.Go(func() {
			_, err := w.s.Create(t.Context(), w.c, w.object(id(there+i), specNode))
			if err == nil {
				created.Add(1)
			} else if !acceptable(err, mesh.ErrLimitExceeded) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	diff(t, limit-there, int(created.Load()))
	diff(t, limit, len(w.values(slotPrefix))-1) // the mesh has one too
	w.wantWhole()
}

// TestLimitMovesInRaces moves the limit while objects are created, and checks after each
// move that no more fit.
func TestLimitMovesInRaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 0)
	var next, there atomic.Int64
	for limit := 10; limit <= 100; limit += 10 {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 8 {
					o := w.object(m.Object(mesh.KindVirtualNode, "", fmt.Sprint(next.Add(1))), specNode)
					_, err := w.s.Create(t.Context(), w.c, o)
					if err == nil {
						there.Add(1)
					} else if !acceptable(err, mesh.ErrLimitExceeded) {
						t.Error(err)
					}
				}
			})
		}
		w.limit(map[mesh.Quota]int{mesh.QuotaVirtualNodes: limit})
		was := there.Load()
		wg.Wait()
		if n := there.Load(); n > max(int64(limit), was+4) { // at most one of each client was under way
			t.Errorf("%d objects with a limit of %d, %d when it was set", n, limit, was)
		}
	}
	w.wantWhole()
}
