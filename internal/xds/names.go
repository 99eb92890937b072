package xds

import (
	"hash/maphash"
	"maps"
	"sync"
)

// nameSet is a set of names that a proxy asks for. Streams of a feed that ask for the same
// names share one: of 1,000 names it takes 100 KB. nil is the set without names.
//
// Only streams that hold a set look into it, each under its own lock, and a set that
// several hold is never changed.
type nameSet struct {
	names map[string]struct{}
	key   setKey
	refs  int // guarded by nameSets.mu
}

// setKey tells sets apart: the sum of their names' hashes, which nobody outside of the
// process can foresee, and how many there are.
type setKey struct {
	sum uint64
	n   int
}

func (s *nameSet) has(name string) bool {
	if s == nil {
		return false
	}
	_, ok := s.names[name]
	return ok
}

// identity returns what tells a set from others for as long as it is not changed.
func (s *nameSet) identity() setKey {
	if s == nil {
		return setKey{}
	}
	return s.key
}

// nameSets are the sets of the streams of one feed. The zero value is none.
type nameSets struct {
	mu   sync.Mutex
	seed maphash.Seed
	sets map[setKey]*nameSet
}

// change returns the set that a stream has instead of s: without what is removed, and with
// what is added.
func (p *nameSets) change(s *nameSet, add, remove []string) *nameSet {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begin()
	key := s.identity()
	moved := map[string]bool{} // what is new, or else what is to go
	for _, name := range remove {
		if _, twice := moved[name]; !twice && s.has(name) {
			moved[name] = false
			key = setKey{key.sum - p.hash(name), key.n - 1}
		}
	}
	for _, name := range add {
		isNew, known := moved[name]
		switch {
		case known && !isNew: // it was to go, and stays
			delete(moved, name)
		case known || s.has(name):
			continue
		default:
			moved[name] = true
		}
		key = setKey{key.sum + p.hash(name), key.n + 1}
	}
	if len(moved) == 0 {
		return s
	}
	if have := p.take(s, key); have != nil || key.n == 0 {
		return have
	}
	next := s
	if s != nil && s.refs == 1 {
		delete(p.sets, s.key)
	} else {
		next = &nameSet{names: make(map[string]struct{}, key.n), refs: 1}
		if s != nil {
			maps.Copy(next.names, s.names)
			s.refs--
		}
	}
	for name, added := range moved {
		if added {
			next.names[name] = struct{}{}
		} else {
			delete(next.names, name)
		}
	}
	next.key = key
	p.sets[key] = next
	return next
}

// replace returns the set of a list of names, which a stream has instead of s.
func (p *nameSets) replace(s *nameSet, list []string) *nameSet {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begin()
	key := p.keyOf(list)
	if s.identity() == key {
		return s // as in every acknowledgement
	}
	if have := p.take(s, key); have != nil || key.n == 0 {
		return have
	}
	next := &nameSet{names: make(map[string]struct{}, len(list)), refs: 1}
	next.key = setKey{}
	for _, name := range list {
		if !next.has(name) {
			next.names[name] = struct{}{}
			next.key = setKey{next.key.sum + p.hash(name), next.key.n + 1}
		}
	}
	if next.key != key { // names were listed twice
		if s.identity() == next.key {
			return s
		}
		if have := p.take(s, next.key); have != nil {
			return have
		}
	}
	p.drop(s)
	p.sets[next.key] = next
	return next
}

// keyOf returns the key of a list in which no name is twice.
func (p *nameSets) keyOf(list []string) setKey {
	key := setKey{n: len(list)}
	for _, name := range list {
		key.sum += p.hash(name)
	}
	return key
}

// release takes a set from a stream.
func (p *nameSets) release(s *nameSet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(s)
}

// begin makes what the zero value has not. The lock is held, as for what follows.
func (p *nameSets) begin() {
	if p.sets == nil {
		p.sets, p.seed = map[setKey]*nameSet{}, maphash.MakeSeed()
	}
}

// take gives a stream the set of a key in place of s, if there is one or none is needed.
func (p *nameSets) take(s *nameSet, key setKey) *nameSet {
	have := p.sets[key]
	if have == nil && key.n > 0 {
		return nil
	}
	p.drop(s)
	if have != nil {
		have.refs++
	}
	return have
}

func (p *nameSets) drop(s *nameSet) {
	if s == nil {
		return
	}
	if s.refs--; s.refs == 0 {
		delete(p.sets, s.key)
	}
}

func (p *nameSets) hash(name string) uint64 { return maphash.String(p.seed, name) }
