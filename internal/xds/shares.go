package xds

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// withdrawWait bounds how long a proxy may take to give up its configuration once its
// mesh is not shared with its account any more.
const withdrawWait = 10 * time.Second

// shared reports whether proxies of an account may be in a mesh.
func (s *Server) shared(id mesh.MeshID, account string) bool {
	return account == id.Account || s.cfg.Shared != nil && s.cfg.Shared(id, account)
}

// notShared refuses a proxy of a mesh that is not shared with its account. It says the
// same whether there is such a mesh or not.
func notShared(key feedKey) error {
	return refuse(codes.PermissionDenied, mesh.ErrForbidden, "mesh %s of account %s is not shared with account %s",
		key.id.Mesh.Name, key.id.Mesh.Account, key.owner)
}

// followShares has the feeds of meshes made anew that have come to be shared with
// another account, or not to be.
func (s *Server) followShares(ctx context.Context) {
	if s.cfg.SettingsChanged == nil {
		return
	}
	for ctx.Err() == nil {
		changed := s.cfg.SettingsChanged()
		for _, f := range s.consumers() {
			if s.shared(f.key.id.Mesh, f.key.owner) == f.isWithdrawn() {
				s.queue.add(f)
			}
		}
		s.endStreams(func(one *session) error {
			if !one.bundle && !one.quota || s.shared(one.key.id.Mesh, one.key.owner) {
				return nil
			}
			return notShared(one.key)
		})
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

// consumers returns the feeds of proxies in other accounts' meshes.
func (s *Server) consumers() []*feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*feed
	for key, f := range s.feeds {
		if key.owner != key.id.Mesh.Account {
			all = append(all, f)
		}
	}
	return all
}
