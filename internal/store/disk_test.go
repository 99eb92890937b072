package store

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// TestADiskThatIsNearlyFull holds that nothing is written while the disk has less room than
// etcd may need, that the rest goes on, and that a server starts on such a disk.
func TestADiskThatIsNearlyFull(t *testing.T) {
	t.Parallel()
	var free atomic.Int64
	free.Store(diskLeast)
	dir := t.TempDir()
	open := func() world {
		t.Helper()
		s := newRaw(Config{DataDir: dir, Unsafe: true, Logger: discard})
		s.quotas = mesh.DefaultQuotas()
		s.disk.free = func(string) (int64, error) {
			if n := free.Load(); n >= 0 {
				return n, nil
			}
			return 0, errors.ErrUnsupported
		}
		if err := s.open(t.Context(), Config{DataDir: dir, Unsafe: true, Logger: discard}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return world{t: t, s: s, c: caller("000000000001")}
	}
	w := open()
	id := w.mesh("shop")
	w.create(id.MeshObject(), `{}`)
	for range 2 {
		free.Store(diskLeast - 1)
		_, created := w.s.Create(t.Context(), w.c, w.object(w.mesh("other").MeshObject(), `{}`))
		_, deleted := w.s.Delete(t.Context(), w.c, id.MeshObject())
		_, granted := w.s.GrantLease(t.Context(), System("test"), 60)
		for _, err := range []error{created, deleted, granted} {
			wantCode(t, err, mesh.ErrServiceUnavailable, "disk", "127 MiB free, 128 MiB are needed")
		}
		w.get(id.MeshObject())
		if err := w.s.Healthy(t.Context()); err != nil {
			t.Errorf("reading goes on, and it says %v", err)
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
		w = open()
		w.get(id.MeshObject())
	}
	free.Store(diskLeast)
	w.create(w.mesh("other").MeshObject(), `{}`)
	free.Store(-1)
	w.create(w.mesh("third").MeshObject(), `{}`) // where it cannot be told nothing is refused
}

// TestTheFileHasRoomOfItsOwn holds that etcd's file is on the disk as far as it will grow
// next, and no longer than it was.
func TestTheFileHasRoomOfItsOwn(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Config{DataDir: t.TempDir(), Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := allocate(backend(s.disk.folder), 0); errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EOPNOTSUPP) {
		t.Skipf("files cannot be given room here: %v", err)
	}
	st, err := os.Stat(backend(s.disk.folder))
	if err != nil {
		t.Fatal(err)
	}
	has := st.Sys().(*syscall.Stat_t).Blocks * 512
	const since = 64 << 10 // may have been written since
	if want := st.Size() + diskAhead - since; has < want {
		t.Errorf("etcd's file is %d bytes long and has %d on the disk, want %d", st.Size(), has, want)
	}
}
