package live

// readers are the watches and the services that read each of some keys or ranges.
type readers[K comparable] struct {
	watches  map[K]map[*Watch]struct{}
	services map[K]map[*provided]struct{}
}

func newReaders[K comparable]() readers[K] {
	return readers[K]{watches: map[K]map[*Watch]struct{}{}, services: map[K]map[*provided]struct{}{}}
}

// tell calls f with each watch to whom a change of a key matters, and marks what was read
// of services as old.
func (r *readers[K]) tell(k K, f func(*Watch)) {
	for w := range r.watches[k] {
		f(w)
	}
	for p := range r.services[k] {
		p.change(f)
	}
}

// has reports whether a watch, or a service of its, read a key.
func (r *readers[K]) has(k K, w *Watch) bool {
	if _, own := r.watches[k][w]; own {
		return true
	}
	for p := range r.services[k] {
		if _, ok := p.watches[w]; ok {
			return true
		}
	}
	return false
}

// replace makes what one reader reads another set of keys.
func replace[K, R comparable](index map[K]map[R]struct{}, r R, before, now map[K]struct{}) {
	for k := range before {
		if _, still := now[k]; !still {
			drop(index, k, r)
		}
	}
	for k := range now {
		add(index, k, r)
	}
}

func add[K, R comparable](index map[K]map[R]struct{}, k K, r R) {
	set := index[k]
	if set == nil {
		set = make(map[R]struct{}, 1)
		index[k] = set
	}
	set[r] = struct{}{}
}

func drop[K, R comparable](index map[K]map[R]struct{}, k K, r R) {
	delete(index[k], r)
	if len(index[k]) == 0 {
		delete(index, k)
	}
}
