package load

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Now returns the time of the system's monotonic clock in nanoseconds, which is the same
// for all processes.
func Now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0 // there is always such a clock
	}
	return t.Nano()
}

// changes notes which streams have which changes since when.
type changes struct {
	mu  sync.Mutex
	all map[uint32]*change
}

// change is what there is to know of one.
type change struct {
	at   map[int32]int64 // by stream
	want int             // how many somebody waits for
	more chan struct{}   // closed when there are as many
}

// get returns a change. The lock is held.
func (c *changes) get(mark uint32) *change {
	x := c.all[mark]
	if x == nil {
		x = &change{at: map[int32]int64{}}
		c.all[mark] = x
	}
	return x
}

// note notes that a stream has a change, unless it had it before.
func (c *changes) note(mark uint32, stream int32, at int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.get(mark)
	if _, had := x.at[stream]; had {
		return
	}
	x.at[stream] = at
	if x.more != nil && len(x.at) >= x.want {
		close(x.more)
		x.more = nil
	}
}

// await waits until as many streams as wanted have a change, or ctx ends, and returns
// since when they have it, in ascending order.
func (c *changes) await(ctx context.Context, mark uint32, want int) []int64 {
	for {
		c.mu.Lock()
		x := c.get(mark)
		if len(x.at) >= want || ctx.Err() != nil {
			times := make([]int64, 0, len(x.at))
			for _, at := range x.at {
				times = append(times, at)
			}
			c.mu.Unlock()
			slices.Sort(times)
			return times
		}
		if x.more == nil {
			x.more, x.want = make(chan struct{}), want
		}
		more := x.more
		c.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
		}
	}
}
