package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// historySteps is in how many steps the time is counted for which history is kept.
const historySteps = 10

// history is what is done about the history of an external etcd.
type history struct {
	keep    time.Duration // 0 if nothing is done
	ownOnly bool
	// compactions counts what this process did.
	compactions atomic.Int64
}

// Compactions returns how often this process has compacted the history of an external etcd.
func (s *Store) Compactions() int64 { return s.history.compactions.Load() }

// historyDocument notes the revisions that etcd was at in the last steps. Time is counted by
// steps and not by clocks, which hosts may have set differently.
type historyDocument struct {
	Format    int     `json:"format"`
	Revisions []int64 `json:"revisions"`
}

const historyFormat = 1

// dropHistory returns a function that takes the next step: it notes the revision that etcd
// is at, and compacts the one of historySteps steps before. The first call does nothing: how
// long it is since the last server's step is not known.
func (s *Store) dropHistory() func(context.Context) error {
	begun, said := false, false
	return func(ctx context.Context) error {
		if !begun {
			begun = true
			return nil
		}
		if s.history.ownOnly {
			shared, err := s.etcdShared(ctx)
			if err != nil {
				return err
			}
			if shared {
				if !said {
					s.log.InfoContext(ctx, "etcd holds keys of others too: its history is left to its operator, unless --etcd-compaction says how long it is kept")
				}
				said = true
				return nil
			}
		}
		return s.historyStep(ctx)
	}
}

// historyStep compacts what is old enough, and notes how far it is.
func (s *Store) historyStep(ctx context.Context) error {
	l, err := s.readKeys(ctx, historyKey)
	if err != nil {
		return err
	}
	doc, hold := historyDocument{}, absent(historyKey, func(*mvccpb.KeyValue) error { return errChanged })
	if kv := l.kvs[historyKey]; kv != nil {
		hold = unchanged(historyKey, kv.ModRevision, errChanged)
		if err := json.Unmarshal(kv.Value, &doc); err != nil {
			s.log.ErrorContext(ctx, "what is known of etcd's history cannot be read, it is begun anew", "key", historyKey, "error", err)
			doc.Revisions = nil
		}
	}
	doc.Format, doc.Revisions = historyFormat, append(doc.Revisions, l.revision)
	old := int64(0)
	if n := len(doc.Revisions) - 1 - historySteps; n >= 0 {
		old, doc.Revisions = doc.Revisions[n], doc.Revisions[n+1:]
	}
	if z, ok := s.Size(); ok && z.Quota > 0 && float64(z.InUse) >= warnAt*float64(z.Quota) {
		// Room is worth more than history: who fell behind reads everything anew.
		old, doc.Revisions = l.revision, []int64{l.revision}
	}
	if old > 0 {
		switch err := s.try(ctx, func(ctx context.Context) error { return compact(ctx, s.client, old) }); {
		case errors.Is(err, rpctypes.ErrFutureRev): // etcd was restored to what it was once
			doc.Revisions = []int64{l.revision}
		case err != nil:
			return err
		default:
			s.history.compactions.Add(1)
		}
	}
	value, err := marshal(doc)
	if err != nil {
		return err
	}
	_, err = s.commit(ctx, []condition{hold}, []*pb.RequestOp{putKey(historyKey, value)})
	if errors.Is(err, errChanged) {
		return nil // another server leads by now
	}
	return err
}

// etcdShared reports whether there are keys in etcd that are not Fairlead's, or that it may
// not look at.
func (s *Store) etcdShared(ctx context.Context) (shared bool, err error) {
	err = s.try(ctx, func(ctx context.Context) error {
		for from, opt := range map[string]clientv3.OpOption{
			"\x00":                                 clientv3.WithRange(rootPrefix),
			clientv3.GetPrefixRangeEnd(rootPrefix): clientv3.WithFromKey(),
		} {
			resp, err := s.client.Get(ctx, from, opt, clientv3.WithKeysOnly(), clientv3.WithLimit(1), clientv3.WithSerializable())
			if errors.Is(err, rpctypes.ErrPermissionDenied) {
				shared = true
				return nil
			}
			if err != nil {
				return err
			}
			shared = shared || len(resp.Kvs) > 0
		}
		return nil
	})
	return shared, err
}

// compact has etcd forget what was there before a revision. It is no error if that was done
// before.
func compact(ctx context.Context, client *clientv3.Client, revision int64, opts ...clientv3.CompactOption) error {
	_, err := client.Compact(ctx, revision, opts...)
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("compacting: %w", err)
	}
	return nil
}
