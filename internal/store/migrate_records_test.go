package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// wrapped is a made-up format 2 of any document: what it was, in another.
func wrapped(prefix string) RecordForms {
	type outer struct {
		Format int             `json:"format"`
		Body   json.RawMessage `json:"body"`
	}
	return RecordForms{Prefix: prefix, Own: 1, Forms: map[int]Form{2: {
		Encode: func(value []byte) ([]byte, error) { return marshal(outer{2, value}) },
		Decode: func(value []byte) ([]byte, error) {
			var o outer
			err := json.Unmarshal(value, &o)
			return o.Body, err
		},
	}}}
}

// openRecords opens a store as a server does that knows the new format of some records, or
// of none.
func openRecords(t testing.TB, endpoint, key string, forms ...RecordForms) (*Store, error) {
	t.Helper()
	s, err := Open(t.Context(), Config{
		Endpoints: []string{endpoint}, SealKeyFile: key, MemberLease: 3 * time.Second, FormatWait: time.Millisecond, Records: forms,
	})
	if err == nil {
		t.Cleanup(func() { _ = s.Close() })
	}
	return s, err
}

// TestRecordFormatsSideBySide has the records of two families get a new format while a
// server that knows only the old one is still there.
func TestRecordFormatsSideBySide(t *testing.T) {
	t.Parallel()
	e, key := serveEtcd(t), keyFile(t, 1)
	old, err := openRecords(t, e.endpoint, key)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := openRecords(t, e.endpoint, key, wrapped("b/"), wrapped("a/"))
	if err != nil {
		t.Fatal(err)
	}
	lead(t, old)
	lead(t, fresh)
	c := System("test")
	value := func(n int) string { return fmt.Sprintf(`{"format":1,"n":%d}`, n) }
	put := func(s *Store, k string, n int, revision, lease int64) {
		t.Helper()
		if _, err := s.ApplyRecords(t.Context(), c, RecordChange{Puts: []Record{{Key: k, Value: []byte(value(n)), Revision: revision, Lease: lease}}}); err != nil {
			t.Fatal(err)
		}
	}
	get := func(s *Store, k string) Record {
		t.Helper()
		all, _, err := s.ReadRecords(t.Context(), c, k)
		if err != nil {
			t.Fatal(err)
		}
		return all[k]
	}
	world{t: t, s: old, c: caller("000000000001")}.makeNodes("m", 3)
	lease, err := old.GrantLease(t.Context(), c, 600)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		put(old, fmt.Sprintf("a/%03d", i), i, 0, 0)
	}
	put(old, "b/leased", 1, 0, lease)
	put(old, "c/other", 1, 0, 0)
	put(fresh, "b/new", 2, 0, 0)
	diff(t, value(2), string(get(old, "b/new").Value))
	before := get(fresh, "a/000")
	batches := make(chan RecordBatch, 1000)
	go func() { _ = fresh.FollowRecords(t.Context(), c, "a/", func(b RecordBatch) { batches <- b }) }()
	<-batches

	closed(t, old)
	eventually(t, "all records in the new format", func() bool {
		m, err := fresh.migration(t.Context(), 2)
		return err == nil && m.Done
	})
	for k, stored := range keys(t, fresh) {
		switch {
		case k == recordPrefix+"a/007":
			diff(t, `{"format":2,"body":{"format":1,"n":7}}`, stored.Value)
		case k == recordPrefix+"b/leased":
			if formatOf([]byte(stored.Value)) != 2 || stored.Lease != lease {
				t.Errorf("%s: %+v, its lease was %d", k, stored, lease)
			}
		case k == recordPrefix+"c/other":
			diff(t, value(1), stored.Value)
		}
	}
	for b := range batches { // what has been rewritten is what it was
		for _, r := range b.Puts {
			if formatOf(r.Value) != 1 {
				t.Fatalf("a feed has %s", r.Value)
			}
		}
		if len(b.Puts) > 0 && b.Puts[len(b.Puts)-1].Key == "a/199" {
			break
		}
	}
	diff(t, value(0), string(get(fresh, "a/000").Value))
	_, err = fresh.ApplyRecords(t.Context(), c, RecordChange{Puts: []Record{before}})
	if !errors.Is(err, ErrRevision) {
		t.Errorf("with the revision from before it was rewritten: %v", err)
	}
	put(fresh, "a/000", 1000, get(fresh, "a/000").Revision, 0)
	all, err := fresh.Records(t.Context(), c, "a/")
	if err != nil || len(all) != 200 || string(all[0].Value) != value(1000) || string(all[1].Value) != value(1) {
		t.Errorf("%d records, %v", len(all), err)
	}
	if m, err := fresh.migration(t.Context(), 2); err != nil || m.Failed != 0 || m.Rewritten != 202 {
		t.Errorf("%+v, %v", m, err)
	}
	_, err = openRecords(t, e.endpoint, key)
	wantError(t, err, "the store's documents have format 2, this build of Fairlead reads 1 to 1: use a newer one")
}

// TestRestoreKnowsFormats checks that a backup with a newer format is refused by a build that
// does not know it, and an account in it by a store whose servers may not.
func TestRestoreKnowsFormats(t *testing.T) {
	t.Parallel()
	forms := []RecordForms{wrapped("iam/")}
	e, path := serveEtcd(t), keyFile(t, 1)
	s, err := openRecords(t, e.endpoint, path, forms...)
	if err != nil {
		t.Fatal(err)
	}
	w := world{t: t, s: s, c: caller("000000000001")}
	w.makeNodes("m", 1)
	older := backUp(t, s, "000000000001", false)
	if err := s.PutRecords(t.Context(), System("test"), []Record{{Key: "iam/000000000001/x", Value: []byte(`{"format":1}`)}}); err != nil {
		t.Fatal(err)
	}
	older2 := backUp(t, s, "000000000001", false)
	lead(t, s)
	eventually(t, "the new format", func() bool { m, err := s.migration(t.Context(), 2); return err == nil && m.Done })
	newer := backUp(t, s, "000000000001", false)
	all := backUp(t, s, "", false)
	for _, file := range []string{newer, all} {
		_, err := Restore(t.Context(), RestoreConfig{Store: Config{DataDir: t.TempDir(), SealKeyFile: path}, File: file})
		wantError(t, err, "its documents have formats up to 2, this build of Fairlead reads 1 to 1: use a newer one")
	}
	// A store of the old format, to which a build that knows the new one restores.
	other := serveEtcd(t)
	o := openExternal(t, other.endpoint, path)
	closed(t, o)
	cfg := RestoreConfig{Store: Config{Endpoints: []string{other.endpoint}, SealKeyFile: path, Records: forms}, File: newer}
	_, err = Restore(t.Context(), cfg)
	wantError(t, err, "its documents have formats up to 2, the store's have 1")
	cfg.File = older
	restore(t, cfg)

	// An older backup of an account comes into the new format once servers run again.
	closed(t, s)
	restore(t, RestoreConfig{Store: Config{Endpoints: []string{e.endpoint}, SealKeyFile: path, Records: forms}, File: older2, Replace: true})
	s, err = openRecords(t, e.endpoint, path, forms...)
	if err != nil {
		t.Fatal(err)
	}
	lead(t, s)
	eventually(t, "the restored record in the new format", func() bool {
		return formatOf([]byte(keys(t, s)[recordPrefix+"iam/000000000001/x"].Value)) == 2
	})
	world{t: t, s: s, c: w.c}.get(w.mesh("m").Object(mesh.KindVirtualNode, "", "n0"))
}
