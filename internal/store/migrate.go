package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// migrationDocument says how far documents have been brought to a format.
type migrationDocument struct {
	Format int `json:"format"`
	// To is the format, and After the key behind which there is more to do.
	To    int    `json:"to"`
	After string `json:"after"`
	Done  bool   `json:"done"`
	// Seen counts the documents that were looked at, Rewritten those that were written
	// anew, and Failed those that could not be read.
	Seen      int64 `json:"seen"`
	Rewritten int64 `json:"rewritten"`
	Failed    int64 `json:"failed"`
}

const migrationFormat = 1

// migrationProgress is what metrics tell of a migration that this process does.
type migrationProgress struct {
	seen, rewritten, failed, total atomic.Int64
}

// migrateOnce brings documents to the format that the store is written in, if that has been
// raised. It goes on where another server ended. That two do it at once does no harm: each
// write is compared.
func (s *Store) migrateOnce(ctx context.Context) error {
	l := s.level.Load()
	if l.writes == firstFormat || !s.formats.reads(l.writes) {
		return nil
	}
	m, err := s.migration(ctx, l.writes)
	if err != nil || m.Done {
		return err
	}
	s.log.Info("documents are being brought to a new format", "format", l.writes, "behind", m.After)
	for !m.Done {
		if err := s.migratePage(ctx, l, m); err != nil {
			return err
		}
	}
	s.log.Info("all documents have been brought to a new format", "format", l.writes, "rewritten", m.Rewritten, "failed", m.Failed)
	return nil
}

// migration returns how far documents have been brought to a format.
func (s *Store) migration(ctx context.Context, to int) (*migrationDocument, error) {
	l, err := s.readKeys(ctx, migrationKey)
	if err != nil {
		return nil, err
	}
	m := &migrationDocument{}
	if kv := l.kvs[migrationKey]; kv != nil {
		if err := json.Unmarshal(kv.Value, m); err != nil {
			return nil, fmt.Errorf("reading key %s of etcd: %w", migrationKey, err)
		}
	}
	if m.To != to {
		m = &migrationDocument{To: to}
	}
	m.Format = migrationFormat
	return m, nil
}

// migratePage does the next documents, notes how far it is, and waits as long as the rate
// asks for.
func (s *Store) migratePage(ctx context.Context, l *written, m *migrationDocument) error {
	began := time.Now()
	kinds := s.formats.kinds()
	at := slices.IndexFunc(kinds, func(k kind) bool { return clientv3.GetPrefixRangeEnd(k.prefix) > m.After })
	if at < 0 {
		m.Done = true
		return s.noteMigration(ctx, l, m)
	}
	k := kinds[at]
	resp, err := s.keysOf(ctx, max(k.prefix, next(m.After)), k.prefix)
	if err != nil {
		return s.fault(ctx, err)
	}
	rewritten := 0
	for _, kv := range resp.Kvs {
		did, err := s.migrateOne(ctx, l, k, kv)
		if err != nil {
			return err
		}
		m.Seen++
		switch did {
		case didRewrite:
			rewritten++
			m.Rewritten++
		case didFail:
			m.Failed++
		}
		m.After = string(kv.Key)
	}
	if !resp.More || len(resp.Kvs) == 0 {
		m.After = clientv3.GetPrefixRangeEnd(k.prefix)
	}
	m.Done = m.After >= clientv3.GetPrefixRangeEnd(kinds[len(kinds)-1].prefix)
	s.moved.total.Store(m.Seen + max(resp.Count-int64(len(resp.Kvs)), 0))
	if err := s.noteMigration(ctx, l, m); err != nil {
		return err
	}
	due := time.Duration(float64(rewritten) / s.times.migrateRate * float64(time.Second))
	s.pause(ctx, due-time.Since(began))
	return ctx.Err()
}

// noteMigration writes down how far it is.
func (s *Store) noteMigration(ctx context.Context, l *written, m *migrationDocument) error {
	s.moved.seen.Store(m.Seen)
	s.moved.rewritten.Store(m.Rewritten)
	s.moved.failed.Store(m.Failed)
	value, err := marshal(m)
	if err != nil {
		return err
	}
	_, err = s.commit(ctx, []condition{s.holdLevel(l)}, []*pb.RequestOp{putKey(migrationKey, value)})
	return err
}

// What became of a document.
const (
	didNothing = iota
	didRewrite
	didFail
)

// migrateOne writes one document anew if it has another format. If somebody else changes
// it at the same time they write it in the new one, as every write compares the format.
func (s *Store) migrateOne(ctx context.Context, l *written, k kind, kv *mvccpb.KeyValue) (did int, err error) {
	if format := formatOf(kv.Value); format == k.at(l.writes) || format == 0 && k.bare {
		return didNothing, nil
	}
	value, err := k.decode(kv.Value)
	if err == nil {
		value, err = k.encode(l.writes, value)
	}
	if err != nil {
		s.unreadable(kv, err)
		return didFail, nil
	}
	changed := errors.New("the document has changed")
	key := string(kv.Key)
	put := putKey(key, value)
	put.GetRequestPut().Lease = kv.Lease
	_, err = s.commit(ctx, []condition{unchanged(key, kv.ModRevision, changed), s.holdLevel(l)}, []*pb.RequestOp{put})
	switch {
	case errors.Is(err, changed), kv.Lease != 0 && LeaseGone(err):
		return didNothing, nil
	case err != nil:
		return didNothing, err
	}
	return didRewrite, nil
}

// Migration returns how many documents this process has looked at, rewritten and could not
// read while it brought them to a new format, and how many there are. All are 0 if it did
// not.
func (s *Store) Migration() (seen, rewritten, failed, total int64) {
	return s.moved.seen.Load(), s.moved.rewritten.Load(), s.moved.failed.Load(), s.moved.total.Load()
}

// DocumentFormat returns the format that documents are written in.
func (s *Store) DocumentFormat() int { return s.level.Load().writes }
