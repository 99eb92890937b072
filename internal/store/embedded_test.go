package store

import (
	"bytes"
	"runtime"
	"testing"
	"time"
)

// TestLogInMemory checks that what was written is not held in memory for members that there
// are none of, whatever its size.
func TestLogInMemory(t *testing.T) { // not in parallel: it looks at the memory of the process
	s := openSmall(t, 2048, Config{History: time.Second})
	const size, writes = 16 << 10, 2500
	value := bytes.Repeat([]byte("x"), size)
	put := func(n int) {
		for range n {
			if err := s.PutRecords(t.Context(), System("test"), []Record{{Key: "log", Value: value, Revision: AnyRevision}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(10)
	before := inUse()
	put(writes)
	// Up to 1,100 entries are there, and some more on their way if the machine is slow: all told
	// no more than three quarters of what was written.
	if grown := int64(inUse()) - int64(before); grown > writes*size*3/4 {
		t.Errorf("%d MiB more are in use after %d MiB were written", grown>>20, writes*size>>20)
	}
}

// inUse is how many bytes of the heap are in use.
func inUse() uint64 {
	runtime.GC()
	runtime.GC() // what has a finalizer goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
