package live

import "github.com/fairlead-mesh/fairlead/internal/mesh"

// provided is what a virtual service of a mesh leads to, read once for all watches whose
// views it is part of. It is there for as long as one is.
type provided struct {
	state *meshState
	name  string

	// Guarded by meshState.mu. current is nil while something of it has changed and nobody
	// has read it again; epoch counts the changes, so that what was read during one is not
	// taken for current.
	current *mesh.Provider
	epoch   uint64
	reads   mesh.Reads // of what was current last; never changed
	watches map[*Watch]struct{}

	discovers map[mesh.InstancesKey]struct{} // guarded by instances.mu
}

// provider returns what a virtual service leads to, for a watch that is told of its changes
// from now on.
func (w *Watch) provider(name string) *mesh.Provider {
	s := w.state
	s.mu.Lock()
	if w.closed {
		defer s.mu.Unlock()
		return mesh.NewReader(s.snap).Provider(name) // of no use to anybody
	}
	p := s.provided(w, name)
	if p.current != nil {
		defer s.mu.Unlock()
		return p.current
	}
	snap, seq, epoch := s.snap, s.seq, p.epoch
	s.mu.Unlock()

	r := mesh.NewReader(snap)
	r.Instances = func(k mesh.InstancesKey) ([]mesh.Instance, bool) {
		w.live.instances.add(k, p) // what changes from now on is heard of
		return w.live.instances.find(k)
	}
	read := r.Provider(name)

	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case w.closed:
		w.live.instances.settle(p, p.reads.Instances)
	case s.missed(seq, r.Reads):
		w.missed = true
	case p.epoch != epoch: // the watch has been told
	case p.current != nil: // another watch was faster
		return p.current
	default:
		s.keep(p, r.Reads)
		p.current = read
	}
	return read
}

// provided returns the entry of a service, with a watch among its watches. The lock is held.
func (s *meshState) provided(w *Watch, name string) *provided {
	if at := len(w.next); at < len(w.services) && w.services[at].name == name {
		w.next = append(w.next, w.services[at]) // as the last time
		return w.services[at]
	}
	p := s.services[name]
	if p == nil {
		p = &provided{state: s, name: name, watches: map[*Watch]struct{}{}, discovers: map[mesh.InstancesKey]struct{}{}}
		s.services[name] = p
	}
	p.watches[w] = struct{}{}
	w.next = append(w.next, p)
	return p
}

// keep replaces what an entry is told of the changes of. The lock is held.
func (s *meshState) keep(p *provided, reads mesh.Reads) {
	replace(s.keys.services, p, p.reads.Keys, reads.Keys)
	replace(s.ranges.services, p, p.reads.Ranges, reads.Ranges)
	s.instances.settle(p, reads.Instances)
	p.reads = reads
}

// change marks what was read of a service as old, and calls f with each of its watches. The
// lock is held.
func (p *provided) change(f func(*Watch)) {
	p.current = nil
	p.epoch++
	for w := range p.watches {
		f(w)
	}
}

// adopt makes the services that a watch has asked for during a build those of its view, and
// lets go of the others. The lock is held.
func (s *meshState) adopt(w *Watch) {
	before := w.services
	w.services, w.next = w.next, nil
	same := len(before) == len(w.services)
	for i := 0; same && i < len(before); i++ {
		same = before[i] == w.services[i]
	}
	if same {
		return
	}
	still := make(map[*provided]struct{}, len(w.services))
	for _, p := range w.services {
		still[p] = struct{}{}
	}
	for _, p := range before {
		if _, ok := still[p]; !ok {
			s.leave(p, w)
		}
	}
}

// leave takes a watch from a service's, and forgets a service without any. The lock is held.
func (s *meshState) leave(p *provided, w *Watch) {
	delete(p.watches, w)
	if len(p.watches) == 0 && s.services[p.name] == p {
		s.keep(p, mesh.Reads{})
		delete(s.services, p.name)
	}
}
