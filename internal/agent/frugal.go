package agent

import (
	"os"
	"runtime/debug"

	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"
)

// gcPercent is by how much the heap grows before garbage is collected. An idle agent holds one
// or two megabytes; by Go's own 100 there would be four of them at the least before anything
// is collected, and a relay would have twice what it keeps.
const gcPercent = 50

// Frugal has this process use little memory, at the cost of some time: it stands beside every
// Envoy, and is idle but for moments. Call it before anything else is started. A GOGC in the
// environment is obeyed.
func Frugal() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	// By default there is nothing between 32 KiB and 1 MiB, and what an Envoy says of itself
	// on each of its streams takes 1 MiB then.
	experimental.SetDefaultBufferPool(mem.NewTieredBufferPool(
		256, 4<<10, 16<<10, 32<<10, 64<<10, 128<<10, 256<<10, 512<<10, 1<<20))
}
