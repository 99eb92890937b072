package replica

import (
	"cmp"
	"slices"
)

// Others returns the other replicas there are, in the order of their names.
func (s *Service) Others() []Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Member, 0, len(s.members))
	for id, m := range s.members {
		if id != s.self.ID {
			out = append(out, m)
		}
	}
	return inOrder(out)
}

// inOrder sorts replicas by name. Of those with one address only the youngest stands: the
// others were killed, and their leases are not over yet.
func inOrder(all []Member) []Member {
	slices.SortFunc(all, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Name(), b.Name()), b.Since.Compare(a.Since), cmp.Compare(a.ID, b.ID))
	})
	return slices.CompactFunc(all, func(a, b Member) bool { return a.Address != "" && a.Address == b.Address })
}
