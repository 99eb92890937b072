package store

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Record is what is not a mesh object: an account, a user, an access key. Only
// System callers may read or write records.
type Record struct {
	// Key is the record's place, for example "user/000000000001/administrator".
	Key   string
	Value []byte
	// Revision is the store's revision of the record's last change. In PutRecords it
	// is the condition: 0 if there must be no such record, -1 for any, else the
	// revision that it must have.
	Revision int64
	// Lease is the lease that ApplyRecords puts the record with, 0 for none. It is not
	// read.
	Lease int64
}

// AnyRevision is the Revision of a record that PutRecords writes in any case.
const AnyRevision = -1

// PutRecords writes records in one transaction: all or none. If the Revision of one
// does not hold, the error is ErrRevision (by errors.Is). Other errors are
// *mesh.Error with ErrForbidden or ErrServiceUnavailable, and faults of the call.
func (s *Store) PutRecords(ctx context.Context, c Caller, recs []Record) error {
	return s.ChangeRecords(ctx, c, recs, nil)
}

// ChangeRecords writes some records and removes others in one transaction: all or none.
// The Revision of what is removed is a condition as it is for what is written; the
// Value does not count. Errors are as for PutRecords.
func (s *Store) ChangeRecords(ctx context.Context, c Caller, puts, deletes []Record) error {
	if len(puts)+len(deletes) == 0 {
		return c.internal("records")
	}
	_, err := s.ApplyRecords(ctx, c, RecordChange{Puts: puts, Deletes: deletes})
	return err
}

// holdRecord holds if a record has the revision that it is to have.
func holdRecord(r Record) ([]condition, error) {
	key := recordPrefix + r.Key
	changed := fmt.Errorf("writing record %q: %w", r.Key, ErrRevision)
	switch {
	case r.Revision == AnyRevision:
		return nil, nil
	case r.Revision == 0:
		return []condition{absent(key, func(*mvccpb.KeyValue) error { return changed })}, nil
	case r.Revision > 0:
		return []condition{unchanged(key, r.Revision, changed)}, nil
	}
	return nil, fmt.Errorf("writing record %q: revision %d is not allowed: -1 or more", r.Key, r.Revision)
}

// DeleteRecord removes a record. It is no error if there is none.
func (s *Store) DeleteRecord(ctx context.Context, c Caller, key string) error {
	if err := c.internal("records"); err != nil {
		return err
	}
	_, err := s.commit(ctx, nil, []*pb.RequestOp{deleteKey(recordPrefix + key)})
	return err
}

// Records returns all records whose keys begin with prefix, in key order.
func (s *Store) Records(ctx context.Context, c Caller, prefix string) ([]Record, error) {
	if err := c.internal("records"); err != nil {
		return nil, err
	}
	_, all, err := s.listAll(ctx, recordPrefix+prefix)
	if err != nil {
		return nil, s.fault(ctx, err)
	}
	out := make([]Record, len(all))
	for i, kv := range all {
		out[i] = s.record(kv)
	}
	return out, nil
}

// RecordBatch is a set of changes to records. No key is in both lists.
type RecordBatch struct {
	// Reset says that Puts are all records there are.
	Reset bool
	// Revision is the store's revision that the batch leads up to.
	Revision int64
	Puts     []Record
	Deletes  []string
}

// FollowRecords is Follow for the records whose keys begin with prefix.
func (s *Store) FollowRecords(ctx context.Context, c Caller, prefix string, apply func(RecordBatch)) error {
	if err := c.internal("records"); err != nil {
		return err
	}
	return s.follow(ctx, feed{
		prefix: recordPrefix + prefix,
		reset: func(revision int64, all []*mvccpb.KeyValue) {
			b := RecordBatch{Reset: true, Revision: revision}
			for _, kv := range all {
				b.Puts = append(b.Puts, s.record(kv))
			}
			apply(b)
		},
		change: func(revision int64, events []*clientv3.Event) { apply(s.recordBatch(revision, events)) },
	})
}

// recordBatch keeps the last event of each key.
func (s *Store) recordBatch(revision int64, events []*clientv3.Event) RecordBatch {
	last := make(map[string]int, len(events))
	for i, e := range events {
		last[string(e.Kv.Key)] = i
	}
	b := RecordBatch{Revision: revision}
	for i, e := range events {
		switch {
		case last[string(e.Kv.Key)] != i:
		case e.Type == clientv3.EventTypeDelete:
			b.Deletes = append(b.Deletes, strings.TrimPrefix(string(e.Kv.Key), recordPrefix))
		default:
			b.Puts = append(b.Puts, s.record(e.Kv))
		}
	}
	return b
}

// record returns a record in the form that its room knows. One that cannot be brought to it
// stays as it is: the room refuses it.
func (s *Store) record(kv *mvccpb.KeyValue) Record {
	r := Record{Key: strings.TrimPrefix(string(kv.Key), recordPrefix), Revision: kv.ModRevision}
	if k, ok := s.formats.kindOf(string(kv.Key)); ok {
		value, err := k.decode(kv.Value)
		if err == nil {
			r.Value = bytes.Clone(value)
			return r
		}
		s.unreadable(kv, err)
	}
	r.Value = bytes.Clone(kv.Value)
	return r
}

// encodeRecord returns a record's value as it is stored, and what must hold for it, nil if
// nothing need be compared.
func (s *Store) encodeRecord(r Record) ([]byte, []condition, error) {
	k, ok := s.formats.kindOf(recordPrefix + r.Key)
	if !ok {
		return r.Value, nil, nil
	}
	l := s.level.Load()
	value, err := k.encode(l.writes, r.Value)
	if err != nil {
		return nil, nil, fmt.Errorf("writing record %q: %w", r.Key, err)
	}
	return value, []condition{s.holdLevel(l)}, nil
}
