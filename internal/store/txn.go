package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

const (
	// maxOps is how many operations, and how many compares, etcd allows one
	// transaction by default.
	maxOps = 128
	// maxAttempts bounds how often a change is tried while others change the same
	// object.
	maxAttempts = 64
)

// Transactions are put together here and not with clientv3.Txn, whose compares are
// copied by reflection, two or three times each: a tenth of the work on a create.

// created compares the revision at which a key was created, 0 if there is none.
func created(key string, result pb.Compare_CompareResult, revision int64) *pb.Compare {
	return &pb.Compare{
		Key: []byte(key), Target: pb.Compare_CREATE, Result: result,
		TargetUnion: &pb.Compare_CreateRevision{CreateRevision: revision},
	}
}

// modified compares the revision of the last change of a key.
func modified(key string, result pb.Compare_CompareResult, revision int64) *pb.Compare {
	return &pb.Compare{
		Key: []byte(key), Target: pb.Compare_MOD, Result: result,
		TargetUnion: &pb.Compare_ModRevision{ModRevision: revision},
	}
}

// through extends a compare to all keys up to one.
func through(c *pb.Compare, end string) *pb.Compare {
	c.RangeEnd = []byte(end)
	return c
}

// putKey writes a key.
func putKey(key string, value []byte) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
		RequestPut: &pb.PutRequest{Key: []byte(key), Value: value},
	}}
}

// deleteKey deletes a key, if it is there.
func deleteKey(key string) *pb.RequestOp {
	return deleteRange(&pb.DeleteRangeRequest{Key: []byte(key)})
}

// deletePrefix deletes all keys that begin with a prefix.
func deletePrefix(prefix string) *pb.RequestOp {
	return deleteRange(&pb.DeleteRangeRequest{Key: []byte(prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(prefix))})
}

