package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// ErrNotEmpty says that there is a record below a prefix that was to be empty.
var ErrNotEmpty = errors.New("there are records below it")

// RecordChange is one transaction on records: all of it, or nothing.
type RecordChange struct {
	// Puts are written and Deletes removed, each if its Revision holds. All keys differ.
	Puts, Deletes []Record
	// Holds must have their Revision, and are left as they are.
	Holds []Record
	// Empty are prefixes below which there must be no record.
	Empty []string
	// Account is one that must not have been deleted; "" for any.
	Account string
}

// ApplyRecords does a change and returns the store's revision of it. The error is
// ErrRevision (by errors.Is) if the Revision of a record does not hold, ErrNotEmpty if
// there is a record below one of Empty, a *mesh.Error with ErrLimitExceeded if the store is
// nearly full and a record is to be new; others are as for PutRecords. A change with
// nothing to write is an error.
func (s *Store) ApplyRecords(ctx context.Context, c Caller, change RecordChange) (int64, error) {
	if err := c.internal("records"); err != nil {
		return 0, err
	}
	for range maxAttempts {
		revision, err := s.applyRecords(ctx, change)
		if !errors.Is(err, errChanged) { // else the store has a new format
			return revision, err
		}
	}
	return 0, mesh.Errorf(mesh.ErrServiceUnavailable, "the store's format is being changed, try again")
}

func (s *Store) applyRecords(ctx context.Context, change RecordChange) (int64, error) {
	var conditions, level []condition
	var ops []*pb.RequestOp
	if change.Account != "" {
		conditions = append(conditions, absent(goneKey(change.Account), func(*mvccpb.KeyValue) error {
			return mesh.Errorf(mesh.ErrForbidden, "account %s was deleted", change.Account)
		}))
	}
	for _, prefix := range change.Empty {
		conditions = append(conditions, empty(recordPrefix+prefix, func([]string) error {
			return fmt.Errorf("changing records below %q: %w", prefix, ErrNotEmpty)
		}))
	}
	puts, writes := len(change.Puts), len(change.Puts)+len(change.Deletes)
	seen := make(map[string]bool, writes+len(change.Holds))
	for i, r := range slices.Concat(change.Puts, change.Deletes, change.Holds) {
		if r.Key == "" || seen[r.Key] {
			return 0, fmt.Errorf("writing records: key %q is empty or comes twice", r.Key)
		}
		seen[r.Key] = true
		held, err := holdRecord(r)
		if err != nil {
			return 0, err
		}
		conditions = append(conditions, held...)
		switch {
		case i < puts:
			if r.Revision == 0 && r.Lease == 0 { // what goes by itself is never too much
				if err := s.room(); err != nil {
					return 0, err
				}
			}
			value, held, err := s.encodeRecord(r)
			if err != nil {
				return 0, err
			}
			if held != nil {
				level = held // the same for all
			}
			op := putKey(recordPrefix+r.Key, value)
			op.GetRequestPut().Lease = r.Lease
			ops = append(ops, op)
		case i < writes:
			ops = append(ops, deleteKey(recordPrefix+r.Key))
		}
	}
	if len(ops) == 0 {
		return 0, errors.New("writing records: there is nothing to write")
	}
	return s.commit(ctx, append(conditions, level...), ops)
}

// ReadRecords reads records by their keys, all at one revision, which it returns too. The
// map has those that exist. What was written before the call is seen.
func (s *Store) ReadRecords(ctx context.Context, c Caller, keys ...string) (map[string]Record, int64, error) {
	if err := c.internal("records"); err != nil {
		return nil, 0, err
	}
	full := make([]string, len(keys))
	for i, k := range keys {
		full[i] = recordPrefix + k
	}
	l, err := s.readKeys(ctx, full...)
	if err != nil {
		return nil, 0, err
	}
	out := make(map[string]Record, len(l.kvs))
	for _, kv := range l.kvs {
		r := s.record(kv)
		out[r.Key] = r
	}
	return out, l.revision, nil
}

// GrantLease returns the id of a new lease of etcd that lasts for a number of seconds,
// unless RenewLease begins them anew. Records that were put with it go when it ends. etcd
// counts no time while it is away, and begins all leases anew when it comes back.
func (s *Store) GrantLease(ctx context.Context, c Caller, seconds int64) (id int64, err error) {
	if err := c.internal("leases"); err != nil {
		return 0, err
	}
	if err := s.writable(); err != nil {
		return 0, err
	}
	err = s.call(ctx, func(ctx context.Context) error {
		granted, err := s.client.Grant(ctx, seconds)
		if err == nil {
			id = int64(granted.ID)
		}
		return err
	})
	return id, err
}

// RenewLease begins the time of a lease anew. It reports whether the lease is still there.
// Nothing is written: the store's revision stays.
func (s *Store) RenewLease(ctx context.Context, c Caller, id int64) (bool, error) {
	if err := c.internal("leases"); err != nil {
		return false, err
	}
	there := true
	err := s.call(ctx, func(ctx context.Context) error {
		_, err := s.client.KeepAliveOnce(ctx, clientv3.LeaseID(id))
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			there, err = false, nil
		}
		return err
	})
	return there && err == nil, err
}

// LeaseGone reports whether ApplyRecords was refused because a Lease is not there any more.
func LeaseGone(err error) bool {
	return err != nil && strings.Contains(err.Error(), rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaseNotFound))
}
