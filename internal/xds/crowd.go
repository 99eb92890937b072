package xds

import "github.com/fairlead-mesh/fairlead/internal/mesh"

// Crowd counts the streams of a virtual node or gateway on this server that one account
// owns.
type Crowd struct {
	ID    mesh.ID
	Owner string
	// Bundles are streams of agents, for trust bundles; else those of Envoys.
	Bundles bool
	// Streams is how many are open here.
	Streams int
}

// Crowd counts again: the streams of what c is about.
func (s *Server) Crowd(c Crowd) Crowd {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Streams = s.streams(c.Bundles)[counted{c.ID, c.Owner}]
	return c
}

// streams returns what counts streams. The caller holds mu.
func (s *Server) streams(bundles bool) tally {
	if bundles {
		return s.bundleCounts
	}
	return s.counts
}

// Crowded returns what has an even share, of so many replicas, of the streams that its
// quota allows, or more.
func (s *Server) Crowded(replicas int) []Crowd {
	var all []Crowd
	s.mu.Lock()
	for _, bundles := range []bool{false, true} {
		for c, n := range s.streams(bundles) {
			all = append(all, Crowd{ID: c.id, Owner: c.owner, Bundles: bundles, Streams: n})
		}
	}
	s.mu.Unlock()
	var crowded []Crowd
	for _, c := range all {
		if _, limit := s.limit(c.ID); limit >= 0 && c.Streams*replicas >= limit {
			crowded = append(crowded, c)
		}
	}
	return crowded
}

// elsewhere returns how many streams like a session's other replicas have.
func (s *Server) elsewhere(one *session, limit int) int {
	if s.cfg.Elsewhere == nil || limit < 0 || !one.shared {
		return 0
	}
	return s.cfg.Elsewhere(s.Crowd(Crowd{ID: one.key.id, Owner: one.key.owner, Bundles: one.bundle}), limit)
}
