package store

import (
	"context"
	"maps"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// DefaultQuota is the value that SetQuotas takes a quota back to the default with.
const DefaultQuota = -1

// quotaKey returns the key of an account's quotas.
func quotaKey(account string) string { return quotaPrefix + account }

func quotaAccount(key string) (account string, ok bool) { return strings.CutPrefix(key, quotaPrefix) }

// SetQuotas gives quotas of an account other values, or with DefaultQuota those that
// accounts have by default. When it returns, Quotas of this replica has them and every
// replica's transactions obey them. A value below what is there only refuses more.
// Only System callers may. Errors are *mesh.Error: ErrBadRequest, ErrNotFound if the
// account was deleted, ErrForbidden and ErrServiceUnavailable.
func (s *Store) SetQuotas(ctx context.Context, c Caller, account string, change map[mesh.Quota]int) error {
	if err := c.internal("quotas"); err != nil {
		return err
	}
	if err := checkQuotas(account, change); err != nil {
		return err
	}
	var revision int64
	_, err := s.retry(ctx, func() (_ *mesh.Object, err error) {
		revision, err = s.setQuotas(ctx, account, change)
		return nil, err
	})
	if err != nil {
		return err
	}
	return s.settle(ctx, revision)
}

func checkQuotas(account string, change map[mesh.Quota]int) error {
	if err := checkAccount(account); err != nil {
		return err
	}
	for _, q := range slices.Sorted(maps.Keys(change)) {
		if int(q) >= len(mesh.AllQuotas()) {
			return mesh.Errorf(mesh.ErrBadRequest, "quota %d is not allowed: 0 to %d", q, len(mesh.AllQuotas())-1)
		}
		if n := change[q]; n != DefaultQuota && (n < 0 || n > q.Most()) {
			return mesh.Errorf(mesh.ErrBadRequest, "value %d of quota %s is not allowed: 0 to %d", n, q, q.Most())
		}
	}
	return nil
}

func (s *Store) setQuotas(ctx context.Context, account string, change map[mesh.Quota]int) (int64, error) {
	key := quotaKey(account)
	near, err := s.readKeys(ctx, key)
	if err != nil {
		return 0, err
	}
	doc, revision := quotaDocument{}, int64(0)
	if kv := near.kvs[key]; kv != nil {
		revision = kv.ModRevision
		if doc, err = parseQuotas(kv.Value); err != nil {
			return 0, err
		}
	}
	values := maps.Clone(doc.Values)
	if values == nil {
		values = map[string]int{}
	}
	for q, n := range change {
		if n == DefaultQuota {
			delete(values, q.String())
		} else {
			values[q.String()] = n
		}
	}
	op := deleteKey(key)
	if len(values) > 0 {
		value, err := marshal(quotaDocument{Format: quotaFormat, Values: values})
		if err != nil {
			return 0, err
		}
		op = putKey(key, value)
	} else if revision == 0 {
		return 0, nil // nothing is set, and nothing was
	}
	return s.commit(ctx, []condition{
		notGone(account, mesh.Errorf(mesh.ErrNotFound, "account %s was deleted", account)),
		unchanged(key, revision, errChanged),
	}, []*pb.RequestOp{op})
}

// limits are the quotas that a write must keep to: those of the account that owns the
// mesh. A refused transaction brings them up to date.
type limits struct {
	s       *Store
	account string
	now     allowance
}

func (s *Store) limits(account string) *limits {
	return &limits{s: s, account: account, now: s.allowance(account)}
}

// hold holds if the quotas are still those that the write was made for.
func (l *limits) hold() condition {
	key, revision := quotaKey(l.account), l.now.revision
	return condition{
		compare: modified(key, pb.Compare_EQUAL, revision),
		look:    func() clientv3.Op { return clientv3.OpGet(key) },
		refuse: func(found []*mvccpb.KeyValue) error {
			if l.learn(found) == revision {
				return nil
			}
			return errChanged
		},
	}
}

// learn takes over the quotas as they were found, and returns the revision they are of.
func (l *limits) learn(found []*mvccpb.KeyValue) int64 {
	var kv *mvccpb.KeyValue
	if len(found) > 0 {
		kv = found[0]
	}
	l.now = l.s.parseAllowance(kv)
	return l.now.revision
}

func (l *limits) of(q mesh.Quota) int { return l.s.values(l.now)[q] }

// count refuses that a list of a spec grows beyond its quota. before is nil for a new
// object. held says that the write must hold the quotas for it.
func (l *limits) count(ctx context.Context, before, after any) (held bool, err error) {
	q, n := counted(after)
	if _, had := counted(before); n <= had {
		return false, nil
	}
	if n > l.of(q) {
		// What this replica knows may be old.
		near, err := l.s.readKeys(ctx, quotaKey(l.account))
		if err != nil {
			return false, err
		}
		l.now = l.s.parseAllowance(near.kvs[quotaKey(l.account)])
	}
	if most := l.of(q); n > most {
		return false, mesh.Errorf(mesh.ErrLimitExceeded, "%s (%s): the limit is %d, %d were given", q.Title(), q, most, n)
	}
	return true, nil
}

// counted returns how many members the list of a spec has that a quota bounds.
func counted(spec any) (mesh.Quota, int) {
	switch s := spec.(type) {
	case *mesh.VirtualNodeSpec:
		return mesh.QuotaBackends, len(s.Backends)
	case *mesh.RouteSpec:
		return mesh.QuotaWeightedTargets, len(s.Targets())
	}
	return 0, 0
}
