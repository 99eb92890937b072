package store

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// nextFormats are those of a build that is one format ahead: in it the spec is called
// body, which a build of today would take for an object without a spec.
func nextFormats() formats {
	rename := func(value []byte, from, to string, format int) ([]byte, error) {
		all := map[string]json.RawMessage{}
		if err := json.Unmarshal(value, &all); err != nil {
			return nil, err
		}
		if all[from] == nil {
			return nil, fmt.Errorf("there is no %s", from)
		}
		all[to] = all[from]
		delete(all, from)
		all["format"] = json.RawMessage(fmt.Sprint(format))
		return marshal(all)
	}
	return formats{newest: 2, forms: map[int]Form{2: {
		Encode: func(value []byte) ([]byte, error) { return rename(value, "spec", "body", 2) },
		Decode: func(value []byte) ([]byte, error) { return rename(value, "body", "spec", documentFormat) },
	}}}
}

// openVersion opens a store as a server of this build, or of the next one.
func openVersion(t testing.TB, endpoint, key string, next bool, raiseAfter time.Duration) (*Store, error) {
	t.Helper()
	cfg := Config{Endpoints: []string{endpoint}, SealKeyFile: key, MemberLease: 3 * time.Second, FormatWait: raiseAfter}
	if next {
		cfg.formats = nextFormats()
	}
	s, err := Open(t.Context(), cfg)
	if err == nil {
		t.Cleanup(func() { _ = s.Close() })
		lead(t, s)
	}
	return s, err
}

// formatsOf counts the documents of a store by their formats.
func formatsOf(t testing.TB, s *Store) map[int]int {
	t.Helper()
	_, all, err := s.listAll(t.Context(), objectPrefix)
	if err != nil {
		t.Fatal(err)
	}
	out := map[int]int{}
	for _, kv := range all {
		out[formatOf(kv.Value)]++
	}
	return out
}

// TestFormatsSideBySide has two servers of different versions over one etcd: as long as the
// older one is there both read and write, and nothing has the new format. When it has gone
// the documents are brought to the new one, under writes, and the older one is not let in
// again.
func TestFormatsSideBySide(t *testing.T) {
	t.Parallel()
	e, key := serveEtcd(t), keyFile(t, 1)
	open := func(next bool) world {
		t.Helper()
		s, err := openVersion(t, e.endpoint, key, next, time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		return world{t: t, s: s, c: caller("000000000001")}
	}
	old := open(false)
	m := old.makeNodes("m", 300)
	node := func(i int) mesh.ID { return m.Object(mesh.KindVirtualNode, "", fmt.Sprintf("n%d", i)) }
	fresh := open(true)
	for i := range 20 {
		diff(t, fresh.update(node(i), specNode), old.get(node(i)))
		diff(t, old.update(node(i), specNode), fresh.get(node(i)))
	}
	// The newer one has looked at the members several times since.
	renewed := fresh.s.level.Load().writes
	diff(t, 1, renewed)
	diff(t, map[int]int{1: 301}, formatsOf(t, fresh.s))

	f := follow(t, fresh.s)
	before := map[mesh.ID]*mesh.Object{}
	for i := range 300 {
		before[node(i)] = fresh.get(node(i))
	}
	closed(t, old.s)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				fresh.update(node(i%10), specNode)
			}
		}
	})
	eventually(t, "all documents in the new format", func() bool {
		m, err := fresh.s.migration(t.Context(), 2)
		return err == nil && m.Done
	})
	close(stop)
	wg.Wait()
	diff(t, map[int]int{2: 301}, formatsOf(t, fresh.s))
	for i := 10; i < 300; i++ {
		after := fresh.get(node(i))
		after.Revision = before[node(i)].Revision
		diff(t, before[node(i)], after)
	}
	o := fresh.create(m.Object(mesh.KindVirtualNode, "", "last"), specNode)
	f.wantSame(t, fresh.s, o.Revision)
	if done, err := fresh.s.migration(t.Context(), 2); err != nil || done.Failed != 0 || done.Rewritten < 280 {
		t.Errorf("%+v, %v", done, err)
	}

	_, err := openVersion(t, e.endpoint, key, false, time.Hour)
	wantError(t, err, "the store's documents have format 2, this build of Fairlead reads 1 to 1: use a newer one")
	again := open(true)
	diff(t, fresh.get(node(0)), again.get(node(0)))
}

