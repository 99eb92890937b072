// Package clock is a clock that tests move. It imports the standard library only, so that
// the tests of every room can have it.
package clock

import (
	"sync"
	"time"
)

// Fake is a clock that stands still until a test moves it. Goroutines may share it.
type Fake struct {
	mu  sync.Mutex
	now time.Time
}

// New returns a clock that stands at a time.
func New(now time.Time) *Fake { return &Fake{now: now} }

// Now returns the time that the clock shows.
func (f *Fake) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// Advance moves the clock forward.
func (f *Fake) Advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}
