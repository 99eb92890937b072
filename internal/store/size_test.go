package store

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// openSmall opens a store whose etcd may have some MiB, and that is looked at often.
func openSmall(t testing.TB, mib int64, cfg Config) *Store {
	t.Helper()
	cfg.DataDir, cfg.Unsafe, cfg.MaxBytes = t.TempDir(), true, mib<<20
	if cfg.times.look == 0 {
		cfg.times.look, cfg.times.relieve = 100*time.Millisecond, 100*time.Millisecond
	}
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	lead(t, s)
	return s
}

// fill puts records of 64 KiB until the store says no, and returns their keys and what it
// says.
func fill(t testing.TB, s *Store, revision int64) (keys []string, err error) {
	t.Helper()
	value := bytes.Repeat([]byte("x"), 64<<10)
	var empty Size
	eventually(t, "a first look", func() (ok bool) { empty, ok = s.Size(); return ok })
	for i := range 2000 {
		key := fmt.Sprintf("fill/%05d", i)
		if err = s.PutRecords(t.Context(), System("test"), []Record{{Key: key, Value: value, Revision: revision}}); err != nil {
			return keys, err
		}
		keys = append(keys, key)
		if i%4 == 0 && revision == 0 { // etcd's file grows some time behind the writes
			eventually(t, "a look", func() bool { z, _ := s.Size(); return z.Bytes >= empty.Bytes+int64(i)*int64(len(value)) })
		}
	}
	t.Fatal("it never is full")
	return nil, nil
}

// TestNearlyFull checks that creates are refused before etcd is full, that changes and
// deletes are not, and that deleting helps without anybody's doing.
func TestNearlyFull(t *testing.T) {
	t.Parallel()
	var l logs
	s := openSmall(t, 24, Config{Logger: slog.New(slog.NewTextHandler(&l, nil))})
	w := world{t: t, s: s, c: caller("000000000001")}
	m := w.makeNodes("m", 1)
	keys, err := fill(t, s, 0)
	wantCode(t, err, mesh.ErrLimitExceeded, "the store is nearly full", "of what etcd takes")
	if z, ok := s.Size(); !ok || z.Level() != LevelFull || z.Quota != 24<<20 {
		t.Errorf("%v %+v", ok, z)
	}
	_, err = s.Create(t.Context(), w.c, w.object(m.Object(mesh.KindVirtualNode, "", "new"), specNode))
	wantCode(t, err, mesh.ErrLimitExceeded, "nearly full")
	_, err = s.Share(t.Context(), w.c, m, "000000000002")
	wantCode(t, err, mesh.ErrLimitExceeded, "nearly full")
	n0 := m.Object(mesh.KindVirtualNode, "", "n0")
	w.update(n0, specNode)
	w.delete(n0)
	for _, k := range keys[:len(keys)/2] {
		if err := s.DeleteRecord(t.Context(), System("test"), k); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "room", func() bool { z, _ := s.Size(); return z.Level() == LevelFine })
	w.create(n0, specNode)
	for _, says := range []string{"the store is nearly full, nothing new is taken", "--store-quota", "etcd's file was written anew", "the store has room again"} {
		if !strings.Contains(l.String(), says) {
			t.Errorf("the log lacks %q:\n%s", says, l.String())
		}
	}
	if n, took := s.Defragmentations(); n == 0 || took <= 0 {
		t.Errorf("%d defragmentations, the last took %s", n, took)
	}
}

// TestAlarm fills a store until etcd itself says no, which only writes that are no creates
// can do, and gets out of it by deleting.
func TestAlarm(t *testing.T) {
	t.Parallel()
	s := openSmall(t, 24, Config{})
	w := world{t: t, s: s, c: caller("000000000001")}
	m := w.makeNodes("m", 1)
	f := follow(t, s)
	keys, err := fill(t, s, AnyRevision)
	wantCode(t, err, mesh.ErrServiceUnavailable, "the store is full, reading and deleting go on")
	eventually(t, "the alarm", func() bool { z, _ := s.Size(); return z.Level() == LevelAlarm })
	n0 := m.Object(mesh.KindVirtualNode, "", "n0")
	w.get(n0)
	_, err = s.Update(t.Context(), w.c, w.change(n0, specNode))
	wantCode(t, err, mesh.ErrServiceUnavailable, "the store is full")
	w.delete(n0)
	for _, k := range keys {
		if err := s.DeleteRecord(t.Context(), System("test"), k); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the end of the alarm", func() bool { z, _ := s.Size(); return z.Level() == LevelFine })
	o := w.create(n0, specNode)
	f.wantSame(t, s, o.Revision)
}

// TestStartsWhenFull checks that a server starts on a full store, as it must to be told
// what to delete.
func TestStartsWhenFull(t *testing.T) {
	t.Parallel()
	cfg := Config{MemberLease: time.Second, times: times{look: time.Hour}}
	s := openSmall(t, 24, cfg)
	cfg.DataDir, cfg.Unsafe, cfg.MaxBytes = strings.TrimSuffix(s.lock.Name(), "/lock"), true, 24<<20
	keys, err := fill(t, s, AnyRevision)
	wantCode(t, err, mesh.ErrServiceUnavailable)
	closed(t, s)
	cfg.times.look = 0
	cfg.NoDefragment = true // or it would have room at once
	s, err = Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.DeleteRecord(t.Context(), System("test"), keys[0]); err != nil {
		t.Error(err)
	}
}

// TestDefragmentsInQuiet checks when a file is written anew by itself.
func TestDefragmentsInQuiet(t *testing.T) {
	t.Parallel()
	for z, want := range map[Size]bool{
		{Bytes: 200 << 20, InUse: 50 << 20}:  true,
		{Bytes: 200 << 20, InUse: 150 << 20}: false, // little is free
		{Bytes: 60 << 20, InUse: 1 << 20}:    false, // it is small
		{Bytes: 4 << 30, InUse: 3 << 29}:     false, // it would take long
	} {
		if got := (&Store{}).pays(z); got != want {
			t.Errorf("%s: %v", z, got)
		}
		if (&Store{keepFile: true}).pays(z) {
			t.Errorf("%s: it was switched off", z)
		}
	}
}

// TestExternalSize checks that the size of an external etcd is known, and that its file is
// left alone.
func TestExternalSize(t *testing.T) {
	t.Parallel()
	e := serveEtcdWith(t, Config{DataDir: t.TempDir(), Unsafe: true, MaxBytes: 24 << 20})
	s, err := Open(t.Context(), Config{Endpoints: []string{e.endpoint}, SealKeyFile: keyFile(t, 1), times: times{look: 5 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	lead(t, s)
	_, err = fill(t, s, 0)
	wantCode(t, err, mesh.ErrLimitExceeded, "nearly full")
	if z, _ := s.Size(); z.Quota != 24<<20 {
		t.Errorf("%+v", z)
	}
	if n, _ := s.Defragmentations(); n != 0 {
		t.Errorf("it was defragmented %d times", n)
	}
}
