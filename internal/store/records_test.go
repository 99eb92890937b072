package store

import (
	"context"
	"errors"
	"sync"
	"testing"
)

var system = System("test")

func (w world) records(prefix string) map[string]string {
	w.t.Helper()
	got, err := w.s.Records(w.t.Context(), system, prefix)
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]string{}
	for _, r := range got {
		out[r.Key] = string(r.Value)
	}
	return out
}

func TestRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	put := func(recs ...Record) error {
		t.Helper()
		return w.s.PutRecords(t.Context(), system, recs)
	}
	rec := func(key, value string, revision int64) Record {
		return Record{Key: key, Value: []byte(value), Revision: revision}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	refused := func(err error) {
		t.Helper()
		if !errors.Is(err, ErrRevision) {
			t.Errorf("error %v, want ErrRevision", err)
		}
	}
	must(put())
	must(put(rec("user/a", "1", 0), rec("user/b", "2", 0), rec("users", "3", AnyRevision)))
	diff(t, map[string]string{"user/a": "1", "user/b": "2"}, w.records("user/"))
	diff(t, map[string]string{"user/a": "1", "user/b": "2", "users": "3"}, w.records(""))

	refused(put(rec("user/c", "x", 0), rec("user/a", "x", 0)))
	diff(t, map[string]string{"user/a": "1", "user/b": "2"}, w.records("user/"))

	got, err := w.s.Records(t.Context(), system, "user/a")
	must(err)
	must(put(rec("user/a", "4", got[0].Revision)))
	refused(put(rec("user/a", "x", got[0].Revision)))
	refused(put(rec("user/z", "x", got[0].Revision)))
	must(put(rec("user/a", "5", AnyRevision)))
	diff(t, map[string]string{"user/a": "5"}, w.records("user/a"))

	wantError(t, put(rec("", "x", 0)), "empty")
	wantError(t, put(rec("a", "x", 0), rec("a", "y", 0)), "twice")
	wantError(t, put(rec("a", "x", -2)), "-2")

	must(w.s.DeleteRecord(t.Context(), system, "user/a"))
	must(w.s.DeleteRecord(t.Context(), system, "user/a"))
	diff(t, map[string]string{"user/b": "2"}, w.records("user/"))
	w.wantNoKeys()
}

func TestFollowRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	put := func(key, value string) {
		t.Helper()
		if err := w.s.PutRecords(t.Context(), system, []Record{{Key: key, Value: []byte(value), Revision: AnyRevision}}); err != nil {
			t.Fatal(err)
		}
	}
	put("key/a", "1")
	put("other", "1")
	var mu sync.Mutex
	got, resets := map[string]string{}, 0
	done := make(chan error, 1)
	go func() {
		done <- w.s.FollowRecords(ctx, system, "key/", func(b RecordBatch) {
			mu.Lock()
			defer mu.Unlock()
			if b.Reset {
				resets++
				clear(got)
			}
			for _, r := range b.Puts {
				got[r.Key] = string(r.Value)
			}
			for _, k := range b.Deletes {
				delete(got, k)
			}
		})
	}()
	is := func(want map[string]string) {
		t.Helper()
		eventually(t, "the change", func() bool {
			mu.Lock()
			defer mu.Unlock()
			if resets != 1 || len(got) != len(want) {
				return false
			}
			for k, v := range want {
				if got[k] != v {
					return false
				}
			}
			return true
		})
	}
	is(map[string]string{"key/a": "1"})
	put("key/b", "2")
	put("other", "2")
	put("key/a", "3")
	is(map[string]string{"key/a": "3", "key/b": "2"})
	if err := w.s.DeleteRecord(t.Context(), system, "key/a"); err != nil {
		t.Fatal(err)
	}
	put("key/b", "4")
	is(map[string]string{"key/b": "4"})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("FollowRecords ended with %v", err)
	}
}

func TestChangeRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	change := func(puts, deletes []Record) error {
		t.Helper()
		return w.s.ChangeRecords(t.Context(), system, puts, deletes)
	}
	if err := change([]Record{{Key: "a", Value: []byte("1")}, {Key: "b"}, {Key: "c"}}, nil); err != nil {
		t.Fatal(err)
	}
	all, err := w.s.Records(t.Context(), system, "")
	if err != nil {
		t.Fatal(err)
	}
	a, b := all[0], all[1]
	for name, err := range map[string]error{
		"a delete of what changed":       change([]Record{{Key: "d"}}, []Record{{Key: "a", Revision: a.Revision - 1}}),
		"a delete of what is not there":  change([]Record{{Key: "d"}}, []Record{{Key: "x", Revision: a.Revision}}),
		"a delete of what is not to be":  change([]Record{{Key: "d"}}, []Record{{Key: "a"}}),
		"a put of what is there already": change([]Record{{Key: "c"}}, []Record{a}),
	} {
		if !errors.Is(err, ErrRevision) {
			t.Errorf("%s: error %v, want ErrRevision", name, err)
		}
	}
	wantError(t, change([]Record{a}, []Record{a}), "twice")
	wantError(t, change(nil, []Record{{Key: "a", Revision: -2}}), "-2")
	wantCode(t, w.s.ChangeRecords(t.Context(), w.c, nil, []Record{a}), "ForbiddenException")
	diff(t, map[string]string{"a": "1", "b": "", "c": ""}, w.records(""))
	if err := change([]Record{{Key: "a", Value: []byte("2"), Revision: a.Revision}, {Key: "d"}}, []Record{b, {Key: "c", Revision: AnyRevision}, {Key: "x", Revision: AnyRevision}, {Key: "y"}}); err != nil {
		t.Fatal(err)
	}
	diff(t, map[string]string{"a": "2", "d": ""}, w.records(""))
}
