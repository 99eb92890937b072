package replica

import (
	"cmp"
	"slices"
)

// listed is a replica's record, and the store's revision of it.
type listed struct {
	Member
	revision int64
}

// Others returns the other replicas there are, in the order of their names.
func (s *Service) Others() []Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]listed, 0, len(s.members))
	for id, m := range s.members {
		// One at this one's own address is this one before it was killed.
		if id != s.self.ID && (m.Address == "" || m.Address != s.self.Address) {
			all = append(all, m)
		}
	}
	return inOrder(all)
}

// inOrder sorts replicas by name. Of those with one address only the last listed stands: the
// others were killed, and their leases are not over yet. That goes by the store's revisions,
// as clocks may be wrong.
func inOrder(all []listed) []Member {
	slices.SortFunc(all, func(a, b listed) int {
		return cmp.Or(cmp.Compare(a.Name(), b.Name()), cmp.Compare(b.revision, a.revision))
	})
	out := make([]Member, 0, len(all))
	for i, m := range all {
		if i == 0 || m.Address == "" || m.Address != all[i-1].Address {
			out = append(out, m.Member)
		}
	}
	return out
}
