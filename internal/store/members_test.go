package store

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// openBehind opens a store behind a link that can be cut, whose membership lasts three
// seconds.
func openBehind(t testing.TB, l *link, key string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Endpoints: []string{l.addr}, SealKeyFile: key, MemberLease: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestGoneEtcdIsRefusedAtOnce checks that calls are refused without a wait once it is known
// that etcd is not there, as long as it is so, and go through when it is back.
func TestGoneEtcdIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	l := newLink(t, serveEtcd(t).endpoint)
	s := openBehind(t, l, keyFile(t, 1))
	w := world{t: t, s: s, c: caller("000000000001")}
	m := w.makeNodes("m", 1)
	f := follow(t, s)
	// Each call that asks etcd would wait for as long as the test may take.
	s.timeout.Store(int64(time.Hour))
	l.hang()
	eventually(t, "etcd to be given up", func() bool { return s.member.lapsed() && s.lastFailure() != nil })
	for range 1000 {
		_, err := s.Get(t.Context(), w.c, m.MeshObject())
		wantCode(t, err, mesh.ErrServiceUnavailable, "the store cannot be reached, try again")
		wantCode(t, s.Healthy(t.Context()), mesh.ErrServiceUnavailable)
	}
	l.mend()
	eventually(t, "the store's recovery", func() bool { return s.Healthy(t.Context()) == nil })
	o := w.update(m.Object(mesh.KindVirtualNode, "", "n0"), specNode)
	f.wantSame(t, s, o.Revision)
}

// lastFailure returns why the last renewal failed, nil if it did not.
func (s *Store) lastFailure() error {
	s.member.mu.Lock()
	defer s.member.mu.Unlock()
	return s.member.failed
}

// TestStandsStill checks that calls of a process that stood still for longer than its
// membership lasts wait until it is a member again, and go through then.
func TestStandsStill(t *testing.T) {
	t.Parallel()
	e := serveEtcd(t)
	s := openExternal(t, e.endpoint, keyFile(t, 1))
	w := world{t: t, s: s, c: caller("000000000001")}
	m := w.makeNodes("m", 0)
	// As if it had slept: the lease is over in etcd, and by its own clock.
	hold, _ := s.Hold()
	if _, err := s.client.Revoke(t.Context(), clientv3.LeaseID(hold.Lease)); err != nil {
		t.Fatal(err)
	}
	s.member.over.Store(1)
	w.get(m.MeshObject())
	if now, _ := s.Hold(); now.Lease == hold.Lease || now.Lease == 0 || s.epoch() != 1 {
		t.Errorf("the lease was %d and is %d, epoch %d", hold.Lease, now.Lease, s.epoch())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.member.over.Store(1)
	if err := s.admit(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestRestoreBehindAServer restores a store while a server is cut off from it that does not
// know that yet. Of the restore that server sees nothing but its end, whether it is back
// before that or not.
func TestRestoreBehindAServer(t *testing.T) {
	t.Parallel()
	from := openTemp(t)
	furnish(t, from)
	key := sealKeyOf(t, from)
	file := backUp(t, from, "", false)
	for name, early := range map[string]bool{"back in the middle": true, "back at its end": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := serveEtcd(t)
			cfg := RestoreConfig{Store: Config{Endpoints: []string{e.endpoint}, SealKeyFile: key}, File: file}
			restore(t, cfg)
			l := newLink(t, e.endpoint)
			s := openBehind(t, l, key)
			w := world{t: t, s: s, c: caller("000000000001")}
			node := w.mesh("m").Object(mesh.KindVirtualNode, "", "n")
			w.get(node)
			batches := make(chan Batch, 1000)
			go func() { _ = s.Follow(t.Context(), System("test"), func(b Batch) { batches <- b }) }()
			before := <-batches
			l.hang()
			cfg.Replace = true
			halfRestore(t, cfg)
			if early {
				l.mend()
				eventually(t, "the server to notice", func() bool { return errors.Is(s.lastFailure(), errRestoring) })
				_, err := s.Get(t.Context(), w.c, node)
				wantCode(t, err, mesh.ErrServiceUnavailable, "the store is being restored")
				_, err = s.Create(t.Context(), w.c, w.object(w.mesh("half").MeshObject(), specMesh))
				wantCode(t, err, mesh.ErrServiceUnavailable, "the store is being restored")
			}
			restore(t, cfg)
			l.mend()
			eventually(t, "the server serves again", func() bool { return s.Healthy(t.Context()) == nil })
			w.update(node, specNode)
			after := <-batches
			if !after.Reset || len(after.Events) != len(before.Events) {
				t.Errorf("the feed has a batch of %d events, reset %v, want a list of all %d objects", len(after.Events), after.Reset, len(before.Events))
			}
		})
	}
}

// halfRestore waits until a restore is let in, and has it delete what was there.
func halfRestore(t *testing.T, cfg RestoreConfig) {
	t.Helper()
	s, r := newRaw(cfg.Store), &restoration{RestoreConfig: cfg}
	defer s.Close()
	if err := s.dial(t.Context(), cfg.Store); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the restore is let in, once the server's lease is over", func() bool { return r.mark(t.Context(), s) == nil })
	if err := r.clear(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}
