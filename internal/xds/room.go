package xds

import (
	"runtime"
	"sync"
	"time"
)

const (
	// quick is within what time a goroutine that lets the others go first comes to run again
	// while the processors are enough.
	quick = 10 * time.Microsecond
	// mostSettle is how long settle lets others go first at most.
	mostSettle = 3 * time.Millisecond
)

// room bounds how many are at something at once: most of them, and few while the processors
// are short. Go runs goroutines in the order in which they were woken, and an edit's answer is
// a dozen of them one after the other: what is let in together is what each of those waits for.
type room struct{ inside, few, most int }

// roomFor returns a room for so many for each core.
func roomFor(few, most int) room {
	cores := runtime.GOMAXPROCS(0)
	return room{few: few * cores, most: most * cores}
}

// take takes a place if there is one. quiet is what settle said.
func (r *room) take(quiet bool) bool {
	if r.inside >= r.few && (!quiet || r.inside >= r.most) {
		return false
	}
	r.inside++
	return true
}

// settle lets others run until none of them waits for long, or for mostSettle. It reports
// whether none does.
func settle() (quiet bool) {
	for began := time.Now(); ; {
		last := time.Now()
		runtime.Gosched()
		switch now := time.Now(); {
		case now.Sub(last) < quick:
			return true
		case now.Sub(began) >= mostSettle:
			return false
		}
	}
}

// door has many wait for a place in a room, first come first served.
type door struct {
	mu    sync.Mutex
	wake  sync.Cond
	room  room
	quiet bool // when one left last
}

func newDoor(r room) *door {
	d := &door{room: r}
	d.wake.L = &d.mu
	return d
}

// enter waits for a place.
func (d *door) enter() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.room.take(d.quiet) {
		d.wake.Wait()
	}
}

// leave frees a place, which the next one has, and the one behind that its own while the
// processors are enough.
func (d *door) leave() {
	quiet := settle()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room.inside--
	d.quiet = quiet
	d.wake.Signal()
	if quiet {
		d.wake.Signal()
	}
}
