package store

import (
	"errors"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// What a change asks for holds in its transaction, or nothing is written.
func TestApplyRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	apply := func(c RecordChange) (int64, error) {
		t.Helper()
		return w.s.ApplyRecords(t.Context(), system, c)
	}
	first, err := apply(RecordChange{Puts: []Record{{Key: "a/1", Value: []byte("x")}}, Account: ownerID})
	if err != nil {
		t.Fatal(err)
	}
	found, revision, err := w.s.ReadRecords(t.Context(), system, "a/1", "a/2")
	if err != nil || revision < first {
		t.Fatalf("read at %d, %v", revision, err)
	}
	diff(t, map[string]Record{"a/1": {Key: "a/1", Value: []byte("x"), Revision: first}}, found)
	put := []Record{{Key: "b", Revision: AnyRevision}}
	for _, c := range []struct {
		change RecordChange
		want   error
	}{
		{RecordChange{Puts: put, Holds: []Record{{Key: "a/1"}}}, ErrRevision},
		{RecordChange{Puts: put, Holds: []Record{{Key: "a/2", Revision: first}}}, ErrRevision},
		{RecordChange{Puts: put, Deletes: []Record{{Key: "a/1", Revision: first - 1}}}, ErrRevision},
		{RecordChange{Puts: put, Empty: []string{"a/"}}, ErrNotEmpty},
	} {
		if _, err := apply(c.change); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.change, err, c.want)
		}
	}
	for _, c := range []RecordChange{{}, {Holds: put}, {Puts: put, Holds: put}} {
		if _, err := apply(c); err == nil {
			t.Errorf("%+v went through", c)
		}
	}
	diff(t, map[string]string{"a/1": "x"}, w.records(""))
	if _, err := apply(RecordChange{Deletes: []Record{{Key: "a/1", Revision: first}}, Puts: put, Empty: []string{"a/2"}, Holds: []Record{{Key: "c"}}}); err != nil {
		t.Error(err)
	}
	diff(t, map[string]string{"b": ""}, w.records(""))
	_, err = w.s.ApplyRecords(t.Context(), w.c, RecordChange{Puts: put})
	wantCode(t, err, mesh.ErrForbidden)
	_, _, err = w.s.ReadRecords(t.Context(), w.c, "b")
	wantCode(t, err, mesh.ErrForbidden)
	_, err = w.s.GrantLease(t.Context(), w.c, 10)
	wantCode(t, err, mesh.ErrForbidden)
	_, err = w.s.RenewLease(t.Context(), w.c, 1)
	wantCode(t, err, mesh.ErrForbidden)
}

// An account that was deleted gets nothing new, and one with namespaces is not deleted.
func TestRegistryOfAccounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own := Record{Key: RegistryOwned + consumerID + "/us-east-1/namespace/ns-a"}
	others := []Record{{Key: RegistryImported + consumerID + "/x"}, {Key: RegistryOperations + consumerID + "/x"}, {Key: RegistryOwned + ownerID + "/x"}}
	if err := w.s.PutRecords(t.Context(), system, append(others, own)); err != nil {
		t.Fatal(err)
	}
	wantCode(t, w.s.DeleteAccount(t.Context(), system, consumerID, nil), mesh.ErrResourceInUse, "owns Cloud Map namespaces")
	diff(t, 4, len(w.records("")))
	if err := w.s.DeleteRecord(t.Context(), system, own.Key); err != nil {
		t.Fatal(err)
	}
	if err := w.s.DeleteAccount(t.Context(), system, consumerID, nil); err != nil {
		t.Fatal(err)
	}
	diff(t, map[string]string{RegistryOwned + ownerID + "/x": ""}, w.records(""))
	_, err := w.s.ApplyRecords(t.Context(), system, RecordChange{Puts: []Record{own}, Account: consumerID})
	wantCode(t, err, mesh.ErrForbidden, "was deleted")
}

// A record with a lease goes when the lease ends, and a lease that is renewed lasts on.
// Renewing writes nothing.
func TestLeases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	short, err1 := w.s.GrantLease(t.Context(), system, 1)
	long, err2 := w.s.GrantLease(t.Context(), system, 3600)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	revision, err := w.s.ApplyRecords(t.Context(), system, RecordChange{Puts: []Record{{Key: "short", Lease: short}, {Key: "long", Lease: long}}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		there, err := w.s.RenewLease(t.Context(), system, long)
		if err != nil || !there {
			t.Errorf("the long lease: %v, %v", there, err)
		}
	}
	_, now, err := w.s.ReadRecords(t.Context(), system, "long")
	if err != nil || now > revision+1 { // the short one may have ended
		t.Errorf("renewing took the store from revision %d to %d, %v", revision, now, err)
	}
	end := time.Now().Add(time.Minute)
	for len(w.records("short")) > 0 && time.Now().Before(end) {
		if err := sleep(t.Context(), 10*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	diff(t, map[string]string{"long": ""}, w.records(""))
	if there, err := w.s.RenewLease(t.Context(), system, short); there || err != nil {
		t.Errorf("the short lease: %v, %v", there, err)
	}
	_, err = w.s.ApplyRecords(t.Context(), system, RecordChange{Puts: []Record{{Key: "x", Lease: short}}})
	if !LeaseGone(err) || LeaseGone(nil) || LeaseGone(ErrRevision) {
		t.Errorf("with a lease that is over: %v", err)
	}
}
