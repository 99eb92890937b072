package main

import (
	"errors"
	"runtime"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// TestTheFloorIsLetGo has a heap grow past the floor: until then it stays, whatever is
// collected.
func TestTheFloorIsLetGo(t *testing.T) {
	f := layFloor()
	for range 3 {
		runtime.GC()
	}
	if f.memory.Load() == nil {
		t.Fatal("the floor is gone from a heap that keeps nothing")
	}
	kept := make([]byte, 2*heapFloor)
	meshtest.Eventually(t, "the floor is gone", func() error {
		runtime.GC()
		if f.memory.Load() != nil {
			return errors.New("it is there")
		}
		return nil
	})
	runtime.KeepAlive(kept)
	runtime.KeepAlive(f)
}