func deleteRange(r *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

// condition is what must hold for a transaction to go through.
type condition struct {
	compare *pb.Compare
	// look reads what the condition is about, if the transaction fails.
	look func() clientv3.Op
	// refuse returns why the condition does not hold, or nil if it does.
	refuse func(found []*mvccpb.KeyValue) error
}

// exists holds if there is a key.
func exists(key string, otherwise func() error) condition {
	return condition{
		compare: created(key, pb.Compare_GREATER, 0),
		look:    func() clientv3.Op { return clientv3.OpGet(key, clientv3.WithKeysOnly()) },
		refuse: func(found []*mvccpb.KeyValue) error {
			if len(found) > 0 {
				return nil
			}
			return otherwise()
		},
	}
}

// absent holds if there is no such key.
func absent(key string, otherwise func(kv *mvccpb.KeyValue) error) condition {
	return condition{
		compare: created(key, pb.Compare_EQUAL, 0),
		look:    func() clientv3.Op { return clientv3.OpGet(key) },
		refuse: func(found []*mvccpb.KeyValue) error {
			if len(found) == 0 {
				return nil
			}
			return otherwise(found[0])
		},
	}
}

// unchanged holds if the last change of a key is the one at a revision.
func unchanged(key string, revision int64, otherwise error) condition {
	return condition{
		compare: modified(key, pb.Compare_EQUAL, revision),
		look:    func() clientv3.Op { return clientv3.OpGet(key, clientv3.WithKeysOnly()) },
		refuse: func(found []*mvccpb.KeyValue) error {
			if len(found) > 0 && found[0].ModRevision == revision {
				return nil
			}
			return otherwise
		},
	}
}

// empty holds if no key begins with a prefix. otherwise gets what follows the
// prefix in some of those that do.
func empty(prefix string, otherwise func(rest []string) error) condition {
	return condition{
		compare: through(created(prefix, pb.Compare_EQUAL, 0), clientv3.GetPrefixRangeEnd(prefix)),
		look: func() clientv3.Op {
			return clientv3.OpGet(prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(10))
		},
		refuse: func(found []*mvccpb.KeyValue) error {
			if len(found) == 0 {
				return nil
			}
			rest := make([]string, len(found))
			for i, kv := range found {
				rest[i] = string(kv.Key[len(prefix):])
			}
			return otherwise(rest)
		},
	}
}

// emptyRange holds if there is no key from one up to another.
func emptyRange(from, end string, otherwise func() error) condition {
	return condition{
		compare: through(created(from, pb.Compare_EQUAL, 0), end),
		look: func() clientv3.Op {
			return clientv3.OpGet(from, clientv3.WithRange(end), clientv3.WithKeysOnly(), clientv3.WithLimit(1))
		},
		refuse: func(found []*mvccpb.KeyValue) error {
			if len(found) == 0 {
				return nil
			}
			return otherwise()
		},
	}
}

// notNewer holds if no key with a prefix was written after a revision.
func notNewer(prefix string, revision int64) condition {
	return condition{
		compare: through(modified(prefix, pb.Compare_LESS, revision+1), clientv3.GetPrefixRangeEnd(prefix)),
		look: func() clientv3.Op {
			return clientv3.OpGet(prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly(),
				clientv3.WithLimit(1), clientv3.WithMinModRev(revision+1))
		},
		refuse: func(found []*mvccpb.KeyValue) error {
			if len(found) == 0 {
				return nil
			}
			return errChanged
		},
	}
}

// commit makes the changes if all conditions hold, and returns the revision. If not it answers
// with the refusal of the first that does not. That one is found by a look behind the
// transaction, so that transactions that go through, which most do, are small.
func (s *Store) commit(ctx context.Context, conditions []condition, changes []*pb.RequestOp) (int64, error) {
	if n := max(len(conditions), len(changes)); n > maxOps {
		return 0, tooMuch(n)
	}
	if err := s.writable(); err != nil {
		return 0, err
	}
	compares := make([]*pb.Compare, len(conditions))
	for i, c := range conditions {
		compares[i] = c.compare
	}
	for range maxAttempts {
		var resp *pb.TxnResponse
		err := s.call(ctx, func(ctx context.Context) (err error) {
			resp, err = s.kv.Txn(ctx, &pb.TxnRequest{Compare: compares, Success: changes})
			return clientv3.ContextError(ctx, err)
		})
		if err != nil {
			return 0, err
		}
		if resp.Succeeded {
			return resp.Header.Revision, nil
		}
		if err := s.hold(ctx, conditions); err != nil {
			return 0, err
		}
		// What did not hold does again: something came or went in between.
	}
	return 0, errors.New("committing to etcd: it refused a transaction all of whose conditions hold")
}

// hold returns the refusal of the first condition that does not hold now, or nil.
func (s *Store) hold(ctx context.Context, conditions []condition) error {
	ops := make([]clientv3.Op, len(conditions))
	for i, c := range conditions {
		ops[i] = c.look()
		if s.etcd != nil {
			clientv3.WithSerializable()(&ops[i]) // see opGet
		}
	}
	resp, err := s.readAll(ctx, ops...)
	if err != nil {
		return err
	}
	for i, c := range conditions {
		if err := c.refuse(resp.Responses[i].GetResponseRange().GetKvs()); err != nil {
			return err
		}
	}
	return nil
}

func tooMuch(n int) error {
	return mesh.Errorf(mesh.ErrBadRequest, "the request touches %d things, at most %d are allowed", n, maxOps)
}

// readAll does several reads at one revision.
func (s *Store) readAll(ctx context.Context, ops ...clientv3.Op) (*clientv3.TxnResponse, error) {
	var resp *clientv3.TxnResponse
	err := s.call(ctx, func(ctx context.Context) (err error) {
		resp, err = s.client.Txn(ctx).Then(ops...).Commit()
		return err
	})
	return resp, err
}

// call does one call to etcd under the store's time limit, and turns its error into
// what the caller is told.
func (s *Store) call(ctx context.Context, f func(context.Context) error) error {
	return s.fault(ctx, s.try(ctx, f))
}

// try is call with etcd's own error.
func (s *Store) try(ctx context.Context, f func(context.Context) error) error {
	s.calls.RLock()
	defer s.calls.RUnlock()
	if s.ctx.Err() != nil {
		return ErrClosed
	}
	if err := s.running(); err != nil {
		return err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	if err := s.admit(ctx); err != nil {
		return err
	}
	defer context.AfterFunc(s.ctx, cancel)()
	if err := ctx.Err(); err != nil {
		return err // a read from memory would not look
	}
	if s.etcd != nil {
		return f(ctx)
	}
	return s.led(ctx, f)
}

// led calls a member of an external etcd that has a leader. One that has lost sight of the
// others, but not of us, would keep a call until its time is over; asked for a leader it
// refuses at once, and has done nothing, so the call is made again: the next member takes it.
func (s *Store) led(ctx context.Context, f func(context.Context) error) error {
	asking := clientv3.WithRequireLeader(ctx)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for n := 1; ; n++ {
		err := f(asking)
		if !errors.Is(err, rpctypes.ErrNoLeader) {
			return err
		}
		// As many members as are known are tried at once; then there is an election.
		if n%len(s.client.Endpoints()) == 0 {
			pause.Reset(leaderless)
			select {
			case <-ctx.Done():
				return err
			case <-pause.C:
			}
		}
	}
}

// leaderless is how long is waited, while no member knows of a leader, until all are asked
// again. An election takes a second or two.
const leaderless = 50 * time.Millisecond

// callTimeout returns how long one call of etcd may take.
func (s *Store) callTimeout() time.Duration { return time.Duration(s.timeout.Load()) }

// within returns a context that ends in the store's time limit, if ctx does not before.
func (s *Store) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= s.callTimeout() {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, s.callTimeout())
}

// running refuses once an embedded etcd has stopped by itself. Writes would find out,
// reads from its memory would not.
func (s *Store) running() error {
	if s.etcd == nil {
		return nil
	}
	select {
	case <-s.etcd.Server.StoppingNotify():
		return fmt.Errorf("the embedded etcd has stopped: %w", ErrClosed)
	default:
		return nil
	}
}

// retry repeats f while it says that the world changed under it.
func (s *Store) retry(ctx context.Context, f func() (*mesh.Object, error)) (*mesh.Object, error) {
	for attempt := range maxAttempts {
		o, err := f()
		if !errors.Is(err, errChanged) {
			return o, err
		}
		if attempt == 0 {
			continue // most often once is enough
		}
		most := time.Millisecond << min(attempt, 6)
		if err := sleep(ctx, rand.N(most)); err != nil {
			return nil, fmt.Errorf("changing an object: %w", err)
		}
	}
	return nil, mesh.Errorf(mesh.ErrServiceUnavailable, "the object is being changed by too many callers at once, try again")
}

// sleep waits, and ends early with ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
