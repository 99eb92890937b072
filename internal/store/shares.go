package store

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Share says that the owner of a mesh lets another account in.
type Share struct {
	Mesh      mesh.MeshID
	Account   string
	CreatedAt time.Time
}

// maxShares is how many accounts a mesh can be shared with. All shares of a mesh go
// with it, in one transaction.
const maxShares = 100

// Share lets another account into a mesh. If it is in already nothing changes. When it
// returns, Shared of this replica knows. Only the mesh's owner may, with
// appmesh:PutMeshPolicy on the mesh. Errors are *mesh.Error: ErrBadRequest, ErrNotFound
// if there is no such mesh or the account was deleted, ErrLimitExceeded, ErrForbidden
// and ErrServiceUnavailable.
func (s *Store) Share(ctx context.Context, c Caller, m mesh.MeshID, account string) (Share, error) {
	if err := checkShare(m, account); err != nil {
		return Share{}, err
	}
	var share Share
	var revision int64
	_, err := s.retry(ctx, func() (_ *mesh.Object, err error) {
		share, revision, err = s.share(ctx, c, m, account)
		return nil, err
	})
	if err != nil {
		return Share{}, err
	}
	return share, s.settle(ctx, revision)
}

func (s *Store) share(ctx context.Context, c Caller, m mesh.MeshID, account string) (Share, int64, error) {
	f, err := s.enterShares(ctx, c, m, "PutMeshPolicy")
	if err != nil {
		return Share{}, 0, err
	}
	all, revision, err := s.readShares(ctx, m)
	if err != nil {
		return Share{}, 0, err
	}
	for _, have := range all {
		if have.Account == account {
			return have.Share, have.revision, nil
		}
	}
	if len(all) >= maxShares {
		return Share{}, 0, mesh.Errorf(mesh.ErrLimitExceeded, "mesh %s is shared with %d accounts, at most %d are allowed", m.Name, len(all), maxShares)
	}
	if err := s.room(); err != nil {
		return Share{}, 0, err
	}
	share := Share{Mesh: m, Account: account, CreatedAt: s.timestamp()}
	value, err := marshal(shareDocument{Format: shareFormat, CreatedAt: share.CreatedAt})
	if err != nil {
		return Share{}, 0, err
	}
	revision, err = s.commit(ctx, []condition{
		unchanged(objectKey(m.MeshObject()), f.revision, errChanged),
		notNewer(shareRange(m), revision),
		notGone(account, mesh.Errorf(mesh.ErrNotFound, "account %s was deleted", account)),
	}, []*pb.RequestOp{
		putKey(shareKey(m, account), value),
		putKey(sharedKey(m, account), nil),
	})
	return share, revision, err
}

// Unshare shuts an account out of a mesh again. What it made there stays, for the
// mesh's owner to see and to delete. When it returns, no call of the account can change
// anything in the mesh, and Shared of this replica knows. Only the mesh's owner may, with
// appmesh:DeleteMeshPolicy on the mesh. Errors are as for Share; ErrNotFound also if the
// mesh is not shared with the account.
func (s *Store) Unshare(ctx context.Context, c Caller, m mesh.MeshID, account string) (Share, error) {
	if err := checkShare(m, account); err != nil {
		return Share{}, err
	}
	var share Share
	var revision int64
	_, err := s.retry(ctx, func() (_ *mesh.Object, err error) {
		share, revision, err = s.unshare(ctx, c, m, account)
		return nil, err
	})
	if err != nil {
		return Share{}, err
	}
	return share, s.settle(ctx, revision)
}

func (s *Store) unshare(ctx context.Context, c Caller, m mesh.MeshID, account string) (Share, int64, error) {
	f, err := s.enterShares(ctx, c, m, "DeleteMeshPolicy")
	if err != nil {
		return Share{}, 0, err
	}
	key := shareKey(m, account)
	l, err := s.readKeys(ctx, key)
	if err != nil {
		return Share{}, 0, err
	}
	kv := l.kvs[key]
	if kv == nil {
		return Share{}, 0, mesh.Errorf(mesh.ErrNotFound, "mesh %s is not shared with account %s", m.Name, account)
	}
	share, _ := parseShare(kv)
	revision, err := s.commit(ctx, []condition{
		unchanged(objectKey(m.MeshObject()), f.revision, errChanged),
		unchanged(key, kv.ModRevision, errChanged),
	}, []*pb.RequestOp{deleteKey(key), deleteKey(sharedKey(m, account))})
	return share, revision, err
}

// Shares returns the accounts that a mesh is shared with, in their order. Only the
// mesh's owner may ask, with appmesh:GetMeshPolicy on the mesh. Errors are as for Get.
func (s *Store) Shares(ctx context.Context, c Caller, m mesh.MeshID) ([]Share, error) {
	if err := checkMeshID(m); err != nil {
		return nil, err
	}
	if _, err := s.enterShares(ctx, c, m, "GetMeshPolicy"); err != nil {
		return nil, err
	}
	all, _, err := s.readShares(ctx, m)
	var out []Share
	for _, share := range all {
		out = append(out, share.Share)
	}
	return out, err
}

// enterShares returns the mesh whose shares the caller may read or change.
func (s *Store) enterShares(ctx context.Context, c Caller, m mesh.MeshID, action string) (*found, error) {
	if err := c.mayOwn(m); err != nil {
		return nil, err
	}
	return s.read(ctx, c, m.MeshObject(), Question{Action: "appmesh:" + action})
}

// storedShare is a share with the revision of its key.
type storedShare struct {
	Share
	revision int64
}

// readShares returns a mesh's shares, and the revision that they were read at.
func (s *Store) readShares(ctx context.Context, m mesh.MeshID) ([]storedShare, int64, error) {
	revision, all, err := s.listAll(ctx, shareRange(m))
	if err != nil {
		return nil, 0, s.fault(ctx, err)
	}
	var out []storedShare
	for _, kv := range all {
		if share, ok := parseShare(kv); ok {
			out = append(out, storedShare{share, kv.ModRevision})
		}
	}
	return out, revision, nil
}

// endShares returns what removes all shares of a mesh, and the condition that there
// are no others.
func (s *Store) endShares(ctx context.Context, m mesh.MeshID) (condition, []*pb.RequestOp, error) {
	all, revision, err := s.readShares(ctx, m)
	if err != nil {
		return condition{}, nil, err
	}
	ops := []*pb.RequestOp{deletePrefix(shareRange(m))}
	for _, share := range all {
		ops = append(ops, deleteKey(sharedKey(m, share.Account)))
	}
	return notNewer(shareRange(m), revision), ops, nil
}

func checkShare(m mesh.MeshID, account string) error {
	if err := checkMeshID(m); err != nil {
		return err
	}
	if err := checkAccount(account); err != nil {
		return err
	}
	if account == m.Account {
		return mesh.Errorf(mesh.ErrBadRequest, "accountId %s is not allowed: it owns the mesh", account)
	}
	return nil
}

func checkAccount(account string) error {
	if !mesh.ValidAccount(account) {
		return mesh.Errorf(mesh.ErrBadRequest, "accountId %q is not allowed: twelve digits", account)
	}
	return nil
}
