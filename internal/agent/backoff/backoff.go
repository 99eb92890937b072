// Package backoff says how long the parts of an agent wait before they try again. All that
// many agents do at once is spread by chance. It may import the standard library.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Policy is a time that doubles with each failure in a row, from First to Most.
type Policy struct{ First, Most time.Duration }

// After returns the pause after a number of failures in a row: from a half of the time to
// all of it.
func (p Policy) After(failures int) time.Duration {
	pause := p.First
	for range failures - 1 {
		if pause *= 2; pause >= p.Most {
			break
		}
	}
	return Part(min(pause, p.Most), 0.5)
}

// Part returns a random time between a part of d and d.
func Part(d time.Duration, least float64) time.Duration {
	return time.Duration(float64(d) * (least + (1-least)*rand.Float64())) //nolint:gosec // spreads what many do; guards nothing
}

// Wait waits, and reports whether ctx has not ended.
func Wait(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(max(pause, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
