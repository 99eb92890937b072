package xds

import (
	"google.golang.org/grpc/codes"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// counted is a virtual node or gateway, and who owns it: streams that claim a node of
// another owner, and end when that shows, are not counted as its.
type counted struct {
	id    mesh.ID
	owner string
}

// tally counts streams.
type tally map[counted]int

// less takes one away.
func (t tally) less(c counted) {
	if t[c]--; t[c] == 0 {
		delete(t, c)
	}
}

func (one *session) counted() counted { return counted{one.key.id, one.key.owner} }

// listed returns the mesh under which a session is found: none while it is only to lose
// what it has, for then the mesh is no matter of its account's.
func (one *session) listed() mesh.MeshID {
	if !one.shared {
		return mesh.MeshID{}
	}
	return one.key.id.Mesh
}

// limit returns the quota of proxies that holds for a virtual node or gateway, and its
// value; a negative one is none.
func (s *Server) limit(id mesh.ID) (mesh.Quota, int) {
	q := mesh.QuotaNodeProxies
	if id.Kind == mesh.KindVirtualGateway {
		q = mesh.QuotaGatewayProxies
	}
	if s.cfg.Quotas == nil {
		return q, -1
	}
	return q, s.cfg.Quotas(id.Mesh.Account)[q]
}

// enter takes part in the feed that a session asks for, lists it and counts it, until
// leave is called; or it refuses it.
func (s *Server) enter(one *session) error {
	s.join(one)
	if err := s.count(one); err != nil {
		s.part(one)
		return err
	}
	return nil
}

// leave takes back what enter did.
func (s *Server) leave(one *session) {
	s.uncount(one)
	s.part(one)
	one.stream.leave()
}

// count adds a session to those of its node or gateway if the quota has room. Streams
// that are open stay when the quota is lowered: no running mesh loses its proxies by it.
func (s *Server) count(one *session) error {
	quota, limit := s.limit(one.key.id)
	elsewhere := s.elsewhere(one, limit)
	s.mu.Lock()
	defer s.mu.Unlock()
	if one.shared {
		if limit >= 0 && s.counts[one.counted()]+elsewhere >= limit {
			return refuse(codes.ResourceExhausted, mesh.ErrLimitExceeded,
				"%s of mesh %s has as many proxies connected as account %s allows: quota %s (%s) is %d",
				one.key.id.Key, one.key.id.Mesh.Name, one.key.id.Mesh.Account, quota, quota.Title(), limit)
		}
		s.counts[one.counted()]++
	}
	s.index(one.listed()).sessions[one] = struct{}{}
	s.met.streams.Inc()
	return nil
}

func (s *Server) uncount(one *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.index(one.listed()).sessions, one)
	s.tidy(one.listed())
	s.met.streams.Dec()
	if one.shared {
		s.counts.less(one.counted())
	}
}
