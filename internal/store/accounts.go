package store

import (
	"context"
	"errors"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// sharesAtOnce is how many shares are removed in one transaction with an account. Each
// has two keys.
const sharesAtOnce = 40

// maxPrefixes is how many ranges of records can go with an account.
const maxPrefixes = 16

// goneKey returns the key that says that an account was deleted.
func goneKey(account string) string { return gonePrefix + account }

// notGone holds unless an account was deleted.
func notGone(account string, otherwise error) condition {
	return absent(goneKey(account), func(*mvccpb.KeyValue) error { return otherwise })
}

// DeleteAccount removes an account: its quotas, the meshes that are shared with it, and
// the records whose keys begin with one of recordPrefixes. It leaves a mark, so that the
// account can never have a mesh again: its id must not be used for another one. What it
// made in the meshes of others stays, for their owners to delete. Deleting it again is
// no error. Only System callers may. Errors are *mesh.Error: ErrResourceInUse while the
// account has a mesh or a Cloud Map namespace in any region, ErrBadRequest, ErrForbidden and
// ErrServiceUnavailable.
func (s *Store) DeleteAccount(ctx context.Context, c Caller, account string, recordPrefixes []string) error {
	if err := c.internal("accounts"); err != nil {
		return err
	}
	if err := checkAccount(account); err != nil {
		return err
	}
	if len(recordPrefixes) > maxPrefixes || slices.Contains(recordPrefixes, "") {
		return errors.New("deleting an account: there are too many prefixes of records, or one is empty")
	}
	var revision int64
	_, err := s.retry(ctx, func() (_ *mesh.Object, err error) {
		revision, err = s.deleteAccount(ctx, account, recordPrefixes)
		return nil, err
	})
	if err != nil || !s.knows(account) {
		return err
	}
	return s.settle(ctx, revision)
}

// knows reports whether this replica's settings have anything about an account.
func (s *Store) knows(account string) bool {
	s.settings.mu.RLock()
	defer s.settings.mu.RUnlock()
	if _, ok := s.settings.quotas[account]; ok {
		return true
	}
	for _, accounts := range s.settings.shares {
		if _, ok := accounts[account]; ok {
			return true
		}
	}
	return false
}

// deleteAccount removes all at once, but for shares that do not fit: they let in an
// account that has nobody left, and go right behind it.
func (s *Store) deleteAccount(ctx context.Context, account string, recordPrefixes []string) (int64, error) {
	none := empty(objectPrefix+account+"/", func(rest []string) error { return ownsMesh(account, rest) })
	unregistered := empty(recordPrefix+RegistryOwned+account+"/", func([]string) error {
		return mesh.Errorf(mesh.ErrResourceInUse, "account %s cannot be deleted because it owns Cloud Map namespaces", account)
	})
	if err := s.hold(ctx, []condition{none, unregistered}); err != nil {
		return 0, err
	}
	shares := sharedPrefix + account + "/"
	revision, all, err := s.listAll(ctx, shares)
	if err != nil {
		return 0, s.fault(ctx, err)
	}
	value, err := marshal(goneDocument{Format: goneFormat, At: s.timestamp()})
	if err != nil {
		return 0, err
	}
	ops := []*pb.RequestOp{
		putKey(goneKey(account), value),
		deleteKey(quotaKey(account)),
	}
	registry := []string{RegistryImported + account + "/", RegistryOperations + account + "/"}
	for _, p := range slices.Concat(recordPrefixes, registry) {
		ops = append(ops, deletePrefix(recordPrefix+p))
	}
	first := all[:min(len(all), sharesAtOnce)]
	revision, err = s.commit(ctx, []condition{none, unregistered, notNewer(shares, revision)}, append(ops, removeShares(first)...))
	if err != nil {
		return 0, err
	}
	for part := range slices.Chunk(all[len(first):], sharesAtOnce) {
		if revision, err = s.commit(ctx, nil, removeShares(part)); err != nil {
			return 0, err
		}
	}
	return revision, nil
}

// goneDocument is what is left of an account.
type goneDocument struct {
	Format int       `json:"format"`
	At     time.Time `json:"at"`
}

const goneFormat = 1

// removeShares removes shares that were found by the account that they let in.
func removeShares(found []*mvccpb.KeyValue) []*pb.RequestOp {
	var ops []*pb.RequestOp
	for _, kv := range found {
		key := string(kv.Key)
		if m, account, ok := parseSharedKey(key); ok {
			ops = append(ops, deleteKey(shareKey(m, account)))
		}
		ops = append(ops, deleteKey(key))
	}
	return ops
}

// ownsMesh refuses to delete an account that owns objects, of which some keys are
// given.
func ownsMesh(account string, rest []string) error {
	for _, r := range rest {
		if id, ok := parseObjectKey(objectPrefix + account + "/" + r); ok {
			return mesh.Errorf(mesh.ErrResourceInUse, "account %s cannot be deleted because it owns mesh %s in region %s",
				account, id.Mesh.Name, id.Mesh.Region)
		}
	}
	return mesh.Errorf(mesh.ErrResourceInUse, "account %s cannot be deleted because it owns meshes", account)
}

// AccountDeleted reports whether DeleteAccount was called for an account. Whoever makes
// an account with an id of the caller's choice must ask after it wrote the account, so
// that a deletion at the same time is seen. Only System callers may ask.
func (s *Store) AccountDeleted(ctx context.Context, c Caller, account string) (bool, error) {
	if err := c.internal("accounts"); err != nil {
		return false, err
	}
	l, err := s.readKeys(ctx, goneKey(account))
	if err != nil {
		return false, err
	}
	return l.kvs[goneKey(account)] != nil, nil
}
