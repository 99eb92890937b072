package main

import (
	"runtime"
	"runtime/metrics"
	"sync/atomic"
)

// heapFloor counts as memory in use, in bytes, though it is never touched and takes none.
// The garbage collector works whenever the heap has grown by collectAt percent; a server
// that keeps little and allocates for each request would have it work all the time. One that
// keeps much, for thousands of proxies, takes half as much again, not twice what it needs.
const heapFloor, collectAt = 256 << 20, 50

// floor is the memory that is never touched. It is let go once the heap keeps as much as
// twice the floor beside it: from then on it would only have the heap grow further before it
// is collected.
type floor struct{ memory atomic.Pointer[[]byte] }

// layFloor returns a floor that looks at the heap after each collection.
func layFloor() *floor {
	f := &floor{}
	memory := make([]byte, heapFloor)
	f.memory.Store(&memory)
	f.watch()
	return f
}

// watch has the next collection call look.
func (f *floor) watch() {
	type mark struct{ _ [16]byte } // of its own: not among other small things in one block
	runtime.AddCleanup(&mark{}, func(f *floor) { f.look() }, f)
}

// look lets the floor go when what the last collection left is three times as much.
func (f *floor) look() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if live[0].Value.Kind() == metrics.KindUint64 && live[0].Value.Uint64() >= 3*heapFloor {
		f.memory.Store(nil)
		return
	}
	f.watch()
}
