package store

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// TestSettingsOfReplicas checks that quotas and shares are there when a store opens, and
// reach the ones that are open, after a compaction too.
func TestSettingsOfReplicas(t *testing.T) {
	t.Parallel()
	l := newLink(t, serveEtcd(t).endpoint)
	a := world{t: t, s: openExternal(t, l.to, keyFile(t, 1)), c: caller(ownerID)}
	b := openExternal(t, l.addr, keyFile(t, 1))
	m := a.makeNodes("m", 0)
	a.share(m, consumerID)
	a.limit(map[mesh.Quota]int{mesh.QuotaMeshes: 5})
	eventually(t, "the share", func() bool { return b.Shared(m, consumerID) })
	eventually(t, "the quota", func() bool { return b.Quotas(ownerID)[mesh.QuotaMeshes] == 5 })
	late := openExternal(t, l.to, keyFile(t, 1))
	diff(t, true, late.Shared(m, consumerID))
	diff(t, 5, late.Quotas(ownerID)[mesh.QuotaMeshes])

	// What b misses while it is cut off, and cannot have told it any more.
	l.cut()
	a.unshare(m, consumerID)
	a.share(m, strangerID)
	a.limit(map[mesh.Quota]int{mesh.QuotaMeshes: DefaultQuota, mesh.QuotaRoutes: 6})
	resp, err := a.s.client.Get(t.Context(), storeKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.s.client.Compact(t.Context(), resp.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	changed := b.SettingsChanged()
	l.mend()
	<-changed
	eventually(t, "the settings", func() bool {
		q := b.Quotas(ownerID)
		return !b.Shared(m, consumerID) && b.Shared(m, strangerID) && q[mesh.QuotaMeshes] == mesh.DefaultQuotas()[mesh.QuotaMeshes] && q[mesh.QuotaRoutes] == 6
	})
}

// TestBadSettings checks that settings that cannot be read do not stop anything.
func TestBadSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	changed := w.s.SettingsChanged()
	for _, key := range []string{quotaKey(ownerID), sharePrefix + "x", settingPrefix + "newer"} {
		if _, err := w.s.client.Put(t.Context(), key, "no"); err != nil {
			t.Fatal(err)
		}
	}
	<-changed
	w.makeAll("m")
	diff(t, mesh.DefaultQuotas(), w.s.Quotas(ownerID))
	wantError(t, w.s.SetQuotas(t.Context(), system, ownerID, map[mesh.Quota]int{mesh.QuotaMeshes: 1}), "reading quotas")
}

// TestStoppedEtcd checks that nothing is read from the memory of an etcd that has
// stopped by itself.
func TestStoppedEtcd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 0)
	w.s.etcd.Server.Stop()
	_, err := w.s.Get(t.Context(), w.c, m.MeshObject())
	wantCode(t, err, mesh.ErrServiceUnavailable)
	_, err = w.s.Create(t.Context(), w.c, w.object(w.mesh("n").MeshObject(), specMesh))
	wantCode(t, err, mesh.ErrServiceUnavailable)
}

// TestReadYourWrites checks that reads of an embedded store, which do not go through
// etcd's log, see every write that was answered before.
func TestReadYourWrites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 1)
	node := m.Object(mesh.KindVirtualNode, "", "n0")
	done := make(chan int64, 1)
	for range 300 {
		go func() { done <- w.update(node, specNode).Version }()
		if v := <-done; w.get(node).Version != v {
			t.Fatalf("version %d was read after %d was answered", w.get(node).Version, v)
		}
	}
}