// TestFormatWaits checks that the format is not raised before the older version has been
// away for some time: in the middle of a restart of all servers, one after the other.
func TestFormatWaits(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	s.formats, s.formatWait = nextFormats(), time.Hour
	older := time.Now()
	if err := s.join(t.Context()); err != nil { // says now that it reads the new format
		t.Fatal(err)
	}
	if err := s.raise(t.Context(), &older); err != nil {
		t.Fatal(err)
	}
	diff(t, 1, s.level.Load().writes)
	older = older.Add(-2 * time.Hour)
	if err := s.raise(t.Context(), &older); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new format", func() bool { return s.level.Load().writes == 2 })
}

// TestFormatLosesToJoin checks that an older server that joins at the same time is not
// overlooked.
func TestFormatLosesToJoin(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	s.formats, s.formatWait = nextFormats(), time.Nanosecond
	if err := s.join(t.Context()); err != nil {
		t.Fatal(err)
	}
	older := time.Now().Add(-time.Hour)
	before := older
	if _, err := s.client.Put(t.Context(), memberPrefix+"old", `{"format":1,"reads":1}`); err != nil {
		t.Fatal(err)
	}
	if err := s.raise(t.Context(), &older); err != nil {
		t.Fatal(err)
	}
	diff(t, 1, s.level.Load().writes)
	if !older.After(before) {
		t.Error("the older server was not noticed")
	}
}

// TestWritesInNewFormat checks that who has not heard of the new format yet does not write
// in the old one.
func TestWritesInNewFormat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 1)
	w.s.formats = nextFormats()
	deaf := w.s.level.Load()
	if _, err := w.s.client.Put(t.Context(), formatKey, `{"format":1,"writes":2}`); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new format", func() bool { return w.s.level.Load().writes == 2 })
	w.s.level.Store(deaf)
	n0 := m.Object(mesh.KindVirtualNode, "", "n0")
	w.update(n0, specNode)
	w.get(n0)
	diff(t, map[int]int{1: 1, 2: 1}, formatsOf(t, w.s))
}

// TestMigrationGoesOn checks that a migration is taken up where it ended, and that what
// cannot be read does not hold it up.
func TestMigrationGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 200)
	bad := objectKey(m.Object(mesh.KindVirtualNode, "", "bad"))
	if _, err := w.s.client.Put(t.Context(), bad, `{"format":9}`); err != nil {
		t.Fatal(err)
	}
	w.s.formats, w.s.times.migrateRate = nextFormats(), 1e6
	if _, err := w.s.client.Put(t.Context(), formatKey, `{"format":1,"writes":2}`); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new format", func() bool { return w.s.level.Load().writes == 2 })
	first, err := w.s.migration(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.s.migratePage(t.Context(), w.s.level.Load(), first); err != nil {
		t.Fatal(err)
	}
	if first.Done || first.Seen != maxOps || !strings.HasPrefix(first.After, objectPrefix) {
		t.Errorf("%+v", first)
	}
	if err := w.s.migrateOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	last, err := w.s.migration(t.Context(), 2)
	if err != nil || !last.Done || last.Seen != 202 || last.Rewritten != 201 || last.Failed != 1 {
		t.Errorf("%+v, %v", last, err)
	}
	diff(t, map[int]int{2: 201, 9: 1}, formatsOf(t, w.s))
	if err := w.s.migrateOnce(t.Context()); err != nil {
		t.Error(err)
	}
	seen, rewritten, failed, total := w.s.Migration()
	diff(t, []int64{202, 201, 1, 202}, []int64{seen, rewritten, failed, total})
}
